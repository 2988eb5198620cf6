"""A convolution with the ReLU and the max pooling behind it, in one operation."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import Tensor, _core, nn
from fastconv.errors import ShapeError
from tests import reference
from tests.shapes import Conv, geometry, same
from tests.support import (
    array,
    assert_close,
    assert_same_bits,
    dirty_arena,
    empty_lanes,
    numpy,
)
from tests.test_conv2d import problem

POOL_2X2 = _core.Pooling((2, 2), (2, 2), (0, 0, 0, 0), (1, 1), False)
POOL_2X2_CEIL = _core.Pooling((2, 2), (2, 2), (0, 0, 0, 0), (1, 1), True)
POOL_3X3 = _core.Pooling((3, 3), (2, 2), (1, 1, 1, 1), (1, 1), True)

# Large enough to go through block by block, with and without empty lanes; too small as a whole, too
# few blocks, a block too large for it; few samples; blocks with their channels cut. 2x2 maxima
# taken in registers and their gradients alone: with padding, rows that no window reaches, channels
# that fill no tile, and where only the way there goes so.
CASES = [
    (Conv("lenet_1", (128, 1, 28, 28), 6, (5, 5), pads=same(2)), POOL_2X2),
    (Conv("winograd", (130, 16, 15, 15), 24, pads=same(1)), POOL_3X3),
    (Conv("winograd_tiles_in_turn", (78, 32, 13, 13), 64), POOL_2X2),
    (Conv("grouped_strided", (180, 8, 30, 20), 12, stride=(2, 1), groups=4), POOL_2X2),
    (Conv("relu_only", (129, 5, 20, 20), 12, pads=same(1)), None),
    (Conv("small", (70, 6, 14, 14), 16, (5, 5)), POOL_2X2),
    (Conv("one_block", (16, 3, 10, 10), 8), POOL_2X2),
    (Conv("large", (64, 2, 40, 40), 24, (1, 1)), POOL_2X2),
    (Conv("few", (3, 4, 8, 8), 5), POOL_2X2),
    (Conv("cut", (66, 3, 26, 26), 41), POOL_2X2),
    (Conv("cut_relu_only", (65, 2, 30, 31), 26, (5, 5), stride=(1, 2)), None),
    (Conv("large_but_cut", (64, 3, 34, 34), 40), POOL_3X3),
    (Conv("maxima_3x3", (35, 2, 11, 9), 7, pads=same(1)), POOL_2X2),
    (Conv("maxima_5x5", (17, 5, 12, 15), 9, (5, 5), pads=(3, 0, 1, 4)), POOL_2X2),
    (Conv("maxima_of_wide_padding", (16, 1, 3, 4), 1, (5, 5), pads=same(5)), POOL_2X2),
    (Conv("maxima_ceil", (20, 3, 10, 10), 4), POOL_2X2_CEIL),
    (Conv("maxima_ceil_outside", (20, 3, 9, 10), 4), POOL_2X2_CEIL),
    (Conv("maxima_strided", (33, 3, 17, 20), 8, stride=(2, 1), pads=same(2)), POOL_2X2),
    (Conv("maxima_dilated", (18, 2, 14, 13), 5, dilation=(2, 3), pads=same(3)), POOL_2X2),
    (Conv("maxima_in_bands", (20, 3, 101, 90), 13, pads=same(1)), POOL_2X2),
    (Conv("maxima_in_bands_5x5", (17, 4, 84, 121), 6, (5, 5), pads=(2, 3, 0, 1)), POOL_2X2),
    (Conv("maxima_4x2", (19, 4, 9, 12), 6, (4, 2), pads=(0, 2, 1, 0)), POOL_2X2),
]
every_case = pytest.mark.parametrize(("case", "pool"), CASES, ids=[c.name for c, _ in CASES])


def forward(
    case: Conv, pool: Any, activation: _core.Activation = "relu"
) -> tuple[_core.Array, _core.Array]:
    """y and the positions of the maxima."""
    p = problem(case)
    x, w, b = array(p.x, "lanes"), array(p.w), array(p.b)
    return _core.conv2d(x, w, b, geometry(case), activation, pool, True)[:2]


def upstream(y: _core.Array) -> Any:
    return np.random.default_rng(7).standard_normal(y.shape).astype(np.float32)


def backward(
    case: Conv,
    pool: Any,
    wanted: tuple[bool, bool, bool] = (True, True, True),
    activation: _core.Activation = "relu",
) -> Any:
    p = problem(case)
    y, argmax = forward(case, pool, activation)
    return _core.conv2d_backward(
        array(upstream(y), "lanes"),
        y,
        None if pool is None else argmax,
        array(p.x, "lanes") if wanted[1] else None,
        case.x,
        array(p.w),
        geometry(case),
        activation,
        pool,
        wanted,
    )


def passed(y: Any, activation: _core.Activation) -> Any:
    """Where an activation with the result y lets a gradient through."""
    return (y > 0) & (y < 6) if activation == "relu6" else y > 0


@pytest.mark.parametrize("activation", ["relu", "relu6"])
@every_case
def test_against_one_after_the_other(
    case: Conv, pool: Any, activation: _core.Activation, isa: str
) -> None:
    """Forward and every gradient against the separate operations and the float64 oracle."""
    p, top = problem(case), 6 if activation == "relu6" else np.inf
    arrays = array(p.x, "lanes"), array(p.w), array(p.b), geometry(case)
    conv, *_ = _core.conv2d(*arrays, activation if pool is None else None)
    dirty_arena()
    y, argmax = forward(case, pool, activation)
    conv_dy = upstream(y)
    if pool is None:
        assert_same_bits(numpy(y), numpy(conv))
        conv_dy = np.where(passed(numpy(y), activation), conv_dy, 0)
    else:
        pooled, _ = _core.max_pool2d(conv, pool, True)
        # A block by itself may be cut, and so rounded, in another way than the whole batch.
        expected = np.minimum(numpy(pooled), top).astype(np.float64)
        assert_close(numpy(y), expected, prod(case.w[1:]) + 1, c=2.0)
        at = numpy(_core.max_pool2d_indices(argmax, conv.shape, pool))
        there = np.take_along_axis(
            numpy(conv).reshape(*conv.shape[:2], -1), at.reshape(*at.shape[:2], -1), axis=2
        )
        largest = np.clip(there.reshape(at.shape), 0, top).astype(np.float64)
        assert_close(numpy(y), largest, prod(case.w[1:]) + 1, c=2.0)
        masked = np.where(passed(numpy(y), activation), conv_dy, 0).astype(np.float32)
        dirty = _core.max_pool2d_backward(array(masked, "lanes"), argmax, None, conv.shape, pool)
        conv_dy = numpy(dirty)
        assert np.isfinite(empty_lanes(y)).all()
    dirty_arena()
    dx, dw, db = backward(case, pool, activation=activation)
    w, x, g = p.w.astype(np.float64), p.x.astype(np.float64), case.geometry
    expected = reference.conv2d_backward_input(conv_dy, w, case.x, *g)
    assert_close(numpy(dx), expected, prod(case.w) // case.w[1], c=2.0)
    n = case.y[0] * prod(case.y[2:])
    assert_close(numpy(dw), reference.conv2d_backward_weight(conv_dy, x, case.w, *g), n, c=2.0)
    assert_close(numpy(db), conv_dy.astype(np.float64).sum(axis=(0, 2, 3)), n)
    assert not empty_lanes(dx).any(), "empty lanes of a gradient are zero"


@every_case
def test_same_bits_for_any_number_of_threads(case: Conv, pool: Any) -> None:
    _core.set_num_threads(1)
    expected = [numpy(forward(case, pool)[0]), *map(numpy, backward(case, pool))]
    for threads in (2, 3, 7):
        _core.set_num_threads(threads)
        got = [numpy(forward(case, pool)[0]), *map(numpy, backward(case, pool))]
        for one, other in zip(expected, got, strict=True):
            assert_same_bits(one, other)


@every_case
def test_only_what_is_wanted(case: Conv, pool: Any) -> None:
    everything = backward(case, pool)
    for i in range(3):
        wanted = (i == 0, i == 1, i == 2)
        assert_same_bits(numpy(backward(case, pool, wanted)[i]), numpy(everything[i]))


def test_nan_and_ties_are_those_of_pooling(isa: str) -> None:
    """The first NaN of a window wins, else the first of the largest."""
    case = Conv("maxima", (16, 2, 8, 8), 7)
    p = problem(case)
    x, w = p.x.copy(), np.zeros(case.w, np.float32)
    w[:3, 0, 1, 1], w[3, 1, 2, 0] = 1.0, -1.0  # one product each; then none, all are equal
    x[2, 0, 3, 3] = x[2, 0, 4, 4] = x[5, 1, 3:5, 2:5] = np.nan
    x[7, 0, 1:5, 1:5] = np.inf
    arrays = array(x, "lanes"), array(w), array(p.b), geometry(case)
    expected = _core.max_pool2d(_core.conv2d(*arrays)[0], POOL_2X2, True)
    results = _core.conv2d(*arrays, "relu", POOL_2X2, True)[:2]
    for got, one in zip(results, expected, strict=True):
        np.testing.assert_array_equal(numpy(got), numpy(one))
    assert np.isnan(numpy(expected[0])).any()
    assert not numpy(expected[1])[8, 4:].any()


@pytest.mark.parametrize(
    ("kernel", "dilation"), [((2, 2), (3, 3)), ((3, 2), (1, 3)), ((2, 3), (3, 1))]
)
@pytest.mark.parametrize("N", [1, 7, 15, 16, 17, 33, 130])
def test_windows_of_padding_alone(N: int, kernel: Any, dilation: Any, isa: str) -> None:
    """-inf, which a ReLU behind the pooling makes 0, and one before it does not."""
    x = np.random.default_rng(N).standard_normal((N, 3, 4, 4)).astype(np.float32)
    pool = nn.MaxPool2d(kernel, stride=2, padding=1, dilation=dilation)
    before = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), pool).eval()
    behind = nn.Sequential(nn.Conv2d(3, 4, 3), pool, nn.ReLU()).eval()
    for model in (before, behind):
        conv, *rest = model
        expected = conv(Tensor(x)).numpy()
        for layer in rest:
            expected = layer(Tensor(expected)).numpy()
        assert (expected == (0 if model is behind else -np.inf)).any()
        recorded = fc.record(model)
        with fc.no_grad():
            for _ in range(3):
                assert_same_bits(recorded(Tensor(x)).numpy(), expected)
        assert_same_bits(model(Tensor(x)).numpy(), expected)


def test_wrong_sizes_are_refused_before_anything_is_cut() -> None:
    case = Conv("cut", (66, 3, 26, 26), 41)
    p, behind = problem(case), ("relu", POOL_2X2)
    x, w = array(p.x, "lanes"), array(p.w)
    y, argmax = forward(case, POOL_2X2)
    with pytest.raises(ShapeError, match=r"bias must have shape \(41,\)"):
        _core.conv2d(x, w, array(p.b[:5]), geometry(case), *behind)
    fewer = _core.conv2d(x, array(p.w[:5]), None, geometry(case), *behind, True)
    good = [y, y, argmax, x]
    rest = (case.x, w, geometry(case), *behind, (False, True, True))
    for i, bad in enumerate((fewer[0], fewer[0], fewer[1], y)):
        given = [*good[:i], bad, *good[i + 1 :]]
        with pytest.raises(ShapeError, match="must have"):
            _core.conv2d_backward(*given, *rest)
    for i, refused in ((2, "argmax must be uint16"), (3, "input is None")):
        missing = [*good[:i], None, *good[i + 1 :]]
        with pytest.raises((TypeError, ValueError), match=refused):
            _core.conv2d_backward(*missing, *rest)


def test_plain_arrays_go_back_by_blocks_too() -> None:
    case = Conv("cut", (66, 3, 26, 26), 41)
    y, argmax = forward(case, POOL_2X2)
    arrays = [array(upstream(y), "lanes"), y, argmax, array(problem(case).x, "lanes")]
    rest = (case.x, array(problem(case).w), geometry(case), "relu", POOL_2X2, (True, True, True))
    plain = _core.conv2d_backward(*[a.contiguous() for a in arrays], *rest)
    for one, other in zip(plain, _core.conv2d_backward(*arrays, *rest), strict=True):
        assert_same_bits(numpy(one), numpy(other))


@pytest.mark.parametrize("pool", [None, POOL_2X2, POOL_3X3], ids=["none", "2x2", "3x3"])
@pytest.mark.parametrize("N", [3, 20, 130])
def test_relu6(N: int, pool: Any, isa: str) -> None:
    """Against the separate operations, forward and back, where many values pass six."""
    case = Conv(f"relu6_{N}", (N, 3, 20, 20), 8, pads=same(1))
    p = problem(case)
    layout = "lanes" if N >= 16 else "plain"
    x, w, b = array(9 * p.x, layout), array(p.w), array(p.b)
    conv, *_ = _core.conv2d(x, w, b, geometry(case))
    maxima = conv if pool is None else _core.max_pool2d(conv, pool)[0]
    expected = np.clip(numpy(maxima), 0, 6)
    y, argmax, kept = _core.conv2d(x, w, b, geometry(case), "relu6", pool, True)
    assert_close(numpy(y), expected.astype(np.float64), 28, c=2.0)
    assert (expected == 6).any()
    assert (expected == 0).any()
    dy = upstream(y)
    masked = array(np.where(passed(numpy(y), "relu6"), dy, 0).astype(np.float32), layout)
    if pool is not None:
        masked = _core.max_pool2d_backward(masked, argmax, None, conv.shape, pool)
    everything = (True, True, True)
    gradients = _core.conv2d_backward(
        *(array(dy, layout), y, argmax if pool else None, kept, case.x, w, geometry(case)),
        *("relu6", pool, everything),
    )
    single = _core.conv2d_backward(
        masked, None, None, kept, case.x, w, geometry(case), None, None, everything
    )
    for one, other in zip(gradients, single, strict=True):
        assert_close(numpy(one), numpy(other).astype(np.float64), N * 400, c=2.0)


def test_sequential_names_the_layer_that_does_not_fit() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(4))
    with pytest.raises(ShapeError, match=r"'2' \(MaxPool2d\): \[max_pool2d\] the window needs 4"):
        network(np.zeros((2, 1, 5, 5), np.float32))
    with pytest.raises(ShapeError, match=r"'0' \(Conv2d\): \[conv2d\] the kernel is larger"):
        network(np.zeros((2, 1, 2, 2), np.float32))
