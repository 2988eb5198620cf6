"""fastconv bench --all: one row after the other, each kept as it comes, then the table of goals.

A row is kept in the file of --json with a key: the build, instruction set, threads and peers it was
measured with. A run that was interrupted goes on with the rows that the file lacks for the same
key; rows with another key are measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import sys
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import goals, processes
from .cases import find
from .contestants import Contestants, Settings, show
from .race import Entry, Race, WrongAnswerError
from .remote import RemoteError
from .timing import ratio

FILE = "fastconv-bench.json"
IMPORT_ROUNDS, SEEDS = 9, 5


def run(settings: Settings, args: argparse.Namespace) -> int:
    """The exit status: 0 when every row could be measured, whether or not it reached its goal."""
    units = goals.chosen(args.filter)
    if not units:
        print(f"fastconv bench: --filter {args.filter!r} matches no row", file=sys.stderr)
        return 2
    if args.list:
        print("\n".join(units))
        return 0
    path = Path(args.json or FILE)
    try:
        kept = _read(path)
    except (ValueError, KeyError, TypeError):
        print(f"fastconv bench: {path} holds no rows of --all; name another file", file=sys.stderr)
        return 2
    try:
        with Contestants(settings) as contestants:
            session = _Session(contestants, path, kept)
            try:
                session.measure(units)
            except KeyboardInterrupt:
                show("")
                command = shlex.join(["fastconv", *sys.argv[1:]])
                print(f"\ninterrupted; {path} has the rows so far, `{command}` goes on from there")
                return 130
            session.print(_command(settings))
            return 1 if session.failed(units) else 0
    except RemoteError as failure:
        print(f"[bench] fastconv does not start: {failure.kind}: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _read(path: Path) -> dict[str, Any]:
    """The rows of an earlier run.

    Raises:
        ValueError, KeyError, TypeError: the file is something else.
    """
    if not path.exists():
        return {}
    rows = json.loads(path.read_text())["rows"]
    return {unit: {**row, "key": row["key"]} for unit, row in dict(rows).items()}


def _command(settings: Settings) -> str:
    """What others would type: without the interpreters' places."""
    options = [f"--threads {settings.threads}"] if settings.threads else []
    options += [f"--isa {settings.isa}"] if settings.isa else []
    options += ["--quick"] if settings.quick else []
    options += (
        ["--peers " + (",".join(settings.peers) or "none")] if settings.peers is not None else []
    )
    return " ".join(["fastconv bench --all", *options])


