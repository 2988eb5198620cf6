"""How long from process start to 99 % on MNIST's test images, everything included?

    python bench/bench_mnist.py [--model lenet5] [--until 99] [--seeds 3] [--data DIR]

Runs `fastconv train MODEL --until PERCENT` once a seed, each in a fresh process, and times the
processes: imports, reading the data, training, every evaluation, saving.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lenet5")
    parser.add_argument("--until", type=float, default=99.0, metavar="PERCENT")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N - 1")
    parser.add_argument("--data", metavar="DIR")
    args, rest = parser.parse_known_args()

    command = [sys.executable, "-m", "fastconv", "train", args.model, "--until", str(args.until)]
    command += [*(["--data", args.data] if args.data else []), *rest]
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.seeds):
            here = [*command, "--seed", str(seed), "--save", f"{folder}/{seed}.safetensors"]
            begin = time.perf_counter()
            done = subprocess.run(here, capture_output=True, text=True)
            seconds.append(time.perf_counter() - begin)
            if done.returncode != 0:
                print(f"seed {seed}: exit status {done.returncode}\n{done.stderr}", file=sys.stderr)
                return 1
            print(f"seed {seed}: {seconds[-1]:.2f} s", flush=True)
    print(f"median {statistics.median(seconds):.2f} s, {min(seconds):.2f} to {max(seconds):.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
