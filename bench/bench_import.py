"""What does `import fastconv` cost beyond NumPy, and how large is the package on disk?

    python bench/bench_import.py [--rounds 15] [--peers torch,jax]

Each round starts a fresh interpreter for every package, in turn; the time is that of the process
from start to end, less that of the round's `import numpy`.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import time
from pathlib import Path

from fastconv.benchmark.table import Table, milliseconds

BASE = "numpy"


def start_to_end(package: str) -> float:
    """Seconds of a process that imports `package` and ends."""
    begin = time.perf_counter()
    # With `numpy` first, what the package adds is what remains.
    subprocess.run([sys.executable, "-c", f"import numpy, {package}"], check=True)
    return time.perf_counter() - begin


def megabytes(package: str) -> float:
    """Of everything in the package's folders."""
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    files = (file for folder in folders or () for file in Path(folder).rglob("*"))
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--peers", default="torch,jax,tensorflow", help="packages to compare with, or none"
    )
    args = parser.parse_args()

    packages = [BASE, "fastconv"]
    for peer in args.peers.split(",") if args.peers != "none" else ():
        if importlib.util.find_spec(peer) is None:
            print(f"{peer}: not installed")
        else:
            packages.append(peer)

    for package in packages:
        start_to_end(package)  # bytecode compiled, files in the page cache
    rounds = [{package: start_to_end(package) for package in packages} for _ in range(args.rounds)]

    table = Table([("package", 12), ("beyond numpy, ms", -16), ("least", -6), ("MB on disk", -10)])
    print(table.head())
    for package in packages[1:]:
        beyond = [times[package] - times[BASE] for times in rounds]
        figures = [milliseconds(statistics.median(beyond)), milliseconds(min(beyond))]
        print(table.row([package, *figures, f"{megabytes(package):.1f}"]))


if __name__ == "__main__":
    main()
