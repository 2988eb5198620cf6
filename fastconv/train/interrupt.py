"""Ctrl-C in the middle of training: noted at once, acted upon between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

__all__ = ["DeferredInterrupt"]


class DeferredInterrupt:
    """While open, SIGINT only sets a flag; `check()` raises KeyboardInterrupt at a safe point.

    So the weights and the optimiser are always those of a whole number of steps. A second Ctrl-C
    does not wait. Nothing changes outside the main thread, or where somebody else handles SIGINT.

    Attributes:
        between_steps: Whether the interruption came from `check`.
    """

    def __init__(self) -> None:
        self.between_steps = False
        self._pending = False
        self._before: Any = None

    def __enter__(self) -> DeferredInterrupt:
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def check(self) -> None:
        if self._pending:
            self._pending, self.between_steps = False, True
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._pending:
            signal.default_int_handler(number, frame)
        self._pending = True
