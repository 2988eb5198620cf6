"""Ctrl-C and other signals that end a program, in the middle of training.

They are noted at once and acted upon between two steps, so that the weights and the optimiser are
always those of a whole number of steps, and what saves them is not disturbed:

* SIGINT (Ctrl-C) raises KeyboardInterrupt; SIGTERM and SIGHUP (a terminal that is closed) raise
  SystemExit with the status that a shell expects, 143 and 129;
* a second signal within a second is part of the first: wrappers forward a Ctrl-C that the terminal
  has sent already;
* a later one does not wait for the end of the step;
* while a checkpoint is written, all of them wait.

Nothing changes outside the main thread, or for signals that somebody else handles or ignores.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["DeferredInterrupt", "Signals", "ignore_late_signals", "signals_held"]

_TOGETHER = 1.0  # seconds within which signals are one


class Signals:
    """While open, a signal raises at once, or waits where it is told to; see above.

    One that is opened within another leaves everything to it.

    Args:
        linger: for commands, which end soon after: a signal that belongs to the one which ended the
            training is ignored also when this is closed.
    """

    _open: Signals | None = None  # the outermost one

    def __init__(self, linger: bool = False) -> None:
        self._linger = linger
        self.deferring = False  # the first signal waits, for `DeferredInterrupt.check`
        self.held = False  # all of them wait
        self.pending: int | None = None
        self._since = -math.inf  # when the first signal of those that are one came
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and Signals._open is None:
            Signals._open = self
            self.held = True  # until all is set up
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                if not hasattr(signal, name):  # Windows has no SIGHUP
                    continue
                number = getattr(signal, name)
                before: Any = signal.getsignal(number)
                before = before.before if isinstance(before, _Late) else before
                if before in (signal.default_int_handler, signal.SIG_DFL):
                    self._before[number] = before
                    signal.signal(number, self._note)
            self.held = False
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        if Signals._open is not self:
            return
        self.held = True
        late, now = self._linger and self._since > -math.inf, time.monotonic()
        for number, before in self._before.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, _Late(before, now) if late else before)
        Signals._open = None
        if kind is None:
            self.raise_pending()

    def raise_pending(self) -> None:
        """Acts upon a signal that has waited, if there is one."""
        number, self.pending = self.pending, None
        if number is not None:
            raise _ending(number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        together = now - self._since < _TOGETHER
        if not together:
            self._since = now
        if self.held or (self.deferring and self.pending is None and not together):
            self.pending = self.pending or number
        elif not together:
            self.pending = None
            raise _ending(number)


class _Late:
    """Handles a signal where one has just ended the training: others of that moment belong to it.

    Whatever comes later does what it did before.
    """

    def __init__(self, before: Any, since: float) -> None:
        self.before, self._since = before, since

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if time.monotonic() - self._since < _TOGETHER:
            return
        signal.signal(number, self.before)
        if callable(self.before):
            self.before(number, frame)
        else:
            os.kill(os.getpid(), number)


def ignore_late_signals() -> None:
    """For a process that a signal has ended, as its last act: others of that moment change nothing.

    Python puts its handlers back while it ends, but what is ignored stays so.
    """
    if threading.current_thread() is threading.main_thread():
        for number in signal.valid_signals():
            if isinstance(signal.getsignal(number), _Late):
                signal.signal(number, signal.SIG_IGN)


def _ending(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Within, no signal interrupts: a file is written to its end."""
    handler = Signals._open
    if handler is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before, handler.held = handler.held, True
    try:
        yield
    finally:
        handler.held = before
    if not (handler.deferring or handler.held):
        handler.raise_pending()


class DeferredInterrupt:
    """While open, a signal waits for `check()`, which is called where it is safe to stop.

    Once `check` has raised, further signals wait until everything is put away: to the end of this,
    or of the `Signals` around it.

    Attributes:
        between_steps: Whether the interruption came from `check`.
    """

    def __init__(self) -> None:
        self.between_steps = False
        self._signals = Signals()
        self._handler: Signals | None = None

    def __enter__(self) -> DeferredInterrupt:
        self._signals.__enter__()
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and Signals._open is not None and not Signals._open.deferring:
            self._handler = Signals._open
            self._handler.deferring = True
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.deferring = False
        self._signals.__exit__(kind, *exception)
        if handler is not None and kind is None:
            handler.raise_pending()

    def check(self) -> None:
        handler = self._handler
        if handler is not None and handler.pending is not None:
            self.between_steps = handler.held = True
            handler.raise_pending()
