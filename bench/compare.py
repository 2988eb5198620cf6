"""Is the new build slower than the old one? Both run in turn; fails only when it clearly is.

    python bench/compare.py OLD NEW [--suite layers] [--filter REGEX] [--rounds 7]

OLD and NEW are each a Python interpreter, a virtual environment, or a folder that holds the package
`fastconv` (a source tree with its compiled core). A row fails when even the best round of NEW is
slower than the worst round of OLD, and its median by more than --margin percent.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from fastconv import _core
from fastconv.benchmark.cases import SUITES, choose
from fastconv.benchmark.peers import OURS
from fastconv.benchmark.race import Race, WrongAnswerError
from fastconv.benchmark.remote import Remote, RemoteError
from fastconv.benchmark.table import Table, milliseconds, times
from fastconv.benchmark.timing import clearly_slower, ratio


def build(place: str, label: str, threads: int) -> Remote:
    """A worker that runs the fastconv found at `place`."""
    path = Path(place)
    for interpreter in (path, path / "bin" / "python", path / "Scripts" / "python.exe"):
        if interpreter.is_file():
            return Remote(OURS, threads, str(interpreter), {"PYTHONPATH": ""}, label)
    if (path / "fastconv").is_dir():
        return Remote(OURS, threads, environment={"PYTHONPATH": str(path.resolve())}, label=label)
    raise SystemExit(f"compare.py: {place} is no interpreter, no environment, and has no fastconv/")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--suite", choices=(*SUITES, "all"), default="all")
    parser.add_argument("--filter", metavar="REGEX", help="rows whose CASE@BATCH:WORK matches")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.05, help="of one burst")
    parser.add_argument("--margin", type=float, default=3.0, metavar="PERCENT")
    parser.add_argument("--threads", type=int, default=_core.get_num_threads())
    args = parser.parse_args()

    slower, wrong = [], []
    table = Table([("case", 34), ("old ms", -8), ("new ms", -8), ("old/new", -7), ("", 7)])
    with ExitStack() as stack:
        old, new = (
            build(place, label, args.threads)
            for place, label in ((args.old, "old"), (args.new, "new"))
        )
        for remote in (old, new):
            stack.callback(remote.close)
            version = remote.started()["fastconv"]
            about = remote.describe()
            print(f"{remote.label}: fastconv {version}, {about['isa']}, {about['folder']}")
        print("\n" + table.head())
        for task in choose(SUITES if args.suite == "all" else (args.suite,), args.filter):
            race = Race(task)
            try:
                race.enter(old, quick=False)
                race.enter(new, quick=False)
                race.run(args.rounds, args.seconds)
                if race.failures:
                    raise RemoteError("; ".join(race.failures), "Failed")
            except (RemoteError, WrongAnswerError) as error:
                wrong.append(task.id)
                print(f"{task.id}: {error}")
                continue
            was, now = (entry.times for entry in race.entries)
            speedup = ratio(was, now)
            if clearly_slower(now, was) and speedup < 1 - args.margin / 100:
                slower.append(task.id)
            figures = [milliseconds(was.median), milliseconds(now.median), times(speedup)]
            verdict = (
                "slower" if task.id in slower else "faster" if clearly_slower(was, now) else ""
            )
            print(table.row([task.id, *figures, verdict]), flush=True)
            for remote in (old, new):
                remote.release()
    for ids, what in ((slower, "clearly slower"), (wrong, "failed")):
        if ids:
            print(f"{what}: {', '.join(ids)}")
    return 1 if slower or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
