"""One model, many threads: predictions are those of one thread, and nothing is written to it."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn, optim
from fastconv.nn.modes import own_modes, stored_modes
from tests.support import assert_same_bits, run_python, uniform

SIZES = (1, 7, 8, 15, 16, 17, 33)
STRESS = Path(__file__).resolve().parents[1] / "bench" / "stress_threads.py"


@pytest.fixture(autouse=True)
def threads_take_turns() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Written(nn.Module):
    """Code of one's own, which is never recorded unasked."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers()[:-1])
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x: Any) -> Any:
        return self.softmax(self.body(x))


def layers() -> list[nn.Module]:
    return [
        *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()),
        *(nn.Dropout(0.5), nn.Linear(144, 3), nn.Softmax(dim=1)),
    ]


def model_of(kind: Callable[[], nn.Module]) -> nn.Module:
    """In training mode, as networks are when they are made, and with statistics of its own."""
    fc.manual_seed(3)
    model = kind()
    with fc.no_grad():
        model(fc.Tensor(np.random.default_rng(0).standard_normal((32, 1, 8, 8)).astype(np.float32)))
    model.compile("sgd", metrics=["accuracy"])
    return model


KINDS = [Written, lambda: nn.Sequential(*layers())]


def state(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: np.array(tensor) for name, tensor in model.state_dict().items()}


def flags(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", SIZES)
def test_predict_from_four_threads(
    kind: Callable[[], nn.Module], n: int, rng: np.random.Generator
) -> None:
    model, x = model_of(kind), uniform(rng, n, 1, 8, 8)
    want, before, modes = model.predict(x), state(model), flags(model)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: model.predict(x), range(24)))
    for result in results:
        assert_same_bits(result, want)
    assert flags(model) == modes
    for name, values in state(model).items():
        assert_same_bits(values, before[name])
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("kind", KINDS)
def test_a_thread_that_calls_the_model_sees_it_as_it_is(
    kind: Callable[[], nn.Module], rng: np.random.Generator
) -> None:
    """Predict in one thread changes neither head nor mode of a call in another."""
    model, x = model_of(kind).eval(), fc.Tensor(uniform(rng, 5, 1, 8, 8))
    recorded = fc.record(model)
    want = model(x).detach().numpy()
    assert np.allclose(want.sum(axis=1), 1, atol=1e-5)
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            model.predict(x)
            model.evaluate(x, [0, 1, 2, 0, 1])

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(50):
            assert_same_bits(model(x).detach().numpy(), want)
            np.testing.assert_allclose(recorded(x).numpy(), want, atol=1e-6)
            assert flags(copy.deepcopy(model)) == flags(model)
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("kind", KINDS)
def test_fit_beside_predict_trains_as_if_alone(
    kind: Callable[[], nn.Module], rng: np.random.Generator
) -> None:
    """Running statistics are those of its own steps, its modes its own."""
    x, y = uniform(rng, 70, 1, 8, 8), np.arange(70) % 3

    def fit(model: nn.Module) -> dict[str, np.ndarray]:
        fc.manual_seed(5)
        model.fit(x, y, epochs=4, batch_size=16, verbose=0, validation_split=0.2)
        return state(model)

    want, model, done = fit(model_of(kind)), model_of(kind), threading.Event()
    modes = flags(model)

    def disturb() -> None:
        while not done.is_set():
            assert np.isfinite(model.predict(x[:7])).all()
            model.eval()
            model.train()

    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(disturb) for _ in range(2)]
        got = fit(model)
        done.set()
        for other in others:
            other.result()
    for name, values in want.items():
        assert_same_bits(got[name], values)
    assert flags(model) == modes


def test_all_verbs_at_once() -> None:
    if not STRESS.is_file():
        pytest.skip("bench/ is not here")
    arguments = [str(STRESS), "--seconds", "1", "--threads", "8"]
    result = run_python(
        f"import runpy, sys; sys.argv = {arguments!r}\n"
        f"runpy.run_path({str(STRESS)!r}, run_name='__main__')"
    )
    assert result.returncode == 0, result.stdout + result.stderr


# ------------------------------------------------------------------------------------------ modes


