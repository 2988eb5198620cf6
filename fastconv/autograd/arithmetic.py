"""The operators of `Tensor`: arithmetic, the matrix product, comparisons.

Equal shapes and numbers go through the compiled core. Broadcasting is not where networks spend
their time, and goes through NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .conversion import from_numpy
from .grad_mode import grad_mode
from .operands import broadcast, is_number, operand
from .pending import join, may_wait
from .tape import binary, unary, unary_numpy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .._core import Array
    from .operands import Operand
    from .tensor import Tensor

__all__ = [
    "add",
    "divide",
    "divided_by",
    "equal",
    "greater",
    "greater_equal",
    "less",
    "less_equal",
    "matmul",
    "multiply",
    "negative",
    "not_equal",
    "power",
    "power_of",
    "rmatmul",
    "subtract",
    "subtracted_from",
]


# ---- sums and products
def add(x: Tensor, other: Operand) -> Tensor:
    if is_number(other):
        return _scale_shift(x, 1.0, float(other), "add")
    a, b = broadcast(x, other)
    for y, plus in ((a, b), (b, a)):
        joined = None if y._pending is None else _join(y, plus)
        if joined is not None:
            return joined
    return binary(a, b, _core.add(a._array, b._array), lambda dy: (dy, dy), "add")


def _join(y: Tensor, plus: Tensor) -> Tensor | None:
    """y + plus as a post-op of what y waits for."""
    if plus.requires_grad and not y.requires_grad and grad_mode.enabled:
        return None
    if plus is y or plus.dtype != np.float32 or not may_wait(plus._array):
        return None
    return join(y, "add", plus, None, add, plus)


def subtract(x: Tensor, other: Operand) -> Tensor:
    if is_number(other):
        return _scale_shift(x, 1.0, -float(other), "sub")
    a, b = broadcast(x, other)
    need_b = b.requires_grad

    def backward(dy: Array) -> tuple[Array, Array | None]:
        return dy, _negative(dy) if need_b else None

    return binary(a, b, _core.sub(a._array, b._array), backward, "sub")


def subtracted_from(x: Tensor, other: Operand) -> Tensor:
    """other - x."""
    if is_number(other):
        return _scale_shift(x, -1.0, float(other), "sub")
    return operand(other) - x


def multiply(x: Tensor, other: Operand) -> Tensor:
    if is_number(other):
        return _scale_shift(x, float(other), -0.0, "mul")
    a, b = broadcast(x, other)
    saved_a = a._array if b.requires_grad else None
    saved_b = b._array if a.requires_grad else None

    def backward(dy: Array) -> tuple[Array | None, Array | None]:
        da = None if saved_b is None else _core.mul(dy, saved_b)
        db = None if saved_a is None else _core.mul(dy, saved_a)
        return da, db

    return binary(a, b, _core.mul(a._array, b._array), backward, "mul", saved_a, saved_b)


def divide(x: Tensor, other: Operand) -> Tensor:
    if is_number(other):
        divisor = float(other)
        y = _core.divide(x._array, divisor)
        return unary(x, y, lambda dy: _core.divide(dy, divisor), "div")
    a, b = broadcast(x, other)
    need_a, need_b = a.requires_grad, b.requires_grad
    b_array = b._array
    y = _core.div(a._array, b_array)

    def backward(dy: Array) -> tuple[Array | None, Array | None]:
        da = _core.div(dy, b_array) if need_a else None
        db = _negative(_core.mul(dy, _core.div(y, b_array))) if need_b else None
        return da, db

    return binary(a, b, y, backward, "div", b_array, y if need_b else None)


def divided_by(x: Tensor, other: Operand) -> Tensor:
    """other / x."""
    return operand(np.float32(other) if is_number(other) else other) / x


def negative(x: Tensor) -> Tensor:
    return _scale_shift(x, -1.0, -0.0, "neg")


def _scale_shift(x: Tensor, scale: float, shift: float, op: str) -> Tensor:
    y = _core.scale_shift(x._array, scale, shift)  # adding -0.0 keeps the sign of a zero

    def backward(dy: Array) -> Array:
        return dy if scale == 1.0 else _core.scale_shift(dy, scale, -0.0)

    return unary(x, y, backward, op)


def _negative(x: Array) -> Array:
    return _core.scale_shift(x, -1.0, -0.0)


# ---- powers
def power(x: Tensor, exponent: Operand) -> Tensor:
    if is_number(exponent):
        return x * x if exponent == 2 else _power(x, float(exponent))
    a, b = broadcast(x, exponent)
    u, n = a._array.values(), b._array.values()
    with np.errstate(all="ignore"):
        y = np.asarray(u**n)

    @np.errstate(all="ignore")
    def backward(dy: Array) -> tuple[Array, Array]:
        dx = np.where(n == 0, np.float32(0), dy.values() * n * u ** (n - 1))
        dn = np.where((u == 0) & (n >= 0), np.float32(0), dy.values() * y * np.log(u))
        return from_numpy(dx), from_numpy(dn)

    return binary(a, b, from_numpy(y.copy()), backward, "pow", a._array, b._array)


def power_of(x: Tensor, base: Operand) -> Tensor:
    """base**x."""
    return operand(np.float32(base) if is_number(base) else base) ** x


def _power(x: Tensor, n: float) -> Tensor:
    u = x._array.values()

    @np.errstate(all="ignore")
    def backward(dy: NDArray[Any]) -> NDArray[Any]:
        # u^0 is 1 everywhere, also where 0 * 0^-1 would be NaN.
        return dy * n * u ** (n - 1) if n else np.zeros_like(dy)

    with np.errstate(all="ignore"):
        y = np.asarray(u**n)
    return unary_numpy(x, y, backward, "pow", x._array)


# ---- the matrix product
def matmul(x: Tensor, other: Operand) -> Tensor:
    """The product of two matrices, (M, K) @ (K, N) -> (M, N)."""
    b = operand(other)
    if x.ndim != 2 or b.ndim != 2 or x.shape[1] != b.shape[0]:
        raise _core.ShapeError(
            f"[matmul] expected matrices (M, K) @ (K, N), got {x.shape} @ {b.shape}"
        )
    a_array, b_transposed = x._array, _transposed(b._array)
    need_a, need_b = x.requires_grad, b.requires_grad

    def backward(dy: Array) -> tuple[Array | None, Array | None]:
        da = _core.linear_backward_input(dy, b_transposed) if need_a else None
        db = _transposed(_core.linear_backward_weight(dy, a_array)) if need_b else None
        return da, db

    y, _ = _core.linear(a_array, b_transposed, None)
    return binary(x, b, y, backward, "matmul", a_array if need_b else None)


def rmatmul(x: Tensor, other: Operand) -> Tensor:
    """other @ x."""
    return operand(other) @ x


def _transposed(matrix: Array) -> Array:
    return from_numpy(matrix.values().T.copy())


# ---- comparisons: NumPy arrays of booleans, as for (logits.argmax(1) == labels).mean()
def equal(x: Tensor, other: object) -> Any:
    return np.equal(x._array.values(), np.asarray(other))


def not_equal(x: Tensor, other: object) -> Any:
    return np.not_equal(x._array.values(), np.asarray(other))


def less(x: Tensor, other: Operand) -> Any:
    return np.less(x._array.values(), np.asarray(other))


def less_equal(x: Tensor, other: Operand) -> Any:
    return np.less_equal(x._array.values(), np.asarray(other))


def greater(x: Tensor, other: Operand) -> Any:
    return np.greater(x._array.values(), np.asarray(other))


def greater_equal(x: Tensor, other: Operand) -> Any:
    return np.greater_equal(x._array.values(), np.asarray(other))
