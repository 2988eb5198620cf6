"""Batch norm (training, evaluation, running statistics), local response norm, their gradients."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import _core
from tests import reference
from tests.reference import f64
from tests.support import (
    array,
    assert_close,
    assert_same_bits,
    batch_layout,
    dirty_arena,
    empty_lanes,
    numpy,
    uniform,
)

SHAPES = [
    (2, 1),
    (3, 5),
    (17, 5),
    (16, 3, 4, 4),
    (33, 7, 3, 5),
    (2, 19, 8, 8),
    (17, 4, 6),
    (1, 2, 3, 3),
]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def statistics(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    C = shape[1]
    weight, bias, mean = uniform(rng, C), uniform(rng, C), uniform(rng, C)
    return weight, bias, mean, uniform(rng, C) + np.float32(2)


@every_shape
def test_train(shape: tuple[int, ...], layout: str, isa: str, rng: np.random.Generator) -> None:
    """y, the running statistics, and that the empty lanes count nowhere."""
    x = uniform(rng, *shape) + np.float32(0.5)
    weight, bias, old_mean, old_var = statistics(shape, rng)
    a = array(x, layout)
    if layout == "lanes":
        empty_lanes(a)[...] = 1e3
    running_mean, running_var = array(old_mean), array(old_var)
    y, mean, inv_std, kept = _core.batch_norm_train(
        a, array(weight), array(bias), running_mean, running_var, 0.1, 1e-3
    )
    true_mean, true_var = reference.batch_statistics(x)
    length = x.size // shape[1]
    assert _core.layout(y) == _core.layout(kept) == batch_layout(layout, shape[0])
    assert_close(numpy(mean), true_mean, length)
    # Compared as variances: 1 / sqrt(var + 1e-3) would magnify an error of eps up to 16,000 times.
    assert_close(numpy(inv_std) ** -2.0, true_var + 1e-3, length, c=8)
    expected = reference.batch_norm(x, weight, bias, true_mean, true_var, 1e-3)
    assert_close(numpy(y), expected, length, c=8, scale=float(np.max(1 / (true_var + 1e-3))))
    unbiased = true_var * length / max(length - 1, 1)
    assert_close(numpy(running_mean), f64(old_mean) + 0.1 * (true_mean - old_mean), length)
    assert_close(numpy(running_var), f64(old_var) + 0.1 * (unbiased - old_var), length, c=4)


@pytest.mark.parametrize("activation", ["relu", "relu6", None])
@pytest.mark.parametrize("with_plus", [False, True], ids=["", "plus"])
@every_shape
def test_what_comes_behind_in_the_same_pass(
    shape: tuple[int, ...],
    with_plus: bool,
    activation: _core.Activation,
    layout: str,
    isa: str,
    rng: np.random.Generator,
) -> None:
    """The same bits as addition and ReLU (or ReLU6) by themselves, forward and backward."""
    x, dy = array(uniform(rng, *shape), layout), array(uniform(rng, *shape), layout)
    weight, bias, mean, var = map(array, statistics(shape, rng))
    weight = array(10 * numpy(weight))  # so that six is passed
    plus = array(uniform(rng, *shape), layout) if with_plus else None
    relu = {None: lambda a: a, "relu": _core.relu, "relu6": _core.relu6}[activation]

    def behind(y: _core.Array) -> _core.Array:
        return relu(y if plus is None else _core.add(y, plus))

    got, _ = _core.batch_norm_eval(x, weight, bias, mean, var, 1e-3, activation, plus)
    assert_same_bits(
        numpy(got), numpy(behind(_core.batch_norm_eval(x, weight, bias, mean, var, 1e-3)[0]))
    )
    plain, centre, inv_std, _ = _core.batch_norm_train(x, weight, bias, None, None, 0.1, 1e-3)
    dirty_arena()
    y, *_ = _core.batch_norm_train(x, weight, bias, None, None, 0.1, 1e-3, activation, plus)
    assert_same_bits(numpy(y), numpy(behind(plain)))

    gates = {"relu": _core.relu_backward, "relu6": _core.relu6_backward}
    masked = gates[activation](dy, y) if activation else dy
    expected = _core.batch_norm_train_backward(masked, x, weight, bias, centre, inv_std)[:3]
    # Without a sum before it, the ReLU is known from x and bias as well as from its result.
    for known_by in [y] if with_plus else [y, None]:
        dirty_arena()
        result = None if activation is None else known_by
        *got_grads, dplus = _core.batch_norm_train_backward(
            dy, x, weight, bias, centre, inv_std, result, activation, with_plus
        )
        for one, other in zip(got_grads, expected, strict=True):
            assert_same_bits(numpy(one), numpy(other))
        if with_plus:
            assert_same_bits(numpy(dplus), numpy(masked))
            assert layout != "lanes" or not empty_lanes(dplus).any()


@every_shape
def test_train_backward(
    shape: tuple[int, ...], layout: str, isa: str, rng: np.random.Generator
) -> None:
    x, dy = uniform(rng, *shape), uniform(rng, *shape)
    weight, bias, *_ = statistics(shape, rng)
    a = array(x, layout)
    if layout == "lanes":
        empty_lanes(a)[...] = 1e3
    _, mean, inv_std, _ = _core.batch_norm_train(
        a, array(weight), array(bias), None, None, 0.1, 1e-2
    )
    dirty_arena()
    dx, dw, db, _ = _core.batch_norm_train_backward(
        array(dy, layout), a, array(weight), None, mean, inv_std
    )
    true_mean, true_var = reference.batch_statistics(x)
    expected = reference.batch_norm_backward(
        dy, x, weight, true_mean, true_var, 1e-2, training=True
    )
    length, scale = x.size // shape[1], float(np.max(1 / (true_var + 1e-2)))
    assert _core.layout(dx) == layout
    assert_close(numpy(dx), expected[0], length, c=8, scale=scale)
    assert_close(numpy(dw), expected[1], length, c=8, scale=scale)
    assert_close(numpy(db), expected[2], length)
    if layout == "lanes":
        assert not empty_lanes(dx).any()


@every_shape
def test_eval(shape: tuple[int, ...], layout: str, isa: str, rng: np.random.Generator) -> None:
    x, dy = uniform(rng, *shape), uniform(rng, *shape)
    weight, bias, mean, var = statistics(shape, rng)
    a, vectors = array(x, layout), [array(v) for v in (weight, bias, mean, var)]
    if layout == "lanes":
        empty_lanes(a)[...] = 1e3
    y, kept = _core.batch_norm_eval(a, *vectors, 1e-5)
    assert _core.layout(y) == _core.layout(kept) == batch_layout(layout, shape[0])
    assert_close(numpy(y), reference.batch_norm(x, weight, bias, mean, var, 1e-5), 4)
    dx, dw, db = _core.batch_norm_eval_backward(
        array(dy, layout), a, vectors[0], vectors[2], vectors[3], 1e-5
    )
    expected = reference.batch_norm_backward(dy, x, weight, mean, var, 1e-5, training=False)
    length = x.size // shape[1]
    for actual, right in zip((dx, dw, db), expected, strict=True):
        assert_close(numpy(actual), right, length, c=4)
    if layout == "lanes":
        assert not empty_lanes(dx).any()


def test_without_weight_and_bias(layout: str, isa: str, rng: np.random.Generator) -> None:
    """None means 1 and 0."""
    x, dy = uniform(rng, 17, 3, 4, 5), uniform(rng, 17, 3, 4, 5)
    one, zero = np.ones(3), np.zeros(3)
    mean, var = reference.batch_statistics(x)
    y, m, s, _ = _core.batch_norm_train(array(x, layout), None, None, None, None, 0.1, 1e-5)
    assert_close(numpy(y), reference.batch_norm(x, one, zero, mean, var, 1e-5), x.size // 3)
    dx, dw, _, _ = _core.batch_norm_train_backward(
        array(dy, layout), array(x, layout), None, None, m, s
    )
    expected = reference.batch_norm_backward(dy, x, one, mean, var, 1e-5, training=True)
    assert_close(numpy(dx), expected[0], x.size // 3)
    assert_close(numpy(dw), expected[1], x.size // 3, c=4)


def test_large_offset_keeps_the_variance(layout: str, isa: str, rng: np.random.Generator) -> None:
    """A mean a thousand times the spread: E[x^2] - E[x]^2 in float32 would give nonsense."""
    x = uniform(rng, 33, 2, 8, 8) + np.float32(1000)
    _, _, inv_std, _ = _core.batch_norm_train(array(x, layout), None, None, None, None, 0.1, 1e-5)
    _, var = reference.batch_statistics(x)
    np.testing.assert_allclose(numpy(inv_std), 1 / np.sqrt(var + 1e-5), rtol=1e-3)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 11])
@pytest.mark.parametrize(
    "shape", [(1, 1, 2, 2), (17, 7, 3, 4), (16, 24, 5, 5), (3, 5, 9, 1)], ids=str
)
def test_local_response_norm(
    shape: tuple[int, ...], size: int, layout: str, isa: str, rng: np.random.Generator
) -> None:
    """AlexNet's (2012) constants beside strong ones, for which the neighbours matter."""
    x, dy = uniform(rng, *shape) * np.float32(3), uniform(rng, *shape)
    for alpha, beta, k in ((1e-4, 0.75, 2.0), (0.9, 0.6, 1.0)):
        a = array(x, layout)
        y, kept = _core.local_response_norm(a, size, alpha, beta, k)
        assert _core.layout(y) == _core.layout(kept) == batch_layout(layout, shape[0])
        assert_close(numpy(y), reference.local_response_norm(x, size, alpha, beta, k), size, c=8)
        dirty_arena()
        dx = _core.local_response_norm_backward(array(dy, layout), a, size, alpha, beta, k)
        expected = reference.local_response_norm_backward(dy, x, size, alpha, beta, k)
        assert_close(numpy(dx), expected, size, c=16)
        if layout == "lanes":
            assert not empty_lanes(dx).any()
