"""How does the time of a training step grow with batch, channels, image size and threads?

    python bench/growth.py [--plot growth.svg] [--sweep batch,channels,size,threads]

The network is a short VGG: two 3x3 convolutions, pooling, two of twice the channels, pooling, and
a dense layer. One thing varies at a time, the others stay at batch 64, 32 channels, 32 x 32
pixels and all threads. Beside each measured time stands the roofline's: the longer of

    arithmetic: FLOP of the direct formula / peak FLOP/s (multiply-adds on registers, same threads)
    memory:     bytes that the layers read and write / bytes per second of a large copy

for the layers one after the other, as if no layer found anything in the cache. Winograd needs fewer
operations than the formula counts and small layers stay in the cache, so a step can be faster than
its roofline; batches of twelve and more that are no multiple of 16 fill their last block with empty
lanes, and `lanes` is the roofline of the batch rounded up.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import fastconv as fc
from fastconv import _core, nn, optim
from fastconv import functional as F
from fastconv.benchmark.networks import uniform
from fastconv.benchmark.table import Table, milliseconds

LANES, FEWEST_IN_LANES = 16, 12
CLASSES = 10


@dataclass(frozen=True)
class Point:
    """One step: N images of S x S pixels, C channels in the first stage, on so many threads."""

    batch: int
    channels: int
    size: int
    threads: int

    def layers(self) -> Iterator[tuple[float, float]]:
        """(multiply-adds of three passes, floats read and written in them) of each layer."""
        N, C, S = self.batch, self.channels, self.size
        for IC, OC, side in ((3, C, S), (C, C, S), (C, 2 * C, S // 2), (2 * C, 2 * C, S // 2)):
            macs = N * OC * side**2 * IC * 9
            x, y, w = N * IC * side**2, N * OC * side**2, OC * IC * 9
            if IC == 3:
                yield 2 * macs, 2 * x + 2 * y + 2 * w  # no gradient by input
            else:
                yield 3 * macs, 3 * x + 3 * y + 3 * w
            yield 0, 5 * y  # ReLU: reads and writes y, reads dy and y, writes dx
        for OC, side in ((C, S), (2 * C, S // 2)):
            yield 0, 3 * N * OC * side**2  # pooling: reads x; writes dx, and a quarter four times
        inputs = 2 * C * (S // 4) ** 2
        yield 3 * N * inputs * CLASSES, 3 * (N * (inputs + CLASSES) + inputs * CLASSES)

    def roofline(self, peak: float, bandwidth: float) -> float:
        return sum(max(2 * macs / peak, 4 * floats / bandwidth) for macs, floats in self.layers())

    def flop(self) -> float:
        return sum(2 * macs for macs, _ in self.layers())


def prepare(point: Point) -> Callable[[], None]:
    """A training step at that point, called once already."""
    C = point.channels
    model = nn.Sequential(
        *(nn.Conv2d(3, C, 3, padding=1), nn.ReLU(), nn.Conv2d(C, C, 3, padding=1), nn.ReLU()),
        nn.MaxPool2d(2),
        *(nn.Conv2d(C, 2 * C, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(2 * C, 2 * C, 3, padding=1), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2 * C * (point.size // 4) ** 2, CLASSES)),
    )
    update = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x = fc.Tensor(uniform((point.batch, 3, point.size, point.size), "growth", 1.0))
    labels = fc.Tensor(np.arange(point.batch, dtype=np.int64) % CLASSES)

    def step() -> None:
        update.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        update.step()

    fc.set_num_threads(point.threads)
    step()
    return step


def sweeps(base: Point) -> dict[str, list[Point]]:
    threads = sorted({base.threads, *(t for t in (1, 2, 4, 8, 16, 32) if t < base.threads)})
    batches = (1, 7, 15, 16, 17, 32, 64, 100, 128, 256)
    return {
        "batch": [replace(base, batch=n) for n in batches],
        "channels": [replace(base, channels=c) for c in (1, 3, 8, 16, 24, 32, 48, 64, 128)],
        "size": [replace(base, size=s) for s in (8, 12, 16, 24, 32, 48, 64, 96)],
        "threads": [replace(base, threads=t) for t in threads],
    }


def measure(points: list[Point], rounds: int, seconds: float) -> list[float]:
    """Seconds a step, the points in turn: median over rounds of each round's median."""
    medians: list[list[float]] = [[] for _ in points]
    for _ in range(rounds):
        for point, values in zip(points, medians, strict=True):
            step = prepare(point)
            times: list[float] = []
            while not times or sum(times) < seconds:
                begin = time.perf_counter()
                step()
                times.append(time.perf_counter() - begin)
            values.append(statistics.median(times))
    return [statistics.median(values) for values in medians]


