"""Memory: none asked of the system in a steady training step, no leaks, no reads past the end."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv import _core, models, nn, optim
from fastconv import functional as F
from tests.operations import OPERATIONS
from tests.support import array, run_python, uniform


def training_step() -> Callable[[], None]:
    """A step of LeNet-5 on 64 images."""
    fc.manual_seed(0)
    model = models.lenet5()
    step = optim.Adam(model.parameters())
    criterion = nn.CrossEntropyLoss()
    x = uniform(np.random.default_rng(0), 64, 1, 28, 28)
    labels = fc.Tensor(np.arange(64) % 10)

    def train() -> None:
        step.zero_grad()
        criterion(model(fc.Tensor(x)), labels).backward()
        step.step()

    return train


def test_training_step_allocates_nothing_new() -> None:
    fc.set_num_threads(1)
    train = training_step()
    train()
    train()  # the first step still held nothing when it made its gradients
    before = _core.arena_stats()
    for _ in range(10):
        train()
    after = _core.arena_stats()
    assert after["system_allocations"] == before["system_allocations"]
    assert after["bytes_in_use"] == before["bytes_in_use"], "the graph of a step goes with its loss"


def test_threads_allocate_only_until_each_has_its_scratch() -> None:
    """How many scratch buffers are in use at once is a matter of timing, but bounded."""
    fc.set_num_threads(3)
    train = training_step()
    for _ in range(10):
        train()
    before = _core.arena_stats()["system_allocations"]
    for _ in range(40):
        train()
    assert _core.arena_stats()["system_allocations"] - before < 10


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_do_not_grow(name: str, layout: str) -> None:
    fc.set_num_threads(1)
    rng = np.random.default_rng(0)

    def once() -> None:
        OPERATIONS[name](lambda *shape: array(uniform(rng, *shape), layout))

    once()
    once()
    gc.collect()
    before = _core.arena_stats()
    for _ in range(3):
        once()
    after = _core.arena_stats()
    assert after["bytes_in_use"] == before["bytes_in_use"]
    assert after["system_allocations"] == before["system_allocations"]


def test_graphs_are_freed_without_the_collector() -> None:
    """No reference cycles: memory comes back when the loss goes, not when gc runs."""
    x = fc.Tensor(np.ones((64, 100), np.float32), requires_grad=True)
    gc.collect()
    gc.disable()
    try:
        before = _core.arena_stats()["bytes_in_use"]
        loss = (F.relu(x * 2) + x).sum()
        assert _core.arena_stats()["bytes_in_use"] > before
        del loss
        assert _core.arena_stats()["bytes_in_use"] == before
    finally:
        gc.enable()


def test_cached_memory_can_be_given_back() -> None:
    _core.arena_release_cached()
    before = _core.arena_stats()["bytes_cached"]  # parts of pages in use, if any
    del [_core.zeros((size,)) for size in (1 << 10, 1 << 20, 1 << 22) for _ in range(4)][:]
    assert _core.arena_stats()["bytes_cached"] > before
    _core.arena_release_cached()
    assert _core.arena_stats()["bytes_cached"] == before


def test_large_blocks_are_cut_and_joined() -> None:
    """What held one large array holds several smaller ones, and a large one again."""
    _core.arena_release_cached()
    whole = _core.zeros((12 << 20,))
    before = _core.arena_stats()
    for _ in range(3):
        del whole
        parts = [_core.zeros((2 << 20,)) for _ in range(5)]
        addresses = [part.address for part in parts]
        assert min(np.diff(sorted(addresses))) >= 4 * (2 << 20), "they do not overlap"
        del parts[3], parts[1], parts[::2], parts
        whole = _core.zeros((12 << 20,))
    assert whole.shape == (12 << 20,)
    assert _core.arena_stats()["system_allocations"] == before["system_allocations"]


HOLES = """
from fastconv import _core

MB = 1 << 18  # floats
sizes = (24, 5, 8, 5, 12, 5)
large, _, fitting, _, other, _ = blocks = [_core.zeros((size * MB - 16,)) for size in sizes]
place = fitting.address
del large, fitting, other, blocks[::2]
print(_core.zeros((8 * MB - 16,)).address == place)
"""


def test_a_block_goes_where_it_leaves_least() -> None:
    done = run_python(HOLES)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n"


def test_large_blocks_keep_what_was_written() -> None:
    """Blocks of many sizes, taken, freed and given back in random order."""
    rng = np.random.default_rng(0)
    held: list[tuple[_core.Array, float, int]] = []
    for i in range(300):
        if held and (len(held) == 8 or rng.random() < 0.5):
            block, value, size = held.pop(rng.integers(len(held)))
            ends = block.numpy()[[0, 1, size // 2, size - 2, size - 1]]
            assert (ends == value).all() and block.shape == (size,)
            del block
        else:
            size = int(rng.integers(1 << 20, 6 << 20))
            held.append((_core.full((size,), float(i)), float(i), size))
        if i % 50 == 49:
            _core.arena_release_cached()


IDLE = """
from fastconv import _core

