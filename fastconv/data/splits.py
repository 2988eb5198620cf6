"""Folders of a split: which are for training and which for testing, by how data sets come.

    train/cat test/cat, Train, TEST, training_set, seg_train, test2017, valid, dev
    training_set/training_set/cat       each part once more in itself
    flower_photos/rose                  one folder around all classes
    data/seg_train/seg_train/street     and all of that together

A name alone says little, as a class of vehicles may be called train: a part of a split holds class
folders, a class holds pictures.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..untrusted import printable
from .picture_files import holds_pictures, subfolders

__all__ = ["Layout", "find_layout", "parts_of_a_split"]

_ROLES = {
    "train": ("train", "training", "trn"),
    "test": ("test", "testing", "tst", "eval", "evaluation", "holdout", "heldout"),
    "validation": ("val", "valid", "validation", "dev"),
}
_ROLE = {word: role for role, words in _ROLES.items() for word in words}
_SUFFIX = re.compile(r"(.+?)(set|data|images|imgs)$")  # trainset, testdata
_SHOWN = 4  # names that an error repeats
_DEEPEST = 8  # folders that are only around others
EXPECTED = (
    "expected class folders, cat/1.jpg dog/1.jpg, or such folders under train/ and test/: "
    "train/cat/1.jpg test/cat/1.jpg"
)


@dataclass
class Layout:
    """Where the class folders of a data set are.

    Attributes:
        train: the folder of those to train on.
        test: of those to measure on; None: there are no others.
        unused: names of folders with pictures that belong to neither.
    """

    train: Path
    test: Path | None
    unused: list[str]


def find_layout(folder: Path, *, test_only: bool = False) -> Layout:
    """The parts of a data set of class folders.

    Args:
        folder: what the user named.
        test_only: test pictures without training pictures are enough: to measure a network.

    Raises:
        ValueError: it looks like a split, and is none that is known.

    Example::

        layout = find_layout(Path("intel"))  # intel/seg_train/seg_train, intel/seg_test/seg_test
    """
    folder = _unwrapped(folder)
    inside = _with_pictures(folder)
    parts: dict[str, list[Path]] = {role: [] for role in _ROLES}
    for inner in inside:
        role = _role(inner.name)
        if role and _class_folders(_unwrapped(inner, role)):
            parts[role].append(inner)
    train = _plainest(folder, parts["train"])
    test = _plainest(folder, parts["test"] or parts["validation"])
    unused = [f.name for f in inside if f not in (train, test)]
    plain = [f.name for f in inside if _role(f.name) is None]
    train_root, test_root = (p and _unwrapped(p, _role(p.name)) for p in (train, test))
    if train_root is not None and (test_root is not None or not plain):
        return Layout(train_root, test_root, unused)
    if test_root is not None and train is None and test_only:
        return Layout(test_root, test_root, unused)
    if train or test or (inside and not plain):
        if train:
            why = f"other folders of pictures lie beside {printable(train.name)}"
        elif test:
            why = "there is nothing to train on"
        else:
            why = "there are no class folders in its parts"
        names = _listed(f.name for f in inside)
        raise ValueError(f"{printable(folder)} looks like a split, {names}, but {why}: {EXPECTED}")
    _refuse_repeated_classes(folder, inside)
    return Layout(folder, None, [])


def parts_of_a_split(root: Path) -> list[str]:
    """The names of folders that can only be the parts of a split: training and others; else []."""
    inside = _with_pictures(root)
    roles = [_role(folder.name) for folder in inside]
    if "train" not in roles or not {"test", "validation"} & set(roles):
        return []
    parts = [folder for folder, role in zip(inside, roles, strict=True) if role]
    if None in roles and not all(_class_folders(_unwrapped(p, _role(p.name))) for p in parts):
        return []
    return [printable(part.name) for part in sorted(parts, key=lambda p: _role(p.name) != "train")]


def _role(name: str) -> str | None:
    """What a name says its pictures are for: "train", "test", "validation", or nothing."""
    for word in re.split(r"[^a-z]+", name.lower()):
        suffixed = _SUFFIX.fullmatch(word)
        if role := _ROLE.get(word) or (_ROLE.get(suffixed[1]) if suffixed else None):
            return role
    return None


def _plainest(folder: Path, found: Sequence[Path]) -> Path | None:
    """Of several folders for the same, the one whose name is just that; None: there are none."""
    if not found:
        return None
    plain = [part for part in found if part.name.lower() in _ROLE]
    if len(found) > 1 and len(plain) != 1:
        raise ValueError(
            f"{printable(folder)}: {_listed(part.name for part in found)} look alike, which one "
            f"counts is not clear: {EXPECTED}"
        )
    return plain[0] if plain else found[0]


def _unwrapped(folder: Path, role: str | None = None) -> Path:
    """The inmost of folders that hold nothing but one folder around the classes, for the same."""
    for _ in range(_DEEPEST):
        inside = [] if holds_pictures(folder, deeper=False) else _with_pictures(folder)
        if len(inside) != 1 or not _class_folders(inside[0]):
            break
        if _role(inside[0].name) not in (None, role):
            break
        folder = inside[0]
    return folder


def _with_pictures(folder: Path) -> list[Path]:
    return [inner for inner in subfolders(folder) if holds_pictures(inner, deeper=True)]


def _class_folders(folder: Path) -> list[Path]:
    """The folders with pictures in a folder that has no pictures of its own."""
    return [] if holds_pictures(folder, deeper=False) else _with_pictures(folder)


def _refuse_repeated_classes(folder: Path, inside: list[Path]) -> None:
    """Folders that each hold the same folders again: fold1/cat fold2/cat, cat/train dog/train."""
    if len(inside) < 2:
        return
    names = [{inner.name for inner in _class_folders(part)} for part in inside]
    common = sorted(set.intersection(*names))
    roles = {_role(name) for name in common} - {None}
    stems = {re.sub(r"[\W\d_]+", "", part.name.lower()) for part in inside}
    if len(common) >= 2 and (len(stems) == 1 or len(roles) >= 2):
        raise ValueError(
            f"{printable(folder)}: {_listed(part.name for part in inside)} each hold "
            f"{_listed(common)}, which looks like a split that is not known: {EXPECTED}"
        )


def _listed(names: Iterable[str]) -> str:
    listed = [printable(name) for name in names]
    return ", ".join(listed[:_SHOWN]) + (", ..." if len(listed) > _SHOWN else "")
