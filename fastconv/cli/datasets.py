"""What --data means: MNIST, CIFAR-10, folders of pictures, or digits drawn by code."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.mnist import find, mnist
from ..errors import DownloadError
from ..untrusted import printable
from .text import say

if TYPE_CHECKING:
    from ..data import ImageFolder, Preprocessing

__all__ = ["Dataset", "announce", "load_dataset"]

_VARIANTS = ("original", "jpeg", "reduced")  # of CIFAR-10, written as DIR:reduced
_KEPT = 0.2  # the fraction of every class that tests, where there is no test folder


@dataclass
class Dataset:
    """Training and test sets, and their description for the user."""

    kind: str  # "digits", "cifar10" or "pictures"
    train: Any  # (x, y), with x uint8 (N, H, W) or (N, C, H, W); pictures: a data.ImageFolder
    test: Any
    name: str  # "MNIST", "the built-in digits", "CIFAR-10", "the pictures"
    source: str = ""  # a folder, or ""
    classes: list[str] | None = None  # None: digits, whose names are their numbers
    reason: str = ""  # why the built-in digits replace MNIST
    argument: str | None = None  # what --data was
    remark: str = ""

    @property
    def sizes(self) -> str:
        train, test = (len(self.labels(split)) for split in ("train", "test"))
        return f"{train:,} training and {test:,} test images"

    @property
    def num_classes(self) -> int:
        if self.classes is not None:
            return len(self.classes)
        return max(10, int(self.train[1].max()) + 1)  # other sets in MNIST's format have more

    def labels(self, split: str) -> Any:
        """(N,) integers."""
        samples = getattr(self, split)
        return samples[1] if isinstance(samples, tuple) else samples.targets

    def check_classes(self) -> None:
        """Raises ValueError for pictures of a single class."""
        if self.kind == "pictures" and len(self.train.classes) == 1:
            from ..data.splits import EXPECTED

            raise ValueError(
                f"{printable(self.train.root)} holds one class only, "
                f"{printable(self.train.classes[0])}, and there is nothing to tell it from: "
                f"{EXPECTED}"
            )

    @property
    def flag(self) -> tuple[str, ...]:
        """The option with which the next command finds the same data."""
        if self.name == "the built-in digits":
            return ("--data", "digits")
        return ("--data", self.argument) if self.argument else ()


def load_dataset(
    argument: str | None,
    preprocessing: Callable[[], Preprocessing],
    classes: list[str] | None = None,
) -> Dataset:
    """The data set for `--data`: a folder, "digits", or None: MNIST, or else the built-in digits.

    Args:
        argument: the value of --data.
        preprocessing: returns the preprocessing of pictures, if there are any.
        classes: those of a trained network: class folders take their numbers.

    Raises:
        ValueError: folders that look like a split of an unknown form.
        FileNotFoundError, CorruptFileError: the named folder does not exist or is damaged.
    """
    if argument == "digits":
        return _built_in("", argument)
    if argument is None:
        return _mnist(None)
    stem, _, variant = argument.rpartition(":")
    if variant not in _VARIANTS:
        stem, variant = argument, ""
    folder = Path(os.path.expanduser(stem))
    if stem in ("mnist", "cifar10") and not folder.exists():
        return _mnist(None, argument) if stem == "mnist" else _cifar10(None, variant, argument)
    kind = "cifar10" if variant else _recognise(folder)
    if kind == "cifar10":
        return _cifar10(folder, variant, argument)
    if kind == "pictures":
        return _pictures(folder, preprocessing(), classes, argument)
    return _mnist(argument, argument)


def announce(dataset: Dataset, verb: str) -> None:
    """Prints which data are used."""
    source = f" in {dataset.source}" if dataset.source else ""
    say(f"{verb} {dataset.name}{source}: {dataset.sizes}{dataset.remark}.")


def _recognise(folder: Path) -> str:
    """The kind of data in a folder, recognised by the names of its files."""
    if not folder.exists():
        raise FileNotFoundError(f"{folder} does not exist; --data needs a folder")
    with contextlib.suppress(FileNotFoundError):
        find(folder)
        return "digits"
    from ..data.cifar10 import find as find_cifar10

    with contextlib.suppress(FileNotFoundError):
        find_cifar10(folder)
        return "cifar10"
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; --data needs a folder")
    names = os.listdir(folder)
    if any("-idx" in name or ".idx" in name for name in names):
        return "digits"  # some of MNIST's files: its reader says which are missing
    return "pictures"


def _mnist(path: str | None, argument: str | None = None) -> Dataset:
    try:
        train, test = mnist(path)
    except DownloadError as error:
        return _built_in(str(error), argument)
    return Dataset("digits", train, test, "MNIST", str(find(path)), argument=argument)


def _built_in(reason: str, argument: str | None) -> Dataset:
    from ..data.digits import digits

    if reason:
        say(reason)
        say("MNIST could not be had: using the built-in digits, drawn by code, instead.")
    train, test = digits()
    return Dataset("digits", train, test, "the built-in digits", reason=reason, argument=argument)


def _cifar10(path: Path | None, variant: str, argument: str) -> Dataset:
    from ..data.cifar10 import CLASSES, cifar10
    from ..data.cifar10 import find as find_cifar10

    train, test = cifar10(path, variant=variant or None)
    found = find_cifar10(path, variant or None)
    source = str(found[0]) if found else ""
    return Dataset("cifar10", train, test, "CIFAR-10", source, list(CLASSES), argument=argument)


def _pictures(
    folder: Path, preprocessing: Preprocessing, classes: list[str] | None, argument: str
) -> Dataset:
    """Class folders, directly in the folder or under train/ and test/ (or similar names)."""
    from ..data import ImageFolder
    from ..data.splits import find_layout

    layout = find_layout(folder, test_only=classes is not None)
    train = ImageFolder(layout.train, preprocessing)
    remark = ""
    if layout.test is not None:
        test = ImageFolder(layout.test, preprocessing, classes=train.classes)
    else:
        train, test = train.split(_KEPT)
        remark = f" (no test folder: {_KEPT:.0%} are kept for testing)"
    if layout.unused:
        remark += f" (not used: {', '.join(layout.unused)})"
    names = train.classes
    shown = ", ".join(map(printable, names[: 10 if len(names) <= 10 else 8]))
    shown += ", ..." if len(names) > 10 else ""
    remark += f"; {len(names)} classes: {shown}"
    if classes is not None:
        for part in (train, test):
            _renumber(part, classes)
    return Dataset(
        "pictures",
        train,
        test,
        "the pictures",
        str(folder),
        train.classes,
        argument=argument,
        remark=remark,
    )


def _renumber(folder: ImageFolder, classes: list[str]) -> None:
    """Numbers the class folders as a trained network does."""
    strange = [name for name in folder.classes if name not in classes]
    if strange:
        known = f"{', '.join(classes[:8])}{', ...' if len(classes) > 8 else ''}"
        raise ValueError(
            f"{folder.root}: the network knows no class {', '.join(strange[:5])}; it knows {known}"
        )
    numbers = np.array([classes.index(name) for name in folder.classes], np.int64)
    folder.targets, folder.classes = numbers[folder.targets], list(classes)
