"""How long from process start to 99 % on MNIST's test images, everything included?

    python bench/bench_mnist.py [--seeds 5] [--until 99] [--data DIR] [--threads N]
    python bench/bench_mnist.py --torch [--torch-python PATH]

Runs `fastconv train MODEL --until PERCENT` once a seed, each in a fresh process, and times the
processes: imports, reading the data, training, every evaluation, saving. With --torch, PyTorch does
the same between fastconv's runs: LeNet-5, schedule and data as fastconv has them, in both memory
formats. Other options go to `fastconv train`.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from fastconv.benchmark.processes import Training
from fastconv.data.mnist import find


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lenet5")
    parser.add_argument("--until", type=float, default=99.0, metavar="PERCENT")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds 0 to N - 1")
    parser.add_argument("--data", metavar="DIR", help="MNIST's folder (default: find it)")
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--limit", type=float, default=300, metavar="S", help="of one process")
    parser.add_argument("--torch", action="store_true", help="PyTorch too")
    parser.add_argument("--torch-python", metavar="PATH", help="an interpreter that has PyTorch")
    args, rest = parser.parse_known_args()

    folder = find(args.data)
    if folder is None:
        parser.error("MNIST is not on this machine: name its folder with --data")
    python = (args.torch_python or sys.executable) if args.torch or args.torch_python else None
    if python and args.model != "lenet5":
        parser.error("--torch knows lenet5 only")
    training = Training(
        *(str(folder), args.until, args.seeds, args.model, args.threads),
        limit=args.limit,
        more=tuple(rest),
    )
    try:
        taken, failures = training.race(python, lambda text: print(text, flush=True))
    except RuntimeError as failure:
        print(f"fastconv: {failure}", file=sys.stderr)
        return 1
    for name, seconds in taken.items():
        middle = statistics.median(seconds)
        print(f"{name}: median {middle:.2f} s, {min(seconds):.2f} to {max(seconds):.2f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
