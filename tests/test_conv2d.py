"""Direct convolution, all three passes: every named case on every instruction set and layout.

tests/test_winograd.py does the same for the other algorithm.
"""

from __future__ import annotations

from functools import cache
from math import prod
from types import SimpleNamespace
from zlib import crc32

import numpy as np
import pytest

import fastconv
from fastconv import _core
from tests import reference
from tests.shapes import CONVS, CONVS_SHORT, Conv, geometry, in_layout
from tests.support import (
    FIXED_WIDTH_ISAS,
    LAYOUTS,
    array,
    assert_close,
    assert_same_bits,
    dirty_arena,
    empty_lanes,
    integers,
    numpy,
    uniform,
)

every_case = pytest.mark.parametrize("case", CONVS, ids=lambda case: case.name)
some_cases = pytest.mark.parametrize("case", CONVS_SHORT, ids=lambda case: case.name)


@pytest.fixture(autouse=True)
def direct(runtime_restored: None) -> None:
    """The direct sum for every shape; test_winograd.py has the other way."""
    fastconv.set_algorithm("direct")


@cache
def problem(case: Conv) -> SimpleNamespace:
    """Operands of a case and the oracle's answers, made once for all instruction sets."""
    rng = np.random.default_rng(crc32(case.name.encode()))
    x, w, b, dy = (uniform(rng, *shape) for shape in (case.x, case.w, (case.OC,), case.y))
    return SimpleNamespace(
        x=x,
        w=w,
        b=b,
        dy=dy,
        y=reference.conv2d(x, w, None, *case.geometry),
        dx=reference.conv2d_backward_input(dy, w, case.x, *case.geometry),
        dw=reference.conv2d_backward_weight(dy, x, case.w, *case.geometry),
    )


@every_case
def test_forward(case: Conv, layout: str, isa: str) -> None:
    case = in_layout(case, layout)
    p, K = problem(case), prod(case.w[1:])
    x, w, b = array(p.x, layout), array(p.w), array(p.b)
    assert geometry(case).output_shape(case.x, case.w) == case.y
    y = _core.conv2d(x, w, None, geometry(case))[0]
    assert (_core.layout(y), y.shape, y.dtype) == (layout, case.y, "float32")
    assert_close(numpy(y), p.y, K)
    biased = p.y + p.b[:, None, None]
    assert_close(numpy(_core.conv2d(x, w, b, geometry(case))[0]), biased, K + 1)
    rectified = np.maximum(biased, 0)
    assert_close(numpy(_core.conv2d(x, w, b, geometry(case), "relu")[0]), rectified, K + 1)


