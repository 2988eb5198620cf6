"""NumPy's functions on Tensors: on the tape, or by value, or refused; never off it in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import Tensor, nn
from fastconv import functional as F

Function = Callable[..., Any]

A, B = (np.random.default_rng(i).standard_normal((3, 4)).astype(np.float32) for i in (0, 1))
P = np.abs(A) + 0.5

# Each with its arguments; checked against NumPy in float64, gradients against its differences.
WITH_GRADIENTS: dict[str, tuple[Function, tuple[np.ndarray, ...]]] = {
    "add": (np.add, (A, B)),
    "subtract": (np.subtract, (A, B)),
    "multiply": (np.multiply, (A, B)),
    "divide": (np.divide, (A, P)),
    "power": (np.power, (P, B)),
    "power of a number": (lambda x: np.power(x, 3), (A,)),
    "number to a power": (lambda x: 2.0**x, (A,)),
    "matmul": (lambda x, y: np.matmul(x, y.T), (A, B)),
    "dot": (lambda x, y: np.dot(x, y.T), (A, B)),
    "negative": (np.negative, (A,)),
    "square": (np.square, (A,)),
    "reciprocal": (np.reciprocal, (P,)),
    "exp": (np.exp, (A,)),
    "log": (np.log, (P,)),
    "sqrt": (np.sqrt, (P,)),
    "abs": (np.abs, (A,)),
    "maximum": (np.maximum, (A, B)),
    "minimum": (np.minimum, (A, B)),
    "maximum with a number": (lambda x: np.maximum(x, 0), (A,)),
    "maximum with an array": (lambda x: np.maximum(B, x), (A,)),
    "tanh": (np.tanh, (A,)),
    "sin": (np.sin, (A,)),
    "cos": (np.cos, (A,)),
    "expm1": (np.expm1, (A,)),
    "log1p": (np.log1p, (P,)),
    "log2": (np.log2, (P,)),
    "log10": (np.log10, (P,)),
    "sum": (np.sum, (A,)),
    "sum of rows": (lambda x: np.sum(x, axis=1, keepdims=True), (A,)),
    "mean": (lambda x: np.mean(x, axis=0), (A,)),
    "max": (lambda x: np.max(x, axis=1), (A,)),
    "min": (np.min, (A,)),
    "prod": (lambda x: np.prod(x, axis=1), (A,)),
    "std": (lambda x: np.std(x, axis=0), (A,)),
    "var": (lambda x: np.var(x, ddof=1), (A,)),
    "clip": (lambda x: np.clip(x, -0.5, 0.5), (A,)),
    "clip by arrays": (lambda x: np.clip(x, B - 1, B + 1), (A,)),
    "squeeze": (lambda x: np.squeeze(x[:, None]), (A,)),
    "expand_dims": (lambda x: np.expand_dims(x, (0, 2)), (A,)),
    "transpose": (np.transpose, (A,)),
    "swapaxes": (lambda x: np.swapaxes(x, 0, 1), (A,)),
    "moveaxis": (lambda x: np.moveaxis(x, 0, -1), (A,)),
    "reshape": (lambda x: np.reshape(x, (2, 6)), (A,)),
    "ravel": (np.ravel, (A,)),
    "broadcast_to": (lambda x: np.broadcast_to(x, (2, 3, 4)), (A,)),
    "flip": (lambda x: np.flip(x, 1), (A,)),
    "concatenate": (lambda x, y: np.concatenate([x, y], axis=1), (A, B)),
    "concatenate with an array": (lambda x: np.concatenate([B, x]), (A,)),
    "stack": (lambda x, y: np.stack([x, y], axis=1), (A, B)),
    "hstack": (lambda x, y: np.hstack([x, y]), (A, B)),
    "vstack": (lambda x, y: np.vstack([x, y]), (A, B)),
    "where": (lambda x, y: np.where(B > 0, x, y), (A, P)),
    "where with a number": (lambda x: np.where(B > 0, x, 0.0), (A,)),
    "array + tensor": (lambda x: B + x, (A,)),
    "array / tensor": (lambda x: B / x, (P,)),
    "array @ tensor": (lambda x: B.T @ x, (A,)),
    "number of NumPy's": (lambda x: np.float64(3) * x, (A,)),
}


def weights(shape: tuple[int, ...]) -> np.ndarray:
    return np.cos(np.arange(np.prod(shape, dtype=int))).reshape(shape)


@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_values_and_gradients(name: str) -> None:
    function, arrays = WITH_GRADIENTS[name]
    exact = [a.astype(np.float64) for a in arrays]
    right = np.asarray(function(*exact))
    tensors = [Tensor(a, requires_grad=True) for a in arrays]
    y = function(*tensors)
    assert isinstance(y, Tensor)
    np.testing.assert_allclose(y.numpy(), right, rtol=1e-5, atol=1e-6)
    y.backward(Tensor(weights(y.shape).astype(np.float32)))
    h = 1e-6
    for i, t in enumerate(tensors):
        slope = np.zeros(t.shape)
        for place in np.ndindex(*t.shape):
            ends = []
            for sign in (1, -1):
                moved = [e.copy() for e in exact]
                moved[i][place] += sign * h
                ends.append((np.asarray(function(*moved)) * weights(right.shape)).sum())
            slope[place] = (ends[0] - ends[1]) / (2 * h)
        assert t.grad is not None
        np.testing.assert_allclose(t.grad.numpy(), slope, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "function",
    [np.argmax, np.round, np.isnan, np.sign, np.shape, np.ndim, np.size, np.zeros_like, np.any],
)
def test_what_has_no_slope_gives_numpys_values(function: Function) -> None:
    got = function(Tensor(A, requires_grad=True))
    assert not isinstance(got, Tensor)
    np.testing.assert_array_equal(got, function(A))


NO_GRADIENT: dict[str, Function] = {
    "median": np.median,
    "cumsum": np.cumsum,
    "sort": np.sort,
    "pad": lambda x: np.pad(x, 1),
    "einsum": lambda x: np.einsum("ij->i", x),
    "tile": lambda x: np.tile(x, 2),
    "split": lambda x: np.split(x, 3),
    "copyto": lambda x: np.copyto(np.zeros((3, 4), np.float32), x),
    "arctan": np.arctan,
    "hypot": lambda x: np.hypot(x, x),
    "add.reduce": np.add.reduce,
    "multiply.outer": lambda x: np.multiply.outer(x, x),
    "a sum in another type": lambda x: np.sum(x, dtype=np.float64),
    "into an array": lambda x: np.add(x, 1, out=np.zeros((3, 4), np.float32)),
}


@pytest.mark.parametrize("name", NO_GRADIENT)
def test_what_would_cut_the_tape_raises(name: str) -> None:
    with pytest.raises(TypeError, match=r"off the tape.*detach\(\)"):
        NO_GRADIENT[name](Tensor(A, requires_grad=True))


@pytest.mark.parametrize("name", NO_GRADIENT)
def test_without_a_gradient_to_lose_it_is_numpys_result(name: str) -> None:
    right = NO_GRADIENT[name](A)
    with fc.no_grad():
        inside = NO_GRADIENT[name](Tensor(A, requires_grad=True))
    for got in (inside, NO_GRADIENT[name](Tensor(A))):
        if right is not None:
            np.testing.assert_array_equal(np.asarray(got), np.asarray(right))


def test_arrays_take_tensors_in_place() -> None:
    total = np.zeros((3, 4), np.float32)
    total += Tensor(A)
    np.testing.assert_array_equal(total, A)
    with pytest.raises(TypeError, match="off the tape"):
        total += Tensor(A, requires_grad=True)
    out = Tensor(np.zeros((3, 4), np.float32))
    assert np.add(Tensor(A), B, out=out) is out
    np.testing.assert_array_equal(out.numpy(), A + B)


def test_labels_stay_integers() -> None:
    labels = Tensor(np.array([1, 2, 3]))
    np.testing.assert_array_equal(np.add(labels, 1), [2, 3, 4])
    np.testing.assert_array_equal(labels == np.array([1, 0, 3]), [True, False, True])


def test_masks_and_whole_numbers_beside_float32() -> None:
    x = Tensor(A, requires_grad=True)
    y = x * (x > 0) + np.arange(4)
    np.testing.assert_array_equal(y.numpy(), A * (A > 0) + np.arange(4, dtype=np.float32))
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), (A > 0).astype(np.float32))


class Branches(nn.Module):
    """Two branches that NumPy joins."""

    def __init__(self, join: Function) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.join = join

    def forward(self, x: Any) -> Any:
        return self.fc(self.join(self.a(x), self.b(x)))


@pytest.mark.parametrize("n", [1, 15, 16, 33])
@pytest.mark.parametrize(
    "join",
    [np.maximum, np.add, lambda a, b: np.mean(np.stack([a, b]), axis=0), lambda a, b: np.exp(-a)],
)
def test_networks_train_through_them(join: Function, n: int) -> None:
    fc.manual_seed(0)
    model = Branches(join)
    x = np.random.default_rng(0).standard_normal((n, 4)).astype(np.float32)
    F.cross_entropy(model(x), np.arange(n) % 2).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None or name.startswith("b."), name
    model.compile("adam", metrics=["accuracy"])
    model.fit(x, np.arange(n) % 2, epochs=1, batch_size=8, verbose=0)
    with fc.no_grad():
        right = F.softmax(model(Tensor(x)), 1).numpy()
    np.testing.assert_allclose(model.predict(x), right, rtol=1e-5)
