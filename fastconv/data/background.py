"""Work done ahead of time in threads, handed over in order."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Generator
from typing import Generic, TypeVar

__all__ = ["cores", "in_order"]

T = TypeVar("T")


def cores() -> int:
    """CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_order(
    make: Callable[[int], T], first: int, end: int, *, threads: int, ahead: int
) -> Generator[T, None, None]:
    """make(first), ..., make(end - 1), made in threads, at most `ahead` before they are asked for.

    An exception comes through in its turn, and ends the iteration. However the iteration ends, its
    threads end with it (each finishes what it is making).

    Example:
        >>> list(in_order(lambda i: i * i, 0, 5, threads=2, ahead=3))
        [0, 1, 4, 9, 16]
    """
    belt = _Belt(make, first, end, ahead)
    workers = [
        threading.Thread(target=belt.work, name="fastconv-loader", daemon=True)
        for _ in range(min(threads, end - first))
    ]
    process = os.getpid()
    try:
        for worker in workers:
            worker.start()
        for number in range(first, end):
            if os.getpid() != process:
                raise RuntimeError(
                    "[Loader] this iteration began before the process was forked: its threads "
                    "stayed behind; begin a new one"
                )
            yield belt.take(number)
    finally:
        # A forked child has neither the threads nor, perhaps, a free lock; while the interpreter
        # ends, its threads stand still for ever.
        if os.getpid() == process and not sys.is_finalizing():
            belt.stop()
            for worker in workers:
                # An interrupt may come before all are started, the garbage collector in any thread.
                if worker.ident is not None and worker is not threading.current_thread():
                    worker.join()


class _Belt(Generic[T]):
    """Numbers handed out to workers, and what they made of them, until it is taken."""

    def __init__(self, make: Callable[[int], T], first: int, end: int, ahead: int) -> None:
        self._make, self._end, self._ahead = make, end, ahead
        self._next = first  # the next number to be made
        self._asked = first  # the number that is waited for
        self._made: dict[int, T] = {}
        self._errors: dict[int, BaseException] = {}
        self._stopped = False
        self._changed = threading.Condition()

    def work(self) -> None:
        while (number := self._draw()) is not None:
            try:
                made = self._make(number)
            except BaseException as error:
                with self._changed:
                    self._errors[number] = error
                    self._stopped = True  # nothing behind an error is asked for
                    self._changed.notify_all()
                return
            with self._changed:
                self._made[number] = made
                self._changed.notify_all()

    def take(self, number: int) -> T:
        with self._changed:
            self._asked = number + 1
            self._changed.notify_all()
            while number not in self._made and number not in self._errors:
                self._changed.wait()
            if number in self._errors:
                raise self._errors.pop(number)
            return self._made.pop(number)

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _draw(self) -> int | None:
        with self._changed:
            while not self._stopped and self._next < self._end:
                if self._next < self._asked + self._ahead:
                    self._next += 1
                    return self._next - 1
                self._changed.wait()
            return None
