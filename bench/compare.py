"""Is the new build slower than the old one? Both run in turn; fails only when it clearly is.

    python bench/compare.py OLD NEW [--suite layers] [--filter REGEX] [--rounds 7]

OLD and NEW are each a Python interpreter, a virtual environment, or a folder that holds the package
`fastconv` (a source tree with its compiled core). A row is clearly slower when NEW loses so many
rounds to OLD that chance would do it once in a hundred times, and the median by more than --margin
percent. Such a row is measured once more at the end, in new processes and three times as long; it
fails when it is clearly slower again. A row of which NEW gives another answer than OLD fails too.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from fastconv import _core
from fastconv.benchmark.cases import SHORT, SUITES, Task, choose
from fastconv.benchmark.peers import OURS
from fastconv.benchmark.race import Race, WrongAnswerError
from fastconv.benchmark.remote import Remote, RemoteError
from fastconv.benchmark.table import Table, milliseconds, times
from fastconv.benchmark.timing import clearly_slower, ratio

ENOUGH = 7  # rounds, see timing.clearly_slower


def build(place: str, label: str, threads: int) -> Remote:
    """A worker that runs the fastconv found at `place`."""
    path = Path(place)
    for interpreter in (path, path / "bin" / "python", path / "Scripts" / "python.exe"):
        if interpreter.is_file():
            return Remote(OURS, threads, str(interpreter), {"PYTHONPATH": ""}, label)
    if (path / "fastconv").is_dir():
        return Remote(OURS, threads, label=label, tree=str(path.resolve()))
    raise SystemExit(f"compare.py: {place} is no interpreter, no environment, and has no fastconv/")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--suite", choices=(*SUITES, "all"), help="default: all but networks")
    parser.add_argument("--filter", metavar="REGEX", help="rows whose CASE@BATCH:WORK matches")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.05, help="of one burst")
    parser.add_argument("--margin", type=float, default=3.0, metavar="PERCENT")
    parser.add_argument("--threads", type=int, default=_core.get_num_threads())
    args = parser.parse_args()
    if args.rounds < ENOUGH:
        parser.error(f"--rounds {args.rounds}: fewer than {ENOUGH} cannot tell chance from change")

    table = Table([("case", 34), ("old ms", -8), ("new ms", -8), ("old/new", -7), ("", 14)])
    tasks = choose(SHORT if args.suite is None else _suites(args.suite), args.filter)
    if not tasks:
        parser.error(f"--filter {args.filter!r} matches no row")
    suspects, wrong = compare(tasks, args, table, args.rounds, introduce=True)
    slower: list[Task] = []
    if suspects:
        print(f"\nonce more, {3 * args.rounds} rounds in new processes:\n\n{table.head()}")
        slower, wrong_again = compare(suspects, args, table, 3 * args.rounds)
        wrong += wrong_again
    for failed, what in ((slower, "clearly slower, twice"), (wrong, "failed")):
        if failed:
            print(f"{what}: {', '.join(task.id for task in failed)}")
    if not slower and not wrong:
        print(f"{len(tasks)} rows, none clearly slower")
    return 1 if slower or wrong else 0


def _suites(name: str) -> tuple[str, ...]:
    return SUITES if name == "all" else (name,)


def compare(
    tasks: list[Task], args: argparse.Namespace, table: Table, rounds: int, introduce: bool = False
) -> tuple[list[Task], list[Task]]:
    """(clearly slower, failed) of the tasks; prints a row for each."""
    slower: list[Task] = []
    wrong: list[Task] = []
    with ExitStack() as stack:
        old, new = (
            build(place, label, args.threads)
            for place, label in ((args.old, "old"), (args.new, "new"))
        )
        folders = []
        for remote in (old, new):
            stack.callback(remote.close)
            version, about = remote.started()["fastconv"], remote.describe()
            folders.append(about["folder"])
            if introduce:
                print(f"{remote.label}: fastconv {version}, {about['isa']}, {about['folder']}")
        if folders[0] == folders[1]:
            raise SystemExit(f"compare.py: OLD and NEW both run the build in {folders[0]}")
        if introduce:
            print("\n" + table.head())
        for task in tasks:
            race = Race(task)
            try:
                race.enter(old, quick=False)
                race.enter(new, quick=False)
                race.run(rounds, args.seconds)
                if race.failures:
                    raise RemoteError("; ".join(race.failures), "Failed")
            except (RemoteError, WrongAnswerError) as error:
                wrong.append(task)
                print(f"{task.id}: {error}")
                if not (old.alive and new.alive):
                    break
                continue
            was, now = (entry.times for entry in race.entries)
            speedup = ratio(was, now)
            verdict = "faster" if clearly_slower(was, now) else ""
            if clearly_slower(now, was) and speedup < 1 - args.margin / 100:
                slower.append(task)
                verdict = "clearly slower"
            figures = [milliseconds(was.median), milliseconds(now.median), times(speedup)]
            print(table.row([task.id, *figures, verdict]), flush=True)
            for remote in (old, new):
                remote.release()
    return slower, wrong


if __name__ == "__main__":
    sys.exit(main())
