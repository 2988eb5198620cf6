"""Arithmetic at its edges: PyTorch's values and gradients at zero, at ties, at infinity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import Tensor, _core

INF, NAN = math.inf, math.nan


def grad(function: Any, *values: Any, dy: Any = None) -> list[list[float]]:
    """The gradients of the sum of function(*values)."""
    tensors = [Tensor(np.asarray(v, np.float32), requires_grad=True) for v in values]
    y = function(*tensors)
    y.backward(None if y.shape == () else fc.ones(*y.shape))
    return [[] if t.grad is None else t.grad.numpy().reshape(-1).tolist() for t in tensors]


# ------------------------------------------------------------------------------------- division
@pytest.mark.parametrize("n", [1, 7, 8, 15, 16, 17, 33])
def test_division_by_a_number_is_rounded_once(n: int) -> None:
    x = np.random.default_rng(n).uniform(-300, 300, (n, 5, 3)).astype(np.float32)
    for divisor in (3, 13, 255, 0.1, 1e-30, 1e30, -7.5, np.float64(49), np.int64(3)):
        right = x / np.float32(divisor)
        for y in (Tensor(x), Tensor(x.reshape(n, 5, 3, 1))):
            np.testing.assert_array_equal((y / divisor).numpy().reshape(x.shape), right)
        lanes = Tensor(x)
        lanes._array = _core.to_lanes(lanes._array)
        np.testing.assert_array_equal((lanes / divisor).numpy(), right)
        t = Tensor(x, requires_grad=True)
        (t / divisor).backward(Tensor(x))
        np.testing.assert_array_equal(t.grad.numpy(), right)


def test_whole_quotients_are_whole() -> None:
    assert (Tensor(169.0) / 13).item() == 13
    assert (Tensor(55.0) / 55).item() == 1
    x = np.arange(256, dtype=np.float32)
    np.testing.assert_array_equal((Tensor(x) / 255).numpy(), x / np.float32(255))


def test_means_divide() -> None:
    x = np.full(49, 0.1, np.float32)
    assert Tensor(x).mean().item() == np.float32(Tensor(x).sum().item()) / np.float32(49)
    assert math.isnan(Tensor(np.zeros((0,), np.float32)).mean().item())


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_division_by_what_is_nearly_or_quite_zero() -> None:
    x = np.float32([0, 1, -1, 1e-30, INF, NAN])
    for divisor in (1e-39, -1e-39, 1e-45, 0.0, -0.0, INF, NAN):
        with np.errstate(all="ignore"):
            right = x / np.float32(divisor)
        np.testing.assert_array_equal((Tensor(x) / divisor).numpy(), right)


@pytest.mark.parametrize(
    ("a", "b", "da", "db"),
    [
        (1, 0, INF, -INF),
        (-1, 0, INF, INF),
        (0, 0, INF, NAN),
        (0, 2, 0.5, 0),
        (4, 2, 0.5, -1),
        (1e30, 1e30, 1e-30, -1e-30),
    ],
)
def test_gradient_of_a_quotient(a: float, b: float, da: float, db: float) -> None:
    np.testing.assert_allclose(grad(lambda x, y: x / y, [a], [b]), [[da], [db]], rtol=1e-6)


def test_signs_of_zeros() -> None:
    x = Tensor([0.0, -0.0])
    for y, signs in ((-x, [1, 0]), (x * 1.0, [0, 1]), (x * -2.0, [1, 0]), (x / 3, [0, 1])):
        assert np.signbit(y.numpy()).tolist() == [bool(s) for s in signs]


# --------------------------------------------------------------------------------------- powers
@pytest.mark.parametrize(
    ("exponent", "x", "y", "dx"),
    [
        (0, [0, 2, INF, NAN], [1, 1, 1, 1], [0, 0, 0, 0]),
        (1, [0, 2], [0, 2], [1, 1]),
        (2, [0, -3], [0, 9], [0, -6]),
        (3, [0, -3], [0, -27], [0, 27]),
        (0.5, [0, 4], [0, 2], [INF, 0.25]),
        (-1, [0, 2], [INF, 0.5], [-INF, -0.25]),
        (1.5, [-1, 4], [NAN, 8], [NAN, 3]),
    ],
)
def test_powers(exponent: float, x: Any, y: Any, dx: Any) -> None:
    np.testing.assert_allclose((Tensor(np.float32(x)) ** exponent).numpy(), y)
    np.testing.assert_allclose(grad(lambda t: t**exponent, x)[0], dx)


def test_powers_of_tensors() -> None:
    da, db = grad(lambda a, b: a**b, [0, 0, 2, 3], [0, 2, 3, 0])
    assert da == [0, 0, 12, 0]
    np.testing.assert_allclose(db, [0, 0, 8 * math.log(2), math.log(3)], rtol=1e-6)
    np.testing.assert_allclose(grad(lambda b: 2**b, [0, 3])[0], np.log(2) * np.array([1, 8]))


def test_roots_and_norms_at_zero() -> None:
    assert grad(lambda x: x.sqrt(), [0, 4])[0] == [INF, 0.25]
    assert grad(lambda x: x.norm(), [0, 0])[0] == [0, 0]
    np.testing.assert_allclose(grad(lambda x: x.norm(), [3, -4])[0], [0.6, -0.8], rtol=1e-6)
    assert grad(lambda x: x.norm(1), [0, -2])[0] == [0, -1]
    assert grad(lambda x: x.norm(INF), [1, -5, 5])[0] == [0, -0.5, 0.5]
    assert grad(lambda x: x.std(), [2, 2, 2])[0] == [0, 0, 0]
    assert grad(lambda x: x.abs(), [0, -2, 3])[0] == [0, -1, 1]


def test_products_with_zeros() -> None:
    assert grad(lambda x: x.prod(), [2, 3, 4])[0] == [12, 8, 6]
    assert grad(lambda x: x.prod(), [2, 0, 4])[0] == [0, 8, 0]
    assert grad(lambda x: x.prod(), [0, 0, 4])[0] == [0, 0, 0]


@pytest.mark.parametrize(
    ("low", "high", "dx"),
    [
        (-1, 1, [0, 1, 1, 1, 0, 0]),
        (None, 1, [1, 1, 1, 1, 0, 0]),
        (-1, None, [0, 1, 1, 1, 1, 0]),
        (2, 1, [0, 0, 0, 0, 0, 0]),
    ],
)
def test_clamp_passes_gradients_at_its_bounds(low: Any, high: Any, dx: Any) -> None:
    assert grad(lambda x: x.clamp(low, high), [-2, -1, 0, 1, 2, NAN])[0] == dx


# ------------------------------------------------------------------------------- extremes, indices
def test_the_largest_of_all_shares_its_gradient() -> None:
    assert grad(lambda x: x.max(), [1, 3, 3])[0] == [0, 0.5, 0.5]
    assert grad(lambda x: x.min(), [1, 1, 3])[0] == [0.5, 0.5, 0]
    assert grad(lambda x: x.max(), [1, NAN, 3])[0] == [0, 1, 0]
    assert grad(lambda x: x.max(axis=1), [[1, 3, 3]])[0] == [0, 0.5, 0.5]


def test_along_a_dimension_the_index_has_it() -> None:
    x = Tensor(np.float32([[1, 3, 3], [2, NAN, 9]]), requires_grad=True)
    values, indices = x.max(1)
    assert indices.dtype == np.int64
    assert indices.tolist() == [1, 1]
    np.testing.assert_array_equal(values.numpy(), [3, NAN])
    values.sum().backward()
    assert x.grad.tolist() == [[0, 1, 0], [0, 1, 0]]
    kept = x.detach().min(dim=0, keepdim=True)
    assert kept.values.shape == kept.indices.shape == (1, 3)
    assert kept.indices.tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("n", [1, 2, 16, 17])
def test_predicted_classes_the_usual_way(n: int) -> None:
    logits = np.random.default_rng(n).standard_normal((n, 10)).astype(np.float32)
    t = Tensor(logits)
    _, predicted = t.max(1)
    right = logits.argmax(1)
    assert predicted.tolist() == right.tolist() == t.argmax(dim=1).tolist()
    assert t.argmax(1, keepdim=True).tolist() == right[:, None].tolist()
    assert t.argmin(-1).tolist() == logits.argmin(1).tolist()
    assert t.argmax().item() == logits.argmax()


def test_the_larger_of_two() -> None:
    assert grad(lambda a, b: a.max(b), [1, 2, 3], [1, 5, 0]) == [[0.5, 0, 1], [0.5, 1, 0]]
    assert grad(lambda a, b: a.min(b), [1, 2, 3], [1, 5, 0]) == [[0.5, 1, 0], [0.5, 0, 1]]


INDICES: dict[str, Any] = {
    "list": (slice(None), [0, 0, 0]),
    "tuple": (slice(None), (0, 0, 0)),
    "tuple first": ((0, 0, 1),),
    "tuple between": (slice(None), (0, 0, 1), slice(None)),
    "array": (np.array([1, 1, 0]),),
    "two arrays": (np.array([0, 0, 1]), np.array([2, 2, 1])),
    "column and row": (np.array([[0], [0]]), np.array([1, 1])),
    "mask": (np.arange(24).reshape(2, 3, 4) % 3 == 0,),
    "mask of rows": (np.array([True, False]),),
    "mask as a list": ([True, True],),
    "numpy integer": (np.int64(1),),
    "scalar array": (np.array(1),),
    "range": (range(2),),
    "slices": (slice(None, None, -1), ..., None, slice(0, 3, 2)),
    "tensor": (Tensor(np.array([1, 1])),),
}


@pytest.mark.parametrize("name", INDICES)
def test_gradients_of_elements_selected_twice_add_up(name: str) -> None:
    index = INDICES[name]
    plain = tuple(np.asarray(i) if isinstance(i, Tensor) else i for i in index)
    values = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    x = Tensor(values, requires_grad=True)
    y = x[index]
    np.testing.assert_array_equal(y.numpy(), values[plain])
    dy = np.arange(1, y.numel() + 1, dtype=np.float32).reshape(y.shape)
    y.backward(Tensor(dy))
    right = np.zeros(values.shape, np.float32)
    np.add.at(right, plain, dy)
    np.testing.assert_array_equal(x.grad.numpy(), right)


def test_squeeze() -> None:
    x = fc.zeros(1, 3, 1, 2)
    assert x.squeeze().shape == (3, 2)
    assert x.squeeze(0).shape == (3, 1, 2)
    assert x.squeeze(1).shape == x.shape
    assert x.squeeze((0, -2)).shape == (3, 2)


def test_spread() -> None:
    x = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    t = Tensor(x)
    np.testing.assert_allclose(t.std().item(), x.astype(float).std(ddof=1), rtol=1e-6)
    np.testing.assert_allclose(t.var(1).numpy(), x.astype(float).var(1, ddof=1), rtol=1e-6)
    np.testing.assert_allclose(t.std(0, correction=0).numpy(), x.astype(float).std(0), rtol=1e-6)
    assert math.isnan(Tensor([1.0]).std().item())
