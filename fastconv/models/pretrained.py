"""Pretrained weights: published ones by name, files by path, and what they know about themselves.

registry.json lists what is published: for each network and name the files with their SHA-256, the
mirrors that have them, the preprocessing, the classes; and lists of class names, written out or
files themselves. A file of the same form, named by $FASTCONV_WEIGHTS, adds entries of one's own,
which come first. Files are looked for in $FASTCONV_DATA/weights, beside that registry, and in the
user's cache; what is asked for by name is then downloaded.

A registry may be somebody else's. All of it is checked when it is read: names of files and folders
are plain names, addresses are of the web, and nothing else is looked at before that.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..download import cache_folder, download, sha256_of
from ..errors import CorruptFileError, DownloadError
from ..io import parse_json
from ..untrusted import check_file_name, printable
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
_MAX_REGISTRY = 1 << 24  # bytes
_MAX_WEIGHTS = 1 << 31  # bytes of a file of weights; VGG-19's, the largest here, have 575 million
_MAX_NAMES = 1 << 22  # bytes of a list of class names


@dataclass(frozen=True, kw_only=True)
class _Files:
    """What `Published` and `ClassFile` share: files, and where they may be."""

    name: str
    files: Mapping[str, str]
    mirrors: Sequence[str] = ()
    beside: Path = REGISTRY.parent  # the folder of the registry that lists them

    max_bytes: ClassVar[int]  # of each file, when it is downloaded

    def __post_init__(self) -> None:
        """Raises ValueError or TypeError for anything that a registry must not say."""
        _check_kind("name", self.name, str)
        check_file_name(self.folder)
        _check_kind("files", self.files, Mapping)
        if not self.files:
            raise ValueError(f"{self.folder} has no files")
        for name, sha256 in self.files.items():
            check_file_name(name)
            if not (isinstance(sha256, str) and re.fullmatch("[0-9a-fA-F]{64}", sha256)):
                raise ValueError(f"the SHA-256 of {name} must be 64 hexadecimal digits")
        _check_kind("mirrors", self.mirrors, list, tuple)
        for mirror in self.mirrors:
            if not (isinstance(mirror, str) and mirror.startswith(("https://", "http://"))):
                raise ValueError(f"the mirror {mirror!r} must begin with https:// or http://")

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
            folder = Path(os.path.expanduser(root)) / "weights"
            yield from (folder / inner for inner in ("", self.folder))
        if self.beside != REGISTRY.parent:
            yield from (self.beside / inner for inner in ("", self.folder))
        yield self.cache

    def here(self) -> Path | None:
        """The first file, where all of them are on this machine and are the published ones."""
        for place in self._places():
            if all((place / name).is_file() for name in self.files) and all(
                sha256_of(place / name) == sha256.lower() for name, sha256 in self.files.items()
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
        download(
            self.files, self.mirrors, self.cache, what=what, hint=hint, max_bytes=self.max_bytes
        )
        return self.cache / self.file


@dataclass(frozen=True, kw_only=True)
class ClassFile(_Files):
    """Names of classes as a published text, one a line.

    Attributes:
        name: imagenet.
        files, mirrors: see `Published`.
    """

    max_bytes: ClassVar[int] = _MAX_NAMES

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
        if path is None:
            return None
        try:
            return path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise CorruptFileError(f"[classes {self.name!r}] {path} is no text in UTF-8") from None


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

    max_bytes: ClassVar[int] = _MAX_WEIGHTS

    def __post_init__(self) -> None:
        _check_kind("architecture", self.architecture, str)
        _check_kind("arguments", self.arguments, Mapping)
        for name, value in self.arguments.items():
            _check_kind(f"arguments: {name}", value, str, bool, int, float)
        _check_kind("rename", self.rename, list, tuple)
        for pair in self.rename:
            if len(pair) != 2 or not all(isinstance(text, str) for text in pair):
                raise ValueError(f"rename must list pairs of texts, got {pair!r}")
        for name in ("source", "license"):
            _check_kind(name, getattr(self, name), str)
        _check_kind("top1", self.top1, int, float, type(None))
        super().__post_init__()

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


def _check_kind(field: str, value: object, *kinds: type) -> None:
    if not isinstance(value, kinds):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"{field} must be {expected}, got {type(value).__name__}")


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
    own_path = Path(os.path.expanduser(own)) if own else None
    entries = (*(_registry(own_path)[0] if own_path else ()), *_registry(REGISTRY)[0])
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
    entry = ""  # the one that is looked at
    try:
        size = path.stat().st_size
        if size > _MAX_REGISTRY:
            raise ValueError(f"it has {size:,} bytes, at most {_MAX_REGISTRY:,} are read")
        registry = parse_json(path.read_text(encoding="utf-8-sig"))
        for name, names in registry.get("classes", {}).items():
            entry = f"classes {name!r}: "
            lists[name] = _class_names(name, names, path.parent)
        for number, fields in enumerate(registry["weights"]):
            entry = f"weights, entry {number}: "
            entry = f"{fields['architecture']} {fields['name']!r}: "
            published.append(_published(fields, lists, path.parent))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise CorruptFileError(
            f"[weights] {path} is no registry of weights: {printable(entry + reason)}"
        ) from None
    return tuple(published), lists


def _class_names(name: str, names: Any, beside: Path) -> ClassFile | list[str]:
    if isinstance(names, dict):
        return ClassFile(**{**names, "name": name, "beside": beside})
    if not (isinstance(names, list) and all(isinstance(text, str) for text in names)):
        raise TypeError("expected a list of names, or a dictionary with files")
    return names


def _published(
    fields: Mapping[str, Any], lists: Mapping[str, ClassFile | list[str]], beside: Path
) -> Published:
    classes = fields.get("classes")
    if isinstance(classes, str):
        if classes not in lists:
            raise ValueError(f"there are no classes {classes!r}")
        classes = lists[classes]
    entry = Published(**{**fields, "classes": classes, "beside": beside})
    entry.description()
    return entry


def identify(path: PathLike) -> Published | None:
    """The entry of the registry that a file belongs to, found by its SHA-256."""
    return _entry_of(sha256_of(Path(os.path.expanduser(path))))


def _entry_of(sha256: str) -> Published | None:
    return next((entry for entry in available() if entry.files[entry.file].lower() == sha256), None)


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
    path = Path(os.path.expanduser(weights))
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
        f"published at {printable(entry.source)}"
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
