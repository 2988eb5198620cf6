"""How a picture becomes the input of a network: the recipe that travels with pretrained weights."""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, Union

import numpy as np
from numpy.typing import NDArray

from ..autograd import Tensor, from_numpy, wrap
from ..errors import ShapeError
from .images import eight_bits, open_image, pillow, upright

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["CIFAR10", "IMAGENET", "TENSORFLOW", "Picture", "Preprocessing"]

Picture: TypeAlias = Union["str", "os.PathLike[str]", "Image.Image", "NDArray[np.uint8]"]
# Where in an upright picture of (height, width) to look: (top, left, height, width), in pixels.
Box: TypeAlias = tuple[float, float, float, float]

_INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
_CHANNELS = ("RGB", "BGR", "L")
# A JPEG may be decoded smaller, but stays this many times larger than what is made of it.
_SPARE = 2.0


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop, order of channels, scaling: everything between a file and `model(x)`.

    Args:
        size: (H, W) of the network's input; an integer stands for a square.
        resize: The picture is scaled until its shorter side has this many pixels, then the middle
            is cut out. (More precisely until it covers `size` scaled to this shorter side, so that
            the crop always fits.) None: the whole picture is stretched to `size`.
        interpolation: "nearest", "box", "bilinear", "hamming", "bicubic" or "lanczos", all with
            Pillow's anti-aliasing.
        channels: "RGB", "BGR", or "L" for one grey channel.
        mean, std: The network's input is (v - mean) / std of values v from 0 to 1, in the order of
            `channels`; one value serves all channels.

    Raises:
        TypeError, ValueError: A value that makes no sense, by name.

    Example:
        >>> import numpy as np
        >>> grey = Preprocessing(size=28, resize=None, channels="L", mean=(0.0,), std=(1.0,))
        >>> grey(np.full((56, 56), 255, np.uint8)).shape
        (1, 1, 28, 28)
        >>> Preprocessing.from_dict(grey.to_dict()) == grey
        True
    """

    size: tuple[int, int] = (224, 224)
    resize: int | None = 256
    interpolation: str = "bicubic"
    channels: str = "RGB"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        size = (self.size, self.size) if isinstance(self.size, numbers.Integral) else self.size
        if not _are(numbers.Integral, size) or len(size) != 2 or min(size) < 1:
            raise _wrong("size", "a positive integer or (height, width)", self.size)
        if self.resize is not None:
            if not _are(numbers.Integral, [self.resize]):
                raise _wrong("resize", "an integer or None", self.resize)
            if self.resize < min(size):
                raise ValueError(
                    f"[Preprocessing] resize={self.resize} is less than the crop, size={size}: "
                    f"use resize={min(size)} or more, or None to stretch"
                )
        for name, known in (("interpolation", _INTERPOLATIONS), ("channels", _CHANNELS)):
            if getattr(self, name) not in known:
                raise _wrong(name, "one of " + ", ".join(map(repr, known)), getattr(self, name))
        for name in ("mean", "std"):
            values = getattr(self, name)
            values = (values,) if _are(numbers.Real, [values]) else values
            if not _are(numbers.Real, values) or not all(map(math.isfinite, values)):
                raise _wrong(name, "finite numbers", values)
            if len(values) not in (1, self.num_channels):
                raise ValueError(
                    f"[Preprocessing] {name} has {len(values)} values, expected 1 or "
                    f"{self.num_channels} for channels={self.channels!r}"
                )
            object.__setattr__(self, name, tuple(map(float, values)))
        if min(self.std) <= 0:
            raise _wrong("std", "numbers above 0", self.std)
        object.__setattr__(self, "size", tuple(map(int, size)))
        object.__setattr__(self, "resize", None if self.resize is None else int(self.resize))

    # ------------------------------------------------------------------------------- from pictures

    @property
    def num_channels(self) -> int:
        """C: 3, or 1 for grey."""
        return 1 if self.channels == "L" else 3

    @property
    def scale(self) -> NDArray[np.float32]:
        """(C,): the network's input is bytes * scale + shift."""
        scale = 1 / (255 * np.array(self.std))
        return np.broadcast_to(scale, self.num_channels).astype(np.float32)

    @property
    def shift(self) -> NDArray[np.float32]:
        """(C,): see `scale`."""
        shift = -np.array(self.mean) / np.array(self.std)
        return np.broadcast_to(shift, self.num_channels).astype(np.float32)

    def frame(
        self, picture: Picture, box: Callable[[int, int], Box] | None = None
    ) -> NDArray[np.uint8]:
        """The part of a picture that the network sees, as bytes.

        Args:
            picture: A path, a PIL image, or an array of uint8 (H, W), (H, W, 1), (H, W, 3) RGB or
                (H, W, 4) RGBA.
            box: Chooses another part than the middle: called with the (height, width) of the
                upright picture, it returns (top, left, height, width), which is scaled to `size`.

        Returns:
            uint8 (C, H, W), C-contiguous.

        Raises:
            OSError, CorruptFileError: As `open_image`.
            ShapeError, TypeError: An array that is not a picture.

        Example:
            >>> import numpy as np
            >>> IMAGENET.frame(np.zeros((300, 400, 3), np.uint8)).shape
            (3, 224, 224)
        """
        H, W = self.size
        choose = box or self._middle
        if isinstance(picture, (str, os.PathLike)):
            whole, (top, left, height, width) = self._open(picture, choose)
        else:
            whole = upright(picture) if _is_image(picture) else _from_array(picture)
            top, left, height, width = choose(whole.height, whole.width)
        part = eight_bits(whole, "L" if self.channels == "L" else "RGB").resize(
            (W, H),
            pillow().Resampling[self.interpolation.upper()],
            box=(left, top, min(left + width, whole.width), min(top + height, whole.height)),
        )
        values = np.asarray(part).reshape(H, W, self.num_channels)
        if self.channels == "BGR":
            values = values[..., ::-1]
        return np.ascontiguousarray(values.transpose(2, 0, 1))

    def __call__(self, *pictures: Picture) -> Tensor:
        """Pictures as `frame` takes them; returns a float32 Tensor (N, C, H, W) for the network.

        Raises:
            ValueError: No picture was given.

        Example::

            logits = model(model.preprocessing("cat.jpg", "dog.jpg"))
        """
        if not pictures:
            raise ValueError("[Preprocessing] expected one picture or more, got none")
        x = np.stack([self.frame(picture) for picture in pictures]).astype(np.float32)
        x *= self.scale[:, None, None]
        x += self.shift[:, None, None]
        return wrap(from_numpy(x))

    def _open(
        self, path: str | os.PathLike[str], choose: Callable[[int, int], Box]
    ) -> tuple[Image.Image, Box]:
        """An upright picture, decoded no larger than need be, and the box in its pixels."""
        seen: list[tuple[int, int, Box]] = []

        def shrink(height: int, width: int) -> float:
            chosen = choose(height, width)
            seen.append((height, width, chosen))
            return min(chosen[2] / self.size[0], chosen[3] / self.size[1]) / _SPARE

        whole = open_image(path, shrink=shrink)
        if not seen:  # not a JPEG
            return whole, choose(whole.height, whole.width)
        height, width, box = seen[0]
        down, across = whole.height / height, whole.width / width
        return whole, (box[0] * down, box[1] * across, box[2] * down, box[3] * across)

    def _middle(self, height: int, width: int) -> Box:
        """The part of a picture (height, width) that becomes `size`: torchvision's arithmetic."""
        if self.resize is None:
            return 0, 0, height, width
        H, W = self.size
        spare = self.resize / min(H, W)
        scale = max(H * spare / height, W * spare / width)
        # The picture scaled by whole pixels, which the middle of `size` is cut out of.
        tall, wide = int(height * scale + 1e-6), int(width * scale + 1e-6)
        top, left = round((tall - H) / 2), round((wide - W) / 2)
        down, across = height / tall, width / wide
        return top * down, left * across, H * down, W * across

    # --------------------------------------------------------------------------------- as JSON

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them back."""
        fields = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Preprocessing:
        """The recipe in a dictionary as `to_dict` makes it; what is missing keeps its default.

        Raises:
            ValueError: An unknown key.
            TypeError, ValueError: A value that makes no sense.
        """
        if not isinstance(fields, Mapping):
            raise TypeError(f"[Preprocessing] expected a dictionary, got {fields!r}")
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = [str(key) for key in fields if key not in known]
        if unknown:
            raise ValueError(
                f"[Preprocessing] unknown {', '.join(unknown)}; known are {', '.join(known)}"
            )
        return cls(**fields)


def _are(kind: type, values: object) -> bool:
    """Whether values is a sequence of numbers of a kind, booleans not counted."""
    return isinstance(values, Iterable) and all(
        isinstance(value, kind) and not isinstance(value, (bool, np.bool_)) for value in values
    )


def _wrong(name: str, expected: str, got: object) -> ValueError | TypeError:
    error = ValueError if isinstance(got, (numbers.Number, str, tuple, list)) else TypeError
    return error(f"[Preprocessing] {name} must be {expected}, got {got!r}")


def _is_image(picture: object) -> TypeGuard[Image.Image]:
    image: bool = isinstance(picture, pillow().Image)
    return image


def _from_array(picture: object) -> Image.Image:
    if not isinstance(picture, np.ndarray):
        raise TypeError(
            "[Preprocessing] a picture is a path, a PIL image or a uint8 array, got "
            f"{type(picture).__name__}"
        )
    values = picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        hint = ""
        if values.ndim == 3 and values.shape[0] in (1, 3, 4):
            hint = "; channels come last here: x.transpose(1, 2, 0)"
        elif values.ndim == 4:
            hint = "; give the pictures one by one: preprocessing(*x)"
        raise ShapeError(
            "[Preprocessing] a picture is (H, W), (H, W, 3) or (H, W, 4), got "
            f"{picture.shape}{hint}"
        )
    if 0 in values.shape:
        raise ShapeError(f"[Preprocessing] the picture is empty: {picture.shape}")
    if values.dtype != np.uint8:
        raise TypeError(
            f"[Preprocessing] a picture is uint8 from 0 to 255, got {values.dtype}: for values "
            "from 0 to 1 use (x * 255).astype(np.uint8)"
        )
    image: Image.Image = pillow().fromarray(np.ascontiguousarray(values))
    return image


IMAGENET = Preprocessing()
TENSORFLOW = Preprocessing(mean=(0.5,), std=(0.5,))  # x / 127.5 - 1
CIFAR10 = Preprocessing(size=(32, 32), resize=32)
