"""Fits networks to data sets (arguments, preprocessing), and batches to networks."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import data
from ..data import Loader
from ..models import ARCHITECTURES

if TYPE_CHECKING:
    from ..data import Preprocessing
    from ..nn import Module
    from .datasets import Dataset

__all__ = [
    "arguments_for",
    "fitted",
    "input_shape",
    "make_loader",
    "preprocessing_for",
    "wanted",
    "width_argument",
]


def wanted(name: str) -> Preprocessing:
    """The preprocessing of pictures for an untrained network of the catalogue."""
    architecture = ARCHITECTURES[name]
    return architecture.preprocessing or _plain(architecture.input_shape)


def preprocessing_for(name: str, dataset: Dataset) -> Preprocessing | None:
    """The preprocessing for training a network on a data set; None for digits."""
    if dataset.kind == "digits":
        return None
    recipe = wanted(name)
    if dataset.kind == "cifar10" and recipe.num_channels != 3:
        return _plain((3, *recipe.size))
    return recipe


def arguments_for(name: str, dataset: Dataset, width: float | None) -> dict[str, Any]:
    """The arguments with which a network is built for a data set."""
    arguments = width_argument(name, width)
    if ARCHITECTURES[name].classifies:
        arguments["num_classes"] = dataset.num_classes
    own, size, _ = ARCHITECTURES[name].input_shape
    channels = {"digits": 1, "cifar10": 3}.get(dataset.kind, own)
    if channels != own:
        if name == "keras_mlp":
            arguments["in_features"] = channels * size * size
        else:
            arguments["in_channels"] = channels
    return arguments


def width_argument(name: str, width: float | None) -> dict[str, Any]:
    """The argument for --width: a fraction of the channels, or their number.

    Raises:
        ValueError: the network has no width, or one in whole channels.
    """
    if width is None:
        return {}
    parameter = inspect.signature(ARCHITECTURES[name].build).parameters.get("width")
    if parameter is None:
        raise ValueError(f"--width: {name} has none")
    if not isinstance(parameter.default, int):
        return {"width": width}
    if width != int(width):
        raise ValueError(f"--width: {name} has whole channels, {parameter.default} by default")
    return {"width": int(width)}


def input_shape(model: Module) -> tuple[int, int, int]:
    """The input (C, H, W) of a network of the catalogue."""
    assert model.architecture is not None
    name, arguments = model.architecture
    channels, height, width = ARCHITECTURES[name].input_shape
    if model.preprocessing is not None:
        height, width = model.preprocessing.size
    if "in_features" in arguments:
        channels = arguments["in_features"] // (height * width)
    return arguments.get("in_channels", channels), height, width


def make_loader(
    dataset: Dataset,
    split: str,
    model: Module,
    batch_size: int | None = None,
    *,
    shuffle: bool = False,
    augment: bool = False,
    crop: tuple[float, float] = (0.08, 1.0),
    part: int = 1,
) -> Loader:
    """Batches of a data set in the form that a network takes.

    Args:
        dataset: the data.
        split: "train" or "test".
        model: of the catalogue.
        batch_size: images in a batch; None: a fast size for inference.
        shuffle: a new order for every pass.
        augment: random changes that keep the class.
        crop: the fraction of a picture's area that `augment` keeps, from and to.
        part: take only every part-th image (arrays).
    """
    samples: Any = getattr(dataset, split)
    shape = input_shape(model)
    preprocessing = model.preprocessing
    if batch_size is None:
        batch_size = 256 if shape[1] * shape[2] <= 64 * 64 else 32
    if isinstance(samples, tuple):
        x, y = (array[::part].copy() if part > 1 else array for array in samples)
        if x.shape[-2:] != shape[1:] or _channels(x) != shape[0]:
            x = _Fitted(x, y, preprocessing or _plain(shape))
    else:
        x, y = samples, samples.targets
        if augment:
            x = copy.copy(x)
            x.augment = data.RandomResizedCrop(scale=crop)
    if model.architecture is not None and not ARCHITECTURES[model.architecture[0]].classifies:
        x = x if isinstance(x, np.ndarray) else _all(x)
        y = (x.reshape(len(x), *shape) / np.float32(255)).astype(np.float32)
    options: dict[str, Any] = {}
    if preprocessing is not None:
        options = {"scale": preprocessing.scale, "shift": preprocessing.shift}
    if augment:
        options["transform"] = _changes(dataset, shape)
    return Loader(x, y, batch_size, shuffle, **options)


def fitted(x: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Digits (N, H, W) in the size and colours that a network takes."""
    if (1, *x.shape[1:]) == shape:
        return x
    return _all(_Fitted(x, np.zeros(len(x)), _plain(shape)))


class _Fitted:
    """Images that are converted, batch by batch, to the size and colours of a network."""

    def __init__(self, x: NDArray[np.uint8], y: NDArray[Any], preprocessing: Preprocessing) -> None:
        self._x, self.targets = x, y
        self._frame = _replaced(preprocessing, resize=None).frame

    def __len__(self) -> int:
        return len(self._x)

    def read(
        self, indices: NDArray[np.int64], rng: Any = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """(B, C, H, W) bytes and their positions in `indices`; the loader's threads call it."""
        pictures = (self._x[i] for i in indices)
        frames = [self._frame(p if p.ndim == 2 else p.transpose(1, 2, 0)) for p in pictures]
        return np.stack(frames), np.arange(len(indices))


def _all(samples: Any) -> NDArray[np.uint8]:
    if hasattr(samples, "arrays"):
        x: NDArray[np.uint8] = samples.arrays()[0]
        return x
    x, _ = samples.read(np.arange(len(samples)))
    return x


def _channels(x: NDArray[Any]) -> int:
    return 1 if x.ndim == 3 else int(x.shape[1])


def _plain(shape: tuple[int, int, int]) -> Preprocessing:
    """The whole picture, with values from 0 to 1."""
    from ..data import Preprocessing

    channels = "L" if shape[0] == 1 else "RGB"
    return Preprocessing(shape[1:], resize=None, channels=channels, mean=(0.0,), std=(1.0,))


def _replaced(preprocessing: Preprocessing, **changes: Any) -> Preprocessing:
    from dataclasses import replace

    return replace(preprocessing, **changes)


def _changes(dataset: Dataset, shape: tuple[int, int, int]) -> Any:
    """Random changes: digits are shifted and rotated a little, pictures mirrored and moved."""
    if dataset.kind == "digits":
        return [data.RandomShift(2), data.RandomRotation(10)]
    if dataset.kind == "cifar10":
        return [data.RandomCrop(shape[1:], padding=shape[1] // 8), data.RandomHorizontalFlip()]
    return data.RandomHorizontalFlip()  # the folder itself crops
