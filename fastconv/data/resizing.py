"""Transforms of the size: resized, and cut out at random and resized."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError

__all__ = ["RandomResizedCrop", "Resize", "draw_box", "like", "pair", "resample", "size_of"]

_ATTEMPTS = 10  # to find a box of the right area and shape within the picture, as torchvision does


class Resize:
    """Resizes every image, bilinearly, with anti-aliasing when it becomes smaller.

    Args:
        size: (H, W); or an integer for the shorter side, the other one in proportion.

    Example:
        >>> import numpy as np
        >>> Resize(14)(np.zeros((4, 1, 28, 56), np.uint8)).shape
        (4, 1, 14, 28)
    """

    def __init__(self, size: int | tuple[int, int]) -> None:
        self.size = size_of("Resize", size) if isinstance(size, Sequence) else _side("Resize", size)

    def __call__(
        self, images: NDArray[Any], rng: np.random.Generator | None = None
    ) -> NDArray[Any]:
        B, (H, W) = len(images), images.shape[-2:]
        if isinstance(self.size, int):
            short = min(H, W)
            size = (self.size * H // short, self.size * W // short)
        else:
            size = self.size
        return resample(images, np.tile([0, 0, H, W], (B, 1)), size)


class RandomResizedCrop:
    """Cuts a random part out of every image, of another area and shape each, and resizes it.

    On batches a transform like the others; given to `ImageFolder(augment=...)` it chooses the part
    of the whole picture, before that becomes `preprocessing.size`.

    Args:
        size: (H, W), or an integer for a square; None: the size that comes in.
        scale: Area of the part, as a share of the picture: from, to.
        ratio: Width / height of the part: from, to.

    Raises:
        ValueError: Values that make no sense.

    Example:
        >>> import numpy as np
        >>> crop = RandomResizedCrop(16, scale=(0.25, 1))
        >>> crop(np.zeros((4, 3, 32, 32), np.uint8), np.random.default_rng(0)).shape
        (4, 3, 16, 16)
    """

    def __init__(
        self,
        size: int | tuple[int, int] | None = None,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        self.size = None if size is None else size_of("RandomResizedCrop", size)
        self.scale = pair("RandomResizedCrop", "scale", scale, high=1)
        self.ratio = pair("RandomResizedCrop", "ratio", ratio)

    def box(
        self, height: int, width: int, rng: np.random.Generator
    ) -> tuple[float, float, float, float]:
        """(top, left, height, width) of a part of one picture, in whole pixels."""
        for _ in range(_ATTEMPTS):
            h, w = draw_box(height, width, self.scale, self.ratio, rng)
            if h <= height and w <= width:
                top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
                return int(top), int(left), h, w
        # The middle, as large as the ratios let it be.
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
        return (height - h) // 2, (width - w) // 2, h, w

    def __call__(self, images: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        H, W = images.shape[-2:]
        boxes = np.array([self.box(H, W, rng) for _ in images])
        return resample(images, boxes, self.size or (H, W))


def draw_box(
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[int, int]:
    """(height, width) of a part with a random area and shape; may be larger than the whole."""
    area = height * width * rng.uniform(*scale)
    shape = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    return max(1, round(math.sqrt(area / shape))), max(1, round(math.sqrt(area * shape)))


def resample(images: NDArray[Any], boxes: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """A part of each image, resized with triangle filters: first the rows, then the columns.

    images (B, [C,] H, W); boxes (B, 4): top, left, height, width; size (OH, OW).
    """
    out = np.empty((*images.shape[:-2], *size), images.dtype)
    H, W = images.shape[-2:]
    for image, box, made in zip(images, boxes, out, strict=True):
        top, left, height, width = box
        x = image.astype(np.float32)
        # No matrix products: the threads of a BLAS would get in the way of training.
        y = sum(w[:, None] * x[..., row, :] for row, w in _taps(top, height, H, size[0]))
        made[...] = like(
            sum(w * y[..., column] for column, w in _taps(left, width, W, size[1])), made
        )
    return out


def like(values: NDArray[np.float32], images: NDArray[Any]) -> NDArray[Any]:
    """Float values in the type of the images they were made of: bytes are rounded, 0 to 255."""
    if images.dtype != np.uint8:
        return values.astype(images.dtype, copy=False)
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _taps(
    begin: float, length: float, size: int, out: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Which pixels, from begin to begin + length of `size`, make `out` new ones, with what weights.

    Yields (out,) indices and (out,) weights, one pair a tap of the filter.
    """
    step = length / out  # pixels that one pixel of the result stands for
    radius = max(step, 1.0)
    centre = begin + (np.arange(out) + 0.5) * step - 0.5
    pixels = (np.floor(centre - radius)[:, None] + 1 + np.arange(math.ceil(2 * radius))).astype(
        np.intp
    )
    weights = (1 - np.abs(pixels - centre[:, None]) / radius).clip(min=0)
    weights *= (pixels >= begin) & (pixels < begin + length)
    weights /= weights.sum(axis=1, keepdims=True)
    pixels = pixels.clip(0, size - 1)
    for tap in range(pixels.shape[1]):
        yield pixels[:, tap], weights[:, tap].astype(np.float32)


def pair(
    op: str, name: str, values: tuple[float, float], high: float = math.inf
) -> tuple[float, float]:
    """Two numbers, 0 < first <= second <= high."""
    low, top = values
    if not 0 < low <= top <= high:
        raise ValueError(f"[{op}] {name} must be two numbers, 0 < from <= to, got {values}")
    return float(low), float(top)


def _side(op: str, size: int) -> int:
    side = operator.index(size)
    if side < 1:
        raise ValueError(f"[{op}] size must be 1 or more, got {size}")
    return side


def size_of(op: str, size: int | Sequence[int]) -> tuple[int, int]:
    """(H, W) of an integer or a pair."""
    sides = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(sides) != 2:
        raise ShapeError(f"[{op}] size must be an integer or (height, width), got {size}")
    return _side(op, sides[0]), _side(op, sides[1])
