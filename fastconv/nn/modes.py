"""Training or evaluation mode, as one thread sees it.

A module stores whether it is in training mode. What only wants to run a network (predict, evaluate,
the steps of fit) must not write to modules that other threads run too, so it opens an overlay: in
this thread `training` is then read from the overlay and written to it, whoever sets it, be it
`eval()`, a `train()` of the user's own or a `forward`. The modules themselves stay as they are.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .module import Module

__all__ = ["here", "own_modes", "stored_modes"]


class _Here(threading.local):
    """The overlay of this thread.

    Attributes:
        modes: id of a module: the module, which must live as long as its id is used, and its mode;
            None where no overlay is open.
        stamp: another object after every change, so that what was looked up can be known as valid.
    """

    modes: dict[int, tuple[Module, bool]] | None = None
    stamp: object = None


here = _Here()


@contextmanager
def own_modes() -> Iterator[None]:
    """Opens an overlay until the block ends; its modes begin as those that are in effect.

    Example:
        >>> from fastconv import nn
        >>> layer = nn.Dropout()
        >>> with own_modes():
        ...     layer.eval().training
        False
        >>> layer.training
        True
    """
    before = here.modes, here.stamp
    here.modes, here.stamp = dict(before[0] or {}), object()
    try:
        yield
    finally:
        here.modes, here.stamp = before


@contextmanager
def stored_modes() -> Iterator[None]:
    """Closes the overlay until the block ends: for code that needs the stored modes."""
    before = here.modes, here.stamp
    here.modes = here.stamp = None
    try:
        yield
    finally:
        here.modes, here.stamp = before
