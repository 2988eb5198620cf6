"""LeNet-5 to a test accuracy on MNIST in PyTorch: `fastconv train lenet5 --until`, step by step.

    python mnist_torch.py --data DIR [--seed 0] [--until 99] [--threads N] [--channels-last]

The same network and initial distribution, batches, optimiser, schedule, and rule of when to look at
the test set as fastconv/cli has; a program of its own, for an interpreter with PyTorch and NumPy.
Done as fast as PyTorch allows: resident tensors, fused Adam, memory format as asked. Compiling the
network would take longer than training it.
"""

from __future__ import annotations

import argparse
import gzip
import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()

BATCH, EPOCHS, PEAK_RATE, CYCLE, BETA2 = 64, 20, 8e-3, 1.6, 0.99  # fastconv/train/recipes.py
RISE, FIRST = 0.1, 0.04
CHECKS, TRAINING_MARGIN, PART, PART_MARGIN = 8, 2.0, 5, 0.4  # looks at the test set, as there
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def one_cycle(share: float) -> float:
    """The rate, as a part of its peak: up in a tenth of the cycle, then down; half cosines.

    >>> one_cycle(0), one_cycle(0.1), one_cycle(1)
    (0.04, 1.0, 0.0)
    """
    if share < RISE:
        return FIRST + (1 - FIRST) * (1 - math.cos(math.pi * share / RISE)) / 2
    return (1 + math.cos(math.pi * (share - RISE) / (1 - RISE))) / 2


def rate(step: int, steps: int) -> float:
    """Of a step, `steps` to a cycle; each cycle is half as high as the one before."""
    cycle, step = divmod(step, steps)
    return PEAK_RATE * 0.5**cycle * one_cycle(step / steps)


def read(folder: Path, name: str) -> Any:
    """One IDX file, compressed or not: its bytes, shaped as its header says."""
    import numpy as np

    path = folder / f"{name}.gz"
    data = gzip.decompress(path.read_bytes()) if path.exists() else (folder / name).read_bytes()
    dimensions = data[3]
    shape = np.frombuffer(data, ">i4", dimensions, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def main() -> int:
    parser = argparse.ArgumentParser(description="LeNet-5 to an accuracy on MNIST, in PyTorch")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--until", type=float, default=99.0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--channels-last", action="store_true")
    args = parser.parse_args()

    with ThreadPoolExecutor(len(FILES)) as pool:
        reading = [pool.submit(read, args.data, name) for name in FILES]
        torch: Any = import_module("torch")  # meanwhile

        arrays = [future.result() for future in reading]
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    memory_format = torch.channels_last if args.channels_last else torch.contiguous_format
    return train(torch, arrays, args.until, memory_format)


def train(torch: Any, arrays: list[Any], until: float, memory_format: Any) -> int:
    """Trains until the accuracy is there; the exit status says whether it is."""
    nn = torch.nn
    x, y, x_test, y_test = (torch.tensor(array) for array in arrays)  # a copy, writable
    x, x_test = (a[:, None].float().div_(255) for a in (x, x_test))
    y, y_test = y.long(), y_test.long()
    model = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    ).to(memory_format=memory_format)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=PEAK_RATE, betas=(0.9, BETA2), eps=1e-7, fused=True
    )
    part = slice(None, None, PART)

    def accuracy(images: Any, labels: Any) -> float:
        with torch.inference_mode():
            hits = [
                int((model(a).argmax(1) == b).sum())
                for a, b in zip(images.split(1000), labels.split(1000), strict=True)
            ]
        return 100 * sum(hits) / len(labels)

    steps = -(-len(x) // BATCH)
    every, step = max(1, steps // CHECKS), 0
    for _ in range(EPOCHS):
        right, seen = torch.zeros((), dtype=torch.int64), 0
        for i, chosen in enumerate(torch.randperm(len(x)).split(BATCH)):
            for group in optimizer.param_groups:
                group["lr"] = rate(step, round(CYCLE * steps))
            images, labels = x[chosen], y[chosen]
            optimizer.zero_grad()
            logits = model(images)
            nn.functional.cross_entropy(logits, labels).backward()
            optimizer.step()
            with torch.no_grad():
                right += (logits.argmax(1) == labels).sum()
            step, seen = step + 1, seen + len(labels)
            if (i + 1) % every or 100 * int(right) / seen < until - TRAINING_MARGIN:
                continue
            if accuracy(x_test[part], y_test[part]) < until - PART_MARGIN:
                continue
            reached = accuracy(x_test, y_test)
            if reached >= until:
                seconds = time.perf_counter() - BEGAN
                print(f"test accuracy {reached:.2f} % after {step} steps, {seconds:.2f} s")
                return 0
    print(f"{until:g} % was not reached in {EPOCHS} epochs", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
