"""Random changes to training images, made anew every epoch, so that a small set goes further.

A transform is any callable `transform(images, rng) -> images`: a batch (B, H, W) or (B, C, H, W) of
uint8 or float32 in, the same shape and type out. `Loader` calls it in a background thread, with a
generator of its own, so the numbers drawn do not depend on timing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Compose", "RandomRotation", "RandomShift", "Transform"]

# A string: numpy.random loads slowly, and only on use.
Transform: TypeAlias = "Callable[[NDArray[Any], np.random.Generator], NDArray[Any]]"


class Compose:
    """One transform after the other.

    >>> import numpy as np
    >>> augment = Compose([RandomShift(2), RandomRotation(10)])
    >>> augment(np.zeros((4, 28, 28), np.uint8), np.random.default_rng(0)).shape
    (4, 28, 28)
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = tuple(transforms)

    def __call__(self, images: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        for transform in self.transforms:
            images = transform(images, rng)
        return images


class RandomShift:
    """Moves every image by a whole number of pixels, from -`pixels` to `pixels` on each axis.

    What comes in at the edge is `fill`.

    >>> import numpy as np
    >>> dot = np.zeros((1, 3, 3), np.uint8); dot[0, 1, 1] = 9
    >>> RandomShift(1)(dot, np.random.default_rng(0)).sum()
    np.uint64(9)
    """

    def __init__(self, pixels: int, fill: float = 0) -> None:
        if pixels < 0:
            raise ValueError(f"[RandomShift] pixels must be 0 or more, got {pixels}")
        self.pixels, self.fill = pixels, fill

    def __call__(self, images: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        B, (H, W), p = len(images), images.shape[-2:], self.pixels
        edges = [(0, 0)] * (images.ndim - 2) + [(p, p), (p, p)]
        padded = np.pad(images, edges, constant_values=self.fill)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (H, W), axis=(-2, -1))
        # windows: (B, [C,] 2p+1, 2p+1, H, W); bring the two offsets next to B
        windows = np.moveaxis(windows, (-4, -3), (1, 2))
        top, left = rng.integers(0, 2 * p + 1, (2, B))
        shifted: NDArray[Any] = windows[np.arange(B), top, left]
        return shifted


class RandomRotation:
    """Turns every image about its centre by an angle from -`degrees` to `degrees`, bilinearly.

    What lies outside the image is `fill`.

    >>> import numpy as np
    >>> ones = np.ones((2, 5, 5), np.float32)
    >>> RandomRotation(20, fill=1)(ones, np.random.default_rng(0)).min()
    np.float32(1.0)
    """

    def __init__(self, degrees: float, fill: float = 0) -> None:
        if not 0 <= degrees <= 180:
            raise ValueError(f"[RandomRotation] degrees must be from 0 to 180, got {degrees}")
        self.degrees, self.fill = degrees, fill

    def __call__(self, images: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        B, (H, W) = len(images), images.shape[-2:]
        angle = np.radians(rng.uniform(-self.degrees, self.degrees, (B, 1, 1))).astype(np.float32)
        cos, sin = np.cos(angle), np.sin(angle)
        h = (np.arange(H, dtype=np.float32) - (H - 1) / 2)[:, None]
        w = (np.arange(W, dtype=np.float32) - (W - 1) / 2)[None, :]
        # Where each output pixel comes from, kept within the border of `fill` around the image.
        ih = np.clip(cos * h - sin * w + (H - 1) / 2, -1, H)
        iw = np.clip(sin * h + cos * w + (W - 1) / 2, -1, W)
        top, left = np.floor(ih).clip(max=H - 1), np.floor(iw).clip(max=W - 1)
        down, right = (ih - top).astype(np.float32), (iw - left).astype(np.float32)

        edges = [(0, 0)] * (images.ndim - 2) + [(1, 1), (1, 1)]
        padded = np.pad(images, edges, constant_values=self.fill).reshape(B, -1, (H + 2) * (W + 2))
        corner = ((top + 1) * (W + 2) + (left + 1)).astype(np.intp).reshape(B, 1, H * W)

        def tap(offset: int) -> NDArray[np.float32]:
            taken = np.take_along_axis(padded, corner + offset, axis=2)
            return taken.astype(np.float32, copy=False).reshape(B, -1, H, W)

        down, right = down[:, None], right[:, None]
        upper = tap(0) + right * (tap(1) - tap(0))
        lower = tap(W + 2) + right * (tap(W + 3) - tap(W + 2))
        turned: NDArray[Any] = (upper + down * (lower - upper)).reshape(images.shape)
        return np.rint(turned).astype(np.uint8) if images.dtype == np.uint8 else turned
