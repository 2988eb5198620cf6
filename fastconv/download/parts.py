"""Parts of files: what has arrived of a download, and who goes on with it.

Each call writes into a hidden file of its own, .NAME.PID.RANDOM.part, and holds a lock on it. What
it cannot finish becomes NAME.part. The next call for NAME takes up NAME.part, or a hidden part that
nobody holds a lock on: a killed process leaves that. Of two calls at once one goes on with what is
there, the other begins anew, and both end with the whole file.
"""

from __future__ import annotations

import contextlib
import os
import time
from io import FileIO
from pathlib import Path

from ..locks import is_at, lock

__all__ = ["Part", "claimed"]

# Where a file system has no locks, a part is given up when nothing was written into it for so long.
# A download that is slower than that ends by itself.
_ABANDONED = 600.0  # seconds


class Part:
    """A hidden file that is this call's alone while the `with` lasts.

    What is in it then, if it was not moved away, waits as NAME.part for the next call.
    """

    def __init__(self, file: FileIO, path: Path, rest: Path) -> None:
        self.path = path
        self._file, self._rest = file, rest
        self._moved = False

    @property
    def size(self) -> int:
        """Bytes so far."""
        return os.fstat(self._file.fileno()).st_size

    def append(self, content: bytes) -> None:
        """Adds bytes at the end."""
        self._file.seek(0, os.SEEK_END)
        left = memoryview(content)
        while left:
            left = left[self._file.write(left) :]

    def clear(self) -> None:
        """Throws away what is there."""
        self._file.truncate(0)

    def move(self, path: Path) -> None:
        """Gives the whole file its name."""
        if os.name == "nt":
            self._file.close()  # Windows moves no open file
        os.replace(self.path, path)
        self._moved = True

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *exception: object) -> None:
        if not self._moved:
            with contextlib.suppress(OSError):
                self.move(self._rest) if self.size else self.path.unlink()
        self._file.close()


def claimed(path: Path) -> Part:
    """The largest part of a file that nobody writes, or an empty one; the others are removed."""
    rest = path.with_name(f"{path.name}.part")
    mine = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.part")
    taken: FileIO | None = None
    for left in _parts(path, rest):
        if taken is None:
            taken = _take(left, mine)
        elif spare := _take(left, left):
            spare.close()
            with contextlib.suppress(OSError):
                left.unlink()
    while taken is None:
        file = open(mine, "x+b", buffering=0)  # noqa: SIM115  (the part closes it)
        if lock(file.fileno()) is not False and is_at(file.fileno(), mine):
            taken = file
        else:  # somebody who tidied up was quicker than the lock
            file.close()
            mine.unlink(missing_ok=True)
    return Part(taken, mine, rest)


def _parts(path: Path, rest: Path) -> list[Path]:
    """What there is of a file, the largest first."""
    begin = f".{path.name}."
    hidden = (
        entry.path
        for entry in os.scandir(path.parent)
        if entry.name.startswith(begin) and entry.name.endswith(".part")
    )
    sizes = []
    for name in (str(rest), *hidden):
        with contextlib.suppress(OSError):
            sizes.append((os.lstat(name).st_size, Path(name)))
    return [left for _, left in sorted(sizes, reverse=True)]


def _take(left: Path, mine: Path) -> FileIO | None:
    """Opens a part that nobody writes, under its new name; None where somebody does.

    A link is removed and never followed: what it leads to is not ours.
    """
    with contextlib.suppress(OSError):
        if left.is_symlink() or not left.is_file():
            left.unlink()
        elif os.name == "nt":  # an open file cannot be moved there: whoever writes it keeps it
            os.replace(left, mine)
            return open(mine, "r+b", buffering=0)
        else:
            file = open(left, "r+b", buffering=0, opener=_no_links)  # noqa: SIM115
            try:
                if _is_nobodys(file, left):
                    os.replace(left, mine)
                    return file
            except OSError:
                file.close()
                raise
            file.close()
    return None


def _is_nobodys(file: FileIO, left: Path) -> bool:
    locked = lock(file.fileno())
    if locked is None:
        hidden = left.name.startswith(".")
        locked = not hidden or time.time() - os.fstat(file.fileno()).st_mtime > _ABANDONED
    return locked and is_at(file.fileno(), left)


def _no_links(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0))
