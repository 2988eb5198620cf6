"""Pretrained weights: published ones by name, files by path, and what they know about themselves.

registry.json lists what is published: for each network and name the files with their SHA-256, the
mirrors that have them, the preprocessing, the classes. A file of the same form, named by
$FASTCONV_WEIGHTS, adds entries of one's own, which come first. Files are looked for in
$FASTCONV_DATA/weights, beside that registry, and in the user's cache; then they are downloaded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..download import cache_folder, download, sha256_of
from ..errors import CorruptFileError, DownloadError
from .weight_files import Description, PathLike, describe, read

if TYPE_CHECKING:
    from ..nn import Module

__all__ = ["Published", "WeightFile", "available", "find", "identify", "load_into"]

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Published:
    """One entry of the registry.

    Attributes:
        architecture, name: resnet18, imagenet.
        files: names to SHA-256; the first is the one to read.
        mirrors: beginnings of addresses; none: the file has to be there already.
        arguments: of the network, other than its defaults.
        rename: texts in the names of the tensors and what stands for them here, one after another.
        preprocessing, classes: see `Description`; classes as names, or as that of a list.
        top1: accuracy that the source states, in percent; None: not stated.
        source, license: where it comes from.
    """

    architecture: str
    name: str
    files: Mapping[str, str]
    mirrors: Sequence[str] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    rename: Sequence[tuple[str, str]] = ()
    preprocessing: Mapping[str, Any] | None = None
    classes: str | Sequence[str] | None = None
    top1: float | None = None
    source: str = ""
    license: str = ""
    beside: Path = HERE  # the folder of its registry

    @property
    def file(self) -> str:
        return next(iter(self.files))

    @property
    def folder(self) -> str:
        """Of its own in the cache, as many files are called model.safetensors."""
        parts = [self.architecture, self.name, *(f"{k}={v}" for k, v in self.arguments.items())]
        return "-".join(parts)

    def description(self) -> Description:
        """What the registry knows, as a file of `models.save` would say it."""
        classes = self.classes
        if isinstance(classes, str):
            names = (HERE / "classes" / f"{classes}.txt").read_text(encoding="utf-8")
            classes = names.splitlines()
        return Description.from_dict(
            {
                "architecture": self.architecture,
                "arguments": dict(self.arguments),
                "preprocessing": self.preprocessing,
                "classes": None if classes is None else list(classes),
            }
        )

    def here(self) -> Path | None:
        """Its first file, where all of them are on this machine and are the published ones."""
        root = os.environ.get("FASTCONV_DATA")
        places = [Path(root) / "weights"] if root else []
        if self.beside != HERE:
            places.append(self.beside)
        places = [place / inner for place in places for inner in ("", self.folder)]
        for place in (*places, self.cache):
            if all((place / name).is_file() for name in self.files) and all(
                sha256_of(place / name) == sha256 for name, sha256 in self.files.items()
            ):
                return place / self.file
        return None

    @property
    def cache(self) -> Path:
        return cache_folder("weights") / self.folder


@dataclass(frozen=True)
class WeightFile(Description):
    """Weights that were found: the file, what it says, and how its names become ours."""

    path: Path = Path()
    rename: Sequence[tuple[str, str]] = ()


# ------------------------------------------------------------------------------------ the registry


def available(architecture: str | None = None) -> list[Published]:
    """What is published, of one network or of all; the user's own entries first.

    Raises:
        CorruptFileError, FileNotFoundError: what $FASTCONV_WEIGHTS names is no registry.

    Example:
        >>> from fastconv import models
        >>> [weights.name for weights in models.available("cifar_resnet20")]
        ['cifar10']
    """
    own = os.environ.get("FASTCONV_WEIGHTS")
    entries = (*(_registry(Path(own)) if own else ()), *_registry(HERE / "registry.json"))
    return [entry for entry in entries if architecture in (None, entry.architecture)]


def _registry(path: Path) -> tuple[Published, ...]:
    if not path.is_file():
        raise FileNotFoundError(f"[weights] $FASTCONV_WEIGHTS names {path}, which is no file")
    return _parsed(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _parsed(path: Path, changed: int) -> tuple[Published, ...]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["weights"]
        published = tuple(Published(**entry, beside=path.parent) for entry in entries)
        for entry in published:
            entry.description()
            if not entry.files:
                raise ValueError(f"{entry.architecture} {entry.name} has no files")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptFileError(f"[weights] {path} is no registry of weights: {error}") from None
    return published


def identify(path: PathLike) -> Published | None:
    """The entry of the registry that a file belongs to, found by its SHA-256."""
    sha256 = sha256_of(Path(path))
    return next((entry for entry in available() if entry.files[entry.file] == sha256), None)


# --------------------------------------------------------------------------------------- finding


def find(
    architecture: str,
    weights: PathLike | None,
    given: Mapping[str, Any],
    defaults: Mapping[str, Any],
) -> WeightFile | None:
    """The weights of a network by what its `weights` argument says; downloads them if need be.

    Args:
        architecture: its name.
        weights: None; the name of published weights; or a file.
        given, defaults: the arguments that were given to it, and those that hold otherwise.

    Raises:
        FileNotFoundError: neither a name nor a file; lists the names.
        ValueError: the file is of another network, or none are published for these arguments.
        DownloadError: no mirror delivered.
    """
    if weights is None:
        return None
    known = available(architecture) if isinstance(weights, str) else []
    named = [entry for entry in known if entry.name == weights]
    if named:
        entry, path = _on_this_machine(_fitting(named, given, defaults))
        return WeightFile(**vars(entry.description()), path=path, rename=entry.rename)
    path = Path(weights)
    if not path.is_file():
        there = ", ".join(dict.fromkeys(repr(entry.name) for entry in available(architecture)))
        raise FileNotFoundError(
            f"[{architecture}] weights={os.fspath(weights)!r}: no such file; published weights of "
            f"{architecture}: {there or 'none'}"
        )
    description, recognised = describe(path), None
    if description is None:
        recognised = identify(path)
        description = recognised.description() if recognised else Description()
    if description.architecture not in (None, architecture):
        raise ValueError(
            f"[{architecture}] {path} holds the weights of {description.architecture}: "
            f"models.load({str(path)!r}) builds it"
        )
    rename = recognised.rename if recognised else ()
    return WeightFile(**vars(description), path=path, rename=rename)


def _fitting(
    entries: list[Published], given: Mapping[str, Any], defaults: Mapping[str, Any]
) -> list[Published]:
    """Those whose arguments do not contradict what was given; of the default arguments first."""
    fitting = [e for e in entries if all(given.get(k, v) == v for k, v in e.arguments.items())]
    if not fitting:
        first = entries[0]
        there = " and ".join(dict.fromkeys(_text(entry.arguments) for entry in entries))
        asked = _text({k: v for k, v in given.items() if k in first.arguments})
        raise ValueError(
            f"[{first.architecture}] weights={first.name!r} are published for {there}, not {asked}"
        )
    wanted = {**defaults, **given}
    exact = [e for e in fitting if all(wanted[k] == v for k, v in e.arguments.items())]
    same = (exact or fitting)[0].arguments
    return [entry for entry in fitting if entry.arguments == same]


def _text(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in arguments.items())


def _on_this_machine(entries: list[Published]) -> tuple[Published, Path]:
    """Where the same weights are published in several forms, the one that is here already."""
    for entry in entries:
        if path := entry.here():
            return entry, path
    entry = next((entry for entry in entries if entry.mirrors), entries[0])
    hint = (
        f"or into $FASTCONV_DATA/weights, or pass a file: {entry.architecture}(weights=FILE); "
        f"published at {entry.source}"
    )
    if not entry.mirrors:
        raise DownloadError(
            f"[weights] {entry.file} is on no server that fastconv knows: put it into "
            f"{entry.cache}, {hint}"
        )
    what = f"{entry.architecture} {entry.name!r}"
    download(entry.files, entry.mirrors, entry.cache, what=what, hint=hint)
    return entry, entry.cache / entry.file


def load_into(model: Module, weights: WeightFile) -> None:
    """Reads a file of weights into a network.

    Raises:
        CorruptFileError: the file is damaged, or a pickle.
        ValueError: it holds the weights of another network; lists what does not fit.
    """
    state = read(weights.path, weights.rename, model.state_dict())
    try:
        model.load_state_dict(state)
    except ValueError as error:
        raise ValueError(f"{weights.path}: {error}") from None
