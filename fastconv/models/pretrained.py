"""Pretrained weights: published ones by name, files by path, and what they know about themselves.

registry.json lists what is published: for each network and name the files with their SHA-256, the
mirrors that have them, the preprocessing, the classes; and lists of class names, written out or
files themselves. A file of the same form, named by $FASTCONV_WEIGHTS, adds entries of one's own,
which come first. Files are looked for in $FASTCONV_DATA/weights, beside that registry, and in the
user's cache; what is asked for by name is then downloaded.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..download import cache_folder, download, sha256_of
from ..errors import CorruptFileError, DownloadError
from ..untrusted import printable
from .weight_files import Content, Description, PathLike, read, under_own_names

if TYPE_CHECKING:
    from ..nn import Module

__all__ = [
    "ClassFile",
    "Published",
    "WeightFile",
    "available",
    "find",
    "identify",
    "load_into",
    "recognised",
]

REGISTRY = Path(__file__).with_name("registry.json")


@dataclass(frozen=True, kw_only=True)
class _Files:
    """What `Published` and `ClassFile` share: files, and where they may be."""

    name: str
    files: Mapping[str, str]
    mirrors: Sequence[str] = ()
    beside: Path = REGISTRY.parent  # the folder of the registry that lists them

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError(f"{self.folder} has no files")

    @property
    def file(self) -> str:
        return next(iter(self.files))

    @property
    def folder(self) -> str:
        """Of its own in the cache, as many files are called model.safetensors."""
        return self.name

    @property
    def cache(self) -> Path:
        return cache_folder("weights") / self.folder

    def _places(self) -> Iterator[Path]:
        if root := os.environ.get("FASTCONV_DATA"):
            yield from (Path(root) / "weights" / inner for inner in ("", self.folder))
        if self.beside != REGISTRY.parent:
            yield from (self.beside / inner for inner in ("", self.folder))
        yield self.cache

    def here(self) -> Path | None:
        """The first file, where all of them are on this machine and are the published ones."""
        for place in self._places():
            if all((place / name).is_file() for name in self.files) and all(
                sha256_of(place / name) == sha256 for name, sha256 in self.files.items()
            ):
                return place / self.file
        return None

    def downloaded(self, what: str, hint: str) -> Path:
        """The first file, brought into the cache; `what` and `hint` as in `download`."""
        if not self.mirrors:
            raise DownloadError(
                f"[{what}] {self.file} is on no server that fastconv knows: put it into "
                f"{self.cache}, {hint}"
            )
        download(self.files, self.mirrors, self.cache, what=what, hint=hint)
        return self.cache / self.file


@dataclass(frozen=True, kw_only=True)
class ClassFile(_Files):
    """Names of classes as a published text, one a line.

    Attributes:
        name: imagenet.
        files, mirrors: see `Published`.
    """

    @property
    def remedy(self) -> str:
        """What to do where it is not on this machine."""
        return f"put {self.file} into {self.cache}, {self._hint}"

    @property
    def _hint(self) -> str:
        published = f"; published at {self.mirrors[0]}{self.file}" if self.mirrors else ""
        return f"or into $FASTCONV_DATA/weights{published}"

    def read(self, *, network: bool) -> list[str] | None:
        """The names; None where they are not on this machine, and cannot or may not be fetched."""
        path = self.here()
        if path is None and network:
            try:
                path = self.downloaded(f"classes {self.name!r}", self._hint)
            except DownloadError as error:
                reason = " ".join(str(error).split())
                warnings.warn(f"model.classes is None, no names: {reason}", stacklevel=5)
        return None if path is None else path.read_text(encoding="utf-8").splitlines()


@dataclass(frozen=True, kw_only=True)
class Published(_Files):
    """One entry of the registry.

    Attributes:
        architecture, name: resnet18, imagenet.
        files: names to SHA-256; the first is the one to read.
        mirrors: beginnings of addresses; none: the file has to be there already.
        arguments: of the network, other than its defaults.
        rename: texts in the names of the tensors and what stands for them here, one after another.
        preprocessing: see `Description`.
        classes: their names, or the file that has them.
        top1: accuracy that the source states, in percent; None: not stated.
        source, license: where it comes from.
    """

    architecture: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    rename: Sequence[tuple[str, str]] = ()
    preprocessing: Mapping[str, Any] | None = None
    classes: ClassFile | list[str] | None = None
    top1: float | None = None
    source: str = ""
    license: str = ""

    @property
    def folder(self) -> str:
        parts = [self.architecture, self.name, *(f"{k}={v}" for k, v in self.arguments.items())]
        return "-".join(parts)

    def description(self) -> Description:
        """What the registry itself knows, as a file of `models.save` would say it."""
        return Description.from_dict(
            {
                "architecture": self.architecture,
                "arguments": dict(self.arguments),
                "preprocessing": self.preprocessing,
                "classes": None if isinstance(self.classes, ClassFile) else self.classes,
                "output_activation": "softmax" if self.classes else None,
            }
        )

    def found(self, content: Content, *, network: bool) -> WeightFile:
        """The weights in a file; `network`: whether the names of the classes may be downloaded."""
        known = vars(self.description())
        if isinstance(self.classes, ClassFile):
            known = {**known, "classes": self.classes.read(network=network)}
        return WeightFile(**known, path=content.path, tensors=content.tensors, rename=self.rename)


@dataclass(frozen=True)
class WeightFile(Description):
    """Weights that were found: what the file says, its tensors, and how its names become ours."""

    path: Path = Path()
    tensors: Mapping[str, Any] = field(default_factory=dict)
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
    entries = (*(_registry(Path(own))[0] if own else ()), *_registry(REGISTRY)[0])
    return [entry for entry in entries if architecture in (None, entry.architecture)]


_Registry = tuple[tuple[Published, ...], Mapping[str, ClassFile | list[str]]]


def _registry(path: Path) -> _Registry:
    if not path.is_file():
        raise FileNotFoundError(f"[weights] $FASTCONV_WEIGHTS names {path}, which is no file")
    return _parsed(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _parsed(path: Path, changed: int) -> _Registry:
    """The entries, and the lists of class names: those of one's own and the others."""
    published: list[Published] = []
    lists: dict[str, ClassFile | list[str]] = {}
    if path != REGISTRY:
        lists.update(_registry(REGISTRY)[1])
    try:
        registry = json.loads(path.read_text(encoding="utf-8"))
        for name, names in registry.get("classes", {}).items():
            lists[name] = names
            if isinstance(names, dict):
                lists[name] = ClassFile(name=name, **names, beside=path.parent)
        for fields in registry["weights"]:
            classes = fields.get("classes")
            if isinstance(classes, str):
                if classes not in lists:
                    raise ValueError(f"there are no classes {classes!r}")
                classes = lists[classes]
            published.append(Published(**{**fields, "classes": classes, "beside": path.parent}))
            published[-1].description()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptFileError(f"[weights] {path} is no registry of weights: {error}") from None
    return tuple(published), lists


