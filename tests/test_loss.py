"""Softmax, log-softmax and the losses, each with its gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastconv import _core
from tests import reference
from tests.reference import f64
from tests.support import array, assert_close, dirty_arena, empty_lanes, numpy, uniform

REDUCTIONS = ("mean", "sum", "none")
SHAPES = [
    ((3, 10), 1),
    ((17, 10), 1),
    ((16, 1), 1),
    ((33, 1000), 1),
    ((5, 4, 3, 6), 1),
    ((17, 4, 3, 6), 3),
    ((17, 3, 5), 2),
]
every_shape = pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)


@every_shape
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(
    name: str, shape: tuple[int, ...], axis: int, layout: str, isa: str, rng: np.random.Generator
) -> None:
    x, dy = uniform(rng, *shape) * np.float32(10), uniform(rng, *shape)
    y = getattr(_core, name)(array(x, layout), axis)
    expected = getattr(reference, name)(x, axis)
    assert _core.layout(y) == layout
    assert_close(numpy(y), expected, shape[axis], c=4)
    dirty_arena()
    dx = getattr(_core, name + "_backward")(array(dy, layout), y, axis)
    gradient = getattr(reference, name + "_backward")(dy, expected, axis)
    assert_close(numpy(dx), gradient, shape[axis], c=8)
    if layout == "lanes":
        assert not empty_lanes(dx).any()


def test_softmax_of_large_numbers(layout: str, isa: str) -> None:
    x = np.array([[0, 1, 2, 3], [10000, 10001, 10002, 10003], [1e38, -1e38, 0, 1e38]], np.float32)
    x = np.concatenate([x, np.full((1, 4), 7, np.float32), [[-math.inf, 0, -math.inf, 0]]]).astype(
        "f4"
    )
    y = numpy(_core.softmax(array(x, layout), 1))
    assert_close(y[:2], reference.softmax(x[:2], 1), 4, c=4)
    assert_close(y[2:], [[0.5, 0, 0, 0.5], [0.25] * 4, [0, 0.5, 0, 0.5]])
    assert_close(
        numpy(_core.log_softmax(array(x[:2], layout), 1)), reference.log_softmax(x[:2], 1), 4, c=4
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 10), (17, 10), (128, 10), (16, 37), (5, 4, 3, 2)], ids=str
)
def test_cross_entropy(
    shape: tuple[int, ...],
    weighted: bool,
    smoothing: float,
    reduction: str,
    layout: str,
    isa: str,
    rng: np.random.Generator,
) -> None:
    x = uniform(rng, *shape) * np.float32(8)
    C = shape[1]
    labels = rng.integers(0, C, (shape[0], *shape[2:]))
    if labels.size > 1:
        labels.flat[1] = -100  # ignored
    weight = uniform(rng, C) + np.float32(1.5) if weighted else None
    a = array(x, layout)
    if layout == "lanes":
        empty_lanes(a)[...] = 50.0
    dirty_arena()
    loss, dx = _core.cross_entropy(
        a, array(labels), None if weight is None else array(weight), -100, smoothing, reduction
    )
    right, gradient = reference.cross_entropy(x, labels, weight, -100, smoothing, reduction)
    terms = C * (1 if reduction == "none" else labels.size)
    assert loss.shape == np.shape(right)
    assert_close(numpy(loss), right, terms, c=8)
    assert (_core.layout(dx), dx.shape) == (layout, shape)
    assert_close(numpy(dx), gradient, C, c=8, scale=3.0)
    if layout == "lanes":
        assert not empty_lanes(dx).any()


def test_cross_entropy_is_stable(layout: str, isa: str) -> None:
    x = np.array([[1e4, -1e4, 0], [-1e30, 1e30, 0], [5, 5, 5]], np.float32)
    loss, dx = _core.cross_entropy(
        array(x, layout), array(np.array([0, 1, 2])), None, -100, 0.0, "none"
    )
    assert_close(numpy(loss), [0, 0, math.log(3)], 2)
    assert_close(numpy(dx), [[0, 0, 0], [0, 0, 0], [1 / 3, 1 / 3, -2 / 3]])


def test_cross_entropy_all_ignored(layout: str, isa: str, rng: np.random.Generator) -> None:
    """Nothing to average gives 0 / 0, as in PyTorch; the sum is 0."""
    a = array(uniform(rng, 3, 4), layout)
    labels = array(np.full(3, -100))
    loss, _ = _core.cross_entropy(a, labels, None, -100, 0.0, "mean")
    assert math.isnan(loss.item())
    loss, dx = _core.cross_entropy(a, labels, None, -100, 0.0, "sum")
    assert loss.item() == 0 and not numpy(dx).any()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(1, 1), (17, 5), (16, 3, 4), (33, 2, 3, 5)], ids=str)
@pytest.mark.parametrize(
    "name", ["mse_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits"]
)
def test_elementwise_loss(
    name: str,
    shape: tuple[int, ...],
    reduction: str,
    layout: str,
    isa: str,
    rng: np.random.Generator,
) -> None:
    x = uniform(rng, *shape)
    if name == "binary_cross_entropy":
        x = np.abs(x) * np.float32(0.98) + np.float32(0.01)
    target = np.abs(uniform(rng, *shape))
    a = array(x, layout)
    if layout == "lanes":
        empty_lanes(a)[...] = 0.5
    for other in ("plain", "lanes"):
        dirty_arena()
        loss, dx = getattr(_core, name)(a, array(target, other), reduction)
        right, gradient = getattr(reference, name)(x, target, reduction)
        assert loss.shape == np.shape(right)
        assert_close(numpy(loss), right, 1 if reduction == "none" else x.size, c=8)
        assert _core.layout(dx) == layout
        assert_close(numpy(dx), gradient, 1, c=8)
        if layout == "lanes":
            assert not empty_lanes(dx).any()


def test_binary_cross_entropy_at_the_ends(layout: str, isa: str) -> None:
    """Logarithms stop at -100, so that a certain and wrong answer costs 100, not infinity."""
    x, t = np.array([[0, 1, 0, 1]], np.float32), np.array([[0, 1, 1, 0]], np.float32)
    loss, dx = _core.binary_cross_entropy(array(x, layout), array(t), "none")
    assert_close(numpy(loss), [[0, 0, 100, 100]])
    assert np.isfinite(numpy(dx)).all()
    logits = np.array([[1000, -1000, 1000, -1000]], np.float32)
    loss, dx = _core.binary_cross_entropy_with_logits(array(logits, layout), array(t), "none")
    assert_close(numpy(loss), [[1000, 1000, 0, 0]])
    assert_close(numpy(dx), [[1, -1, 0, 0]])


@pytest.mark.parametrize("shape", [(1, 1), (3, 10), (16, 10), (17, 4), (133, 10)], ids=str)
def test_count_correct(
    shape: tuple[int, int], layout: str, isa: str, rng: np.random.Generator
) -> None:
    x = rng.integers(0, 4, shape).astype(np.float32)  # many ties: the first maximum counts
    labels = rng.integers(0, shape[1], shape[0])
    a = array(x, layout)
    assert _core.count_correct(a, array(labels)) == (x.argmax(1) == labels).sum()
    assert _core.count_correct(a, array(x.argmax(1))) == shape[0]


def test_mean_losses_weigh_by_true_batch_size(isa: str) -> None:
    """Seventeen samples are seventeen, not two blocks of sixteen."""
    x = np.ones((17, 2), np.float32)
    loss, _ = _core.mse_loss(array(x, "lanes"), array(x * 0), "mean")
    assert loss.item() == 1.0
    loss, _ = _core.cross_entropy(
        array(x, "lanes"), array(np.zeros(17, np.int64)), None, -100, 0.0, "sum"
    )
    assert_close(loss.item(), 17 * math.log(2), 17)
    assert f64(loss.numpy()).shape == ()