@every_case
def test_normalised_on_the_way(case: Conv, layout: str, isa: str) -> None:
    """Batch normalisation, shortcut and ReLU6 behind a convolution, in one operation."""
    case = in_layout(case, layout)
    p, K, rng = problem(case), prod(case.w[1:]), np.random.default_rng(0)
    weight, bias, mean = (uniform(rng, case.OC) for _ in range(3))
    var, plus = (rng.uniform(0.5, 2, case.OC)).astype(np.float32), uniform(rng, *case.y)
    operands = array(p.x, layout), array(p.w)
    statistics = *map(array, (weight, bias, mean, var)), 1e-3

    def normalised(y: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        scale = np.float64(weight) / np.sqrt(np.float64(var) + 1e-3)
        return (y - mean[:, None, None]) * scale[:, None, None] + bias[:, None, None]

    dirty_arena()
    y = _core.conv2d_normalised(*operands, None, geometry(case), *statistics)
    assert (_core.layout(y), y.shape) == (layout, case.y)
    assert_close(numpy(y), normalised(p.y, weight, bias), K + 2, c=2)
    y = _core.conv2d_normalised(*operands, None, geometry(case), None, None, *statistics[2:])
    assert_close(numpy(y), normalised(p.y, np.ones_like(weight), np.zeros_like(bias)), K + 2, c=2)
    y = _core.conv2d_normalised(
        *operands, array(p.b), geometry(case), *statistics, "relu6", array(plus, layout)
    )
    expected = normalised(p.y + p.b[:, None, None], weight, bias) + plus
    assert_close(numpy(y), np.clip(expected, 0, 6), K + 4, c=2)


@every_case
def test_backward_input(case: Conv, layout: str, isa: str) -> None:
    case = in_layout(case, layout)
    p = problem(case)
    dx = _core.conv2d_backward_input(array(p.dy, layout), array(p.w), case.x, geometry(case))
    assert dx.shape == case.x
    # Plain stays plain, but for padding beyond the kernel.
    if layout == "lanes":
        assert _core.layout(dx) == "lanes"
    elif case.name in ("batch_15", "mobilenet_depthwise_down", "resnet_bottleneck"):
        assert _core.layout(dx) == "plain"
    assert_close(numpy(dx), p.dx, case.OC // case.groups * prod(case.kernel))
    if _core.layout(dx) == "lanes":
        assert not empty_lanes(dx).any(), "empty lanes of a gradient are zero"


@every_case
def test_backward_weight(case: Conv, layout: str, isa: str) -> None:
    case = in_layout(case, layout)
    p = problem(case)
    dw = _core.conv2d_backward_weight(
        array(p.dy, layout), array(p.x, layout), case.w, geometry(case)
    )
    assert (_core.layout(dw), dw.shape) == ("plain", case.w)
    assert_close(numpy(dw), p.dw, case.y[0] * prod(case.y[2:]))


@some_cases
def test_mixed_layouts(case: Conv, isa: str) -> None:
    """A gradient in lanes meets a plain input, and the other way round."""
    p = problem(case)
    for one, other in (LAYOUTS, LAYOUTS[::-1]):
        dw = _core.conv2d_backward_weight(
            array(p.dy, one), array(p.x, other), case.w, geometry(case)
        )
        assert_close(numpy(dw), p.dw, case.y[0] * prod(case.y[2:]))


@some_cases
def test_outputs_are_written_whole(case: Conv, layout: str, isa: str) -> None:
    """Freed memory full of NaN must not shine through, not even into empty lanes."""
    case = in_layout(case, layout)
    p = problem(case)
    x, w, dy = array(p.x, layout), array(p.w), array(p.dy, layout)
    for _ in range(2):
        dirty_arena()
        y = _core.conv2d(x, w, None, geometry(case))[0]
        dx = _core.conv2d_backward_input(dy, w, case.x, geometry(case))
        dw = _core.conv2d_backward_weight(dy, x, case.w, geometry(case))
        assert_close(numpy(y), p.y, prod(case.w[1:]))
        if layout == "lanes":
            assert np.isfinite(empty_lanes(y)).all()
        assert_close(numpy(dx), p.dx, case.OC // case.groups * prod(case.kernel))
        if _core.layout(dx) == "lanes":
            assert not empty_lanes(dx).any()
        assert_close(numpy(dw), p.dw, case.y[0] * prod(case.y[2:]))


@some_cases
def test_empty_lanes_do_not_count(case: Conv, isa: str) -> None:
    """Whatever finite values stand in the empty lanes of an activation, results do not see them."""
    p = problem(case)
    x, dy = array(p.x, "lanes"), array(p.dy, "lanes")
    empty_lanes(x)[...] = 1e30
    y = _core.conv2d(x, array(p.w), None, geometry(case))[0]
    assert_close(numpy(y), p.y, prod(case.w[1:]))
    dw = _core.conv2d_backward_weight(dy, x, case.w, geometry(case))
    assert_close(numpy(dw), p.dw, case.y[0] * prod(case.y[2:]))


@some_cases
def test_whole_numbers_are_exact(case: Conv, layout: str, isa: str) -> None:
    """Integers whose sums stay below 2^24 are exact in any order, so every bit must be right."""
    case = in_layout(case, layout)
    rng = np.random.default_rng(1)
    x, w, dy = (integers(rng, *shape) for shape in (case.x, case.w, case.y))
    g = case.geometry
    y = _core.conv2d(array(x, layout), array(w), None, _core.Geometry(*g))[0]
    np.testing.assert_array_equal(numpy(y), reference.conv2d(x, w, None, *g))
    dx = _core.conv2d_backward_input(array(dy, layout), array(w), case.x, _core.Geometry(*g))
    np.testing.assert_array_equal(numpy(dx), reference.conv2d_backward_input(dy, w, case.x, *g))
    dw = _core.conv2d_backward_weight(
        array(dy, layout), array(x, layout), case.w, _core.Geometry(*g)
    )
    np.testing.assert_array_equal(numpy(dw), reference.conv2d_backward_weight(dy, x, case.w, *g))


@pytest.mark.skipif(len(FIXED_WIDTH_ISAS) < 2, reason="this CPU has only one of avx2 and avx512")
@some_cases
def test_avx2_and_avx512_agree_to_the_bit(case: Conv) -> None:
    p, results = problem(case), []
    for name in FIXED_WIDTH_ISAS:
        _core.set_isa(name)
        x, w, dy = array(p.x, "lanes"), array(p.w), array(p.dy, "lanes")
        results.append(
            (
                numpy(_core.conv2d(x, w, array(p.b), geometry(case), "relu")[0]),
                numpy(_core.conv2d_backward_input(dy, w, case.x, geometry(case))),
                numpy(_core.conv2d_backward_weight(dy, x, case.w, geometry(case))),
            )
        )
    for one, other in zip(*results, strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize("groups", [1, 2])
def test_not_finite_values_reach_exactly_their_windows(layout: str, isa: str, groups: int) -> None:
    """NaN and infinity spread to the outputs that see them, also by zero weights, no further."""
    x = np.zeros((17, 2, 7, 8), np.float32)
    x[3, 1, 2, 5] = np.nan
    x[16, 0, 6, 0] = np.inf
    geometry = ((1, 1), (1, 1, 1, 1), (1, 1), groups)
    w = np.zeros((2, 2 // groups, 3, 3), np.float32)
    y = numpy(_core.conv2d(array(x, layout), array(w), None, _core.Geometry(*geometry))[0])
    with np.errstate(invalid="ignore"):
        expected = reference.conv2d(x, w, None, *geometry)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    assert np.isnan(y).sum() == (2 if groups == 1 else 1) * (9 + 4)


def test_relu_keeps_nan(layout: str, isa: str) -> None:
    x = np.full((17, 1, 3, 3), np.nan, np.float32)
    w = np.ones((2, 1, 1, 1), np.float32)
    operands = array(x, layout), array(w), None, _core.Geometry((1, 1), (0, 0, 0, 0), (1, 1), 1)
    for activation in ("relu", "relu6"):
        assert np.isnan(numpy(_core.conv2d(*operands, activation)[0])).all()
    statistics = None, None, _core.zeros((2,)), _core.full((2,), 1.0), 0.0
    y = _core.conv2d_normalised(*operands, *statistics, "relu6")
    assert np.isnan(numpy(y)).all()


def test_empty_batch(layout: str) -> None:
    g = _core.Geometry((1, 1), (1, 1, 1, 1), (1, 1), 1)
    x = array(np.zeros((0, 3, 5, 6), np.float32), layout)
    w = array(np.ones((4, 3, 3, 3), np.float32))
    y = _core.conv2d(x, w, None, g)[0]
    assert y.shape == (0, 4, 5, 6)
    assert _core.conv2d_backward_input(y, w, x.shape, g).shape == (0, 3, 5, 6)
    dw = _core.conv2d_backward_weight(y, x, w.shape, g)
    assert dw.shape == w.shape and not numpy(dw).any()


def test_stride_far_beyond_the_image(layout: str) -> None:
    """One output; the square of the stride is no 64-bit number."""
    case = Conv("far_stride", (17, 16, 6, 7), 18, stride=(2**40, 2**40), pads=(1,) * 4)
    p = problem(case)
    x, w, dy = array(p.x, layout), array(p.w), array(p.dy, layout)
    assert_close(numpy(_core.conv2d(x, w, None, geometry(case))[0]), p.y, 9 * 16)
    dx = _core.conv2d_backward_input(dy, w, case.x, geometry(case))
    assert_close(numpy(dx), p.dx, 9 * 18)
    dw = _core.conv2d_backward_weight(dy, x, case.w, geometry(case))
    assert_close(numpy(dw), p.dw, 17)
