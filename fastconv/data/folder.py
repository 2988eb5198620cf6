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

from ..errors import CorruptFileError
from ..progress_bar import progress_bar
from ..untrusted import printable
from .background import cores, in_order
from .picture_files import EXTENSIONS, ancestors, find_pictures, subfolders, what_is_in
from .preprocessing import IMAGENET, Preprocessing
from .resizing import RandomResizedCrop
from .splits import parts_of_a_split

__all__ = ["BadImageWarning", "ImageFolder"]

_CHUNK = 32  # pictures that a thread reads at a time
_NAMED = 5  # bad pictures that a warning names


class BadImageWarning(UserWarning):
    """Pictures of a data set that could not be read and were left out."""


class ImageFolder:
    """A data set of pictures: `root/cat/1.jpg`, `root/dog/9.png`: one folder a class.

    Classes are the folders of `root` in the order of their names; a picture may lie deeper in its
    class's folder. Links are followed, to files and to folders, and no folder counts twice in a
    class. Names that begin with a dot, and files that are no pictures by their extension, are
    passed over. Pictures are read when a `Loader` asks for them, in background threads, and become
    `preprocessing.size`.

    A picture that cannot be read (empty, cut short, damaged, a link that leads nowhere, a pipe or
    something else under a picture's name, a kind that is not read such as HEIC) is left out and
    kept in mind in `bad`; at the end of a pass one `BadImageWarning` names those that are new.

    Args:
        root: The folder of the class folders; "~" is the user's home.
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
        ValueError: `in_memory` with `augment`; or the folders are the parts of a split, such as
            train and test, and `classes` does not say that they are classes all the same.

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
        self.root, self.preprocessing = Path(os.path.expanduser(root)), preprocessing
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
        self._bad: dict[str, str] = {}  # of those in `paths`
        self._left_out: dict[str, str] = {}  # of all others
        self._reported: set[str] = set()
        self.classes = self._find_classes(classes)
        self.paths: list[str] = []
        labels: list[int] = []
        outside = ancestors(self.root)
        for label, name in enumerate(self.classes):
            found, left_out = find_pictures(self.root / name, outside)
            self._left_out |= left_out
            if not found:
                raise FileNotFoundError(_no_pictures(self.root / name, left_out))
            self.paths += found
            labels += [label] * len(found)
        self.targets: NDArray[np.int64] = np.array(labels, np.int64)
        self.images: NDArray[np.uint8] | None = None
        if in_memory:
            self._keep_in_memory()

    def _find_classes(self, wanted: Sequence[str] | None) -> list[str]:
        root = self.root
        if not root.is_dir():
            what = "is not a folder" if root.exists() else "no such folder"
            raise FileNotFoundError(f"[ImageFolder] {printable(root)}: {what}")
        around = ancestors(root)
        found = []
        for folder in subfolders(root):
            if folder.is_symlink() and ancestors(folder) <= around:
                self._left_out[str(folder)] = f"[image] {folder}: a link back to where it lies"
            else:
                found.append(folder.name)
        if wanted is not None:
            if isinstance(wanted, str) or not len(wanted):
                raise ValueError(f"[ImageFolder] classes must be a list of names, got {wanted!r}")
            missing = [printable(name) for name in wanted if name not in found]
            if missing:
                raise FileNotFoundError(
                    f"[ImageFolder] {printable(root)}: no folder for the class "
                    f"{', '.join(missing)}; found {what_is_in(root)}"
                )
            return list(wanted)
        if not found:
            raise FileNotFoundError(
                f"[ImageFolder] {printable(root)}: no class folders, found {what_is_in(root)}; "
                "expected one folder a class, such as cat/1.jpg, dog/1.jpg"
            )
        if parts := parts_of_a_split(root):
            raise ValueError(
                f"[ImageFolder] {printable(root)}: {', '.join(parts)} are the parts of a split, "
                f"not classes: give ImageFolder one of them, {printable(root / parts[0])!r}, or "
                "classes=[...] if they are classes all the same"
            )
        return found

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
        part._bad = {path: self._bad[path] for path in part.paths if path in self._bad}
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
            except (CorruptFileError, OSError, MemoryError) as error:
                self._bad[self.paths[index]] = str(error)
        if not frames:
            return np.empty((0, *self.shape[1:]), np.uint8), np.empty(0, np.int64)
        return np.stack(frames), np.array(kept, np.int64)

    @property
    def bad(self) -> list[tuple[str, str]]:
        """(path, reason) of the pictures that could not be read so far, by path.

        Those that were left out before anything was read are in the list of every `subset`.
        """
        return sorted({**self._left_out, **self._bad}.items())

    def report(self) -> None:
        """Warns of bad pictures, if there are some that no warning has counted yet.

        A data set and the subsets of it count together.
        """
        bad = self.bad
        new = {path for path, _ in bad} - self._reported
        if not new:
            return
        self._reported |= new
        reasons = [printable(reason.removeprefix("[image] ")) for _, reason in bad[:_NAMED]]
        more = f"\n  and {len(bad) - _NAMED:,} more" if len(bad) > _NAMED else ""
        warnings.warn(
            f"[ImageFolder] {printable(self.root)}: {len(bad):,} pictures cannot be read and are "
            "left out (all in .bad):\n  " + "\n  ".join(reasons) + more,
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


def _no_pictures(folder: Path, left_out: dict[str, str]) -> str:
    """What to do about a class without pictures."""
    if left_out:
        first = next(iter(left_out.values())).removeprefix("[image] ")
        found = f"all {len(left_out):,} were left out, such as {printable(first)}"
    else:
        found = f"found {what_is_in(folder)}"
    return (
        f"[ImageFolder] {printable(folder)}: no pictures, {found}; pictures end in "
        f"{', '.join(sorted(EXTENSIONS))}. Delete the folder if it is no class, or name those that "
        "are: classes=[...]"
    )
