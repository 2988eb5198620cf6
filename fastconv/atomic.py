"""Files that are complete, or not there.

A file is written beside its final name, as a part, and moved there when it is complete: whatever
happens, there is either the old file or the new one. The writer holds a lock on its part, which
ends with the process however that ends. So a part whose lock can be had is stale, and the next
file written into that folder takes it away.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import stat
import time
import warnings
import zlib
from collections.abc import Iterator
from io import FileIO

from .locks import is_at, lock

__all__ = ["check_writable", "write_atomically"]

PathLike = str | os.PathLike[str]

# On a folder that machines share, a lock may be known to its own machine alone: the name says whose
# part it is, and parts of others have to be old as well.
_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
_PART = re.compile(r"\.fastconv-([0-9a-f]{8})-[0-9a-f]{16}\.part")
_OLD = 24 * 3600.0  # seconds

_READER_WITHIN = 3.0  # seconds in which somebody has to read a pipe


def write_atomically(path: PathLike, content: bytes) -> None:
    """Writes a file that is complete, or not there.

    A symbolic link is followed and stays. A file that is replaced hands its permissions, and as far
    as allowed its owner, to the new one. Pipes and devices are written to as they are.

    Raises:
        OSError: it cannot be written; names `path`. An earlier file of that name is untouched.
    """
    name = os.path.expanduser(os.fspath(path))
    target, before = _target(name)
    if target is None:
        assert before is not None
        _write_into(name, before, content)
        return
    with _naming(name), _part_beside(target, name, before) as (file, part):
        view = memoryview(content)
        while view:
            view = view[file.write(view) :]
        if before is not None and hasattr(os, "fchmod"):
            _hand_over(file.fileno(), before)
        os.fsync(file.fileno())
        if os.name == "nt":
            file.close()  # Windows moves no open file
        os.replace(part, target)
    _keep_name(os.path.dirname(target))


def check_writable(path: PathLike) -> None:
    """Finds out whether `write_atomically` can write this file, and leaves all as it is.

    Raises:
        OSError: as `write_atomically` would.
    """
    name = os.path.expanduser(os.fspath(path))
    target, before = _target(name)
    if target is not None:
        with _naming(name), _part_beside(target, name, before):
            pass
    elif not os.access(name, os.W_OK):
        raise PermissionError(errno.EACCES, "[save] it may not be written to", name)


def _target(name: str) -> tuple[str | None, os.stat_result | None]:
    """Where the file itself lies, links followed, and what is there; None: no ordinary file."""
    try:
        before = os.stat(name)
    except FileNotFoundError:
        before = None
    if not os.path.basename(name) or (before is not None and stat.S_ISDIR(before.st_mode)):
        raise IsADirectoryError(
            errno.EISDIR, "[save] the name of a file is expected, this is a directory", name
        )
    if before is not None and not stat.S_ISREG(before.st_mode):
        return None, before
    target = os.path.realpath(name)
    if before is not None and not os.path.exists(target) and os.path.exists(name):
        return None, before  # an open file without a name, as may be behind /dev/stdout
    return target, before


# ------------------------------------------------------------------------------------ parts


@contextlib.contextmanager
def _part_beside(
    target: str, name: str, before: os.stat_result | None
) -> Iterator[tuple[FileIO, str]]:
    """A new part in the folder of `target`, open and locked, and gone again afterwards."""
    folder = os.path.dirname(target)
    _sweep(folder)
    mode = 0o666 if before is None else 0o600  # nobody may read it who may not read the old one
    try:
        file, part = _locked_part(folder, mode)
    except OSError as error:
        shown = folder if os.path.islink(name) else os.path.dirname(name) or "."
        raise _folder_error(error, shown, name) from None
    try:
        yield file, part
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        file.close()


def _locked_part(folder: str, mode: int) -> tuple[FileIO, str]:
    while True:
        part = os.path.join(folder, f".fastconv-{_HOST}-{os.urandom(8).hex()}.part")
        file = FileIO(part, "x", opener=lambda name, flags: os.open(name, flags, mode))
        # Without locks on this file system nobody sweeps there.
        if lock(file.fileno()) is not False and is_at(file.fileno(), part):
            return file, part
        file.close()  # swept by somebody before it was locked


def _sweep(folder: str) -> None:
    """Takes away the parts whose writers live no longer."""
    with contextlib.suppress(OSError):  # a folder that cannot be listed may still be written to
        for name in os.listdir(folder):
            if found := _PART.fullmatch(name):
                with contextlib.suppress(OSError):
                    _take_away(os.path.join(folder, name), found[1] == _HOST)


def _take_away(part: str, own: bool) -> None:
    if not stat.S_ISREG(os.lstat(part).st_mode):
        return
    file = os.open(part, os.O_RDWR)
    try:
        # A lock that is held means that the writer lives.
        if lock(file) and (own or time.time() - os.fstat(file).st_mtime > _OLD):
            os.unlink(part)
    finally:
        os.close(file)


def _hand_over(file: int, before: os.stat_result) -> None:
    """Gives the new file the permissions of the old one and, where allowed, its owner."""
    mode, own = stat.S_IMODE(before.st_mode), os.fstat(file)
    if (own.st_uid, own.st_gid) != (before.st_uid, before.st_gid):
        try:
            os.fchown(file, before.st_uid, before.st_gid)
        except PermissionError:
            try:
                os.fchown(file, -1, before.st_gid)
            except PermissionError:  # what the old group might do, another might not
                mode &= ~0o070 | (mode & 0o007) << 3
    os.fchmod(file, mode)


def _keep_name(folder: str) -> None:
    """Makes the new name outlast a power cut; some file systems cannot, and need not."""
    with contextlib.suppress(OSError):
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


# ------------------------------------------------------------------------- what is no ordinary file


def _write_into(name: str, status: os.stat_result, content: bytes) -> None:
    """Writes to a pipe or device, which stays what it is."""
    with _naming(name):
        file = _open_pipe(name) if stat.S_ISFIFO(status.st_mode) else _open_device(name, status)
        if file is None:
            warnings.warn(
                f"[save] nobody reads the pipe {name}: nothing was written; start its reader first",
                stacklevel=4,
            )
            return
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(file, view) :]
        finally:
            os.close(file)


def _open_device(name: str, status: os.stat_result) -> int:
    ordinary = stat.S_ISREG(status.st_mode)
    flags = getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    return os.open(name, os.O_WRONLY | flags | (os.O_TRUNC if ordinary else 0))


def _open_pipe(name: str) -> int | None:
    """None where nobody reads it: to wait for a reader could be for ever."""
    until = time.monotonic() + _READER_WITHIN
    while True:
        try:
            file = os.open(name, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > until:
                return None
            time.sleep(0.02)
        else:
            os.set_blocking(file, True)
            return file


# ----------------------------------------------------------------------------------- errors


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Errors name the file as the user wrote it, not the part."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename == name:
            raise
        raise OSError(error.errno, error.strerror, name) from None


def _folder_error(error: OSError, folder: str, name: str) -> OSError:
    what = {
        errno.ENOENT: f"[save] there is no folder {folder}: make it first, mkdir -p",
        errno.ENOTDIR: f"[save] {folder} is no folder: choose another",
        errno.EACCES: f"[save] the folder {folder} may not be written to: choose another, or "
        "change its permissions",
    }
    return OSError(error.errno, what.get(error.errno or 0, error.strerror), name)