MB = 1 << 18  # floats
idle = [_core.zeros((2 * MB,)) for _ in range(90)]  # 200 MB, each in a block of 2.25
del idle
large = _core.zeros((80 * MB,))
del large
before = _core.arena_stats()
held = []
for _ in range(36):  # 117 MB more than 1.5 * 200 + 64 after the twenty-fifth
    held.append(_core.zeros((3 * MB,)))
    large = _core.zeros((80 * MB,))
    del large
after = _core.arena_stats()
print(after["system_allocations"] - before["system_allocations"])
print((before["bytes_cached"] - after["bytes_cached"]) >> 20)
"""


def test_what_is_idle_longest_goes_back_first() -> None:
    """A large block used again and again stays; small ones that nobody uses make room."""
    done = run_python(IDLE)
    assert done.returncode == 0, done.stderr
    asked, given_back = map(int, done.stdout.split())
    assert asked == 36, "only what is held is new"
    assert 20 <= given_back <= 60


GROWING = """
import os, resource
import numpy as np
import fastconv as fc
from fastconv import _core

limit = int(os.environ.get("LIMIT", 0))
if limit:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
MB = 1 << 18  # floats
low = _core.zeros((8 * MB,))
for size in (10, 15, 20, 30, 45):
    block = _core.full((size * MB,), 1.0)
    assert block.numpy().sum() == size * MB and low.numpy().sum() == 0
    del block
stats = _core.arena_stats()
print((stats["bytes_in_use"] + stats["bytes_cached"]) >> 20)
_core.arena_release_cached()
print(_core.arena_stats()["bytes_cached"] >> 20)
x = np.ones((64, 8, 96, 96), np.float32)
y = fc.functional.conv2d(x, np.ones((8, 8, 1, 1), np.float32))
assert (y == 8).all()
if limit:
    try:
        _core.zeros((limit // 4,))
    except MemoryError:
        print("refused")
    assert (fc.functional.relu(y) == 8).all()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pages are joined where mmap can place them")
def test_a_larger_block_begins_in_the_free_memory_before_it() -> None:
    """Blocks of 10 to 45 MB, one after the other, take 45 MB in all, not 120."""
    done = run_python(GROWING)
    assert done.returncode == 0, done.stderr
    held, cached = map(int, done.stdout.split())
    assert held <= 8 + 45 + 4
    assert cached <= 2, "whole pages of free memory go back to the system"


@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit to the address space")
def test_a_limited_address_space_is_enough() -> None:
    """As under `ulimit -v`: nothing is reserved that is not used, and too much is refused."""
    done = run_python(GROWING, LIMIT=str(3 << 30))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[2] == "refused"


def test_out_of_memory_is_an_exception() -> None:
    """A size that fits 63 bits but no machine; the process goes on."""
    with pytest.raises(MemoryError):
        _core.zeros((1 << 50,))
    assert _core.zeros((4,)).numpy().sum() == 0


GUARDED = """
import ctypes, mmap, sys
import numpy as np
from fastconv import _core
from tests.operations import OPERATIONS

PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
maps = []
rng = np.random.default_rng(0)

def guarded(*shape):
    "An array between two pages that may not be touched, close to the one or to the other."
    count = int(np.prod(shape))
    pages = -(-count * 4 // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    maps.append(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    at = PAGE if len(maps) % 2 else (pages + 1) * PAGE - count * 4
    x = np.frombuffer(memory, np.float32, count, at).reshape(shape)
    x[...] = rng.uniform(-1, 1, shape)
    for edge in (start, start + (pages + 1) * PAGE):
        assert libc.mprotect(edge, PAGE, 0) == 0
    a = _core.array(x, copy=False)
    assert a.address == x.ctypes.data
    return a

import tests.operations
tests.operations.weight = guarded
for isa in _core.available_isas():
    _core.set_isa(isa)
    for threads in (1, 2):
        _core.set_num_threads(threads)
        for n in (1, 17, 37):
            tests.operations.N, tests.operations.LABELS = n, np.arange(n) % 6
            for name, operation in OPERATIONS.items():
                print(isa, n, name, flush=True)
                if n == 37 or name not in ("conversion", "movement"):
                    operation(guarded)
print("untouched")
"""


def test_operands_are_not_read_past_their_ends() -> None:
    """Operands between two forbidden pages: one float too far kills the process."""
    done = run_python(
        "import faulthandler; faulthandler.enable()\n" + GUARDED, cwd=Path(__file__).parents[1]
    )
    assert done.returncode == 0, done.stdout[-200:] + done.stderr[-2000:]
    assert done.stdout.endswith("untouched\n")
