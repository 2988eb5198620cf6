"""Converts a picture of one digit to MNIST's form: 28x28, white ink on black."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .images import eight_bits, open_image

__all__ = ["read_digit", "to_mnist"]

_SIDE, _INK_SIDE = 28, 20  # MNIST: ink scaled into 20x20, then centred by its mass in 28x28
_INK = 0.2  # ink begins at this fraction of the way from the background to the brightest pixel
_MAX_PIXELS = 50_000_000


def read_digit(path: str) -> tuple[NDArray[np.uint8], str]:
    """Reads an image file; returns (28, 28) uint8 and a description of how it was prepared.

    Raises:
        OSError: The file cannot be opened.
        CorruptFileError: It is not an image, damaged, or too large.
        ValueError: The image is blank.
        ImportError: Pillow is not installed.
    """
    grey = eight_bits(open_image(path, max_pixels=_MAX_PIXELS), "L")
    return to_mnist(np.asarray(grey, np.float32) / np.float32(255), path)


def to_mnist(grey: NDArray[np.float32], name: str = "image") -> tuple[NDArray[np.uint8], str]:
    """A grey image (H, W) from 0 (black) to 1 (white) as MNIST prepared its digits.

    Dark ink on a light background (recognised by the border) is inverted. A 28x28 image then stays
    as it is; of any other, the ink is cropped, scaled to fit 20x20, and centred by its mass.
    """
    done = []
    ground = float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    if ground > (grey.min() + grey.max()) / 2:
        grey, ground = 1 - grey, 1 - ground
        done.append("inverted: dark on light")
    high = float(grey.max())
    if high - ground < 0.05:
        raise ValueError(f"{name}: blank, there is no digit to read")
    if grey.shape == (_SIDE, _SIDE):
        return np.rint(grey * 255).astype(np.uint8), ", ".join(done)

    ink = ((grey - ground) / (high - ground)).clip(0, 1)
    rows, columns = (
        np.flatnonzero((ink > _INK).any(axis=1)),
        np.flatnonzero((ink > _INK).any(axis=0)),
    )
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = _INK_SIDE / max(box.shape)
    small = _resize(box, max(1, round(box.shape[0] * scale)), max(1, round(box.shape[1] * scale)))
    done.append(f"{grey.shape[1]}x{grey.shape[0]} cropped to the ink and scaled")

    h, w = small.shape
    mass = max(float(small.sum()), 1e-6)
    centre_h = float((small.sum(axis=1) * np.arange(h)).sum()) / mass
    centre_w = float((small.sum(axis=0) * np.arange(w)).sum()) / mass
    top = min(max(round((_SIDE - 1) / 2 - centre_h), 0), _SIDE - h)
    left = min(max(round((_SIDE - 1) / 2 - centre_w), 0), _SIDE - w)
    digit = np.zeros((_SIDE, _SIDE), np.float32)
    digit[top : top + h, left : left + w] = small
    return np.rint(digit * 255).astype(np.uint8), ", ".join(done)


def _resize(values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    from PIL import Image

    # Box filter when shrinking, so that thin strokes keep their weight.
    shrinks = height < values.shape[0]
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    resized = Image.fromarray(np.ascontiguousarray(values)).resize((width, height), method)
    return np.asarray(resized, dtype=np.float32)
