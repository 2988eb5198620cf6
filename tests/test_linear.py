"""Dense layers: y = x w^T + b and its gradients, in lanes and for few samples."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import _core
from tests import reference
from tests.support import (
    FIXED_WIDTH_ISAS,
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

# (N, I, O): one of everything, tails on every side, the course's networks, more than one panel;
# weights, and gradients of them, that no cache holds.
SHAPES = [
    (1, 1, 1),
    (1, 784, 10),
    (2, 3, 5),
    (3, 17, 33),
    (7, 31, 9),
    (15, 64, 16),
    (16, 16, 16),
    (17, 5, 1),
    (33, 84, 10),
    (40, 400, 120),
    (48, 129, 65),
    (128, 784, 96),
    (1, 520, 300),
    (5, 1030, 47),
    (9, 21, 1),
    (16, 100, 130),
    (34, 2057, 1025),
    (4, 2064, 3072),
]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))


def operands(shape: tuple[int, int, int], rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    N, I, O = shape
    return uniform(rng, N, I), uniform(rng, O, I), uniform(rng, O), uniform(rng, N, O)


def forward(x: _core.Array, w: _core.Array, b: _core.Array | None, relu: bool) -> _core.Array:
    return _core.linear(x, w, b, "relu" if relu else None)[0]


@every_shape
def test_forward(
    shape: tuple[int, int, int], layout: str, isa: str, rng: np.random.Generator
) -> None:
    x, w, b, _ = operands(shape, rng)
    y = forward(array(x, layout), array(w), None, False)
    assert (_core.layout(y), y.shape) == (batch_layout(layout, shape[0]), (shape[0], shape[2]))
    assert_close(numpy(y), reference.linear(x, w), shape[1])
    y = forward(array(x, layout), array(w), array(b), False)
    assert_close(numpy(y), reference.linear(x, w, b), shape[1] + 1)
    y = forward(array(x, layout), array(w), array(b), True)
    assert_close(numpy(y), np.maximum(reference.linear(x, w, b), 0), shape[1] + 1)


@every_shape
def test_backward(
    shape: tuple[int, int, int], layout: str, isa: str, rng: np.random.Generator
) -> None:
    x, w, _, dy = operands(shape, rng)
    dx = _core.linear_backward_input(array(dy, layout), array(w))
    assert (_core.layout(dx), dx.shape) == (layout, x.shape)
    assert_close(numpy(dx), reference.f64(dy) @ reference.f64(w), shape[2])
    if layout == "lanes":
        assert not empty_lanes(dx).any()
    dw = _core.linear_backward_weight(array(dy, layout), array(x, layout))
    assert (_core.layout(dw), dw.shape) == ("plain", w.shape)
    assert_close(numpy(dw), reference.f64(dy).T @ reference.f64(x), shape[0])
    db = _core.channel_sum(array(dy, layout))
    assert_close(numpy(db), reference.f64(dy).sum(0), shape[0])


@pytest.mark.parametrize("shape", [(0, 5, 3), (0, 2057, 1025)], ids=["small", "large"])
def test_empty_batch_by_input(shape: tuple[int, int, int], layout: str) -> None:
    N, I, O = shape
    dy, w = np.zeros((N, O), np.float32), np.zeros((O, I), np.float32)
    dx = _core.linear_backward_input(array(dy, layout), array(w))
    assert (_core.layout(dx), dx.shape) == (layout, (N, I))


def test_mixed_layouts(isa: str, rng: np.random.Generator) -> None:
    x, _, _, dy = operands((17, 19, 5), rng)
    expected = reference.f64(dy).T @ reference.f64(x)
    for one, other in (("plain", "lanes"), ("lanes", "plain")):
        dw = _core.linear_backward_weight(array(dy, one), array(x, other))
        assert_close(numpy(dw), expected, 17)


def test_whole_numbers_are_exact(layout: str, isa: str, rng: np.random.Generator) -> None:
    x, w, dy = integers(rng, 35, 130), integers(rng, 70, 130), integers(rng, 35, 70)
    y = forward(array(x, layout), array(w), None, False)
    np.testing.assert_array_equal(numpy(y), x @ w.T)
    dx = _core.linear_backward_input(array(dy, layout), array(w))
    np.testing.assert_array_equal(numpy(dx), dy @ w)
    dw = _core.linear_backward_weight(array(dy, layout), array(x, layout))
    np.testing.assert_array_equal(numpy(dw), dy.T @ x)


def test_outputs_are_written_whole(layout: str, isa: str, rng: np.random.Generator) -> None:
    x, w, b, dy = operands((19, 37, 21), rng)
    arrays = array(x, layout), array(w), array(b), array(dy, layout)
    dirty_arena()
    y = forward(*arrays[:3], False)
    dx = _core.linear_backward_input(arrays[3], arrays[1])
    dw = _core.linear_backward_weight(arrays[3], arrays[0])
    assert_close(numpy(y), reference.linear(x, w, b), 38)
    assert_close(numpy(dx), reference.f64(dy) @ reference.f64(w), 21)
    assert_close(numpy(dw), reference.f64(dy).T @ reference.f64(x), 19)
    if layout == "lanes":
        assert np.isfinite(empty_lanes(y)).all() and not empty_lanes(dx).any()


def test_empty_lanes_do_not_count(isa: str, rng: np.random.Generator) -> None:
    x, _, _, dy = operands((19, 37, 21), rng)
    lanes = array(x, "lanes")
    empty_lanes(lanes)[...] = 1e30
    dw = _core.linear_backward_weight(array(dy, "lanes"), lanes)
    assert_close(numpy(dw), reference.f64(dy).T @ reference.f64(x), 19)


@pytest.mark.skipif(len(FIXED_WIDTH_ISAS) < 2, reason="this CPU has only one of avx2 and avx512")
@every_shape
def test_avx2_and_avx512_agree_to_the_bit(
    shape: tuple[int, int, int], layout: str, rng: np.random.Generator
) -> None:
    x, w, b, dy = operands(shape, rng)
    results = []
    for name in FIXED_WIDTH_ISAS:
        _core.set_isa(name)
        results.append(
            (
                numpy(_core.linear(array(x, layout), array(w), array(b), "relu")[0]),
                numpy(_core.linear_backward_input(array(dy, layout), array(w))),
                numpy(_core.linear_backward_weight(array(dy, layout), array(x, layout))),
            )
        )
    for one, other in zip(*results, strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize(
    "shape", [(1, 1), (17, 5), (16, 3, 4), (33, 6, 5, 7), (2, 19, 3, 3)], ids=str
)
def test_channel_sum(
    shape: tuple[int, ...], layout: str, isa: str, rng: np.random.Generator
) -> None:
    dy = uniform(rng, *shape)
    axes = (0, *range(2, dy.ndim))
    db = _core.channel_sum(array(dy, layout))
    assert (_core.layout(db), db.shape) == ("plain", shape[1:2])
    assert_close(numpy(db), reference.f64(dy).sum(axis=axes), dy.size // shape[1])


def test_empty_batch(layout: str) -> None:
    x, w = array(np.zeros((0, 5), np.float32), layout), array(np.ones((3, 5), np.float32))
    y = forward(x, w, None, False)
    assert y.shape == (0, 3)
    assert _core.linear_backward_input(y, w).shape == (0, 5)
    dw = numpy(_core.linear_backward_weight(y, x))
    assert dw.shape == (3, 5) and not dw.any()
    assert not numpy(_core.channel_sum(y)).any()
