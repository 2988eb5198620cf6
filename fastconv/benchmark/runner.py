"""One run of the benchmark, from arguments to exit status."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from . import everything
from .cases import SHORT, SUITES, Task, choose
from .contestants import Contestants, Settings
from .peers import NAMES
from .race import WrongAnswerError
from .remote import RemoteError
from .results import Report


class UsageError(ValueError):
    """Arguments that ask for nothing that can be done."""


def run(args: argparse.Namespace) -> int:
    try:
        _check(args)
        settings = _settings(args)
        if args.all:
            return everything.run(settings, args)
        tasks = _tasks(args)
    except UsageError as error:
        print(f"fastconv bench: {error}", file=sys.stderr)
        return 2
    if args.list:
        print("\n".join(task.id for task in tasks))
        return 0
    try:
        contestants = Contestants(settings)
    except RemoteError as failure:
        print(f"[bench] fastconv does not start: {failure.kind}: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    with contestants:
        report = Report([peer.label for peer in contestants.peers], contestants.header)
        try:
            for task in tasks:
                _measure(task, contestants, report)
                if not contestants.ours.alive:
                    break
        except KeyboardInterrupt:
            report.errors.append("interrupted: the rows above are all there are")
        report.summary()
        if args.json:
            Path(args.json).write_text(json.dumps(report.json(), indent=1) + "\n")
        return 1 if report.errors else 0


def _measure(task: Task, contestants: Contestants, report: Report) -> None:
    """One row. A peer that dies is gone for the rest of the run; fastconv failing is an error."""
    try:
        race, peak = contestants.race(task)
        report.read_peak(peak)
        report.add(race)
    except WrongAnswerError as wrong:
        report.fail(str(wrong))
    except RemoteError as failure:
        report.fail(f"[bench] {task.id}: fastconv: {failure.kind}: {failure}")


# -------------------------------------------------------------------------------------- arguments
def _check(args: argparse.Namespace) -> None:
    for name in ("threads", "rounds", "seconds", "limit"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise UsageError(f"--{name} must be above 0, got {value}")
    if args.json and not Path(args.json).absolute().parent.is_dir():
        raise UsageError(f"--json {args.json}: there is no such folder")
    try:
        re.compile(args.filter or "")
    except re.error as error:
        raise UsageError(f"--filter {args.filter!r} is no regular expression: {error}") from None


def _tasks(args: argparse.Namespace) -> list[Task]:
    suites = {"all": SUITES, None: SUITES if args.filter else SHORT}
    tasks = choose(suites.get(args.suite, (args.suite,)), args.filter)
    if not tasks:
        raise UsageError(f"--filter {args.filter!r} matches no row; see --list --filter .")
    return tasks


def _settings(args: argparse.Namespace) -> Settings:
    return Settings(
        peers=_peer_names(args),
        pythons=_peer_pythons(args),
        threads=args.threads,
        isa=args.isa,
        quick=args.quick,
        rounds=args.rounds,
        seconds=args.seconds,
        limit=args.limit,
    )


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
