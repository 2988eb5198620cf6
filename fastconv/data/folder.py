"""Pictures in folders, one folder a class, read when they are needed."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bars import progress_bar
from ..errors import CorruptFileError
from .background import cores, in_order
from .preprocessing import IMAGENET, Preprocessing
from .resizing import RandomResizedCrop

__all__ = ["BadImageWarning", "ImageFolder"]

EXTENSIONS = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "bmp", "gif", "webp"),
        *("tif", "tiff", "ppm", "pgm", "pbm", "pnm", "avif"),
    )
)
_CHUNK = 32  # pictures that a thread reads at a time
_NAMED = 5  # bad pictures that a warning names


class BadImageWarning(UserWarning):
    """Pictures of a data set that could not be read and were left out."""


class ImageFolder:
    """A data set of pictures: `root/cat/1.jpg`, `root/dog/9.png`: one folder a class.

    Classes are the folders of `root` in the order of their names; a picture may lie deeper in its
    class's folder. Names that begin with a dot, and files that are no pictures by their extension,
    are passed over. Pictures are read when a `Loader` asks for them, in background threads, and
    become `preprocessing.size`.

    A picture that cannot be read (empty, cut short, damaged, something else under a picture's name)
    is left out of its batch and kept in mind in `bad`; at the end of a pass one `BadImageWarning`
    names those that are new.

    Args:
        root: The folder of the class folders.
        preprocessing: How a picture becomes the input of the network.
        classes: Class names that count, label 0 first. None: all folders, by name.
        augment: Look at another part of each picture every time, for training: a
            `RandomResizedCrop`, or True for one with its usual values. Further random changes to
            whole batches are the Loader's `transform`.
        in_memory: Read everything now and keep it: N * C * H * W bytes. Not with `augment`, which
            needs the whole pictures.

    Attributes:
        classes: Names, in the order of the labels.
        paths: One a picture.
        targets: int64 (N,), the label of each picture.
        preprocessing: As given.
        images: uint8 (N, C, H, W) when `in_memory`, else None.

    Raises:
        FileNotFoundError: No such folder, no class folders, or a class without pictures; says what
            was found.
        ValueError: `in_memory` with `augment`.

    Example::

        train = data.ImageFolder("cats-dogs/train", augment=True)
        loader = data.Loader(train, batch_size=64, shuffle=True,
                             transform=[data.RandomHorizontalFlip()])
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        preprocessing: Preprocessing = IMAGENET,
        *,
        classes: Sequence[str] | None = None,
        augment: RandomResizedCrop | bool | None = None,
        in_memory: bool = False,
    ) -> None:
        if not isinstance(preprocessing, Preprocessing):
            raise TypeError(
                "[ImageFolder] preprocessing must be a data.Preprocessing, got "
                f"{type(preprocessing).__name__}"
            )
        self.root, self.preprocessing = Path(root), preprocessing
        self.augment = RandomResizedCrop() if augment is True else augment or None
        if self.augment is not None and not isinstance(self.augment, RandomResizedCrop):
            raise TypeError(
                "[ImageFolder] augment must be a RandomResizedCrop or True, got "
                f"{type(augment).__name__}; other transforms belong to Loader(transform=...)"
            )
        if in_memory and self.augment is not None:
            raise ValueError(
                "[ImageFolder] in_memory keeps finished frames, augment needs whole pictures: use "
                "one of them, or Loader(transform=[RandomResizedCrop()]) on frames"
            )
        self.classes = _classes(self.root, classes)
        self._bad: dict[str, str] = {}
        self._reported = 0
        self.paths: list[str] = []
        labels: list[int] = []
        for label, name in enumerate(self.classes):
            found = sorted(_pictures(self.root / name))
            if not found:
                raise FileNotFoundError(
                    f"[ImageFolder] {self.root / name}: no pictures, found "
                    f"{_what_is_in(self.root / name)}; pictures end in "
                    + ", ".join(sorted(EXTENSIONS))
                )
            for path in found:
                if os.path.getsize(path) == 0:
                    self._bad[path] = f"[image] {path}: the file is empty"
                else:
                    self.paths.append(path)
                    labels.append(label)
        self.targets: NDArray[np.int64] = np.array(labels, np.int64)
        self.images: NDArray[np.uint8] | None = None
        if in_memory:
            self._keep_in_memory()

    # ------------------------------------------------------------------------------ as an array

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W), as if it were an array."""
        return (len(self), self.preprocessing.num_channels, *self.preprocessing.size)

    @property
    def ndim(self) -> int:
        """4."""
        return 4

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """uint8."""
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        """Pictures, those included that will turn out to be bad."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], int]:
        """(uint8 (C, H, W), label) of one picture, without `augment`.

        Raises:
            IndexError: No such picture.
            CorruptFileError, OSError: It cannot be read.
        """
        path, label = self.paths[index], int(self.targets[index])
        held = self.images
        return (self.preprocessing.frame(path) if held is None else held[index]), label

    def arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """All pictures that can be read: uint8 (n, C, H, W), and their labels int64 (n,).

        Shows a progress bar where there is a terminal. `augment` takes no part.

        Raises:
            CorruptFileError: Not one of them can be read.
        """
        if self.images is not None:
            return self.images, self.targets
        x, kept = self._read_all()
        self.report()
        return x, self.targets[kept]

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> ImageFolder:
        """The same data set with some of its pictures, in this order; classes stay."""
        order = np.arange(len(self))[np.asarray(indices, np.int64)]
        part = copy.copy(self)
        part.paths = [self.paths[i] for i in order]
        part.targets = self.targets[order]
        part.images = None if self.images is None else self.images[order]
        part._bad, part._reported = {}, 0
        return part

    def split(self, share: float = 0.2, seed: int = 0) -> tuple[ImageFolder, ImageFolder]:
        """Two data sets: the rest, and `share` of every class, chosen by `seed`.

        Raises:
            ValueError: A share that is not between 0 and 1, or leaves nothing on one side.

        Example::

            train, test = data.ImageFolder("flowers").split(0.2)
        """
        if not 0 < share < 1:
            raise ValueError(f"[ImageFolder] share must lie between 0 and 1, got {share}")
        rng = np.random.default_rng(seed)
        chosen = np.zeros(len(self), bool)
        for label in range(len(self.classes)):
            members = rng.permutation(np.flatnonzero(self.targets == label))
            chosen[members[: round(share * len(members))]] = True
        if not 0 < chosen.sum() < len(self):
            raise ValueError(
                f"[ImageFolder] {share:g} of {len(self)} pictures leaves nothing on one side"
            )
        return self.subset(np.flatnonzero(~chosen)), self.subset(np.flatnonzero(chosen))

    # ---------------------------------------------------------------------------------- reading

    def read(
        self, indices: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """What a Loader calls, in several threads at a time.

        Args:
            indices: Which pictures.
            rng: Decides what `augment` does; each picture gets a generator of its own from it.

        Returns:
            uint8 (B, C, H, W), and int64 (B,): the places in `indices` of those that can be read.
        """
        if self.images is not None:
            return self.images[indices], np.arange(len(indices))
        seeds: Iterator[Any] = iter(rng.integers(2**63, size=len(indices)) if self.augment else ())
        frames, kept = [], []
        for place, index in enumerate(indices):
            try:
                frames.append(self._frame(self.paths[index], next(seeds, None)))
                kept.append(place)
            except (CorruptFileError, OSError) as error:
                self._bad[self.paths[index]] = str(error)
        if not frames:
            return np.empty((0, *self.shape[1:]), np.uint8), np.empty(0, np.int64)
        return np.stack(frames), np.array(kept, np.int64)

    @property
    def bad(self) -> list[tuple[str, str]]:
        """(path, reason) of the pictures that could not be read so far, by path."""
        return sorted(self._bad.items())

    def report(self) -> None:
        """Warns of bad pictures, if there are some that no warning has counted yet."""
        bad = self.bad
        if len(bad) <= self._reported:
            return
        self._reported = len(bad)
        reasons = [reason.removeprefix("[image] ") for _, reason in bad[:_NAMED]]
        more = f"\n  and {len(bad) - _NAMED:,} more" if len(bad) > _NAMED else ""
        warnings.warn(
            f"[ImageFolder] {self.root}: {len(bad):,} pictures cannot be read and are left out "
            "(all in .bad):\n  " + "\n  ".join(reasons) + more,
            BadImageWarning,
            stacklevel=3,
        )

    def _frame(self, path: str, seed: int | None) -> NDArray[np.uint8]:
        if self.augment is None or seed is None:
            return self.preprocessing.frame(path)
        augment, rng = self.augment, np.random.default_rng(seed)
        return self.preprocessing.frame(path, lambda H, W: augment.box(H, W, rng))

    def _read_all(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        plain = copy.copy(self)  # shares the dictionary of bad pictures
        plain.augment = None
        n, rng = len(self), np.random.default_rng(0)

        def chunk(number: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
            begin = number * _CHUNK
            frames, kept = plain.read(np.arange(begin, min(begin + _CHUNK, n)), rng)
            return frames, kept + begin

        x = np.empty(self.shape, np.uint8)
        parts: list[NDArray[np.int64]] = []
        filled = 0
        threads = max(2, cores())
        chunks = in_order(chunk, 0, -(-n // _CHUNK), threads=threads, ahead=2 * threads)
        with progress_bar(total=n, unit=" images") as bar:
            for frames, kept in chunks:
                x[filled : filled + len(kept)] = frames
                filled += len(kept)
                parts.append(kept)
                bar.update(min(_CHUNK, n - bar.n))
        if not filled:
            first = self.bad[0][1] if self.bad else "no files"
            raise CorruptFileError(
                f"[ImageFolder] none of {n:,} pictures could be read; the first: {first}"
            )
        return x[:filled], np.concatenate(parts)

    def _keep_in_memory(self) -> None:
        images, kept = self._read_all()
        self.report()
        self.paths = [self.paths[i] for i in kept]
        self.targets, self.images = self.targets[kept], images


def _classes(root: Path, wanted: Sequence[str] | None) -> list[str]:
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "no such folder"
        raise FileNotFoundError(f"[ImageFolder] {root}: {what}")
    found = sorted(e.name for e in os.scandir(root) if e.is_dir() and not e.name.startswith("."))
    if wanted is not None:
        if isinstance(wanted, str) or not len(wanted):
            raise ValueError(f"[ImageFolder] classes must be a list of names, got {wanted!r}")
        missing = [name for name in wanted if name not in found]
        if missing:
            raise FileNotFoundError(
                f"[ImageFolder] {root}: no folder for the class {', '.join(map(str, missing))}; "
                f"found {_what_is_in(root)}"
            )
        return list(wanted)
    if not found:
        raise FileNotFoundError(
            f"[ImageFolder] {root}: no class folders, found {_what_is_in(root)}; "
            "expected one folder a class, such as cat/1.jpg, dog/1.jpg"
        )
    return found


def _pictures(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS:
                yield os.path.join(place, name)


def _what_is_in(folder: Path) -> str:
    names = sorted(entry.name + "/" * entry.is_dir() for entry in os.scandir(folder))
    if not names:
        return "nothing"
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
