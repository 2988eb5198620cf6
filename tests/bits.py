"""Every bit that fastconv computes, as hashes: two trees with equal hashes compute the same.

    python -m tests.bits --out old.json                   hashes of the fastconv that Python finds
    python -m tests.bits --tree OLD --out old.json        of the tree OLD, with its compiled core
    python -m tests.bits --compare old.json               of this one, beside those of a file
    python -m tests.bits --isa avx2 --filter '^conv2d/'   one instruction set, names that match

A name says what is run and how: "conv2d/resnet_1/eager/dw". The subjects are in bits_layers.py and
bits_operations.py (each operation at each named shape) and bits_networks.py (chains of layers,
networks, optimisers, loaders). They use the public interface alone, so the same files run on trees
that differ inside. Each instruction set has a process of its own; the scalar one, which is slow,
takes a fixed part of the subjects. Everything runs with one thread and again with two, and must
give the same bits.

Exit status: 0; 1 when hashes differ from those of the file or of another number of threads.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import time
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

ISAS = ("scalar", "avx2", "avx512")
THREADS = (1, 2)
SCALAR_PART = 5  # the scalar set takes one subject of so many
ABSENT = 3  # exit status of a process whose instruction set this machine or build does not have

Hashes = dict[str, str]


def digest(value: Any) -> str:
    """Type, shape and bytes; all NaNs are one, 0 and -0 are two. Text stays as it is."""
    if isinstance(value, str):
        return value
    array = np.array(value.numpy() if hasattr(value, "numpy") else value)
    if array.dtype.kind == "f":
        array[np.isnan(array)] = np.nan
    found = hashlib.blake2b(f"{array.dtype.str} {array.shape}".encode(), digest_size=8)
    found.update(array.tobytes())
    return found.hexdigest()


# ------------------------------------------------------------------------ one set, in this process
def compute(pattern: str | None) -> tuple[Hashes, list[str]]:
    """Hashes of all subjects, and the names that depend on the number of threads."""
    import fastconv as fc

    from . import bits_layers, bits_networks, bits_operations

    rooms = (bits_layers, bits_operations, bits_networks)
    hashes: Hashes = {}
    unsteady = []
    for name, run in itertools.chain.from_iterable(room.subjects() for room in rooms):
        if pattern is not None and not re.search(pattern, name):
            continue
        if fc.isa() == "scalar" and zlib.crc32(name.encode()) % SCALAR_PART:
            continue
        found = []
        for threads in THREADS:
            fc.set_num_threads(threads)
            try:
                results = run()
            except Exception as error:
                raise RuntimeError(f"{name}, {threads} threads") from error
            found.append({f"{name}/{key}": digest(value) for key, value in results.items()})
        unsteady += [key for key in found[0] if found[0][key] != found[1][key]]
        assert not hashes.keys() & found[0].keys(), f"two subjects are called {name}"
        hashes.update(found[0])
    return hashes, unsteady


def work(isa: str, pattern: str | None, out: Path) -> int:
    try:
        import fastconv as fc
    except (ImportError, ValueError) as error:
        print(error, file=sys.stderr)
        return ABSENT
    assert fc.isa() == isa
    start = time.perf_counter()
    hashes, unsteady = compute(pattern)
    out.write_text(json.dumps({"hashes": hashes, "unsteady": unsteady}))
    seconds = time.perf_counter() - start
    print(f"{isa}: {len(hashes)} hashes, {seconds:.0f} s", file=sys.stderr)
    return 0


# ------------------------------------------------------------------------------------ all the sets
def gather(
    isas: Iterable[str], pattern: str | None, tree: Path | None, folder: Path
) -> tuple[dict[str, Hashes], list[str]]:
    """Hashes of each instruction set that is here, one process after the other."""
    results: dict[str, Hashes] = {}
    unsteady = []
    for isa in isas:
        out = folder / f"{isa}.json"
        command = [sys.executable, "-m", "tests.bits", "--worker", str(out), "--isa", isa]
        command += [] if pattern is None else ["--filter", pattern]
        command += [] if tree is None else ["--tree", str(tree)]
        status = subprocess.run(command, env={**os.environ, "FASTCONV_ISA": isa}).returncode
        if status == ABSENT:
            print(f"{isa}: left out", file=sys.stderr)
            continue
        if status:
            raise SystemExit(f"bits: the {isa} process ended with status {status}")
        done = json.loads(out.read_text())
        results[isa] = done["hashes"]
        unsteady += [f"{isa}: {name}" for name in done["unsteady"]]
    return results, unsteady


def differing(old: Mapping[str, Hashes], new: Mapping[str, Hashes]) -> dict[str, list[str]]:
    """By instruction set and operation: names with other hashes, or that only one side has.

    >>> differing({"avx2": {"relu/a": "0", "relu/b": "1"}}, {"avx2": {"relu/a": "2"}})
    {'avx2 relu': ['relu/a', 'relu/b (missing)']}
    """
    found: dict[str, list[str]] = {}
    for isa in new:
        before, after = old.get(isa, {}), new[isa]
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                note = " (missing)" if name not in after else " (new)" if name not in before else ""
                found.setdefault(f"{isa} {name.split('/')[0]}", []).append(name + note)
    return found


def report(found: Mapping[str, list[str]], most: int) -> None:
    for group, names in found.items():
        print(f"{group}: {len(names)} differ")
        for name in names[:most]:
            print(f"    {name}")
        if len(names) > most:
            print(f"    ... and {len(names) - most} more")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--isa", choices=ISAS, help="default: all that are here")
    parser.add_argument("--filter", metavar="REGEX", help="subjects whose name matches")
    parser.add_argument("--tree", type=Path, help="a folder that holds the package fastconv")
    parser.add_argument("--out", type=Path, help="the file to write, JSON")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="hashes of another tree")
    parser.add_argument("--most", type=int, default=12, help="names shown of each operation")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.tree is not None:
        sys.path.insert(0, str(args.tree.resolve()))
    if args.worker is not None:
        return work(args.isa, args.filter, args.worker)

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        isas = ISAS if args.isa is None else (args.isa,)
        results, unsteady = gather(isas, args.filter, args.tree, Path(folder))
    if args.out is not None:
        args.out.write_text(json.dumps(results, indent=0, sort_keys=True) + "\n")
    if unsteady:
        report({"one thread and two": unsteady}, args.most)
    total = sum(map(len, results.values()))
    if args.compare is None:
        print(f"{total} hashes")
        return 1 if unsteady else 0
    old = json.loads(args.compare.read_text())
    if args.filter is not None:
        chosen = re.compile(args.filter)
        old = {isa: {k: v for k, v in old[isa].items() if chosen.search(k)} for isa in old}
    found = differing(old, results)
    report(found, args.most)
    print(f"{total} hashes, {sum(map(len, found.values()))} differ from {args.compare}")
    return 1 if found or unsteady else 0


if __name__ == "__main__":
    raise SystemExit(main())
