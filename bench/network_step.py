"""One optimisation step of every ImageNet network: are the gradients PyTorch's, and what memory?

    python bench/network_step.py [NAME...] [--batch 2] [--torch-python PATH] [--no-memory]

From the same weights and images (224 x 224), each gradient is compared with PyTorch's, tensor by
tensor: the 2-norm of the difference over that of the gradient. PyTorch in float64 judges which of
the two is nearer to the truth.

Two right answers in float32 are either within 1e-5 or visibly apart: where two values of a maximum
or the sign of a ReLU's input differ by less than rounding, the whole gradient of that pixel goes
another way, and at batch 2 a single such choice in a late layer moves all gradients before it by
0.1 to 1 %. Whose choice it hits is luck, and likelier for Winograd, which rounds several times as
badly. So up to three batches of images are tried until fastconv is within 0.001 of float64, or
within four times the distance of PyTorch's float32: `ok N`, at the Nth. `sides` says that none was,
but all within 2 %, as such choices explain; `far` is a failure. Figures are those of the best try.

The memory is the most that a process of its own holds during steps at batch 16, beyond what it held
before the network was made: fastconv and PyTorch, eager, NCHW.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv import _core
from fastconv.benchmark.cases import find
from fastconv.benchmark.networks import NETWORKS, TRAINING_BATCH
from fastconv.benchmark.peers import OURS
from fastconv.benchmark.remote import Remote, RemoteError
from fastconv.benchmark.table import Table

FAR, TIMES, SMALL, SIDES = 1e-3, 4.0, 1e-4, 0.02
TRIES = 3
COLUMNS = [
    *(("network", 12), ("tensors", -7), ("loss", -8), ("to torch", -9), ("worst tensor", 38)),
    *(("ours to f64", -11), ("torch to f64", -12), ("", 5)),
    *(("MB", -6), ("torch MB", -8), ("step, s", -7)),
]


@dataclass
class Step:
    """What one contestant's step gave."""

    loss: float
    gradients: dict[str, Any]


def step(remote: Remote, task: str, configuration: str) -> Step:
    _, answer = remote.prepare(find(task), configuration)
    remote.release()
    return Step(float(answer.pop("losses")[0]), answer)


def distances(these: Step, those: Step, judge: Step) -> dict[str, float]:
    """Of each tensor's two gradients, relative to the judge's.

    A bias in front of a batch normalisation has no influence: its gradient is nothing but rounding.
    So a gradient counts as at least SMALL of the largest one.
    """
    norms = {name: float(np.linalg.norm(g)) for name, g in judge.gradients.items()}
    least = SMALL * max(norms.values())
    return {
        name: float(np.linalg.norm(these.gradients[name] - those.gradients[name]))
        / max(norm, least)
        for name, norm in norms.items()
    }


def overall(apart: dict[str, float]) -> float:
    """Root mean square of the distances: every tensor counts alike, however large it is."""
    return float(np.sqrt(np.mean(np.square(list(apart.values())))))


@dataclass
class Result:
    """One line of the table: distances as `overall` has them."""

    loss: float
    tensors: int
    apart: float  # fastconv and PyTorch's float32
    worst: str  # tensor, and its distance
    ours: float  # fastconv and float64
    torch: float  # PyTorch's float32 and float64

    @property
    def good(self) -> bool:
        return self.ours <= max(FAR, TIMES * self.torch)


def compare(ours: Remote, torch: Remote, task: str) -> Result:
    mine, theirs = step(ours, task, "recorded"), step(torch, task, "eager nchw")
    judge = step(torch, task, "float64 nchw")
    if mine.gradients.keys() != judge.gradients.keys():
        raise SystemExit(f"{task}: parameters have other names than PyTorch's")
    apart = distances(mine, theirs, judge)
    worst = max(apart, key=lambda tensor: apart[tensor])
    return Result(
        *(mine.loss, len(apart), overall(apart), f"{worst} {apart[worst]:.0e}"),
        ours=overall(distances(mine, judge, judge)),
        torch=overall(distances(theirs, judge, judge)),
    )


def memory(peer: str, python: str, threads: int, name: str) -> tuple[str, str]:
    """(MB at most, seconds) of a step at batch 16, in a process of its own."""
    remote = Remote(peer, threads, python)
    try:
        remote.started()
        configuration = "recorded" if peer == OURS else "eager nchw"
        handle, _ = remote.prepare(find(f"{name}@{TRAINING_BATCH}:train"), configuration)
        times, _ = remote.burst(handle, 0.0)
        held = remote.memory()
        return f"{(held['peak'] - held['before']) / 1e6:,.0f}", f"{min(times):.2f}"
    except RemoteError as failure:
        print(f"{name}: {peer} at batch {TRAINING_BATCH}: {failure.kind}: {failure}")
        return "-", "-"
    finally:
        remote.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NETWORKS))
    parser.add_argument("--batch", type=int, default=2, help="2 is the least that BN allows")
    parser.add_argument("--threads", type=int, default=_core.get_num_threads())
    parser.add_argument("--torch-python", metavar="PATH", default=sys.executable)
    parser.add_argument("--no-memory", action="store_true", help="gradients only")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in NETWORKS]
    if unknown:
        parser.error(f"no network {', '.join(unknown)}; there are {', '.join(NETWORKS)}")

    table, wrong = Table(COLUMNS), []
    ours, torch = Remote(OURS, args.threads), Remote("torch", args.threads, args.torch_python)
    began = time.perf_counter()
    try:
        ours.started()
        print(f"fastconv {ours.describe()['version']}, batch {args.batch}, {args.threads} threads")
        print(f"torch {torch.started()['torch']}\n\n{table.head()}", flush=True)
        for name in args.names or NETWORKS:
            tried: list[Result] = []
            while len(tried) < TRIES and not any(result.good for result in tried):
                tried.append(compare(ours, torch, f"{name}@{args.batch}:gradients{len(tried)}"))
            result = min(tried, key=lambda result: result.ours)
            verdict = "sides" if result.ours <= SIDES else "far"
            if result.good:
                verdict = f"ok {len(tried)}"
            elif verdict == "far":
                wrong.append(name)
            cells = [name, str(result.tensors), f"{result.loss:.4f}", f"{result.apart:.1e}"]
            cells += [result.worst, f"{result.ours:.1e}", f"{result.torch:.1e}"]
            cells += [verdict]
            if args.no_memory:
                cells += ["-", "-", "-"]
            else:
                held, seconds = memory(OURS, sys.executable, args.threads, name)
                cells += [held, memory("torch", args.torch_python, args.threads, name)[0], seconds]
            print(table.row(cells), flush=True)
    except RemoteError as failure:
        print(f"{failure.kind}: {failure}", file=sys.stderr)
        return 1
    finally:
        ours.close()
        torch.close()
    print(f"\n{time.perf_counter() - began:.0f} s; gradients too far: {', '.join(wrong) or 'none'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
