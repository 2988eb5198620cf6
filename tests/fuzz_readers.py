"""Every reader against files that somebody damaged: it reads them or refuses them, nothing else.

    python -m tests.fuzz_readers --count 10000 --seed 1 [--reader weights ...] [--case 1234]

A case is one file of a reader with a few mutations, made from seed, reader and number alone, so
that `--case` does a failing one again. It passes if the reader returns or raises one of the
exceptions it may raise, within ten seconds and within the memory that `--memory` allows.

To add a reader, add a row to `READERS`.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastconv import CorruptFileError
from tests.mutations import mutated

SECONDS = 10  # for one case


@dataclass(frozen=True)
class Reader:
    """One row of the table.

    Attributes:
        make: Gives the valid files, names to contents; the first is the one to read, the others lie
            beside it. Each case damages one of them.
        read: Reads the first file, given its path. It also asserts whatever has to hold after a
            refusal, for instance that a model is as it was.
        allowed: The exceptions by which it may refuse.
    """

    make: Callable[[], Mapping[str, bytes]]
    read: Callable[[Path], object]
    allowed: tuple[type[Exception], ...] = (CorruptFileError,)


def readers() -> dict[str, Reader]:
    """The table; what it needs is imported here."""
    from tests import fuzz_rows_data, fuzz_weights

    return {**fuzz_weights.READERS, **fuzz_rows_data.READERS}


def fuzz(
    name: str, reader: Reader, count: int, seed: int, only: int | None = None
) -> tuple[dict[str, int], list[str]]:
    """Runs the cases; returns how often which outcome came, and the failures."""
    files = dict(reader.make())
    outcomes: dict[str, int] = {}
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / next(iter(files))
        for other, content in files.items():
            (Path(folder) / other).write_bytes(content)
        reader.read(first)  # a reader that refuses the whole file would pass every case
        for case in range(count) if only is None else [only]:
            rng = random.Random(f"{seed} {name} {case}")
            damaged = rng.choice(list(files))
            for other, content in files.items():
                whole = mutated(content, rng) if other == damaged else content
                (Path(folder) / other).write_bytes(whole)
            outcome, failure = _outcome(reader, first)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
            if failure:
                failures.append(f"{name}, seed {seed}, case {case} ({damaged}):\n{failure}")
    return outcomes, failures


def _outcome(reader: Reader, path: Path) -> tuple[str, str]:
    try:
        with _time_limit(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(path)
    except reader.allowed as error:
        return type(error).__name__, ""
    except BaseException as error:  # also the panics of extension modules
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"WRONG {type(error).__name__}", traceback.format_exc(limit=-6)
    return "read", ""


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def late(*_: Any) -> None:
        raise AssertionError(f"took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def limit_memory(megabytes: int) -> None:
    """No more address space than the process has now and this; more raises MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="cases for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", action="append", help="only this one; may be repeated")
    parser.add_argument("--case", type=int, help="only this one")
    parser.add_argument("--memory", type=int, default=512, help="megabytes beyond those at start")
    args = parser.parse_args()
    table = readers()
    for reader in table.values():
        reader.read  # noqa: B018  a row that lacks it fails here, not after an hour
    names = args.reader or list(table)
    if len(names) > 1:  # each in a process of its own, whose memory is limited
        given = [f"--count={args.count}", f"--seed={args.seed}", f"--memory={args.memory}"]
        command = [sys.executable, "-m", "tests.fuzz_readers", *given]
        return max([subprocess.call([*command, "--reader", name]) for name in names])
    limit_memory(args.memory)
    failed = 0
    for name in names:
        began = time.perf_counter()
        outcomes, failures = fuzz(name, table[name], args.count, args.seed, args.case)
        failed += len(failures)
        shown = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(outcomes.items()))
        print(f"{name:24} seed {args.seed}: {shown}; {time.perf_counter() - began:.1f} s")
        for failure in failures[:5]:
            print(failure)
    sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
