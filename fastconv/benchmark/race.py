"""Contestants in turn: who has an answer, whether the answers agree, and how long each takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .cases import Array, Task, error
from .remote import Remote, RemoteError
from .timing import Times

# Times slower than the fastest rival: cannot be the best, is let go. After two rounds; where a
# single call takes longer than LONG seconds, the first round tells enough.
OUTPACED, OUTPACED_LONG, LONG = 3.0, 1.2, 0.5


class WrongAnswerError(ArithmeticError):
    """Two contestants differ by more than rounding explains."""


@dataclass
class Entry:
    """One contestant in one configuration, doing one task."""

    remote: Remote
    configuration: str
    handle: int
    error: float | None = None  # distance from the first entry's answer, see cases.error
    times: Times = field(default_factory=Times)
    restless: int = 0  # bursts after which its threads kept spinning
    racing: bool = True
    memory: dict[str, int] = field(default_factory=dict)  # of a process that does only this

    @property
    def name(self) -> str:
        return f"{self.remote.label} {self.configuration}"


class Race:
    """One task. The first to enter sets the answer that the others are checked against.

    A race ends `limit` seconds after it began, with the rounds that were run by then. Whoever is
    not ready when two thirds of it are over does not take part.
    """

    def __init__(self, task: Task, limit: float | None = None) -> None:
        self.task = task
        self.entries: list[Entry] = []
        self.failures: list[str] = []  # configurations that could not do it, and why
        self._answer: dict[str, Array] = {}
        self._limit = limit
        self._end = None if limit is None else time.perf_counter() + limit

    def enter(self, remote: Remote, quick: bool) -> None:
        """All that `remote` offers. The first entry must come about."""
        for configuration in remote.configurations(self.task, quick):
            try:
                self.enter_one(remote, configuration)
            except RemoteError as failure:
                if not remote.alive or not self.entries:
                    raise
                self._note(f"{remote.label} {configuration}", failure)

    def enter_alone(self, remote: Remote, quick: bool, start: Callable[[], Remote]) -> list[Remote]:
        """The same, but each configuration in a process of its own, whose memory is told.

        `remote` only says what there is. Returns the processes, for the caller to close.
        """
        processes = []
        for configuration in remote.configurations(self.task, quick):
            single = start()
            processes.append(single)
            try:
                single.started()
                self.enter_one(single, configuration)
                self.entries[-1].memory = {"before": 0, "peak": 0}
            except RemoteError as failure:
                single.close()
                if not self.entries:
                    raise
                self._note(f"{remote.label} {configuration}", failure)
            except WrongAnswerError:
                for process in processes:
                    process.close()
                raise
        return processes

    def enter_one(self, remote: Remote, configuration: str) -> None:
        """One configuration.

        Raises:
            RemoteError: it cannot do the task, is not ready in time, or contradicts two others
                that agree.
            WrongAnswerError: its answer is not that of the first entry, and nobody else has one.
        """
        if self._limit is not None:
            left = self._left() - self._limit / 3
            if left <= 0 and self.entries:
                raise RemoteError("no time is left", "TimeLimit")
            remote.patience = min(left, self._limit / 3) if self.entries else None
        try:
            handle, answer = remote.prepare(self.task, configuration)
        finally:
            remote.patience = None
        entry = Entry(remote, configuration, handle)
        if self.entries:
            self._check(entry, answer)
        else:
            self._answer = answer
        self.entries.append(entry)

    def _note(self, name: str, failure: RemoteError) -> None:
        reason = " ".join(str(failure).strip().splitlines()[:1])
        self.failures.append(f"{name} ({self.task.id}): {failure.kind}: {reason}")

    def _left(self) -> float:
        return float("inf") if self._end is None else self._end - time.perf_counter()

    def _check(self, entry: Entry, answer: dict[str, Array]) -> None:
        entry.error, allowed = error(self.task, self._answer, answer)
        if not entry.error <= allowed:
            explained = f"{entry.error:.1e} of the answer's size, rounding explains {allowed:.1e}"
            ours, *agreeing = self.entries
            if agreeing:
                others = f"the answer of {ours.name} and {agreeing[0].name}"
                raise RemoteError(f"differs from {others} by {explained}", "WrongAnswer")
            raise WrongAnswerError(
                f"[bench] {self.task.id}: {ours.name} and {entry.name} differ by {explained}"
            )

    def run(self, rounds: int, seconds: float) -> None:
        """`rounds` bursts each, in turn and back again, each of at least `seconds`."""
        order = list(self.entries)
        for turn in range(rounds):
            if turn == 2 or (turn == 1 and self._long()):
                self._let_go(OUTPACED if turn == 2 else OUTPACED_LONG)
            if turn > 0 and self._left() <= 0:
                break
            for entry in order:
                if not entry.racing:
                    continue
                entry.remote.patience = self._limit
                try:
                    times, idle = entry.remote.burst(entry.handle, seconds)
                    if entry.memory:
                        entry.memory = entry.remote.memory()
                except RemoteError as failure:
                    if entry is self.entries[0]:
                        raise
                    entry.racing = False
                    self._note(entry.name, failure)
                    continue
                finally:
                    entry.remote.patience = None
                entry.times.rounds.append(times)
                entry.restless += not idle
            order.reverse()
        self.entries = [entry for entry in self.entries if entry.times.rounds]

    def _rivals(self) -> list[Entry]:
        return [entry for entry in self.entries[1:] if entry.times.rounds]

    def _long(self) -> bool:
        return min((entry.times.minimum for entry in self._rivals()), default=0.0) > LONG

    def _let_go(self, outpaced: float) -> None:
        rivals = self._rivals()
        fastest = min((entry.times.median for entry in rivals), default=0.0)
        for entry in rivals:
            if entry.racing and entry.times.median > outpaced * fastest:
                entry.racing = False
                if entry.memory:  # a process of its own: what it holds is free for the others
                    entry.remote.close()

    def best(self, label: str | None = None) -> Entry | None:
        """The fastest entry but the first, of everyone or of one contestant."""
        rivals: Iterable[Entry] = self.entries[1:]
        if label is not None:
            rivals = [entry for entry in rivals if entry.remote.label == label]
        return min(rivals, key=lambda entry: entry.times.median, default=None)
