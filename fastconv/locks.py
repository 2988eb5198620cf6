"""Locks on files that are being written: who finds one free knows that its writer is no more."""

from __future__ import annotations

import errno
import os

__all__ = ["is_at", "lock"]


def lock(file: int) -> bool | None:
    """Locks an open file until it is closed: True; False where somebody holds it; None: no locks.

    The system lets go of a lock when its process ends, however it ends. Windows and some file
    systems have none.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def is_at(file: int, path: str | os.PathLike[str]) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file), os.lstat(path))
    except OSError:
        return False
