"""Random changes of colour: brightness, contrast, saturation, hue, and grey."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError
from .resizing import like
from .transforms import probability

__all__ = ["ColorJitter", "RandomGrayscale"]

Floats: TypeAlias = NDArray[np.float32]
Strength: TypeAlias = "float | tuple[float, float]"

_TOGETHER = 1 << 16  # pixels worked on at a time: few enough to stay in a second-level cache
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601, as in Pillow and torchvision


class ColorJitter:
    """Changes brightness, contrast, saturation and hue of every image, in a random order.

    Images (B, C, H, W) with C 1 or 3 (RGB), or (B, H, W): bytes, or floats from 0 to 1. Saturation
    and hue leave grey images alone.

    Args:
        brightness, contrast, saturation: v: by a factor from max(0, 1 - v) to 1 + v, or from and to
            as a pair.
        hue: v: turned by up to v of the colour circle either way, 0 to 0.5; or from and to.

    Raises:
        ValueError: A strength out of its range.
        ShapeError: When called with images of another number of channels.

    Example:
        >>> import numpy as np
        >>> jitter = ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
        >>> jitter(np.full((2, 3, 4, 4), 128, np.uint8), np.random.default_rng(0)).dtype
        dtype('uint8')
    """

    def __init__(
        self,
        brightness: Strength = 0,
        contrast: Strength = 0,
        saturation: Strength = 0,
        hue: Strength = 0,
    ) -> None:
        self.brightness = _factors("brightness", brightness)
        self.contrast = _factors("contrast", contrast)
        self.saturation = _factors("saturation", saturation)
        low, high = hue if isinstance(hue, tuple) else (-hue, hue)
        if not -0.5 <= low <= high <= 0.5:
            raise ValueError(
                f"[ColorJitter] hue must be 0 to 0.5, or two such numbers from -0.5, got {hue}"
            )
        self.hue = (float(low), float(high))

    def __call__(self, images: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        _check_channels("ColorJitter", images)
        changes = [
            (_brighten, self.brightness, 1),
            (_contrast, self.contrast, 1),
            (_saturate, self.saturation, 1),
            (_turn_hue, self.hue, 0),
        ]
        plan = []
        for which in rng.permutation(len(changes)):
            change, (low, high), neutral = changes[which]
            amounts = rng.uniform(low, high, (len(images), 1, 1, 1)).astype(np.float32)
            if (low, high) != (neutral, neutral):
                plan.append((change, amounts))
        changed = np.empty_like(images)
        step = max(1, _TOGETHER // (images.shape[-2] * images.shape[-1]))
        for begin in range(0, len(images), step):
            part = slice(begin, begin + step)
            x = _as_floats(images[part])
            for change, amounts in plan:
                x = change(x, amounts[part])
            changed[part] = _as_images(x, images[part])
        return changed


class RandomGrayscale:
    """Takes the colours away, each image with probability p; the channels stay three.

    Example:
        >>> import numpy as np
        >>> red = np.zeros((1, 3, 1, 1), np.uint8); red[0, 0] = 255
        >>> RandomGrayscale(p=1)(red, np.random.default_rng(0)).ravel().tolist()
        [76, 76, 76]
    """

    def __init__(self, p: float = 0.1) -> None:
        self.p = probability("RandomGrayscale", p)

    def __call__(self, images: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        _check_channels("RandomGrayscale", images)
        images = images.copy()
        for i in np.flatnonzero(rng.random(len(images)) < self.p):
            one = images[i : i + 1]
            x = _as_floats(one)
            one[...] = _as_images(np.broadcast_to(_grey(x), x.shape), one)
        return images


# Each takes values from 0 to 1, (B, C, H, W), which it may overwrite, and one amount an image.


def _brighten(x: Floats, factor: Floats) -> Floats:
    x *= factor
    return np.clip(x, 0, 1, out=x)


def _contrast(x: Floats, factor: Floats) -> Floats:
    return _away_from(_grey(x).mean(axis=(1, 2, 3), keepdims=True), x, factor)


def _saturate(x: Floats, factor: Floats) -> Floats:
    return _away_from(_grey(x), x, factor)


def _away_from(middle: Floats, x: Floats, factor: Floats) -> Floats:
    x -= middle
    x *= factor
    x += middle
    return np.clip(x, 0, 1, out=x)


def _turn_hue(x: Floats, turn: Floats) -> Floats:
    """The hue of HSV moved by `turn` of the circle; value and saturation stay.

    https://en.wikipedia.org/wiki/HSL_and_HSV#HSV_to_RGB_alternative
    """
    if x.shape[1] == 1:
        return x
    r, g, b = (x[:, i : i + 1] for i in range(3))
    high = np.maximum(np.maximum(r, g), b)
    chroma = high - np.minimum(np.minimum(r, g), b)
    of_green = np.where(high == g, b - r + 2 * chroma, r - g + 4 * chroma)
    hue = np.where(high == r, g - b, of_green)  # times chroma; 0 red, 2 green, 4 blue
    hue /= np.maximum(chroma, np.float32(1e-12))
    hue += 6 * turn
    k = np.array([5, 3, 1], np.float32).reshape(3, 1, 1) + hue
    k -= 6 * np.floor(k / 6)
    share = np.clip(np.minimum(k, 4 - k), 0, 1)
    rgb: Floats = high - chroma * share
    return rgb


def _grey(x: Floats) -> Floats:
    """(B, 1, H, W)."""
    return x if x.shape[1] == 1 else np.tensordot(x, _LUMINANCE, (1, 0))[:, None]


def _check_channels(op: str, images: NDArray[Any]) -> None:
    if images.ndim != 3 and (images.ndim != 4 or images.shape[1] not in (1, 3)):
        raise ShapeError(f"[{op}] expected (B, H, W) or (B, 1 or 3, H, W), got {images.shape}")


def _as_floats(images: NDArray[Any]) -> Floats:
    """A copy (B, C, H, W) from 0 to 1."""
    x: Floats = (images[:, None] if images.ndim == 3 else images).astype(np.float32)
    if images.dtype == np.uint8:
        x /= 255
    return x


def _as_images(x: Floats, images: NDArray[Any]) -> NDArray[Any]:
    x = x.reshape(images.shape)
    return like(x * 255 if images.dtype == np.uint8 else x, images)


def _factors(name: str, strength: Strength) -> tuple[float, float]:
    low, high = strength if isinstance(strength, tuple) else (max(0, 1 - strength), 1 + strength)
    if not 0 <= low <= high:
        raise ValueError(
            f"[ColorJitter] {name} must be 0 or more, or two such numbers, got {strength}"
        )
    return float(low), float(high)
