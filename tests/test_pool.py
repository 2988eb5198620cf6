"""Pooling: maximum (ties, NaN, -inf, padding), average, adaptive average; forward and backward."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from fastconv import _core
from tests import reference
from tests.reference import Pads, Pair
from tests.support import (
    array,
    assert_close,
    assert_same_bits,
    batch_layout,
    dirty_arena,
    empty_lanes,
    integers,
    numpy,
    uniform,
)

INF, NAN = math.inf, math.nan


@dataclass(frozen=True)
class Pool:
    name: str
    x: tuple[int, int, int, int]
    kernel: Pair
    stride: Pair
    pads: Pads = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    ceil: bool = False

    @property
    def windows(self) -> _core.Pooling:
        return _core.Pooling(self.kernel, self.stride, self.pads, self.dilation, self.ceil)


POOLS = [
    Pool("lenet", (33, 6, 24, 24), (2, 2), (2, 2)),
    Pool("one_pixel", (1, 1, 1, 1), (1, 1), (1, 1)),
    Pool("batch_1", (1, 5, 7, 9), (3, 2), (2, 2)),
    Pool("rest_unread", (17, 3, 7, 7), (2, 2), (2, 2)),
    Pool("overlapping", (16, 2, 9, 9), (3, 3), (2, 2), (1, 1, 1, 1)),
    Pool("rectangular", (17, 2, 8, 11), (2, 3), (3, 1), (1, 1, 0, 1)),
    Pool("ceil", (17, 2, 8, 7), (3, 3), (2, 2), (0, 0, 0, 0), (1, 1), True),
    Pool("ceil_last_window_dropped", (3, 2, 2, 2), (1, 1), (2, 2), (0, 0, 0, 0), (1, 1), True),
    Pool("ceil_padded", (17, 2, 6, 6), (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), True),
    Pool("dilated", (17, 2, 9, 8), (2, 3), (1, 2), (1, 1, 1, 1), (3, 2)),
    Pool("whole_image", (16, 3, 5, 4), (5, 4), (5, 4)),
    Pool("stride_over_kernel", (4, 2, 9, 9), (2, 2), (4, 3)),
]
every_pool = pytest.mark.parametrize("pool", POOLS, ids=lambda pool: pool.name)
AVERAGED = [pool for pool in POOLS if pool.dilation == (1, 1)]


def max_pool(x: _core.Array, pool: Pool, relu: bool = False) -> tuple[_core.Array, _core.Array]:
    return _core.max_pool2d(x, pool.windows, relu)


def check_max_pool(x: np.ndarray, pool: Pool, layout: str) -> None:
    """Values, taps, indices and gradient of one case: all exact, for a maximum rounds nothing."""
    y, argmax = max_pool(array(x, layout), pool)
    expected, tap, pixel = reference.max_pool2d(
        x, pool.kernel, pool.stride, pool.pads, pool.dilation, pool.ceil
    )
    expected_layout = batch_layout(layout, len(x))
    assert (_core.layout(y), y.shape, argmax.dtype) == (expected_layout, expected.shape, "uint16")
    np.testing.assert_array_equal(numpy(y), expected)
    np.testing.assert_array_equal(numpy(argmax), tap)
    dirty_arena()
    maxima, _ = _core.max_pool2d(array(x, layout), pool.windows, with_indices=False)
    assert_same_bits(numpy(maxima), numpy(y))
    indices = _core.max_pool2d_indices(argmax, x.shape, pool.windows)
    assert (indices.dtype, _core.layout(indices)) == ("int64", "plain")
    np.testing.assert_array_equal(numpy(indices), pixel)
    dy = integers(np.random.default_rng(2), *expected.shape)
    dx = _core.max_pool2d_backward(array(dy, layout), argmax, None, x.shape, pool.windows)
    assert _core.layout(dx) == layout
    np.testing.assert_array_equal(numpy(dx), reference.max_pool2d_backward(dy, pixel, x.shape))
    if layout == "lanes":
        assert not empty_lanes(dx).any()


@every_pool
def test_max_pool(pool: Pool, layout: str, isa: str, rng: np.random.Generator) -> None:
    check_max_pool(uniform(rng, *pool.x), pool, layout)


@every_pool
def test_max_pool_ties(pool: Pool, layout: str, isa: str, rng: np.random.Generator) -> None:
    """Few distinct values: the first of equal maxima is taken, and gets the whole gradient."""
    check_max_pool(integers(rng, *pool.x, high=1), pool, layout)


@every_pool
def test_max_pool_nan_and_infinity(
    pool: Pool, layout: str, isa: str, rng: np.random.Generator
) -> None:
    """The first NaN of a window wins; windows all -inf still point inside the image."""
    odd = np.array([NAN, -INF, INF, 0.0, 1.0], np.float32)
    check_max_pool(rng.choice(odd, pool.x, p=[0.1, 0.5, 0.1, 0.2, 0.1]), pool, layout)
    check_max_pool(np.full(pool.x, -INF, np.float32), pool, layout)
    check_max_pool(np.full(pool.x, NAN, np.float32), pool, layout)


def test_max_pool_nan_is_the_same_for_any_channel_count(layout: str, isa: str) -> None:
    pool = Pool("", (1, 1, 4, 4), (2, 2), (2, 2))
    for channels in (1, 3, 17):
        x = np.zeros((2, channels, 4, 4), np.float32)
        x[:, :, 1, 1], x[:, :, 0, 1] = NAN, 5
        y, argmax = max_pool(array(x, layout), pool)
        assert np.isnan(numpy(y)[:, :, 0, 0]).all() and (numpy(argmax)[:, :, 0, 0] == 3).all()


def test_max_pool_window_on_padding_only(layout: str, isa: str) -> None:
    """A dilated window can miss the image altogether: -inf, and no gradient leaves the image."""
    x = np.ones((17, 2, 2, 2), np.float32)
    windows = _core.Pooling((2, 2), (1, 1), (1, 1, 1, 1), (3, 3), False)
    assert windows.misses_pixels
    y, argmax = _core.max_pool2d(array(x, layout), windows)
    assert windows.output_shape(x.shape) == y.shape
    assert y.shape == (17, 2, 1, 1)
    assert (numpy(y) == -INF).all()
    indices = numpy(_core.max_pool2d_indices(argmax, x.shape, windows))
    assert ((indices >= 0) & (indices < 4)).all()
    dx = _core.max_pool2d_backward(y, argmax, None, x.shape, windows)
    assert dx.shape == x.shape
    for with_indices in (False, True):  # a ReLU before it makes no difference
        y, _ = _core.max_pool2d(array(x, layout), windows, True, with_indices)
        assert (numpy(y) == -INF).all()


@every_pool
def test_max_pool_with_relu(pool: Pool, layout: str, isa: str, rng: np.random.Generator) -> None:
    x = uniform(rng, *pool.x) - np.float32(0.5)
    y, argmax = max_pool(array(x, layout), pool, relu=True)
    expected, _, pixel = reference.max_pool2d(
        x, pool.kernel, pool.stride, pool.pads, pool.dilation, pool.ceil
    )
    np.testing.assert_array_equal(numpy(y), np.maximum(expected, 0))
    dy = integers(rng, *expected.shape)
    dx = _core.max_pool2d_backward(array(dy, layout), argmax, y, x.shape, pool.windows)
    passed = np.where(expected > 0, dy, 0)
    np.testing.assert_array_equal(numpy(dx), reference.max_pool2d_backward(passed, pixel, x.shape))


@pytest.mark.parametrize("include_pad", [True, False])
@pytest.mark.parametrize("divisor", [0, 3])
@pytest.mark.parametrize("pool", AVERAGED, ids=lambda pool: pool.name)
def test_avg_pool(
    pool: Pool, include_pad: bool, divisor: int, layout: str, isa: str, rng: np.random.Generator
) -> None:
    x = uniform(rng, *pool.x)
    window = (pool.kernel, pool.stride, pool.pads, pool.ceil, include_pad, divisor)
    weights = reference.avg_pool2d_weights(pool.x[2:], *window)
    length = math.prod(pool.kernel)
    y = _core.avg_pool2d_forward(array(x, layout), *window)
    assert _core.layout(y) == batch_layout(layout, len(x))
    assert_close(numpy(y), reference.resample(x, weights), length)
    dy = uniform(rng, *y.shape)
    dx = _core.avg_pool2d_backward(array(dy, layout), x.shape, *window)
    assert _core.layout(dx) == layout
    assert_close(numpy(dx), reference.resample_backward(dy, weights, x.shape), length)
    if layout == "lanes":
        assert not empty_lanes(dx).any()


@pytest.mark.parametrize("out", [(1, 1), (3, 4), (7, 6), (9, 2), (13, 13)], ids=str)
@pytest.mark.parametrize("shape", [(1, 3, 7, 6), (17, 5, 7, 6), (33, 2, 12, 13)], ids=str)
def test_adaptive_avg_pool(
    shape: tuple[int, int, int, int], out: Pair, layout: str, isa: str, rng: np.random.Generator
) -> None:
    x = uniform(rng, *shape)
    weights = reference.adaptive_avg_pool2d_weights(shape[2:], out)
    y = _core.adaptive_avg_pool2d_forward(array(x, layout), out)
    assert (_core.layout(y), y.shape) == (batch_layout(layout, shape[0]), (*shape[:2], *out))
    assert_close(numpy(y), reference.resample(x, weights), math.prod(shape[2:]))
    dy = uniform(rng, *y.shape)
    dx = _core.adaptive_avg_pool2d_backward(array(dy, layout), shape)
    assert_close(numpy(dx), reference.resample_backward(dy, weights, shape), math.prod(out))
    if layout == "lanes":
        assert not empty_lanes(dx).any()


def test_gradients_are_written_whole(layout: str, isa: str, rng: np.random.Generator) -> None:
    """Pixels no window reads get zero, whatever the memory held before."""
    pool = Pool("", (17, 3, 7, 7), (2, 2), (3, 3))
    x = uniform(rng, *pool.x)
    y, argmax = max_pool(array(x, layout), pool)
    dy = array(uniform(rng, *y.shape), layout)
    window = (pool.kernel, pool.stride, pool.pads)
    dirty_arena()
    dx = _core.max_pool2d_backward(dy, argmax, None, x.shape, pool.windows)
    da = _core.avg_pool2d_backward(dy, x.shape, *window, False, True, 0)
    for gradient in (numpy(dx), numpy(da)):
        assert np.isfinite(gradient).all()
        assert not gradient[:, :, 2].any() and not gradient[:, :, :, 5].any()


@pytest.mark.parametrize("op", ["max", "avg", "adaptive"])
def test_empty_batch(op: str, layout: str) -> None:
    x = array(np.zeros((0, 3, 6, 6), np.float32), layout)
    if op == "max":
        y, _ = max_pool(x, POOLS[0])
    elif op == "avg":
        y = _core.avg_pool2d_forward(x, (2, 2), (2, 2), (0, 0, 0, 0), False, True, 0)
    else:
        y = _core.adaptive_avg_pool2d_forward(x, (3, 3))
    assert y.shape == (0, 3, 3, 3)
