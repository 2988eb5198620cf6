"""Random changes to training images, made anew every epoch, so that a small set goes further.

A transform is any callable `transform(images, rng) -> images`: a batch (B, H, W) or (B, C, H, W) of
uint8 or float32 in, the same type out, and the batch that came in left as it was. `Loader` calls it
in background threads, with a generator for each batch: what is drawn does not depend on timing.

Here: moving, turning, cutting. Sizes are in `resizing.py`, colours in `colours.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError
from .resizing import draw_box, pair, size_of

__all__ = [
    "CenterCrop",
    "Compose",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomRotation",
    "RandomShift",
    "RandomVerticalFlip",
    "Transform",
]

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
        rotated: NDArray[Any] = (upper + down * (lower - upper)).reshape(images.shape)
        return np.rint(rotated).astype(np.uint8) if images.dtype == np.uint8 else rotated


class RandomHorizontalFlip:
    """Mirrors left and right, each image with probability p.

    >>> import numpy as np
    >>> RandomHorizontalFlip(1)(np.array([[[1, 2, 3]]], np.uint8), np.random.default_rng(0))
    array([[[3, 2, 1]]], dtype=uint8)
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = probability("RandomHorizontalFlip", p)

    def __call__(self, images: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        chosen = rng.random(len(images)) < self.p
        images = images.copy()
        images[chosen] = images[chosen][..., ::-1]
        return images


class RandomVerticalFlip:
    """Mirrors top and bottom, each image with probability p.

    >>> import numpy as np
    >>> RandomVerticalFlip(1)(np.array([[[1], [2]]], np.uint8), np.random.default_rng(0)).tolist()
    [[[2], [1]]]
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = probability("RandomVerticalFlip", p)

    def __call__(self, images: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        chosen = rng.random(len(images)) < self.p
        images = images.copy()
        images[chosen] = images[chosen][..., ::-1, :]
        return images


class RandomCrop:
    """Cuts a part of a fixed size out of every image, at a random place.

    CIFAR-10's usual recipe is `RandomCrop(32, padding=4)`.

    Args:
        size: (H, W), or an integer for a square.
        padding: Pixels of `fill` put around the images first.
        fill: Their value.

    Raises:
        ShapeError: When called with images that are smaller than the crop.

    >>> import numpy as np
    >>> RandomCrop(32, padding=4)(np.zeros((8, 3, 32, 32)), np.random.default_rng(0)).shape
    (8, 3, 32, 32)
    """

    def __init__(self, size: int | tuple[int, int], padding: int = 0, fill: float = 0) -> None:
        if padding < 0:
            raise ValueError(f"[RandomCrop] padding must be 0 or more, got {padding}")
        self.size, self.padding, self.fill = size_of("RandomCrop", size), padding, fill

    def __call__(self, images: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        p = self.padding
        edges = [(0, 0)] * (images.ndim - 2) + [(p, p), (p, p)]
        padded = np.pad(images, edges, constant_values=self.fill) if p else images
        high, wide = _room("RandomCrop", padded, self.size)
        top = rng.integers(0, high + 1, len(images))
        left = rng.integers(0, wide + 1, len(images))
        h, w = self.size
        parts = np.empty((*images.shape[:-2], h, w), images.dtype)
        for part, whole, t, l in zip(parts, padded, top, left, strict=True):  # noqa: E741
            part[...] = whole[..., t : t + h, l : l + w]
        return parts


class CenterCrop:
    """Cuts the middle out of every image.

    Raises:
        ShapeError: When called with images that are smaller than the crop.

    >>> import numpy as np
    >>> CenterCrop(224)(np.zeros((2, 3, 256, 300), np.uint8)).shape
    (2, 3, 224, 224)
    """

    def __init__(self, size: int | tuple[int, int]) -> None:
        self.size = size_of("CenterCrop", size)

    def __call__(
        self, images: NDArray[Any], rng: np.random.Generator | None = None
    ) -> NDArray[Any]:
        high, wide = _room("CenterCrop", images, self.size)
        top, left = round(high / 2), round(wide / 2)
        return images[..., top : top + self.size[0], left : left + self.size[1]]


class RandomErasing:
    """Covers a random part of an image, each with probability p.

    Args:
        p: Probability.
        scale: Area of the part, as a share of the image: from, to.
        ratio: Width / height of the part: from, to.
        value: What covers it: a number, or "random" for noise: bytes from 0 to 255, or normally
            distributed floats.

    >>> import numpy as np
    >>> erased = RandomErasing(p=1)(np.ones((1, 8, 8), np.uint8), np.random.default_rng(0))
    >>> 0 < erased.sum() < 64
    np.True_
    """

    def __init__(
        self,
        p: float = 0.5,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: float | str = 0,
    ) -> None:
        self.p = probability("RandomErasing", p)
        self.scale = pair("RandomErasing", "scale", scale, high=1)
        self.ratio = pair("RandomErasing", "ratio", ratio)
        if isinstance(value, str) and value != "random":
            raise ValueError(f"[RandomErasing] value must be a number or 'random', got {value!r}")
        self.value = value

    def __call__(self, images: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        H, W = images.shape[-2:]
        images = images.copy()
        for i in np.flatnonzero(rng.random(len(images)) < self.p):
            h, w = draw_box(H, W, self.scale, self.ratio, rng)
            h, w = min(h, H), min(w, W)
            top, left = rng.integers(H - h + 1), rng.integers(W - w + 1)
            part = images[i, ..., top : top + h, left : left + w]
            if self.value != "random":
                part[...] = self.value
            elif images.dtype == np.uint8:
                part[...] = rng.integers(0, 256, part.shape, np.uint8)
            else:
                part[...] = rng.standard_normal(part.shape, np.float32)
        return images


def probability(op: str, p: float) -> float:
    """p as a number from 0 to 1."""
    if not 0 <= p <= 1:
        raise ValueError(f"[{op}] p must be a probability from 0 to 1, got {p}")
    return float(p)


def _room(op: str, images: NDArray[Any], size: tuple[int, int]) -> tuple[int, int]:
    """How far a crop can be moved in the images, down and to the right."""
    high, wide = images.shape[-2] - size[0], images.shape[-1] - size[1]
    if high < 0 or wide < 0:
        raise ShapeError(
            f"[{op}] cannot cut {size[0]} x {size[1]} out of images {images.shape}: use padding, "
            "or Resize first"
        )
    return high, wide
