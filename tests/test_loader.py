"""Batches from sources and transforms: scaling by channel, background threads, skipping."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

import fastconv as fc
from fastconv import _core, data
from fastconv.data.background import in_order
from tests.support import assert_close, assert_same_bits, run_python


class Numbers:
    """A source of pictures that show their index; every `hole`-th cannot be read."""

    def __init__(self, count: int, hole: int = 0, seconds: float = 0) -> None:
        self.targets = np.arange(count)
        self.hole, self.seconds = hole, seconds
        self.in_read = 0

    def __len__(self) -> int:
        return len(self.targets)

    def read(self, indices: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(self.seconds * rng.random())
        kept = np.array(
            [i for i, index in enumerate(indices) if not self.hole or index % self.hole], np.int64
        )
        noise = rng.integers(0, 100, (len(kept), 1, 2, 1))
        levels = np.broadcast_to(indices[kept, None, None, None], (len(kept), 3, 2, 2)) + noise
        return levels.astype(np.uint8), kept


def batches(loader: data.Loader, skip: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(x.numpy(), y) for x, y in loader.batches(skip)]


@pytest.mark.parametrize("batch", [5, 16, 23])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_scale_and_shift_by_channel(batch: int, dtype: type) -> None:
    """In lanes, and in the plain layout that few samples have; sizes that fill no vector."""
    x = np.random.default_rng(0).integers(0, 256, (23, 3, 5, 7)).astype(dtype)
    scale, shift = np.array([0.5, 2, 1]), (0.25, -1, 3)
    expected = x * scale[:, None, None] + np.array(shift)[:, None, None]
    for grad in (True, False):
        with fc.set_grad_enabled(grad):
            loader = data.Loader(x, batch_size=batch, scale=scale, shift=shift)
            assert_close(np.concatenate([b.numpy() for b, _ in loader]), expected, scale=512)
    mixed = data.Loader(x, batch_size=23, scale=2, shift=shift)
    expected = 2.0 * x + np.array(shift)[:, None, None]
    assert_close(next(iter(mixed))[0].numpy(), expected, scale=512)
    features = data.Loader(x.reshape(23, 105), batch_size=23, scale=np.arange(105) / 8)
    expected = x.reshape(23, 105) * (np.arange(105) / 8)
    if dtype is np.float32:
        assert_close(next(iter(features))[0].numpy(), expected, scale=4096)


@pytest.mark.parametrize(
    ("batch", "size", "grad", "lanes"),
    [
        *((7, 9, True, False), (8, 9, True, True), (15, 9, False, False), (16, 9, False, True)),
        *((11, 19, True, False), (12, 19, True, True), (8, 18, True, True)),
    ],
)
def test_layout_of_small_batches(batch: int, size: int, grad: bool, lanes: bool) -> None:
    """Small batches of large images are quicker plain, and stay so behind the first layer."""
    x = np.random.default_rng(0).standard_normal((batch, 3, size, size)).astype(np.float32)
    conv = fc.nn.Sequential(fc.nn.Conv2d(3, 4, 3, stride=4), fc.nn.BatchNorm2d(4), fc.nn.ReLU())
    expected = "lanes" if lanes else "plain"
    with fc.set_grad_enabled(grad):
        (loaded, _), *_ = data.Loader(x, batch_size=batch)
        for images in (loaded, fc.Tensor(x)):
            assert _core.layout(conv(images)._array) == expected
        assert _core.layout(fc.functional.max_pool2d(conv(loaded), 2)._array) == expected
    assert _core.layout(loaded._array) == expected


@pytest.mark.parametrize("values", [np.ones(2), np.ones((3, 1)), np.ones(0)])
def test_scale_must_fit_the_channels(values: np.ndarray) -> None:
    for name in ("scale", "shift"):
        with pytest.raises(fc.ShapeError, match=rf"{name} has shape.*3 channels"):
            data.Loader(np.zeros((4, 3, 2, 2), np.uint8), **{name: values})


def test_the_core_checks_scale_and_shift() -> None:
    x, order = np.ones((4, 3, 2, 2), np.uint8), np.arange(4)
    with pytest.raises(fc.ShapeError, match=r"2 values.*channel.*\(4, 3, 2, 2\)"):
        _core.gather_batch(x, order, np.ones(2), 0.0)
    with pytest.raises(fc.ShapeError, match="2 and 3 values"):
        _core.gather_batch(x, order, np.ones(2), np.ones(3))
    with pytest.raises(fc.ShapeError, match="0 and"):
        _core.gather_batch(x, order, np.ones(0), 0.0)
    np.testing.assert_array_equal(
        _core.gather_batch(x, order, 2, [1.0, 2.0, 3.0]).numpy()[:, :, 0, 0], [[3, 4, 5]] * 4
    )


def test_source() -> None:
    """Everything in order and once, what cannot be read left out together with its target."""
    loader = data.Loader(Numbers(50), batch_size=8, scale=1)
    assert len(loader) == 7 and loader.samples == 50
    assert np.concatenate([y for _, y in loader]).tolist() == list(range(50))
    for x, y in data.Loader(Numbers(50, hole=3), batch_size=8, shuffle=True, scale=1):
        assert x.shape == (len(y), 3, 2, 2) and (y % 3 != 0).all()
        level = x.numpy()[:, :, 0, 0] - y[:, None]
        assert (level == level[:, :1]).all() and level.max() < 100
    only_holes = data.Loader(Numbers(50, hole=1), batch_size=8)
    with pytest.raises(fc.CorruptFileError, match="none of 50"):
        list(only_holes)
    with pytest.raises(fc.CorruptFileError, match="none of 50"):
        only_holes.sample()
    assert data.Loader(Numbers(9, hole=2), batch_size=4).sample(3).shape == (3, 3, 2, 2)
    own = data.Loader(Numbers(5), np.arange(5) * 2, batch_size=5)
    assert next(iter(own))[1].tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("kind", ["arrays", "transform", "source"])
def test_skipping_is_exact(kind: str) -> None:
    x = np.random.default_rng(0).integers(0, 256, (50, 8, 8)).astype(np.uint8)
    transform = [data.RandomShift(2), data.RandomErasing()] if kind == "transform" else None
    loader = data.Loader(
        Numbers(50) if kind == "source" else x, batch_size=7, shuffle=True, transform=transform
    )
    fc.manual_seed(3)
    whole = [batches(loader) for _ in range(2)]
    for skip in (1, 4, 7, 8):
        fc.manual_seed(3)
        rest = batches(loader, skip)
        assert len(rest) == 8 - skip
        for (a, t), (b, u) in zip(whole[0][skip:], rest, strict=True):
            assert_same_bits(a, b)
            assert_same_bits(t, u)
        for (a, _), (b, _) in zip(whole[1], batches(loader), strict=True):
            assert_same_bits(a, b)  # the pass that follows is the same too
    for skip in (-1, 9):
        with pytest.raises(ValueError, match="0 to 8"):
            loader.batches(skip)


def test_order_holds_when_threads_finish_out_of_order() -> None:
    first = batches(data.Loader(Numbers(64, seconds=0.01), batch_size=4))
    assert np.concatenate([y for _, y in first]).tolist() == list(range(64))
    made = list(in_order(lambda i: time.sleep(0.002 * (i % 5)) or i, 3, 40, threads=7, ahead=9))
    assert made == list(range(3, 40))
    assert list(in_order(lambda i: i, 0, 0, threads=2, ahead=2)) == []


def test_no_more_is_made_than_ahead() -> None:
    made: list[int] = []
    ready = in_order(lambda i: made.append(i), 0, 100, threads=3, ahead=4)
    next(ready)
    time.sleep(0.05)
    assert len(made) <= 6
    ready.close()


def test_errors_come_in_their_turn() -> None:
    def make(i: int) -> int:
        if i == 5:
            raise ZeroDivisionError("the sixth")
        return i

    ready = in_order(make, 0, 50, threads=4, ahead=8)
    assert [next(ready) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ZeroDivisionError, match="the sixth"):
        next(ready)


def test_threads_end_with_the_iteration() -> None:
    before = threading.active_count()
    for _ in data.Loader(Numbers(1000), batch_size=4):
        assert threading.active_count() > before
        break
    assert threading.active_count() == before
    passed = iter(data.Loader(Numbers(1000), batch_size=4))
    next(passed)
    del passed
    assert threading.active_count() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_gets_an_error_not_a_deadlock() -> None:
    code = (
        "import os, numpy as np, signal\n"
        "from fastconv import data\n"
        "x = np.zeros((100, 4, 4), np.uint8)\n"
        "loader = data.Loader(x, batch_size=4, transform=data.RandomShift(1))\n"
        "going = iter(loader)\n"
        "next(going)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    signal.alarm(30)\n"
        "    try: next(going)\n"
        "    except RuntimeError as error: print('forked' in str(error), flush=True)\n"
        "    print(len(list(loader)), flush=True)\n"
        "    os._exit(0)\n"
        "status = os.waitpid(child, 0)[1]\n"
        "print(status, 1 + len(list(going)))\n"
    )
    done = run_python(f"import warnings; warnings.simplefilter('ignore')\n{code}")
    assert done.stdout.split() == ["True", "25", "0", "25"], done.stderr


def test_a_program_may_end_within_a_pass() -> None:
    code = (
        "import numpy as np\n"
        "from fastconv import data\n"
        "x = np.zeros((10000, 40, 40), np.uint8)\n"
        "going = iter(data.Loader(x, batch_size=4, transform=data.RandomShift(1)))\n"
        "next(going)\n"
        "print('done')\n"
    )
    done = run_python(code, timeout=30)
    assert done.stdout == "done\n" and not done.stderr and not done.returncode


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_while_waiting_for_a_batch() -> None:
    class Slow(Numbers):
        def read(self, indices: np.ndarray, rng: np.random.Generator) -> tuple:
            time.sleep(0.3)
            return super().read(indices, rng)

    before = threading.active_count()
    timer = threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        list(data.Loader(Slow(100), batch_size=2))
    timer.join()
    assert threading.active_count() == before
