"""Elementwise arithmetic, activations and their gradients, sum, dropout."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from fastconv import _core
from tests import reference
from tests.reference import Floats, f64
from tests.support import array, assert_close, assert_same_bits, empty_lanes, numpy, uniform

SHAPES = [(1,), (5, 3), (17, 5), (16, 2, 3, 5), (33, 3, 2, 2), (2, 1000)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@every_shape
@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
def test_arithmetic(
    name: str, shape: tuple[int, ...], layout: str, isa: str, rng: np.random.Generator
) -> None:
    a, b = uniform(rng, *shape), uniform(rng, *shape) + np.float32(2)
    expected = {"add": a + b, "sub": a - b, "mul": a * b, "div": a / b}[name]
    for other in ("plain", "lanes"):
        y = getattr(_core, name)(array(a, layout), array(b, other))
        assert _core.layout(y) == layout
        np.testing.assert_array_equal(numpy(y), expected)


@every_shape
def test_add_into(shape: tuple[int, ...], layout: str, isa: str, rng: np.random.Generator) -> None:
    a, b = uniform(rng, *shape), uniform(rng, *shape)
    for other in ("plain", "lanes"):
        total = array(a, layout)
        _core.add_into(total, array(b, other))
        np.testing.assert_array_equal(numpy(total), a + b)


@every_shape
def test_scale_shift(
    shape: tuple[int, ...], layout: str, isa: str, rng: np.random.Generator
) -> None:
    x = uniform(rng, *shape)
    assert_close(numpy(_core.scale_shift(array(x, layout), -1.5, 0.25)), f64(x) * -1.5 + 0.25, 2)


Oracle = Callable[[Floats], Floats]
Gradient = Callable[[Floats, Floats, Floats], Floats]  # dy, x, y

# name, extra arguments, oracle, gradient, whether the backward function takes y (else x)
ACTIVATIONS: list[tuple[str, tuple[float, ...], Oracle, Gradient, bool]] = [
    ("relu", (), lambda x: np.maximum(x, 0), lambda dy, x, y: dy * (x > 0), True),
    (
        "relu6",
        (),
        lambda x: np.clip(x, 0, 6),
        lambda dy, x, y: dy * ((x > 0) & (x < 6)),
        True,
    ),
    (
        "leaky_relu",
        (0.125,),
        lambda x: np.where(x > 0, x, 0.125 * x),
        lambda dy, x, y: dy * np.where(x > 0, 1, 0.125),
        False,
    ),
    ("sigmoid", (), reference.sigmoid, lambda dy, x, y: dy * y * (1 - y), True),
    ("tanh", (), np.tanh, lambda dy, x, y: dy * (1 - y * y), True),
]
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a[0])


@every_shape
@every_activation
def test_activation(
    activation: tuple[str, tuple[float, ...], Oracle, Gradient, bool],
    shape: tuple[int, ...],
    layout: str,
    isa: str,
    rng: np.random.Generator,
) -> None:
    name, arguments, oracle, gradient, from_y = activation
    x, dy = uniform(rng, *shape) * np.float32(9), uniform(rng, *shape)
    x.flat[0] = 0.0
    y = getattr(_core, name)(array(x, layout), *arguments)
    expected = oracle(f64(x))
    assert _core.layout(y) == layout
    assert_close(numpy(y), expected, 2)
    saved = y if from_y else array(x, layout)
    dx = getattr(_core, name + "_backward")(array(dy, layout), saved, *arguments)
    assert _core.layout(dx) == layout
    assert_close(numpy(dx), gradient(f64(dy), f64(x), expected), 3)
    if layout == "lanes":
        assert not empty_lanes(dx).any()


@every_activation
def test_activation_limits(
    activation: tuple[str, tuple[float, ...], Oracle, Gradient, bool], layout: str, isa: str
) -> None:
    """NaN stays NaN; infinities, huge and denormal values give the limit, never NaN."""
    name, arguments, oracle, _, _ = activation
    tiny = float(np.finfo(np.float32).smallest_subnormal)
    x = np.array(
        [[math.inf, -math.inf, 3e38, -3e38, 100, -100, 88.8, -104, 0, tiny, -tiny]], np.float32
    )
    y = numpy(getattr(_core, name)(array(x, layout), *arguments))
    assert_close(y, oracle(f64(x)), 2)
    nan = array(np.full((17, 3), math.nan, np.float32), layout)
    assert np.isnan(numpy(getattr(_core, name)(nan, *arguments))).all()


@pytest.mark.parametrize("name", ["exp", "log", "sqrt"])
def test_exp_log_sqrt(name: str, layout: str, isa: str, rng: np.random.Generator) -> None:
    """Relative error: a few units in the last place over the whole range."""
    low, high = {"exp": (-87.0, 88.0), "log": (1e-37, 3e38), "sqrt": (0.0, 3e38)}[name]
    x = np.concatenate([rng.uniform(low, high, 1000), rng.uniform(max(low, -3), 3, 1000)])
    x = x.astype(np.float32).reshape(20, 100)
    actual = f64(numpy(getattr(_core, name)(array(x, layout))))
    expected = getattr(np, name)(f64(x))
    bound = (
        4 * np.finfo(np.float32).eps * np.maximum(np.abs(expected), 1e-37 if name != "log" else 0.1)
    )
    assert (np.abs(actual - expected) <= bound).all()


def test_exp_log_sqrt_limits(layout: str, isa: str) -> None:
    x = np.array([[math.nan, math.inf, -math.inf, 0.0, -1.0, 200.0, -200.0]], np.float32)
    with np.errstate(all="ignore"):
        for name in ("exp", "log", "sqrt"):
            actual = numpy(getattr(_core, name)(array(x, layout)))
            np.testing.assert_allclose(actual, getattr(np, name)(x), rtol=1e-6)


@every_shape
def test_sum(shape: tuple[int, ...], layout: str, isa: str, rng: np.random.Generator) -> None:
    """Empty lanes do not count, even when they hold something."""
    x = uniform(rng, *shape)
    a = array(x, layout)
    if layout == "lanes":
        empty_lanes(a)[...] = 1e6
    total = _core.sum(a)
    assert (total.shape, _core.layout(total)) == ((), "plain")
    assert_close(total.item(), f64(x).sum(), x.size)


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 0.9])
def test_dropout(p: float, isa: str, rng: np.random.Generator) -> None:
    x = uniform(rng, 100, 3, 10, 10) + np.float32(2)
    y = numpy(_core.dropout(array(x), p, 7))
    kept = y != 0
    assert abs(kept.mean() - (1 - p)) <= 4 * math.sqrt(p * (1 - p) / x.size)  # four standard errors
    assert_close(y[kept], f64(x)[kept] / (1 - p), 2)
    lanes = _core.dropout(array(x, "lanes"), p, 7)
    assert _core.layout(lanes) == "lanes"
    assert_same_bits(numpy(lanes), y)
    _core.set_num_threads(3)
    assert_same_bits(numpy(_core.dropout(array(x), p, 7)), y)
    if p:
        assert (numpy(_core.dropout(array(x), p, 8)) != y).any(), "another seed, another mask"
        samples = kept.reshape(100, -1)
        assert len(np.unique(samples, axis=0)) == 100, "every sample has its own mask"


def test_dropout_is_the_same_on_every_instruction_set() -> None:
    x = np.ones((33, 50), np.float32)
    masks = []
    for name in _core.available_isas():
        _core.set_isa(name)
        masks.append(numpy(_core.dropout(array(x), 0.5, 3)))
    for mask in masks[1:]:
        assert_same_bits(mask, masks[0])