def copy_bandwidth(seconds: float = 0.3) -> float:
    """Bytes a second, read and written, of the best copy between arrays beyond any cache."""
    source = np.ones(64 << 20, np.uint8)
    target = np.empty_like(source)
    least, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        np.copyto(target, source)
        least = min(least, time.perf_counter() - begin)
    return 2 * source.nbytes / least


def rows_of(
    name: str, points: list[Point], taken: list[float], peaks: dict[int, float], bandwidth: float
) -> Iterator[dict[str, Any]]:
    for point, seconds in zip(points, taken, strict=True):
        peak = peaks[point.threads]
        full = point
        if point.batch >= FEWEST_IN_LANES:
            full = replace(point, batch=-(-point.batch // LANES) * LANES)
        yield {
            "at": getattr(point, name),
            "seconds": seconds,
            "rate": point.batch / seconds,
            "roofline": point.roofline(peak, bandwidth),
            "lanes": full.roofline(peak, bandwidth),
            "share": point.flop() / seconds / peak,
        }


def print_sweep(name: str, rows: list[dict[str, Any]]) -> None:
    columns = [(name, -8), ("ms", -8), ("images/s", -9), ("us an image", -11)]
    columns += [("roofline, ms", -12), ("lanes, ms", -9), ("step/lanes", -10), ("of peak", -7)]
    table = Table(columns)
    print(f"\n## Step time over {name}\n\n{table.head()}")
    for row in rows:
        cells = [str(row["at"]), milliseconds(row["seconds"]), f"{row['rate']:,.0f}"]
        cells += [f"{1e6 / row['rate']:,.1f}", milliseconds(row["roofline"])]
        cells += [milliseconds(row["lanes"]), f"{row['seconds'] / row['lanes']:.2f}"]
        print(table.row([*cells, f"{100 * row['share']:.0f} %"]))


def plot(path: Path, results: dict[str, list[dict[str, Any]]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(results), figsize=(4.2 * len(results), 3.6), squeeze=False
    )
    for axis, (name, rows) in zip(axes[0], results.items(), strict=True):
        at = [row["at"] for row in rows]
        axis.plot(at, [1e3 * row["seconds"] for row in rows], "o-", label="measured")
        axis.plot(at, [1e3 * row["lanes"] for row in rows], "--", label="roofline, whole lanes")
        axis.plot(at, [1e3 * row["roofline"] for row in rows], ":", label="roofline")
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xlabel(name)
        axis.set_ylabel("ms a step")
        axis.legend()
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweep", default="batch,channels,size,threads", metavar="NAMES")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="SVG or PNG; needs matplotlib")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.1, help="of one point in one round")
    parser.add_argument("--threads", type=int, default=fc.get_num_threads())
    args = parser.parse_args()
    base = Point(batch=64, channels=32, size=32, threads=args.threads)
    chosen = {
        name: points for name, points in sweeps(base).items() if name in args.sweep.split(",")
    }
    if not chosen:
        parser.error(f"--sweep {args.sweep}: there are batch, channels, size, threads")

    peaks: dict[int, float] = {}
    for threads in {point.threads for points in chosen.values() for point in points}:
        fc.set_num_threads(threads)
        peaks[threads] = max(_core.fma_peak(0.05) for _ in range(5))
    bandwidth = copy_bandwidth()
    print(f"fastconv {fc.__version__}, {fc.isa()}, {args.threads} threads")
    for threads, peak in sorted(peaks.items()):
        print(f"peak on {threads} threads: {peak / 1e9:.0f} GFLOP/s")
    print(f"a copy moves {bandwidth / 1e9:.1f} GB/s")

    results = {}
    for name, points in chosen.items():
        taken = measure(points, args.rounds, args.seconds)
        results[name] = list(rows_of(name, points, taken, peaks, bandwidth))
        print_sweep(name, results[name])
    if args.plot:
        plot(args.plot, results)
        print(f"\n{args.plot}")


if __name__ == "__main__":
    main()