def identify(path: PathLike) -> Published | None:
    """The entry of the registry that a file belongs to, found by its SHA-256."""
    return _entry_of(sha256_of(Path(path)))


def _entry_of(sha256: str) -> Published | None:
    return next((entry for entry in available() if entry.files[entry.file] == sha256), None)


def recognised(path: Path) -> WeightFile:
    """The weights in a file, with what it says about itself, or else the registry by its SHA-256.

    Raises:
        CorruptFileError: the file is damaged, or a pickle.
    """
    content = read(path)
    if content.description is None and (entry := _entry_of(content.sha256)):
        return entry.found(content, network=False)
    known = vars(content.description or Description())
    return WeightFile(**known, path=path, tensors=content.tensors)


# --------------------------------------------------------------------------------------- finding


def find(
    architecture: str,
    weights: PathLike | WeightFile | None,
    given: Mapping[str, Any],
    defaults: Mapping[str, Any],
) -> WeightFile | None:
    """The weights of a network by what its `weights` argument says; a name may download them.

    Args:
        architecture: its name.
        weights: None; the name of published weights; a file; or what `recognised` made of one.
        given, defaults: the arguments that were given to it, and those that hold otherwise.

    Raises:
        FileNotFoundError: neither a name nor a file; lists the names.
        ValueError: the file is of another network, or none are published for these arguments.
        DownloadError: no mirror delivered.
    """
    if weights is None or isinstance(weights, WeightFile):
        return weights
    known = available(architecture) if isinstance(weights, str) else []
    named = [entry for entry in known if entry.name == weights]
    if named:
        entry, path = _on_this_machine(_fitting(named, given, defaults))
        content = read(path)
        if content.description is None and content.sha256 != entry.files[entry.file].lower():
            raise CorruptFileError(f"[{architecture}] {path} was changed while it was read")
        return entry.found(content, network=True)
    path = Path(weights)
    if not path.is_file():
        there = ", ".join(dict.fromkeys(repr(entry.name) for entry in available(architecture)))
        raise FileNotFoundError(
            f"[{architecture}] weights={os.fspath(weights)!r}: no such file; published weights of "
            f"{architecture}: {there or 'none'}"
        )
    found = recognised(path)
    if found.architecture not in (None, architecture):
        raise ValueError(
            f"[{architecture}] {path} holds the weights of {printable(found.architecture)}: "
            f"models.load({str(path)!r}) builds it"
        )
    return found


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
    return entry, entry.downloaded(f"{entry.architecture} {entry.name!r}", hint)


def load_into(model: Module, weights: WeightFile) -> None:
    """Puts weights into a network.

    Raises:
        ValueError: they are those of another network; lists what does not fit.
    """
    try:
        state = under_own_names(weights.tensors, weights.rename, model.state_dict())
        model.load_state_dict(state)
    except ValueError as error:
        raise ValueError(f"{weights.path}: {error}") from None
