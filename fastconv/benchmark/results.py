"""What a run says: a header, a line a task, a summary, and the same as JSON."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path
from typing import Any

from .cases import Task
from .race import Entry, Race
from .table import Table, milliseconds, rate, times
from .timing import ratio

TITLES = {
    "layers": ("Convolution layers", "GFLOP/s"),
    "train": ("Training steps: forward, backward, update", "images/s"),
    "infer": ("Inference, from Python to a NumPy array", "images/s"),
    "networks": ("Networks of ImageNet, 224 px: training steps, single images", "images/s"),
}
FLOOR = 0.8  # rows under it are named in the summary


def machine() -> dict[str, str]:
    """The processor, what of it this process may use, and whether others use it too."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    result = {"cpu": f"{name}, {cpus} CPUs", "system": f"{platform.system()} {platform.release()}"}
    if hasattr(os, "getloadavg"):
        result["load"] = f"{os.getloadavg()[0]:.1f}"
    return result


class Report:
    """Prints as it goes; `races` are the rows so far."""

    def __init__(self, rivals: list[str], header: dict[str, str]) -> None:
        self._rivals = rivals
        self._header = header
        self._suite = ""
        self._table: Table
        self._peaks: list[float] = []
        self.races: list[Race] = []
        self.errors: list[str] = []
        width = max(map(len, header))
        for key, value in header.items():
            print(f"{key.ljust(width)}  {value}")
        if float(header.get("load", 0)) > 0.5:
            print("this machine is busy with something else: do not trust these figures")

    @property
    def peak(self) -> float:
        """FLOP/s: the highest reading so far, since whatever disturbs one makes it lower."""
        return max(self._peaks)

    def read_peak(self, flops: float) -> None:
        self._peaks.append(flops)

    def add(self, race: Race) -> None:
        if race.task.suite != self._suite:
            self._start(race.task.suite)
        self.races.append(race)
        ours, best = race.entries[0], race.best()
        cells = [f"{race.task.subject.name}@{race.task.batch}"]
        if race.task.suite in ("layers", "networks"):
            cells.append(race.task.work)
        cells += [milliseconds(ours.times.median), milliseconds(ours.times.minimum)]
        cells += [
            rate(speed(race.task, ours)),
            f"{100 * race.task.flop / ours.times.median / self.peak:.0f} %",
        ]
        for rival in self._rivals:
            entry = race.best(rival)
            cells.append(rate(speed(race.task, entry)) if entry else "-")
        if best:
            least = min(entry.times.minimum for entry in race.entries[1:])
            cells += [best.name, times(ratio(best.times, ours.times))]
            cells += [times(least / ours.times.minimum)]
        else:
            cells += ["-", "-", "-"]
        if race.task.suite == "networks":
            cells += [megabytes(ours), megabytes(best) if best else "-"]
        print(self._table.row(cells), flush=True)

    def fail(self, text: str) -> None:
        """An error: the run goes on, and ends with a status of 1."""
        self.errors.append(text)
        print(text, flush=True)

    def _start(self, suite: str) -> None:
        title, unit = TITLES[suite]
        columns = [("case", 17)] + ([("pass", 15)] if suite in ("layers", "networks") else [])
        columns += [("ms", -6), ("min", -6), (unit, -8), ("of peak", -7)]
        columns += [(rival, -7) for rival in self._rivals] + [
            ("best peer", 25),
            ("ratio", -6),
            ("of min", -6),
        ]
        if suite == "networks":
            columns += [("MB", -6), ("peer MB", -7)]
        self._suite, self._table = suite, Table(columns)
        print(f"\n## {title}; peers in {unit}\n")
        print(self._table.head(), flush=True)

    def summary(self) -> None:
        print()
        for suite in TITLES:
            races = [race for race in self.races if race.task.suite == suite]
            for rival in (None, *(self._rivals if len(self._rivals) > 1 else [])):
                line = _summary_line(races, rival)
                if line:
                    print(f"{suite} against {rival or 'the best peer'}: {line}")
        if self._peaks:
            low, high = min(self._peaks) / 1e9, max(self._peaks) / 1e9
            print(f"peak, read before every row: {low:.0f} to {high:.0f} GFLOP/s")
        for note in dict.fromkeys(note for race in self.races for note in race.failures):
            print(f"could not take part: {note}")
        restless = {e.remote.label for race in self.races for e in race.entries if e.restless}
        if restless:
            print(f"threads that kept spinning after their turn: {', '.join(sorted(restless))}")
        for text in self.errors:
            print(f"ERROR {text}")

    def json(self) -> dict[str, Any]:
        return {
            "header": self._header,
            "peak_flops": self._peaks,
            "rows": [row_json(race) for race in self.races],
            "errors": self.errors,
        }


def speed(task: Task, entry: Entry) -> float:
    """GFLOP/s of a layer, images a second of a network."""
    return (task.flop / 1e9 if task.suite == "layers" else task.batch) / entry.times.median


def megabytes(entry: Entry) -> str:
    """Most memory held while it was timed, beyond what its process held before the network."""
    if not entry.memory.get("peak"):
        return "-"
    return f"{(entry.memory['peak'] - entry.memory['before']) / 1e6:,.0f}"


def _summary_line(races: list[Race], rival: str | None) -> str:
    ratios = {}
    for race in races:
        entry = race.best(rival)
        if entry is not None:
            ratios[race.task] = ratio(entry.times, race.entries[0].times)
    if not ratios:
        return ""
    mean = math.exp(sum(math.log(r) for r in ratios.values()) / len(ratios))
    lowest = min(ratios, key=lambda task: ratios[task])
    text = f"geometric mean {times(mean)}, lowest {times(ratios[lowest])} ({lowest.id})"
    under = [f"{t.id} {times(r)}" for t, r in ratios.items() if r < FLOOR and t.batch >= 16]
    return text + (
        f"; under {times(FLOOR)} at batch 16 and more: {', '.join(under)}" if under else ""
    )


def row_json(race: Race) -> dict[str, Any]:
    ours = race.entries[0]
    return {
        "task": race.task.id,
        "flop": race.task.flop,
        "failures": race.failures,
        "contestants": [
            {
                "name": entry.remote.label,
                "configuration": entry.configuration,
                "seconds_median": entry.times.median,
                "seconds_min": entry.times.minimum,
                "seconds_by_round": entry.times.medians,
                "ratio": ratio(entry.times, ours.times),
                "error": entry.error,
                "memory": entry.memory,
            }
            for entry in race.entries
        ],
    }