class _Session:
    """The rows of one file, and how to measure more of them."""

    def __init__(self, contestants: Contestants, path: Path, kept: dict[str, Any]) -> None:
        self._contestants = contestants
        self._settings = contestants.settings
        self._path = path
        self._key = self._make_key()
        self._kept = kept  # also of other builds and settings, until they are measured again
        self._rows = {unit: row for unit, row in kept.items() if row["key"] == self._key}

    def _make_key(self) -> str:
        """Changes with the compiled core, so that no row outlives the code it measured."""
        from .. import _core

        header, settings = self._contestants.header, self._settings
        core = zlib.crc32(Path(_core.__file__).read_bytes())
        peers = ", ".join(peer.label for peer in self._contestants.peers) or "no peers"
        how = [header["fastconv"], f"core {core:08x}", peers, self._settings.timing]
        return "; ".join([*how, *(["quick"] if settings.quick else [])])

    # ------------------------------------------------------------------------------------ measuring
    def measure(self, units: list[str]) -> None:
        header = self._contestants.header
        print(f"{header['fastconv']}; {header['cpu']}; load {header.get('load', '?')}")
        print(f"{len(units)} rows, {self._path} has {len(self._rows.keys() & set(units))} of them")
        began = time.perf_counter()
        for number, unit in enumerate(units, 1):
            if unit in self._rows and "error" not in self._rows[unit]:
                continue
            start = time.perf_counter()
            row = self._measure(unit)
            taken = time.perf_counter() - start
            self._rows[unit] = {"unit": unit, "key": self._key, "took": taken, **row}
            self._write()
            show("")
            minutes = (time.perf_counter() - began) / 60
            print(f"[{number}/{len(units)}, {minutes:.1f} min] {unit}: {_said(row)}", flush=True)

    def _measure(self, unit: str) -> dict[str, Any]:
        special = {"mnist": self._mnist, "import": self._import, "size": self._size}
        try:
            return special[unit]() if unit in special else self._race(unit)
        except (RuntimeError, ArithmeticError, OSError) as failure:
            if unit not in special:
                self._contestants.restart_lost()
            return {"error": f"{type(failure).__name__}: {failure}"}

    def _race(self, unit: str) -> dict[str, Any]:
        task = find(unit)
        self._contestants.restart_lost()
        try:
            race, peak = self._contestants.race(task)
        except WrongAnswerError as wrong:
            return {"error": str(wrong)}
        ours, best = race.entries[0], race.best()
        return {
            "batch": task.batch,
            "flop": task.flop,
            "peak": peak,
            "ours": _entry(race, ours),
            "peer": _entry(race, best) if best else None,
            "all": [_entry(race, entry) for entry in race.entries],
            "failures": race.failures,
        }

    def _python(self, peer: str) -> str | None:
        """The interpreter of a peer that takes part."""
        there = (remote.python for remote in self._contestants.peers if remote.label == peer)
        return next(there, None)

    def _mnist(self) -> dict[str, Any]:
        from ..data.mnist import find as folder_of_mnist

        folder = folder_of_mnist()
        if folder is None:
            raise FileNotFoundError("MNIST is not on this machine: set FASTCONV_DATA")
        training = processes.Training(
            str(folder),
            seeds=1 if self._settings.quick else SEEDS,
            threads=self._contestants.threads,
            isa=self._settings.isa,
            limit=self._settings.row_limit / 4,
        )
        python = self._python("torch")
        taken, failures = training.race(python, lambda text: show(f"mnist: {text}"))
        return {**_of_processes(taken), "failures": failures}

    def _import(self) -> dict[str, Any]:
        imports = [processes.Import("fastconv")]
        for peer, package in (("torch", "torch"), ("jax", "jax"), ("keras", "tensorflow")):
            python = self._python(peer)
            imports += [processes.Import(package, python)] if python else []
        processes.race_imports(imports, 3 if self._settings.quick else IMPORT_ROUNDS)
        return _of_processes({entry.package: entry.seconds for entry in imports})

    def _size(self) -> dict[str, Any]:
        ours = processes.wheel_megabytes(Path(__file__).parents[1])
        row: dict[str, Any] = {"ours": {"name": "fastconv", "megabytes": ours}, "peer": None}
        sizes = {}
        for peer, package in (("torch", "torch"), ("jax", "jaxlib"), ("keras", "tensorflow")):
            python = self._python(peer)
            folder = processes.installed(package, python) if python else None
            if folder is not None:
                sizes[package] = processes.megabytes(folder)
        if sizes:
            least = min(sizes, key=lambda package: sizes[package])
            row["peer"] = {"name": least, "megabytes": sizes[least], "ratio": sizes[least] / ours}
        return row

    # -------------------------------------------------------------------------------------- keeping
    def _write(self) -> None:
        document = {"header": self._contestants.header, "rows": {**self._kept, **self._rows}}
        whole = self._path.with_name(self._path.name + ".part")
        whole.write_text(json.dumps(document, indent=1) + "\n")
        os.replace(whole, self._path)

    def failed(self, units: list[str]) -> list[str]:
        return [unit for unit in units if "error" in self._rows.get(unit, {})]

    def print(self, command: str) -> None:
        """The table, ready for a README."""
        header, settings = self._contestants.header, self._settings
        peers = [f"{header[peer.label]}" for peer in self._contestants.peers]
        print(f"\n`{command}`, fastconv {header['fastconv']}; {header['cpu']}; {header['system']};")
        print(f"peers: {'; '.join(peers) or 'none'}; {settings.timing}\n")
        print("\n".join(goals.lines(self._rows)))
        memory = goals.memory_lines(self._rows)
        if memory:
            print(
                "\nPeak resident memory of a training step, beyond what the process held before:\n"
            )
            print("\n".join(memory))
        missed = goals.unmet(self._rows)
        print(f"\nnot met: {'; '.join(missed) or 'none'}")
        for unit in self.failed(list(self._rows)):
            print(f"failed: {unit}: {self._rows[unit]['error']}")
        notes = (note for row in self._rows.values() for note in row.get("failures", ()))
        for note in dict.fromkeys(notes):
            print(f"could not take part: {note}")


def _entry(race: Race, entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "seconds": entry.times.median,
        "least": entry.times.minimum,
        "ratio": ratio(entry.times, race.entries[0].times),
        "memory": entry.memory,
    }


def _of_processes(taken: Mapping[str, list[float]]) -> dict[str, Any]:
    """A row from seconds by contestant, fastconv first; the best of the others is the peer."""
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    least = 1e-4  # seconds: what processes take cannot be told apart more finely
    ours, *rivals = [
        {
            "name": name,
            "seconds": median,
            "all": taken[name],
            "ratio": median / max(medians["fastconv"], least),
        }
        for name, median in medians.items()
    ]
    peer = min(rivals, key=lambda rival: medians[str(rival["name"])], default=None)
    return {"ours": ours, "peer": peer, "all": [ours, *rivals]}


def _said(row: Mapping[str, Any]) -> str:
    """A row in a few words, while the others are measured."""
    if "error" in row:
        return f"failed: {row['error']}"
    peer = row["peer"]
    return f"{peer['ratio']:.2f}x of {peer['name']}" if peer else "no peer took part"
