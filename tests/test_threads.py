"""The same bits for any number of threads; forks, Python threads, how many threads there are."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import numpy as np
import pytest

import fastconv as fc
from fastconv import _core, models, nn, optim
from tests.operations import OPERATIONS, Operation
from tests.support import array, assert_same_bits, numpy, run_python, uniform

THREADS = (1, 2, 3, 7)


def bits(operation: Operation, layout: str) -> list[np.ndarray]:
    """All results on operands that are the same for every call."""
    rng = np.random.default_rng(0)
    return [
        numpy(result) for result in operation(lambda *shape: array(uniform(rng, *shape), layout))
    ]


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(name: str, layout: str, isa: str) -> None:
    """Run twice at each count: a race shows more easily, and memory is dirty the second time."""
    _core.set_num_threads(1)
    first = bits(OPERATIONS[name], layout)
    for threads in THREADS[1:] * 2:
        _core.set_num_threads(threads)
        for one, other in zip(first, bits(OPERATIONS[name], layout), strict=True):
            assert_same_bits(one, other)


def train(make: Callable[[], nn.Module], optimiser: str) -> dict[str, np.ndarray]:
    """Three epochs on 150 images, the last batch short; the trained parameters."""
    fc.manual_seed(3)
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, (150, 28, 28)).astype(np.uint8)
    model = make()
    model.compile(optimizer=optimiser, loss="sparse_categorical_crossentropy")
    model.fit(x, (np.arange(150) % 10).astype(np.uint8), epochs=3, batch_size=64, verbose=0)
    return {key: np.array(value) for key, value in model.state_dict().items()}


def regularised() -> nn.Module:
    """Batch norm, average pooling and dropout beside what the course's networks hold."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.LeakyReLU(),
        nn.AvgPool2d(4),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(8 * 49, 10),
    )


@pytest.mark.parametrize("optimiser", ["sgd", "rmsprop", "adam"])
@pytest.mark.parametrize("make", [models.lenet5, models.keras_mlp, regularised])
def test_training_run(make: Callable[[], nn.Module], optimiser: str) -> None:
    results = []
    for threads in THREADS:
        fc.set_num_threads(threads)
        results.append(train(make, optimiser))
    for other in results[1:]:
        for key, value in results[0].items():
            assert_same_bits(value, other[key])


def test_hand_written_loop_is_reproducible() -> None:
    def run(threads: int) -> list[np.ndarray]:
        fc.set_num_threads(threads)
        fc.manual_seed(0)
        model = models.lenet5()
        step = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        x = uniform(np.random.default_rng(0), 40, 1, 28, 28)
        for _ in range(3):
            step.zero_grad()
            nn.CrossEntropyLoss()(model(fc.Tensor(x)), fc.Tensor(np.arange(40) % 10)).backward()
            step.step()
        return [p.numpy().copy() for p in model.parameters()]

    for one, other in zip(run(1), run(3), strict=True):
        assert_same_bits(one, other)


def test_concurrent_python_threads() -> None:
    """Eight callers at once, also while the thread count changes: everybody gets the right bits."""
    rng = np.random.default_rng(0)
    x, w = array(uniform(rng, 33, 4, 16, 16), "lanes"), array(uniform(rng, 8, 4, 3, 3))
    geometry = ((1, 1), (1, 1, 1, 1), (1, 1), 1)
    expected = numpy(_core.conv2d_forward(x, w, None, *geometry, False))
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(30):
                assert_same_bits(
                    numpy(_core.conv2d_forward(x, w, None, *geometry, False)), expected
                )
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for threads in THREADS * 3:
        _core.set_num_threads(threads)
    for worker in workers:
        worker.join()
    assert not failures, failures[0]


def test_python_threads_have_their_own_grad_mode() -> None:
    seen: list[bool] = []
    with fc.no_grad():
        thread = threading.Thread(target=lambda: seen.append(fc.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


FORK = """
import multiprocessing, sys, numpy as np, fastconv as fc
from fastconv import functional as F
fc.set_num_threads(3)
x = np.random.default_rng(0).normal(size=(64, 4, 20, 20)).astype("f4")
w = np.ones((8, 4, 3, 3), "f4")
expected = F.conv2d(x, w).tobytes()
def work(i):
    return all(F.conv2d(x, w).tobytes() == expected for _ in range(3))
context = multiprocessing.get_context("fork")
for _ in range(3):
    with context.Pool(3) as pool:
        assert all(pool.map(work, range(6)))
    assert work(0)
print("forked", fc.get_num_threads())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_after_threads() -> None:
    """Children of a process whose pool has run get a working pool of their own; nobody hangs."""
    done = run_python(FORK, timeout=60)
    assert done.stdout.split() == ["forked", "3"], done.stderr


def test_set_num_threads() -> None:
    fc.set_num_threads(3)
    assert fc.get_num_threads() == 3
    for bad in (0, -1):
        with pytest.raises(ValueError, match=str(bad)):
            fc.set_num_threads(bad)
    for wrong in (1.5, "2", None):
        with pytest.raises(TypeError):
            fc.set_num_threads(wrong)  # type: ignore[arg-type]
    assert fc.get_num_threads() == 3


COUNT = "import fastconv; print(fastconv.get_num_threads())"


def test_num_threads_from_the_environment() -> None:
    assert run_python(COUNT, FASTCONV_NUM_THREADS="5").stdout.strip() == "5"
    assert int(run_python(COUNT).stdout) >= 1


@pytest.mark.parametrize("value", ["0", "-2", "two", "1.5", "99999999999999999999"])
def test_num_threads_wrong_in_the_environment(value: str) -> None:
    done = run_python(COUNT, FASTCONV_NUM_THREADS=value)
    assert done.returncode == 1 and not done.stdout
    assert "FASTCONV_NUM_THREADS" in done.stderr and value in done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks on this system")
def test_default_respects_the_affinity_mask() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n" + COUNT
    assert run_python(code).stdout.strip() == "1"
