"""What tensors do with operators and methods: arithmetic, comparisons, elementwise functions.

The third base class of `Tensor`, so that tensor.py is about the tape. Equal shapes and numbers go
through the compiled core in whatever layout they are; broadcasting is not where networks spend
their time, and goes through NumPy. Operations that are not finite at zero
(division, logarithm, ...) run on plain arrays: the empty lanes of a lane block may hold zeros.
"""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from .convert import from_numpy
from .reducing import Reducing

if TYPE_CHECKING:
    from typing import TypeAlias, TypeGuard

    from numpy.typing import NDArray

    from ._core import Array
    from .tensor import Tensor

    Operand: TypeAlias = "Tensor | NDArray[Any] | float"
    Number: TypeAlias = float

__all__ = ["Arithmetic"]


def _is_number(x: object) -> TypeGuard[float]:
    return isinstance(x, (float, int, numbers.Real))


class Arithmetic(Reducing):
    """The operators and methods of `Tensor` that compute."""

    __slots__ = ()

    # ---- operators
    def __add__(self, other: Operand) -> Tensor:
        if _is_number(other):
            return self._scale_shift(1.0, float(other), "add")
        a, b = self._broadcast(other)
        return a._binary(b, _core.add(a._array, b._array), lambda dy: (dy, dy), "add")

    __radd__ = __add__

    def __sub__(self, other: Operand) -> Tensor:
        if _is_number(other):
            return self._scale_shift(1.0, -float(other), "sub")
        a, b = self._broadcast(other)
        need_b = b.requires_grad

        def backward(dy: Array) -> tuple[Array, Array | None]:
            return dy, _negative(dy) if need_b else None

        return a._binary(b, _core.sub(a._array, b._array), backward, "sub")

    def __rsub__(self, other: Operand) -> Tensor:
        if _is_number(other):
            return self._scale_shift(-1.0, float(other), "sub")
        return self._operand(other) - self

    def __mul__(self, other: Operand) -> Tensor:
        if _is_number(other):
            return self._scale_shift(float(other), -0.0, "mul")
        a, b = self._broadcast(other)
        saved_a = a._array if b.requires_grad else None
        saved_b = b._array if a.requires_grad else None

        def backward(dy: Array) -> tuple[Array | None, Array | None]:
            da = None if saved_b is None else _core.mul(dy, saved_b)
            db = None if saved_a is None else _core.mul(dy, saved_a)
            return da, db

        return a._binary(b, _core.mul(a._array, b._array), backward, "mul", saved_a, saved_b)

    __rmul__ = __mul__

    def __truediv__(self, other: Operand) -> Tensor:
        if _is_number(other):
            divisor = float(other)
            y = _core.divide(self._array, divisor)
            return self._unary(y, lambda dy: _core.divide(dy, divisor), "div")
        a, b = self._broadcast(other)
        need_a, need_b = a.requires_grad, b.requires_grad
        b_array = b._array.to_plain()
        y = _core.div(a._array.to_plain(), b_array)

        def backward(dy: Array) -> tuple[Array | None, Array | None]:
            dy = dy.to_plain()
            da = _core.div(dy, b_array) if need_a else None
            db = _negative(_core.mul(dy, _core.div(y, b_array))) if need_b else None
            return da, db

        return a._binary(b, y, backward, "div", b_array, y if need_b else None)

    def __rtruediv__(self, other: Operand) -> Tensor:
        return self._operand(np.float32(other) if _is_number(other) else other) / self

    def __neg__(self) -> Tensor:
        return self._scale_shift(-1.0, -0.0, "neg")

    def __pow__(self, exponent: Operand) -> Tensor:
        if _is_number(exponent):
            return self * self._operand(self) if exponent == 2 else self._power(float(exponent))
        a, b = self._broadcast(exponent)
        x, n = a._values(), b._values()
        with np.errstate(all="ignore"):
            y = np.asarray(x**n)

        @np.errstate(all="ignore")
        def backward(dy: Array) -> tuple[Array, Array]:
            dx = np.where(n == 0, np.float32(0), dy.values() * n * x ** (n - 1))
            dn = np.where((x == 0) & (n >= 0), np.float32(0), dy.values() * y * np.log(x))
            return from_numpy(dx), from_numpy(dn)

        return a._binary(b, from_numpy(y.copy()), backward, "pow", a._array, b._array)

    def __rpow__(self, base: Operand) -> Tensor:
        return self._operand(np.float32(base) if _is_number(base) else base) ** self

    def _power(self, n: float) -> Tensor:
        x = self._values()

        @np.errstate(all="ignore")
        def backward(dy: NDArray[Any]) -> NDArray[Any]:
            # x^0 is 1 everywhere, also where 0 * 0^-1 would be NaN.
            return dy * n * x ** (n - 1) if n else np.zeros_like(dy)

        with np.errstate(all="ignore"):
            y = np.asarray(x**n)
        return self._from_numpy(y, backward, "pow", self._array)

    def __matmul__(self, other: Operand) -> Tensor:
        """The product of two matrices, (M, K) @ (K, N) -> (M, N)."""
        b = self._operand(other)
        if self.ndim != 2 or b.ndim != 2 or self.shape[1] != b.shape[0]:
            raise _core.ShapeError(
                f"[matmul] expected matrices (M, K) @ (K, N), got {self.shape} @ {b.shape}"
            )
        a_array, b_transposed = self._array, _transposed(b._array)
        need_a, need_b = self.requires_grad, b.requires_grad

        def backward(dy: Array) -> tuple[Array | None, Array | None]:
            da = _core.linear_backward_input(dy, b_transposed) if need_a else None
            db = _transposed(_core.linear_backward_weight(dy, a_array)) if need_b else None
            return da, db

        y = _core.linear_forward(a_array, b_transposed, None, False)
        return self._binary(b, y, backward, "matmul", a_array if need_b else None)

    def __rmatmul__(self, other: Operand) -> Tensor:
        return self._operand(other) @ self

    # ---- in place: the storage is overwritten, unless a gradient needs the old values
    def __iadd__(self, other: Operand) -> Tensor:
        return self._become(self + other)

    def __isub__(self, other: Operand) -> Tensor:
        return self._become(self - other)

    def __imul__(self, other: Operand) -> Tensor:
        return self._become(self * other)

    def __itruediv__(self, other: Operand) -> Tensor:
        return self._become(self / other)

    def __ipow__(self, other: Operand) -> Tensor:
        return self._become(self**other)

    # ---- comparisons: NumPy arrays of booleans, as for (logits.argmax(1) == labels).mean()
    def __eq__(self, other: object) -> Any:
        return np.equal(self._values(), np.asarray(other))

    def __ne__(self, other: object) -> Any:
        return np.not_equal(self._values(), np.asarray(other))

    def __lt__(self, other: Operand) -> Any:
        return np.less(self._values(), np.asarray(other))

    def __le__(self, other: Operand) -> Any:
        return np.less_equal(self._values(), np.asarray(other))

    def __gt__(self, other: Operand) -> Any:
        return np.greater(self._values(), np.asarray(other))

    def __ge__(self, other: Operand) -> Any:
        return np.greater_equal(self._values(), np.asarray(other))

    __hash__ = object.__hash__  # tensors are keys by identity

    eq, ne, lt, le, gt, ge = __eq__, __ne__, __lt__, __le__, __gt__, __ge__

    # ---- elementwise functions
    def exp(self) -> Tensor:
        y = _core.exp(self._array)
        return self._unary(y, lambda dy: _core.mul(dy, y), "exp", y)

    def log(self) -> Tensor:
        x = self._array.to_plain()
        return self._unary(_core.log(x), lambda dy: _core.div(dy.to_plain(), x), "log", x)

    def sqrt(self) -> Tensor:
        y = _core.sqrt(self._array.to_plain())

        def backward(dy: Array) -> Array:
            return _core.div(dy.to_plain(), _core.scale_shift(y, 2.0, 0.0))

        return self._unary(y, backward, "sqrt", y)

    def abs(self) -> Tensor:
        x = self._values()
        return self._from_numpy(np.abs(x), lambda dy: dy * np.sign(x), "abs", self._array)

    __abs__ = abs

    def clamp(self, min: Number | None = None, max: Number | None = None) -> Tensor:
        """Values limited to [min, max]; the gradient passes where nothing was cut."""
        x = self._values()
        low, high = -np.inf if min is None else min, np.inf if max is None else max

        def backward(dy: NDArray[Any]) -> NDArray[Any]:
            return np.where((x >= low) & (x <= high), dy, np.float32(0))

        return self._from_numpy(np.clip(x, min, max), backward, "clamp", self._array)

    def clone(self) -> Tensor:
        """A copy, through which gradients pass."""
        return self._unary(self._array.copy(), lambda dy: dy, "clone")

    def float(self) -> Tensor:
        """The values as float32: itself, if it has them."""
        if self._array.dtype == "float32":
            return self._operand(self)
        return self._wrap(from_numpy(self._values().astype(np.float32)))

    # ---- Python numbers
    def item(self) -> Any:
        """The only element, as a Python number."""
        return self._values().item()

    def tolist(self) -> Any:
        return self._values().tolist()

    def __float__(self) -> Number:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    # ---- helpers
    def _scale_shift(self, scale: Number, shift: Number, op: str) -> Tensor:
        y = _core.scale_shift(self._array, scale, shift)  # adding -0.0 keeps the sign of a zero

        def backward(dy: Array) -> Array:
            return dy if scale == 1.0 else _core.scale_shift(dy, scale, -0.0)

        return self._unary(y, backward, op)

    def _broadcast(self, other: Operand) -> tuple[Tensor, Tensor]:
        """Both operands in their common shape."""
        a, b = self._operand(self), self._operand(other)
        if a.shape == b.shape:
            return a, b
        try:
            shape = np.broadcast_shapes(a.shape, b.shape)
        except ValueError:
            raise _core.ShapeError(
                f"[broadcast] shapes {a.shape} and {b.shape} do not fit: aligned at the right, "
                "sizes must be equal or 1"
            ) from None
        return a._expanded(shape), b._expanded(shape)


def _negative(x: Array) -> Array:
    return _core.scale_shift(x, -1.0, -0.0)


def _transposed(matrix: Array) -> Array:
    return from_numpy(matrix.values().T.copy())