class Frozen(nn.Module):
    """Keeps its batch norm in evaluation mode, as networks for finetuning do."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc = nn.BatchNorm1d(4), nn.Linear(4, 3)
        self.seen: list[tuple[bool, bool]] = []

    def train(self, mode: bool = True) -> Frozen:
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, x: Any) -> Any:
        self.seen.append((self.training, self.norm.training))
        return self.fc(self.norm(x))


def test_a_train_method_of_ones_own_is_followed(rng: np.random.Generator) -> None:
    model = Frozen()
    model.compile("sgd")
    model.fit(uniform(rng, 32, 4), np.arange(32) % 3, verbose=0)
    assert model.seen[-1] == (True, False)
    assert_same_bits(model.norm.running_mean.numpy(), np.zeros(4, np.float32))
    model.predict(uniform(rng, 2, 4))
    assert model.seen[-1] == (False, False)
    assert flags(model) == [True, True, True]  # as they were made


def test_callbacks_see_the_model_as_its_owner_built_it(rng: np.random.Generator) -> None:
    x, y = uniform(rng, 33, 4), np.arange(33) % 3
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Softmax(dim=1)).eval()
    model.compile("sgd", metrics=["accuracy"])
    seen: list[Any] = []

    class Look:
        def look(self, *_: Any) -> None:
            twin = pickle.loads(pickle.dumps(copy.deepcopy(model)))
            seen.append((flags(model), flags(twin)))
            for one in (model, twin):
                assert np.allclose(one(fc.Tensor(x)).detach().numpy().sum(axis=1), 1, atol=1e-5)

        on_train_begin = on_epoch_begin = on_batch_end = on_epoch_end = on_train_end = look

    model.fit(x, y, epochs=2, batch_size=16, verbose=0, callbacks=[Look()], validation_split=0.2)
    assert seen
    assert all(a == b == [False] * 4 for a, b in seen)


def test_modes_are_a_threads_own_while_they_are() -> None:
    layer = nn.Dropout()
    with own_modes():
        layer.eval()
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lambda: layer.training).result()
        assert not layer.training
        assert copy.deepcopy(layer).training
        with own_modes():
            layer.train()
        assert not layer.training
        with stored_modes():
            assert layer.training
    assert layer.training


def test_pickles_from_before_and_after(rng: np.random.Generator) -> None:
    layer = nn.Dropout().eval()
    assert vars(layer)["training"] is False
    assert pickle.loads(pickle.dumps(layer)).training is False
    restored = nn.Dropout.__new__(nn.Dropout)
    restored.__dict__.update({"training": False, "p": 0.5, "inplace": False})
    assert not restored.training


def test_one_recording_in_two_modes(rng: np.random.Generator) -> None:
    """Threads with modes of their own share a recording; neither gets the other's."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    x, recorded = fc.Tensor(uniform(rng, 3, 4)), fc.record(model)
    with fc.no_grad():
        want = model.eval()(x).numpy()
    model.train()
    with ThreadPoolExecutor(2) as pool:

        def evaluating(_: int) -> np.ndarray:
            with own_modes():
                model.eval()
                return np.array(recorded(x))

        def training(_: int) -> bool:
            y = np.array(recorded(x))
            return bool(np.isin(y, [0]).any() or not np.array_equal(y, want))

        rows = [pool.submit(evaluating, i) for i in range(40)]
        drops = [pool.submit(training, i) for i in range(40)]
        for row in rows:
            assert_same_bits(row.result(), want)
        assert sum(drop.result() for drop in drops) > 30


def test_copies_made_while_the_first_steps_are_taken(rng: np.random.Generator) -> None:
    """The optimiser's memory and the history grow meanwhile."""
    x, y, done = uniform(rng, 40, 6), np.arange(40) % 3, threading.Event()
    model = nn.Sequential(*(nn.Linear(6, 6) for _ in range(30)), nn.Linear(6, 3))

    def copies() -> None:
        while not done.is_set():
            pickle.loads(pickle.dumps(model))
            copy.deepcopy(model)

    model.compile("adam", metrics=["accuracy"])
    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(copies) for _ in range(3)]
        for _ in range(30):
            model.compile("adam", metrics=["accuracy"])
            model.fit(x, y, epochs=2, batch_size=20, verbose=0)
        done.set()
        for other in others:
            other.result()
    optimizer = optim.Adam(model.parameters())
    assert optimizer.__getstate__()["state"] is not optimizer.state
    assert model.history.__getstate__()["history"] is not model.history.history
