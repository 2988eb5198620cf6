"""Contestants in turn: who has an answer, whether the answers agree, and how long each takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .cases import Array, Task, error
from .remote import Remote, RemoteError
from .timing import Times

OUTPACED = (
    3.0  # times slower than the fastest rival after two rounds: cannot be the best, is let go
)


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

    @property
    def name(self) -> str:
        return f"{self.remote.label} {self.configuration}"


class Race:
    """One task. The first to enter sets the answer that the others are checked against."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.entries: list[Entry] = []
        self.failures: list[str] = []  # configurations that could not do it, and why
        self._answer: dict[str, Array] = {}

    def enter(self, remote: Remote, quick: bool) -> None:
        """All that `remote` offers. The first entry must come about; a wrong answer raises."""
        for configuration in remote.configurations(self.task, quick):
            try:
                handle, answer = remote.prepare(self.task, configuration)
            except RemoteError as failure:
                if not remote.alive or not self.entries:
                    raise
                reason = str(failure).strip().splitlines()[:1]
                self.failures.append(
                    f"{remote.label} {configuration}: {failure.kind}: {' '.join(reason)}"
                )
                continue
            entry = Entry(remote, configuration, handle)
            if self.entries:
                self._check(entry, answer)
            else:
                self._answer = answer
            self.entries.append(entry)

    def _check(self, entry: Entry, answer: dict[str, Array]) -> None:
        entry.error, allowed = error(self.task, self._answer, answer)
        if not entry.error <= allowed:
            raise WrongAnswerError(
                f"[bench] {self.task.id}: {self.entries[0].name} and {entry.name} differ by "
                f"{entry.error:.1e} of the answer's size, rounding explains {allowed:.1e}"
            )

    def run(self, rounds: int, seconds: float) -> None:
        """`rounds` bursts each, in turn and back again, each of at least `seconds`."""
        order = list(self.entries)
        for turn in range(rounds):
            if turn == 2:
                self._let_go()
            for entry in order:
                if not entry.racing:
                    continue
                try:
                    times, idle = entry.remote.burst(entry.handle, seconds)
                except RemoteError as failure:
                    if entry is self.entries[0]:
                        raise
                    entry.racing = False
                    self.failures.append(f"{entry.name}: {failure.kind}: {failure}")
                    continue
                entry.times.rounds.append(times)
                entry.restless += not idle
            order.reverse()
        self.entries = [entry for entry in self.entries if entry.times.rounds]

    def _let_go(self) -> None:
        rivals = [entry for entry in self.entries[1:] if entry.times.rounds]
        fastest = min((entry.times.median for entry in rivals), default=0.0)
        for entry in rivals:
            entry.racing = entry.racing and entry.times.median <= OUTPACED * fastest

    def best(self, label: str | None = None) -> Entry | None:
        """The fastest entry but the first, of everyone or of one contestant."""
        rivals: Iterable[Entry] = self.entries[1:]
        if label is not None:
            rivals = [entry for entry in rivals if entry.remote.label == label]
        return min(rivals, key=lambda entry: entry.times.median, default=None)
