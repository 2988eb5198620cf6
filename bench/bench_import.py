"""What does `import fastconv` cost beyond NumPy, and how large is the package on disk?

    python bench/bench_import.py [--rounds 15] [--peers torch,jax]

Each round starts a fresh interpreter for every package, in turn; the time is that of the process
from start to end, less that of one that imports NumPy alone.
"""

from __future__ import annotations

import argparse

from fastconv.benchmark.processes import (
    Import,
    installed,
    megabytes,
    race_imports,
    wheel_megabytes,
)
from fastconv.benchmark.table import Table, milliseconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--peers", default="torch,jax,tensorflow", help="packages to compare with, or none"
    )
    args = parser.parse_args()

    folders = {}
    for package in ("fastconv", *(args.peers.split(",") if args.peers != "none" else ())):
        folder = installed(package)
        if folder is None:
            print(f"{package}: not installed")
        else:
            folders[package] = folder
    imports = [Import(package) for package in folders]
    race_imports(imports, args.rounds)

    table = Table([("package", 12), ("beyond numpy, ms", -16), ("least", -6), ("MB on disk", -10)])
    print(table.head())
    for entry in imports:
        figures = [milliseconds(entry.median), milliseconds(min(entry.seconds))]
        print(table.row([entry.package, *figures, f"{megabytes(folders[entry.package]):.1f}"]))
    print(f"fastconv as a wheel: {wheel_megabytes(folders['fastconv']):.2f} MB")


if __name__ == "__main__":
    main()
