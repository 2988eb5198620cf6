"""Gradients against their definition.

Linear operations: the adjoint identity <dy, f(x)> = <f^T(dy), x>, on the kernels themselves, over
random shapes. The others: central differences on the float64 oracle, which the kernels are compared
with in their own test files.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv import _core
from tests import reference
from tests.reference import f64
from tests.shapes import Conv, geometry
from tests.strategies import BATCHES, SEEDS, convs, generator
from tests.support import EPS, LAYOUTS, array, numpy, uniform

layouts = st.sampled_from(LAYOUTS)


def dot(a: Any, b: Any) -> float:
    return float((f64(a) * f64(b)).sum())


def assert_adjoint(x: Any, y: Any, dy: Any, dx: Any, length: int) -> None:
    """<dy, y> = <dx, x> up to the rounding of sums of `length` terms, each at most 1."""
    bound = EPS * length * (np.sqrt(np.size(y)) + np.sqrt(np.size(x)))
    assert abs(dot(dy, y) - dot(dx, x)) <= bound


@given(convs(), layouts, SEEDS)
def test_conv2d(case: Conv, layout: str, seed: int) -> None:
    rng = generator(seed)
    x, w, dy = uniform(rng, *case.x), uniform(rng, *case.w), uniform(rng, *case.y)
    y = numpy(_core.conv2d(array(x, layout), array(w), None, geometry(case))[0])
    dx = numpy(_core.conv2d_backward_input(array(dy, layout), array(w), case.x, geometry(case)))
    dw = numpy(
        _core.conv2d_backward_weight(array(dy, layout), array(x, layout), case.w, geometry(case))
    )
    assert_adjoint(x, y, dy, dx, prod(case.w))
    assert_adjoint(w, y, dy, dw, case.y[0] * prod(case.y[2:]) + prod(case.w[1:]))


@given(BATCHES, st.integers(1, 200), st.integers(1, 200), layouts, SEEDS)
def test_linear(N: int, I: int, O: int, layout: str, seed: int) -> None:
    rng = generator(seed)
    x, w, dy = uniform(rng, N, I), uniform(rng, O, I), uniform(rng, N, O)
    y = numpy(_core.linear(array(x, layout), array(w), None)[0])
    assert_adjoint(x, y, dy, numpy(_core.linear_backward_input(array(dy, layout), array(w))), I + O)
    dw = numpy(_core.linear_backward_weight(array(dy, layout), array(x, layout)))
    assert_adjoint(w, y, dy, dw, I + N)


Forward = Callable[[_core.Array], _core.Array]
Backward = Callable[[_core.Array], _core.Array]


def check(
    shape: tuple[int, ...],
    layout: str,
    seed: int,
    forward: Forward,
    backward: Backward,
    length: int,
) -> None:
    rng = generator(seed)
    x = uniform(rng, *shape)
    y = numpy(forward(array(x, layout)))
    dy = uniform(rng, *y.shape)
    assert_adjoint(x, y, dy, numpy(backward(array(dy, layout))), length)


images = st.tuples(BATCHES, st.integers(1, 5), st.integers(1, 12), st.integers(1, 12))


@given(images, st.data(), layouts, SEEDS, st.booleans(), st.booleans())
def test_avg_pool(
    shape: tuple[int, int, int, int],
    data: st.DataObject,
    layout: str,
    seed: int,
    ceil: bool,
    include_pad: bool,
) -> None:
    kernel = (data.draw(st.integers(1, shape[2])), data.draw(st.integers(1, shape[3])))
    stride = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    pads = tuple(data.draw(st.integers(0, k // 2)) for k in kernel for _ in range(2))
    window = (kernel, stride, pads, ceil, include_pad, 0)
    check(
        shape,
        layout,
        seed,
        lambda x: _core.avg_pool2d_forward(x, *window),
        lambda dy: _core.avg_pool2d_backward(dy, shape, *window),
        prod(kernel),
    )


@given(images, st.tuples(st.integers(1, 9), st.integers(1, 9)), layouts, SEEDS)
def test_adaptive_avg_pool(
    shape: tuple[int, int, int, int], out: tuple[int, int], layout: str, seed: int
) -> None:
    check(
        shape,
        layout,
        seed,
        lambda x: _core.adaptive_avg_pool2d_forward(x, out),
        lambda dy: _core.adaptive_avg_pool2d_backward(dy, shape),
        prod(shape[2:]) + prod(out),
    )


@given(images, st.tuples(st.integers(1, 9), st.integers(1, 9)), st.booleans(), layouts, SEEDS)
def test_upsample(
    shape: tuple[int, int, int, int], out: tuple[int, int], align: bool, layout: str, seed: int
) -> None:
    check(
        shape,
        layout,
        seed,
        lambda x: _core.upsample_bilinear2d(x, out, align),
        lambda dy: _core.upsample_bilinear2d_backward(dy, shape, align),
        prod(out) + 8,
    )
    rng = np.random.default_rng(seed)
    rows, cols = (rng.integers(0, shape[2 + i], out[i]).tolist() for i in (0, 1))
    check(
        shape,
        layout,
        seed,
        lambda x: _core.gather2d(x, rows, cols),
        lambda dy: _core.gather2d_backward(dy, rows, cols, shape),
        prod(out),
    )


@given(images, st.tuples(*[st.integers(0, 3)] * 4), layouts, SEEDS)
def test_pad(
    shape: tuple[int, ...], pads: tuple[int, int, int, int], layout: str, seed: int
) -> None:
    back = tuple(-p for p in pads)
    check(
        shape,
        layout,
        seed,
        lambda x: _core.pad2d(x, pads, 0.0),
        lambda dy: _core.pad2d(dy, back, 0.0),  # type: ignore[arg-type]
        1,
    )


@given(images, st.floats(0, 0.9), SEEDS, layouts)
def test_dropout(shape: tuple[int, ...], p: float, seed: int, layout: str) -> None:
    def drop(x: _core.Array) -> _core.Array:
        return _core.dropout(x, p, seed)

    check(shape, layout, seed, drop, drop, 20)


# ------------------------------------------------------------ the oracle, by central differences


def differences(f: Callable[[Any], Any], x: Any, dy: Any, step: float = 1e-6) -> Any:
    """d <dy, f(x)> / dx, one coordinate at a time."""
    x, g = f64(x), np.zeros(np.shape(x))
    for i in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        g[i] = (dot(dy, f(up)) - dot(dy, f(down))) / (2 * step)
    return g


def assert_derivative(f: Callable[[Any], Any], x: Any, dy: Any, gradient: Any) -> None:
    np.testing.assert_allclose(gradient, differences(f, x, dy), rtol=1e-6, atol=1e-7)


def test_oracle_batch_norm() -> None:
    rng = generator(0)
    x, dy, weight, bias = (
        rng.normal(size=(3, 2, 2, 3)),
        rng.normal(size=(3, 2, 2, 3)),
        rng.normal(size=2),
        rng.normal(size=2),
    )

    def train(x: Any, weight: Any = weight, bias: Any = bias) -> Any:
        return reference.batch_norm(x, weight, bias, *reference.batch_statistics(x), 1e-3)

    mean, var = reference.batch_statistics(x)
    dx, dw, db = reference.batch_norm_backward(dy, x, weight, mean, var, 1e-3, training=True)
    assert_derivative(train, x, dy, dx)
    assert_derivative(lambda w: train(x, w), weight, dy, dw)
    assert_derivative(lambda b: train(x, weight, b), bias, dy, db)
    dx, dw, _ = reference.batch_norm_backward(dy, x, weight, bias, var, 1e-3, training=False)
    assert_derivative(lambda x: reference.batch_norm(x, weight, bias, bias, var, 1e-3), x, dy, dx)
    assert_derivative(lambda w: reference.batch_norm(x, w, bias, bias, var, 1e-3), weight, dy, dw)


def test_oracle_local_response_norm() -> None:
    rng = generator(1)
    x, dy = rng.normal(size=(2, 6, 2)), rng.normal(size=(2, 6, 2))
    for size in (1, 2, 5):
        constants = (size, 0.7, 0.75, 1.5)
        gradient = reference.local_response_norm_backward(dy, x, *constants)
        assert_derivative(
            lambda x, c=constants: reference.local_response_norm(x, *c), x, dy, gradient
        )


def test_oracle_softmax() -> None:
    rng = generator(2)
    x, dy = rng.normal(size=(3, 5)), rng.normal(size=(3, 5))
    assert_derivative(
        lambda x: reference.softmax(x, 1),
        x,
        dy,
        reference.softmax_backward(dy, reference.softmax(x, 1), 1),
    )
    assert_derivative(
        lambda x: reference.log_softmax(x, 1),
        x,
        dy,
        reference.log_softmax_backward(dy, reference.log_softmax(x, 1), 1),
    )


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_oracle_losses(reduction: str) -> None:
    rng = generator(3)
    x, target, weight = rng.normal(size=(4, 3)), rng.uniform(size=(4, 3)), rng.uniform(1, 2, 3)
    labels = np.array([0, 2, -100, 1])

    def entropy(x: Any) -> Any:
        return reference.cross_entropy(x, labels, weight, -100, 0.2, reduction)

    assert_derivative(lambda x: entropy(x)[0], x, 1.0, entropy(x)[1])
    for loss, at in (
        (reference.mse_loss, x),
        (reference.binary_cross_entropy_with_logits, x),
        (reference.binary_cross_entropy, rng.uniform(0.05, 0.95, (4, 3))),
    ):
        assert_derivative(
            lambda x, loss=loss: loss(x, target, reduction)[0],
            at,
            1.0,
            loss(at, target, reduction)[1],
        )


def test_oracle_max_pool() -> None:
    x, dy = (
        generator(4).permutation(2 * 36).reshape(1, 2, 6, 6) * 1.0,
        generator(5).normal(size=(1, 2, 3, 3)),
    )
    _, _, pixel = reference.max_pool2d(x, (3, 3), (2, 2), (1, 1, 1, 1))
    assert_derivative(
        lambda x: reference.max_pool2d(x, (3, 3), (2, 2), (1, 1, 1, 1))[0],
        x,
        dy,
        reference.max_pool2d_backward(dy, pixel, x.shape),
    )
