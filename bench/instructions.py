"""Does a change cost instructions? Counts that noise cannot fool, beside a stored table.

    python bench/instructions.py                 counts, and fails where one differs by 2 %
    python bench/instructions.py --update        writes the counts into the table
    python bench/instructions.py --tree OLD --table old.txt --update     of another tree

Counts under `valgrind --tool=callgrind`, with the AVX2 kernels on one thread: named convolution
layers in all three passes; forward and training steps of LeNet-5 and of a residual block, eager and
recorded; optimiser steps; batches of a Loader (instruction_rows.py). A gain fails like a loss:
whoever changes a count says why, and updates the table.

Counts depend on the compiler of the core, and those of Python code on Python and NumPy too. The
table has a section for each combination; rows of one that it lacks are shown and not judged.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
TABLE = HERE / "instructions.txt"
TOLERANCE = 0.02

Rows = dict[str, int]
Table = dict[str, Rows]  # by section: what the counts of its rows depend on

MARKS = """
#include <valgrind/callgrind.h>
void start(void) { CALLGRIND_START_INSTRUMENTATION; }
void zero(void) { CALLGRIND_ZERO_STATS; }
void dump(const char *row) { CALLGRIND_DUMP_STATS_AT(row); }
"""


# ---------------------------------------------------------------------------------------- counting
def missing() -> str | None:
    """What this machine lacks for counting; None if nothing."""
    if shutil.which("valgrind") is None:
        return "valgrind is not installed"
    if compiler() is None:
        return "there is no C compiler"
    return None


def compiler() -> str | None:
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


def count(tree: Path | None) -> Table:
    """The counts of all rows, by section."""
    table: Table = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = folder / "marks.so"
        (folder / "marks.c").write_text(MARKS)
        command = [str(compiler()), "-shared", "-fPIC", folder / "marks.c", "-o", library]
        subprocess.run(command, check=True)
        runs = {group: start(group, library, tree) for group in ("kernels", "python")}
        for group, run in runs.items():
            output, errors = run.communicate()
            if run.returncode:
                raise SystemExit(f"instructions.py: counting the {group} failed\n{errors}")
            about = json.loads(output)
            names = ["compiler"] if group == "kernels" else ["compiler", "python"]
            table[", ".join(about[name] for name in names)] = {
                row: round(total / about["calls"])
                for row, total in map(read_dump, sorted(folder.glob(f"{group}.out.*"), key=number))
            }
    return table


def start(group: str, library: Path, tree: Path | None) -> subprocess.Popen[str]:
    """Counts one group of rows, in an environment that is the same everywhere."""
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": os.environ.get("PYTHONPATH", "") if tree is None else str(tree.resolve()),
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "FASTCONV_ISA": "avx2",
        "FASTCONV_NUM_THREADS": "1",
    }
    out = library.parent / f"{group}.out"
    valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
    command = [*valgrind, sys.executable, str(HERE / "instruction_rows.py"), group, str(library)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def number(path: Path) -> int:
    """Of a dump: kernels.out.12 is the twelfth."""
    return int(path.suffix[1:])


def read_dump(path: Path) -> tuple[str, int]:
    """The row that a dump of callgrind is of, and its instructions."""
    text = path.read_text()
    (row,) = re.findall(r"^desc: Trigger: Client Request: (.*)$", text, re.M)
    (total,) = re.findall(r"^totals: (\d+)$", text, re.M)
    return row, int(total)


# ----------------------------------------------------------------------------------- stored tables
def read_table(text: str) -> Table:
    """Sections begin with their name in brackets; a row is its name, two blanks or more, its count.

    >>> read_table("# why\\n[GNU 12]\\nsgd  1,200\\n")
    {'GNU 12': {'sgd': 1200}}
    """
    table: Table = {}
    rows: Rows = {}
    for line in text.splitlines():
        if line.startswith("["):
            rows = table.setdefault(line.strip()[1:-1], {})
        elif line.strip() and not line.startswith("#"):
            name, value = re.split(r" {2,}", line.strip())
            rows[name] = int(value.replace(",", ""))
    return table


def write_table(table: Table) -> str:
    lines = ["# Instructions of a call, counted and compared by bench/instructions.py."]
    for section, rows in table.items():
        width = max(map(len, rows), default=0)
        lines += ["", f"[{section}]", *(f"{row:{width}}  {n:>13,}" for row, n in rows.items())]
    return "\n".join(lines) + "\n"


def verdict(old: int | None, new: int | None) -> str:
    """What is to be said of a row; nothing where it stays within the tolerance."""
    if old is None:
        return "new"
    if new is None:
        return "gone"
    if abs(new / old - 1) <= TOLERANCE:
        return ""
    return "more" if new > old else "fewer"


def compare(stored: Mapping[str, Rows], counted: Mapping[str, Rows]) -> tuple[list[str], int]:
    """The lines to show, and how many rows differ. Sections that are not stored are not judged."""
    lines, differing = [], 0
    for section, rows in counted.items():
        old = stored.get(section)
        lines += ["", f"{section}{'' if old is not None else '   (not judged: not in the table)'}"]
        width = max(map(len, (*rows, *(old or ()))), default=0)
        for row in dict.fromkeys((*rows, *(old or ()))):
            before, now = (old or {}).get(row), rows.get(row)
            said = "" if old is None else verdict(before, now)
            differing += bool(said)
            ratio = f"{now / before:.3f}" if before and now else ""
            cells = ["" if n is None else f"{n:,}" for n in (before, now)]
            lines.append(
                f"{row:{width}}  {cells[0]:>13}  {cells[1]:>13}  {ratio:>6}  {said}".rstrip()
            )
    return lines, differing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help="write the counts into the table")
    parser.add_argument("--table", type=Path, default=TABLE, help="default: %(default)s")
    parser.add_argument("--tree", type=Path, help="a folder that holds the package fastconv")
    args = parser.parse_args()
    lacking = missing()
    if lacking is not None:
        parser.error(lacking)
    stored = read_table(args.table.read_text()) if args.table.exists() else {}
    counted = count(args.tree)
    lines, differing = compare(stored, counted)
    print("instructions of a call: stored, counted, ratio", *lines, sep="\n")
    if args.update:
        args.table.write_text(write_table({**stored, **counted}))
        print(f"\n{args.table} is written")
        return 0
    print(f"\n{differing} rows differ by more than {TOLERANCE:.0%}" if differing else "\nas stored")
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
