"""The same bits for any number of threads; forks, Python threads, how many threads there are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

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
    geometry = _core.Geometry((1, 1), (1, 1, 1, 1), (1, 1), 1)
    expected = numpy(_core.conv2d(x, w, None, geometry)[0])
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(30):
                assert_same_bits(numpy(_core.conv2d(x, w, None, geometry)[0]), expected)
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


REFUSED = """
import os, resource, signal, sys
import numpy as np
import fastconv as fc
from fastconv import functional as F

x, w = np.ones((64, 4, 20, 20), "f4"), np.ones((8, 4, 3, 3), "f4")
fc.set_num_threads(1)
for _ in range(3):
    one = F.conv2d(x, w)
spare = [fc.ones(1 << 20) for _ in range(8)]  # scratch memory for all, which stays cached
del spare
mask, tasks = signal.pthread_sigmask(signal.SIG_BLOCK, []), len(os.listdir("/proc/self/task"))
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (size + (int(sys.argv[1]) << 20), hard))
fc.set_num_threads(8)
for _ in range(3):
    many = F.conv2d(x, w)
assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask, "signals stay blocked"
assert len(os.listdir("/proc/self/task")) < tasks + 7, "the system had room for all threads"
assert (one == many).all()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
@pytest.mark.parametrize("room", [6, 22])
def test_threads_that_the_system_refuses(room: int) -> None:
    """A stack takes 8 MB: with room for none, or for two, those that there are compute."""
    done = run_python(f"import sys; sys.argv[1:] = ['{room}']\n{REFUSED}")
    assert done.returncode == 0, done.stderr


FAILING_NEW = """
#include <cstdlib>
#include <new>
extern "C" {
int failing_new = 0;  // which call from now on fails
}
void* operator new(std::size_t n) {
  if (failing_new > 0 && --failing_new == 0) throw std::bad_alloc();
  if (void* p = std::malloc(n ? n : 1)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
"""
NO_MEMORY = """
import ctypes, signal, sys
import numpy as np
import fastconv as fc
from fastconv import _core
x = _core.to_lanes(_core.array(np.ones((64, 4, 20, 20), "f4")))
w = _core.array(np.ones((8, 4, 3, 3), "f4"))
geometry = _core.Geometry((1, 1), (0, 0, 0, 0), (1, 1), 1)
conv = lambda: _core.conv2d(x, w, None, geometry)[0]
fc.set_num_threads(1)
one, mask = np.array(conv().contiguous().numpy()), signal.pthread_sigmask(signal.SIG_BLOCK, [])
countdown, failed = ctypes.c_int.in_dll(ctypes.CDLL(sys.argv[1]), "failing_new"), 0
for call in range(1, 160):
    fc.set_num_threads(2 + call % 3)
    countdown.value = call
    try:
        y = conv()
    except MemoryError:
        failed += 1
        y = None
    countdown.value = 0
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask, f"call {call}"
    y = conv() if y is None else y
    assert (np.array(y.contiguous().numpy()) == one).all()
assert failed > 0
"""


@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("c++") is None, reason="needs a compiler and LD_PRELOAD"
)
def test_memory_that_fails_while_threads_are_made(tmp_path: Path) -> None:
    """Each allocation of an operation in turn: an error or the result, and signals as they were."""
    source, library = tmp_path / "new.cpp", tmp_path / "new.so"
    source.write_text(FAILING_NEW)
    subprocess.run(["c++", "-shared", "-fPIC", "-O1", source, "-o", library], check=True)
    done = run_python(
        f"import sys; sys.argv[1:] = [{str(library)!r}]\n{NO_MEMORY}", LD_PRELOAD=str(library)
    )
    assert done.returncode == 0, done.stderr


BUSY = """
import sys, threading, time
import numpy as np
import fastconv as fc
from fastconv import functional as F, models, nn

def function():
    x, w = np.ones((64, 4, 20, 20), "f4"), np.ones((8, 4, 3, 3), "f4")
    return lambda: F.conv2d(x, w)

def arrays():  # whose memory is NumPy's, given back in whichever thread
    return lambda: F.relu(fc.Tensor(np.ones((64, 4, 20, 20), "f4"))).numpy()

def recorded():
    model = fc.record(nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU()).eval())
    x = fc.Tensor(np.ones((64, 4, 20, 20), "f4"))
    return lambda: model(x)

def fit():
    model = models.lenet5()
    model.compile("adam")
    x, y = np.zeros((4000, 28, 28), "u1"), np.arange(4000) % 10
    return lambda: model.fit(x, y, epochs=50, verbose=0)

def busy():
    call = globals()[sys.argv[1]]()
    while True:
        call()

for _ in range(1 if sys.argv[1] == "fit" else 4):
    threading.Thread(target=busy, daemon=True).start()
time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize("what", ["function", "arrays", "recorded", "fit"])
def test_exit_with_busy_daemon_threads(what: str) -> None:
    """A program that ends while threads compute ends well."""
    for i in range(4):
        done = run_python(f"import sys; sys.argv[1:] = ['{what}', '{0.2 + 0.05 * i}']\n{BUSY}")
        assert (done.returncode, done.stderr) == (0, "")
