"""Everybody who takes part in a run: started together, asked in turn, started again when lost."""

from __future__ import annotations

import functools
import platform
import sys
from contextlib import suppress
from dataclasses import dataclass, field

from .cases import Task
from .peers import NAMES, OURS
from .race import Race
from .remote import Remote, RemoteError
from .results import machine

PEAK_SECONDS = 0.05  # of the peak reading before every row
LONG_ROUNDS = 3  # of rows whose single calls take seconds


@dataclass(frozen=True)
class Settings:
    """How to measure, as the command line says it."""

    peers: list[str] | None = None  # None: all that are installed
    pythons: dict[str, str] = field(default_factory=dict)  # interpreters of peers
    threads: int | None = None
    isa: str | None = None
    quick: bool = False
    rounds: int | None = None
    seconds: float | None = None
    limit: float | None = None

    def rounds_of(self, task: Task) -> int:
        most = LONG_ROUNDS if task.suite == "networks" and task.work == "train" else 5
        return self.rounds or (min(most, 3) if self.quick else most)

    def burst_of(self, task: Task) -> float:
        """Seconds of one burst."""
        return float(self.seconds or (0.1 if self.quick else 0.3)) / self.rounds_of(task)

    @property
    def row_limit(self) -> float:
        return self.limit or 600.0

    @property
    def timing(self) -> str:
        rounds = self.rounds or (3 if self.quick else 5)
        seconds = self.seconds or (0.1 if self.quick else 0.3)
        return f"medians of {rounds} rounds of {seconds / rounds * 1e3:.0f} ms bursts"


class Contestants:
    """fastconv and its peers, each in a process of its own; a context that ends them.

    Raises:
        RemoteError: fastconv itself does not start.
    """

    def __init__(self, settings: Settings) -> None:
        from .. import _core  # not for the workers

        self.settings = settings
        self.threads = settings.threads or _core.get_num_threads()
        self.peers: list[Remote] = []
        self._started: list[Remote] = []
        # Left to us and in a hurry: PyTorch alone, or NumPy where there is no PyTorch.
        hurry = settings.quick and settings.peers is None
        names = list(NAMES) if settings.peers is None else settings.peers
        asked = ["torch", "numpy"] if hurry else names
        try:
            # All at once: imports take seconds.
            self.ours, *remotes = [self.start(peer) for peer in (OURS, *asked)]
            libraries = self.ours.started()
            said: dict[str, str] = {}
            for remote in remotes:
                if hurry and self.peers:
                    break
                try:
                    versions = remote.started().items()
                    said[remote.label] = ", ".join(" ".join(pair) for pair in versions)
                    self.peers.append(remote)
                except RemoteError as failure:
                    said[remote.label] = f"not there: {failure} (in {remote.python})"
            self.header = self._header(libraries["fastconv"], said)
        except BaseException:
            self.close()
            raise

    def _header(self, version: str, said: dict[str, str]) -> dict[str, str]:
        description = self.ours.describe()
        return {
            "fastconv": f"{version}, {description.pop('isa')}, {self.threads} threads",
            "folder": description.pop("folder"),
            "build": ", ".join(f"{key} {value}" for key, value in description.items()),
            **machine(),
            "python": platform.python_version(),
            **{name: said.get(name, "not asked") for name in NAMES},
            "timing": self.settings.timing,
        }

    def __enter__(self) -> Contestants:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        for remote in self._started:
            remote.close()
        self._started.clear()

    def start(self, peer: str) -> Remote:
        """A new process; the caller waits for it with `started`."""
        isa = self.settings.isa
        environment = {"FASTCONV_ISA": isa} if peer == OURS and isa else {}
        python = self.settings.pythons.get(peer, sys.executable)
        remote = Remote(peer, self.threads, python, environment)
        self._started.append(remote)
        return remote

    def restart_lost(self) -> None:
        """Brings back peers that were ended or died."""
        present = {remote.peer for remote in self.peers}
        lost = {r.peer for r in self._started if r.libraries and r.peer not in present} - {OURS}
        for peer in sorted(lost):
            remote = self.start(peer)
            with suppress(RemoteError):  # it died for a reason, and may do so again
                remote.started()
                self.peers.append(remote)
        if not self.ours.alive:
            self.ours = self.start(OURS)
            self.ours.started()

    def race(self, task: Task) -> tuple[Race, float]:
        """Runs one task to its end; also FLOP/s of the peak, read just before.

        A peer that dies is gone for the rest of the run, or until `restart_lost`.

        Raises:
            RemoteError: fastconv failed.
            WrongAnswerError: somebody's answer differs from fastconv's.
        """
        settings = self.settings
        race = Race(task, settings.row_limit)
        singles: list[Remote] = []
        alone = task.suite == "networks"
        try:
            for remote in (self.ours, *list(self.peers)):
                show(f"{task.id}: {remote.label}")
                another = functools.partial(self.start, remote.peer)
                try:
                    if alone:
                        singles += race.enter_alone(remote, settings.quick, another)
                    else:
                        race.enter(remote, settings.quick)
                except RemoteError as failure:
                    if remote is self.ours:
                        raise
                    race.failures.append(f"{remote.label} ({task.id}): {failure.kind}: {failure}")
                    if not remote.alive:
                        self.peers.remove(remote)
            show(f"{task.id}: timing")
            peak = self.ours.peak(PEAK_SECONDS)
            race.run(settings.rounds_of(task), settings.burst_of(task))
            return race, peak
        finally:
            show("")
            for remote in singles:
                remote.close()
                self._started.remove(remote)
            for remote in (self.ours, *self.peers):
                if remote.alive:
                    remote.release()


def show(text: str) -> None:
    """Progress, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
