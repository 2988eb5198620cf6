"""The picture files of a folder, found without opening one: links followed, odd things named."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ..untrusted import printable

__all__ = ["EXTENSIONS", "ancestors", "find_pictures", "holds_pictures", "subfolders", "what_is_in"]

EXTENSIONS = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "bmp", "gif", "webp"),
        *("tif", "tiff", "ppm", "pgm", "pbm", "pnm", "avif"),
    )
)
# Pictures too, of kinds that are not read here: telephones, cameras, drawing programs.
_FOREIGN = frozenset(
    f".{name}"
    for name in (
        *("heic", "heif", "hif", "jxl", "jp2", "j2k", "jpx", "psd", "svg", "svgz", "eps"),
        *("tga", "ico", "xcf", "exr", "hdr", "dds"),
        *("dng", "cr2", "cr3", "nef", "arw", "orf", "rw2", "raf", "raw"),
    )
)
_KINDS = {
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}
_NAMED = 5  # entries of a folder that an error names

Identity = tuple[int, int]  # of a folder: its device and its number there


def find_pictures(
    folder: str | os.PathLike[str], outside: frozenset[Identity] = frozenset()
) -> tuple[list[str], dict[str, str]]:
    """The pictures in a folder and all the folders in it, by name; and what is left out.

    Links are followed, to files and to folders, but no folder is entered twice. Names that begin
    with a dot, and files that are no pictures by their extension, are passed over. Nothing is
    opened: a pipe under a picture's name would wait for ever.

    Args:
        folder: Where to begin.
        outside: Folders that are not entered, such as those around the data set.

    Returns:
        The paths, sorted; and a dictionary of paths to the reasons why they are left out: empty
        files, links that lead nowhere or back, pipes, kinds of pictures that are not read, folders
        that may not be read.
    """
    paths: list[str] = []
    left_out: dict[str, str] = {}
    entered = set(outside)
    folders, links = [os.fspath(folder)], list[str]()
    while folders or links:
        place = (folders or links).pop()  # a folder is entered by its own name where it has one
        try:
            status = os.stat(place)
            if (status.st_dev, status.st_ino) in entered:
                left_out[place] = "a link to a folder that is counted already"
                continue
            entered.add((status.st_dev, status.st_ino))
            names = sorted(os.listdir(place))
        except OSError as error:
            left_out[place] = _why(error, place)
            continue
        for name in names:
            if name.startswith("."):
                continue
            path = os.path.join(place, name)
            extension = os.path.splitext(name)[1].lower()
            try:
                status = os.stat(path)
            except OSError as error:
                if extension in EXTENSIONS | _FOREIGN or os.path.islink(path):
                    left_out[path] = _why(error, path)
                continue
            if stat.S_ISDIR(status.st_mode):
                (links if os.path.islink(path) else folders).append(path)
            elif extension in _FOREIGN:
                left_out[path] = f"{extension[1:].upper()} is not read: save it as JPEG or PNG"
            elif extension in EXTENSIONS:
                if fault := _fault(status):
                    left_out[path] = fault
                else:
                    paths.append(path)
    return sorted(paths), {path: f"[image] {path}: {why}" for path, why in left_out.items()}


def _fault(status: os.stat_result) -> str:
    """Why something under a picture's name is no file to read; "": it may be one."""
    for is_kind, name in _KINDS.items():
        if is_kind(status.st_mode):
            return f"{name}, no file"
    return "the file is empty" if status.st_size == 0 else ""


def _why(error: OSError, path: str) -> str:
    if os.path.islink(path) and isinstance(error, FileNotFoundError):
        return f"a link that leads nowhere, to {os.readlink(path)}"
    return error.strerror or str(error)


def subfolders(folder: str | os.PathLike[str]) -> list[Path]:
    """The folders in a folder, links to folders among them, by name; without hidden ones."""
    entries = (entry for entry in os.scandir(folder) if not entry.name.startswith("."))
    return sorted(Path(entry.path) for entry in entries if entry.is_dir())


def ancestors(folder: Path) -> frozenset[Identity]:
    """A folder and those around it."""
    place = folder.resolve()
    around = [os.stat(outer) for outer in (place, *place.parents)]
    return frozenset((status.st_dev, status.st_ino) for status in around)


def holds_pictures(folder: Path, *, deeper: bool) -> bool:
    """Whether a picture lies in a folder, or, `deeper`, anywhere in the folders below.

    Example:
        >>> holds_pictures(Path("nowhere"), deeper=True)
        False
    """
    return next(_names(folder, deeper), None) is not None


def _names(folder: Path, deeper: bool) -> Iterator[str]:
    for place, folders, files in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if deeper and not name.startswith(".")]
        for name in files:
            extension = os.path.splitext(name)[1].lower()
            if not name.startswith(".") and extension in EXTENSIONS:
                yield os.path.join(place, name)


def what_is_in(folder: Path) -> str:
    """The first names in a folder, for an error."""
    try:
        names = sorted(entry.name + "/" * entry.is_dir() for entry in os.scandir(folder))
    except OSError as error:
        return error.strerror or str(error)
    if not names:
        return "nothing"
    shown = ", ".join(printable(name) for name in names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")
