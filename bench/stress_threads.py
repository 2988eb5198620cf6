"""Many threads, one model: does every call give what it gives alone, and is the model unharmed?

    python bench/stress_threads.py --seconds 60 --threads 8

Every thread calls predict, evaluate, report, the model itself, a recording that all share,
deepcopy, pickle and state_dict in a random order. First nobody trains: each result must have the
bits of a single thread. Then one thread trains the same model with fit, over and over from the same
start: nothing may raise, what others get must be probabilities, and every fit must end with the
bits of one that had the machine for itself. Exit status 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import copy
import pickle
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

import fastconv as fc
from fastconv import functional as F
from fastconv import nn

Verb = Callable[[], Any]
SIZES = (1, 7, 8, 15, 16, 17, 33)  # of batches: both layouts, whole blocks and rests


class Net(nn.Module):
    """Batch norm, dropout, a softmax inside and at the end: what modes and heads act upon."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5)
        self.gate, self.fc, self.softmax = nn.Linear(8, 8), nn.Linear(8, 5), nn.Softmax(dim=1)

    def forward(self, x: Any) -> Any:
        x = F.relu(self.norm(self.conv(x)))
        x = self.drop(x.mean((2, 3)))
        return self.softmax(self.fc(x * self.softmax(self.gate(x))))


def plain() -> nn.Module:
    """The same layers of this package alone, which fit and predict record."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.5), nn.Linear(72, 5), nn.Softmax(dim=1)),
    )


def one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(5, dtype=np.float32)[labels]


def bits(value: Any) -> Any:
    """Something to compare results by."""
    if isinstance(value, dict):
        return {name: bits(part) for name, part in value.items()}
    if isinstance(value, (float, tuple)):
        return value
    return np.asarray(value).tobytes()


def verbs(model: nn.Module) -> dict[str, Verb]:
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((n, 3, 8, 8)).astype(np.float32) for n in SIZES]
    x, y = np.concatenate(xs), one_hot(rng.integers(0, 5, sum(SIZES)))
    recorded = fc.record(model)

    def called(call: Callable[[Any], Any], x: Any) -> Verb:
        def run() -> Any:
            with fc.no_grad():
                return np.array(call(fc.Tensor(x)))

        return run

    def by_pickle() -> Any:
        return pickle.loads(pickle.dumps(model)).predict(xs[3])

    made: dict[str, Verb] = {
        "evaluate": lambda: model.evaluate(x, y, batch_size=16),
        "report": lambda: model.report(x, y, batch_size=33).confusion,
        "predict in batches": lambda: model.predict(x, batch_size=16),
        "deepcopy": lambda: copy.deepcopy(model).predict(xs[2]),
        "pickle": by_pickle,
        "state_dict": lambda: {n: np.array(t) for n, t in model.state_dict().items()},
    }
    for n, part in zip(SIZES, xs, strict=True):
        made[f"predict {n}"] = lambda part=part: model.predict(part)
        made[f"model(x) {n}"] = called(model, part)
        made[f"recorded {n}"] = called(recorded, part)
    return made


def build(kind: Callable[[], nn.Module]) -> nn.Module:
    fc.manual_seed(0)
    model = kind().eval()
    compile_anew(model)
    return model


def compile_anew(model: nn.Module) -> None:
    model.compile("adam", "categorical_crossentropy", ["accuracy", "mae"])


def flags(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def hammer(
    model: nn.Module, threads: int, seconds: float, check: Callable[[str, Any], bool], done: Any
) -> tuple[int, list[str]]:
    """Calls verbs from all threads until the time is over and `done` is set."""
    todo, wrong, calls = verbs(model), [], [0]
    end = time.monotonic() + seconds

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        names = list(todo)
        while time.monotonic() < end or not done.is_set():
            name = names[rng.integers(len(names))]
            try:
                if not check(name, todo[name]()):
                    wrong.append(name)
            except Exception:
                wrong.append(f"{name}: {traceback.format_exc()}")
            calls[0] += 1

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return calls[0], wrong


def without_training(kind: Callable[[], nn.Module], threads: int, seconds: float) -> list[str]:
    model, done = build(kind), threading.Event()
    done.set()
    before = flags(model)
    alone = {name: bits(verb()) for name, verb in verbs(model).items()}
    calls, wrong = hammer(
        model, threads, seconds, lambda name, result: bits(result) == alone[name], done
    )
    after = {name: bits(verb()) for name, verb in verbs(model).items()}
    wrong += [f"afterwards {name}" for name in alone if after[name] != alone[name]]
    if flags(model) != before:
        wrong.append("flags changed")
    print(f"{kind.__name__:6} nobody trains: {len(wrong)} wrong of {calls} calls")
    return wrong


def beside_fit(kind: Callable[[], nn.Module], threads: int, seconds: float) -> list[str]:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((133, 3, 8, 8)).astype(np.float32)
    y = one_hot(rng.integers(0, 5, 133))

    def fit(model: nn.Module) -> Any:
        fc.manual_seed(1)
        model.fit(x, y, epochs=3, batch_size=16, verbose=0, validation_split=0.2)
        return bits({name: np.array(t) for name, t in model.state_dict().items()})

    alone = fit(build(kind))
    model, done, wrong = build(kind), threading.Event(), []
    start = {name: np.array(tensor) for name, tensor in model.state_dict().items()}
    before, fits = flags(model), [0]

    def train() -> None:
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end or not fits[0]:
                model.load_state_dict(start)
                compile_anew(model)
                if fit(model) != alone:
                    wrong.append("fit has other bits than alone")
                fits[0] += 1
        except Exception:
            wrong.append(f"fit: {traceback.format_exc()}")
        done.set()

    def plausible(name: str, result: Any) -> bool:
        if name.startswith(("predict", "model", "recorded")):
            return bool(np.allclose(np.asarray(result).sum(axis=1), 1, atol=1e-3))
        return result is not None

    trainer = threading.Thread(target=train)
    trainer.start()
    calls, others = hammer(model, threads - 1, 0.0, plausible, done)
    trainer.join()
    wrong += others
    if flags(model) != before:
        wrong.append("flags changed")
    print(f"{kind.__name__:6} beside {fits[0]} fits: {len(wrong)} wrong of {calls} calls")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=20, help="for each of the four parts")
    parser.add_argument("--threads", type=int, default=8)
    args = parser.parse_args()
    sys.setswitchinterval(1e-5)  # threads take turns in the middle of everything
    wrong: list[str] = []
    for kind in (Net, plain):
        wrong += without_training(kind, args.threads, args.seconds)
        wrong += beside_fit(kind, args.threads, args.seconds)
    for text in list(dict.fromkeys(wrong))[:10]:
        print(text)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
