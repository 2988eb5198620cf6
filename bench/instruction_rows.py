"""The work whose instructions instructions.py counts. It starts this file under callgrind.

    python instruction_rows.py GROUP MARKS     GROUP: kernels or python; MARKS: a compiled library

Around each row the library tells callgrind to begin at zero and to write down its count. Prints, as
JSON, what the counts depend on besides the source of this package.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import json
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

import fastconv as fc
from fastconv import _core, data, models, nn, optim
from fastconv import functional as F
from fastconv.benchmark.cases import LAYERS, PASSES, Task
from fastconv.benchmark.networks import uniform
from fastconv.benchmark.peers import ours

Run = Callable[[], Any]
Row = tuple[str, Run]

# Named layers and the size of their images: their own, or a smaller one where a network's would
# take minutes under callgrind. One block of lanes; one image.
IN_LANES = {
    "lenet.c1": 28,
    "lenet.c2": 14,
    "keras.c2": 13,
    "keras.c3": 5,
    "cifar.c1": 32,
    "res.c1": 32,
    "res.3_3x3": 8,
    "res.3_3x3s2": 8,
    "res.4_1x1": 4,
    "mob.dw6s2": 14,
}
ONE_IMAGE = {
    "lenet.c2": 14,
    "keras.c2": 13,
    "alex.c2": 13,
    "res.c1": 64,
    "res.2_1x1": 28,
    "res.3_3x3": 14,
    "res.5_3x3": 7,
    "mob.dw3": 56,
    "mob.pw6": 14,
}
# Uncounted calls, in which Python specialises its code and networks are recorded; counted calls.
CALLS = {"kernels": (1, 1), "python": (30, 30)}


def kernels() -> Iterator[Row]:
    """Each pass of a layer alone."""
    ours.start(1)
    layers = {conv.name: conv for conv, _ in LAYERS}
    for sizes, batch in ((IN_LANES, 16), (ONE_IMAGE, 1)):
        for name, size in sizes.items():
            conv = replace(layers[name], name=f"{name}, {size} px", IH=size, IW=size)
            for work in PASSES:
                task = Task(conv, batch, work)
                (configuration,) = ours.configurations(task, quick=False)
                run = ours.prepare(task, configuration).run
                yield f"{conv.name}, batch {batch}: {work}", run


def from_python() -> Iterator[Row]:
    """Work so small that much of it is Python."""
    x, small = uniform((1, 1, 28, 28), "images", 1.0), uniform((16, 8, 6, 6), "images", 1.0)
    labels = np.arange(16) % 10
    yield from _network("lenet5", models.lenet5, x, labels[:1])
    yield from _network("residual block", Block, small[:1], labels[:1])
    yield from _network("residual block", Block, small, labels)
    yield from _optimizers()
    yield from _loaders()


class Block(nn.Module):
    """A residual block with batch normalisation, as users write it, and a head of ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 3 * 3, 10)

    def forward(self, x: Any) -> Any:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)) + x)
        return self.fc(F.max_pool2d(y, 2).flatten(1))


def _network(name: str, build: Callable[[], nn.Module], x: Any, labels: Any) -> Iterator[Row]:
    """Forward from NumPy to NumPy; zero_grad, forward, loss, backward. Both eager and recorded."""
    model = build().eval()
    forward = fc.record(model)

    def eager_forward() -> None:
        with fc.no_grad():
            model(fc.Tensor(x)).numpy()

    yield f"{name} forward, batch {len(x)}, eager", eager_forward
    yield f"{name} forward, batch {len(x)}, recorded", lambda: forward(x).numpy()

    model.train()
    step = fc.record_step(model, F.cross_entropy)

    def eager_step() -> None:
        model.zero_grad()
        F.cross_entropy(model(fc.Tensor(x)), labels).backward()

    def recorded_step() -> None:
        model.zero_grad()
        step(x, labels)

    yield f"{name} step, batch {len(x)}, eager", eager_step
    yield f"{name} step, batch {len(x)}, recorded", recorded_step


def _optimizers() -> Iterator[Row]:
    makers = {
        "SGD": lambda p: optim.SGD(p, 0.01, 0.9),
        "RMSprop": lambda p: optim.RMSprop(p),
        "Adam": lambda p: optim.Adam(p),
    }
    for name, make in makers.items():
        parameters = list(models.lenet5().parameters())
        for p in parameters:
            p.grad = fc.Tensor(uniform(p.shape, "gradient", 0.01))
        yield f"{name} step of lenet5", make(parameters).step


def _loaders() -> Iterator[Row]:
    most = 128 * (1 + sum(CALLS["python"]))  # samples of all batches that are asked for
    x, labels = (
        np.resize(uniform((999, 1, 28, 28), "images", 1.0), (most, 1, 28, 28)),
        np.zeros(most),
    )
    for kind, images in {"uint8": (16 * x + 128).astype(np.uint8), "float32": x}.items():
        for N in (1, 128):
            batches = iter(data.Loader(images, labels, batch_size=N))
            yield f"Loader, batch of {N}, {kind}", functools.partial(next, batches)


def main() -> None:
    group, library = sys.argv[1:]
    marks = ctypes.CDLL(library)
    gc.disable()
    fc.manual_seed(0)
    marks.start()
    warm_up, calls = CALLS[group]
    for row, run in kernels() if group == "kernels" else from_python():
        for _ in range(warm_up):
            run()
        marks.zero()
        for _ in range(calls):
            run()
        marks.dump(row.encode())
    python = f"Python {platform.python_version()} ({platform.python_compiler()})"
    numpy = ".".join(np.__version__.split(".")[:2])
    versions = {"compiler": _core.build_config()["compiler"], "python": f"{python}, NumPy {numpy}"}
    print(json.dumps({**versions, "calls": calls}))


if __name__ == "__main__":
    main()
