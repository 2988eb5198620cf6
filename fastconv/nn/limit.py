"""A limit on the size of networks that are built from the arguments in a file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import numpy as np

__all__ = ["LimitExceeded", "at_most", "spend"]

_left: ContextVar[int | None] = ContextVar("_left", default=None)


class LimitExceeded(Exception):  # noqa: N818  (not for users: whoever sets the limit says what)
    """The parameters have more numbers than `at_most` allows."""


@contextlib.contextmanager
def at_most(numbers: int) -> Iterator[None]:
    """Within this, the parameters made by this thread may have so many numbers together.

    A parameter beyond that raises `LimitExceeded` before its memory is taken, whatever network it
    is of.
    """
    token = _left.set(numbers)
    try:
        yield
    finally:
        _left.reset(token)


def spend(data: object) -> None:
    """Counts the numbers of a new parameter."""
    left = _left.get()
    if left is not None:
        left -= np.size(data)  # type: ignore[arg-type]
        if left < 0:
            raise LimitExceeded
        _left.set(left)
