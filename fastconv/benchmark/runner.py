"""One run of the benchmark, from arguments to exit status."""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
from contextlib import ExitStack
from pathlib import Path

from .cases import SUITES, Task, choose
from .peers import NAMES, OURS
from .race import Race, WrongAnswerError
from .remote import Remote, RemoteError
from .report import Report, machine

PEAK_SECONDS = 0.05  # of the peak reading before every row


class UsageError(ValueError):
    """Arguments that ask for nothing that can be done."""


def run(args: argparse.Namespace) -> int:
    try:
        tasks = _tasks(args)
        names = _peer_names(args)
        pythons = _peer_pythons(args)
    except UsageError as error:
        print(f"fastconv bench: {error}", file=sys.stderr)
        return 2
    if args.list:
        print("\n".join(task.id for task in tasks))
        return 0
    with ExitStack() as stack:
        try:
            ours, peers, header = _start(args, names, pythons, stack)
        except RemoteError as failure:
            print(f"[bench] fastconv does not start: {failure.kind}: {failure}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
        report = Report([peer.label for peer in peers], header)
        try:
            for task in tasks:
                _measure(args, task, ours, peers, report)
                if not ours.alive:
                    break
        except KeyboardInterrupt:
            report.errors.append("interrupted: the rows above are all there are")
        report.summary()
        if args.json:
            Path(args.json).write_text(json.dumps(report.json(), indent=1) + "\n")
        return 1 if report.errors else 0


# -------------------------------------------------------------------------------------- arguments
def _tasks(args: argparse.Namespace) -> list[Task]:
    for name in ("threads", "rounds", "seconds"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise UsageError(f"--{name} must be above 0, got {value}")
    if args.json and not Path(args.json).absolute().parent.is_dir():
        raise UsageError(f"--json {args.json}: there is no such folder")
    try:
        tasks = choose(SUITES if args.suite == "all" else (args.suite,), args.filter)
    except re.error as error:
        raise UsageError(f"--filter {args.filter!r} is no regular expression: {error}") from None
    if not tasks:
        raise UsageError(f"--filter {args.filter!r} matches no row; see --list --filter .")
    return tasks


def _peer_names(args: argparse.Namespace) -> list[str] | None:
    """The peers asked for; None when left to us."""
    if args.peers is None:
        return None
    names = [] if args.peers == "none" else str(args.peers).split(",")
    for name in names:
        if name not in NAMES:
            raise UsageError(f"--peers: no peer {name!r}; there are {', '.join(NAMES)}, and none")
    return names


def _peer_pythons(args: argparse.Namespace) -> dict[str, str]:
    pythons = {}
    for text in args.peer_python:
        name, equals, path = text.partition("=")
        if name not in NAMES or not equals:
            known = ", ".join(NAMES)
            raise UsageError(f"--peer-python takes NAME=PATH, NAME of {known}, got {text!r}")
        if not Path(path).is_file():
            raise UsageError(f"--peer-python {text}: there is no such file")
        pythons[name] = path
    return pythons


# -------------------------------------------------------------------------------------- measuring
def _start(
    args: argparse.Namespace, names: list[str] | None, pythons: dict[str, str], stack: ExitStack
) -> tuple[Remote, list[Remote], dict[str, str]]:
    """fastconv, the peers that are installed, and the header of the report."""
    from .. import _core

    threads = args.threads or _core.get_num_threads()

    def start(peer: str) -> Remote:
        environment = {"FASTCONV_ISA": args.isa} if peer == OURS and args.isa else {}
        remote = Remote(peer, threads, pythons.get(peer, sys.executable), environment)
        stack.callback(remote.close)
        return remote

    # Left to us and in a hurry: PyTorch alone, or NumPy where there is no PyTorch.
    hurry = args.quick and names is None
    asked = ["torch", "numpy"] if hurry else list(NAMES) if names is None else names
    ours, *remotes = [start(peer) for peer in (OURS, *asked)]  # all at once: imports take seconds
    libraries = ours.started()
    peers: list[Remote] = []
    said: dict[str, str] = {}
    for remote in remotes:
        if hurry and peers:
            break
        try:
            said[remote.label] = ", ".join(" ".join(pair) for pair in remote.started().items())
            peers.append(remote)
        except RemoteError as failure:
            said[remote.label] = f"not there: {failure} (in {remote.python})"
    description = ours.describe()
    header = {
        "fastconv": f"{libraries['fastconv']}, {description.pop('isa')}, {threads} threads",
        "folder": description.pop("folder"),
        "build": ", ".join(f"{key} {value}" for key, value in description.items()),
        **machine(),
        "python": platform.python_version(),
        **{name: said.get(name, "not asked") for name in NAMES},
        "timing": f"medians of {_rounds(args)} rounds of {_seconds(args) * 1e3:.0f} ms bursts",
    }
    return ours, peers, header


def _rounds(args: argparse.Namespace) -> int:
    return args.rounds or (3 if args.quick else 5)


def _seconds(args: argparse.Namespace) -> float:
    """Of one burst."""
    return float(args.seconds or (0.1 if args.quick else 0.3)) / _rounds(args)


def _measure(
    args: argparse.Namespace, task: Task, ours: Remote, peers: list[Remote], report: Report
) -> None:
    """One row. A peer that dies is gone for the rest of the run; fastconv failing is an error."""
    race = Race(task)
    try:
        race.enter(ours, args.quick)
        for peer in list(peers):
            _progress(f"{task.id}: {peer.label}")
            try:
                race.enter(peer, args.quick)
            except RemoteError as failure:
                race.failures.append(f"{peer.label}: {failure}")
                peers.remove(peer)
        _progress(f"{task.id}: timing")
        report.read_peak(ours.peak(PEAK_SECONDS))
        race.run(_rounds(args), _seconds(args))
        _progress("")
        report.add(race)
    except WrongAnswerError as wrong:
        _progress("")
        report.fail(str(wrong))
    except RemoteError as failure:
        _progress("")
        report.fail(f"[bench] {task.id}: fastconv: {failure.kind}: {failure}")
    for remote in (ours, *peers):
        if remote.alive:
            remote.release()


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
