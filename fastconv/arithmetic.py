"""What tensors do with operators and methods: arithmetic, comparisons, reductions.

The second base class of `Tensor`, so that tensor.py is about the tape. Equal shapes and numbers go
through the compiled core in whatever layout they are; broadcasting and reductions along axes are
not where networks spend their time, and go through NumPy. Operations that are not finite at zero
(division, logarithm, ...) run on plain arrays: the empty lanes of a lane block may hold zeros.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from .convert import from_numpy
from .shaping import Shaping, axes_of

if TYPE_CHECKING:
    from typing import TypeAlias, TypeGuard

    from numpy.typing import NDArray

    from ._core import Array
    from .shaping import Axes
    from .tensor import Tensor

    Operand: TypeAlias = "Tensor | NDArray[Any] | float"

__all__ = ["Arithmetic"]


def _is_number(x: object) -> TypeGuard[float]:
    return isinstance(x, (float, int, numbers.Real))


class Arithmetic(Shaping):
    """The operators and methods of `Tensor` that compute."""

    __slots__ = ()

    # ---- operators
    def __add__(self, other: Operand) -> Tensor:
        if _is_number(other):
            return self._scale_shift(1.0, float(other))
        a, b = self._broadcast(other)
        return a._binary(b, _core.add(a._array, b._array), lambda dy: (dy, dy))

    __radd__ = __add__

    def __sub__(self, other: Operand) -> Tensor:
        if _is_number(other):
            return self._scale_shift(1.0, -float(other))
        a, b = self._broadcast(other)
        need_b = b.requires_grad

        def backward(dy: Array) -> tuple[Array, Array | None]:
            return dy, _core.scale_shift(dy, -1.0, 0.0) if need_b else None

        return a._binary(b, _core.sub(a._array, b._array), backward)

    def __rsub__(self, other: Operand) -> Tensor:
        if _is_number(other):
            return self._scale_shift(-1.0, float(other))
        return self._operand(other) - self

    def __mul__(self, other: Operand) -> Tensor:
        if _is_number(other):
            return self._scale_shift(float(other), 0.0)
        a, b = self._broadcast(other)
        need_a, need_b = a.requires_grad, b.requires_grad
        a_array, b_array = a._array, b._array

        def backward(dy: Array) -> tuple[Array | None, Array | None]:
            da = _core.mul(dy, b_array) if need_a else None
            db = _core.mul(dy, a_array) if need_b else None
            return da, db

        return a._binary(b, _core.mul(a_array, b_array), backward)

    __rmul__ = __mul__

    def __truediv__(self, other: Operand) -> Tensor:
        if _is_number(other):
            scale = 1.0 / other if other else math.copysign(math.inf, other)
            return self._scale_shift(float(scale), 0.0)
        a, b = self._broadcast(other)
        need_a, need_b = a.requires_grad, b.requires_grad
        b_array = b._array.to_plain()
        y = _core.div(a._array.to_plain(), b_array)

        def backward(dy: Array) -> tuple[Array | None, Array | None]:
            da = _core.div(dy.to_plain(), b_array)  # d(a/b)/da = 1/b, d(a/b)/db = -(a/b)/b
            db = _core.scale_shift(_core.mul(da, y), -1.0, 0.0) if need_b else None
            return da if need_a else None, db

        return a._binary(b, y, backward)

    def __rtruediv__(self, other: Operand) -> Tensor:
        return self._operand(np.float32(other) if _is_number(other) else other) / self

    def __neg__(self) -> Tensor:
        return self._scale_shift(-1.0, 0.0)

    def __pow__(self, exponent: float) -> Tensor:
        if not _is_number(exponent):
            raise TypeError("[pow] the exponent must be a number")
        if exponent == 2:
            return self * self._operand(self)
        x = self.numpy()

        @np.errstate(all="ignore")
        def power(n: float) -> NDArray[Any]:
            return np.asarray(x**n)

        return self._from_numpy(power(exponent), lambda dy: dy * exponent * power(exponent - 1))

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
        return self._binary(b, y, backward)

    def __rmatmul__(self, other: Operand) -> Tensor:
        return self._operand(other) @ self

    # ---- in place: parameters under no_grad() are overwritten, everything else is rebound
    def __iadd__(self, other: Operand) -> Tensor:
        return self._in_place(self + other)

    def __isub__(self, other: Operand) -> Tensor:
        return self._in_place(self - other)

    def __imul__(self, other: Operand) -> Tensor:
        return self._in_place(self * other)

    def __itruediv__(self, other: Operand) -> Tensor:
        return self._in_place(self / other)

    # ---- comparisons: NumPy arrays of booleans, as for (logits.argmax(1) == labels).mean()
    def __eq__(self, other: object) -> Any:
        return np.equal(self.numpy(), np.asarray(other))

    def __ne__(self, other: object) -> Any:
        return np.not_equal(self.numpy(), np.asarray(other))

    def __lt__(self, other: Operand) -> Any:
        return np.less(self.numpy(), np.asarray(other))

    def __le__(self, other: Operand) -> Any:
        return np.less_equal(self.numpy(), np.asarray(other))

    def __gt__(self, other: Operand) -> Any:
        return np.greater(self.numpy(), np.asarray(other))

    def __ge__(self, other: Operand) -> Any:
        return np.greater_equal(self.numpy(), np.asarray(other))

    __hash__ = object.__hash__  # tensors are keys by identity

    # ---- elementwise functions
    def exp(self) -> Tensor:
        y = _core.exp(self._array)
        return self._unary(y, lambda dy: _core.mul(dy, y))

    def log(self) -> Tensor:
        x = self._array.to_plain()
        return self._unary(_core.log(x), lambda dy: _core.div(dy.to_plain(), x))

    def sqrt(self) -> Tensor:
        y = _core.sqrt(self._array.to_plain())
        return self._unary(y, lambda dy: _core.scale_shift(_core.div(dy.to_plain(), y), 0.5, 0.0))

    def abs(self) -> Tensor:
        x = self.numpy()
        return self._from_numpy(np.abs(x), lambda dy: dy * np.sign(x))

    __abs__ = abs

    def clamp(self, min: float | None = None, max: float | None = None) -> Tensor:
        """Values limited to [min, max]; the gradient passes where nothing was cut."""
        x = self.numpy()
        y = np.clip(x, min, max)
        return self._from_numpy(y, lambda dy: dy * (x == y))

    # ---- reductions
    def sum(
        self, axis: Axes = None, keepdims: bool = False, *, dim: Axes = None, keepdim: bool = False
    ) -> Tensor:
        """The sum over all elements, or along `axis`, an int or several. `dim` says the same."""
        shape = self.shape
        axis, keepdims = dim if axis is None else axis, keepdims or keepdim
        if axis is None and not keepdims:
            total = _core.sum(self._array)
            return self._unary(total, lambda dy: _core.full(shape, dy.item()))
        x = self.numpy()
        axes = axes_of(axis, len(shape))

        def backward(dy: NDArray[Any]) -> NDArray[Any]:
            kept: NDArray[Any] = dy.reshape(_kept(shape, axes))
            return np.broadcast_to(kept, shape)

        return self._from_numpy(x.sum(axes, keepdims=keepdims), backward)

    def mean(
        self, axis: Axes = None, keepdims: bool = False, *, dim: Axes = None, keepdim: bool = False
    ) -> Tensor:
        """The mean over all elements, or along `axis`. Fast over the pixels of (N, C, H, W)."""
        shape = self.shape
        keepdims = keepdims or keepdim
        axes = axes_of(dim if axis is None else axis, len(shape))
        if len(shape) == 4 and axes == (2, 3):
            y = self._unary(
                _core.adaptive_avg_pool2d_forward(self._array, (1, 1)),
                lambda dy: _core.adaptive_avg_pool2d_backward(dy, shape),
            )
            return y if keepdims else y.reshape(shape[:2])
        count = math.prod(shape[a] for a in axes)
        total = self.sum(None if len(axes) == len(shape) else axes, keepdims)
        return total * (1.0 / count if count else math.nan)

    def max(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """The largest element, of all or along `axis`. Equal ones share the gradient equally."""
        return self._extreme(np.max, axis, keepdims)

    def min(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """The smallest element, of all or along `axis`."""
        return self._extreme(np.min, axis, keepdims)

    def argmax(self, axis: int | None = None) -> Tensor:
        """The index (int64) of the first largest element, of all or along `axis`."""
        return self._wrap(from_numpy(np.asarray(self.numpy().argmax(axis))))

    # ---- Python numbers
    def item(self) -> Any:
        """The only element, as a Python number."""
        return self.numpy().item()

    def tolist(self) -> Any:
        return self.numpy().tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    # ---- helpers
    def _scale_shift(self, scale: float, shift: float) -> Tensor:
        y = _core.scale_shift(self._array, scale, shift)
        return self._unary(y, lambda dy: dy if scale == 1.0 else _core.scale_shift(dy, scale, 0.0))

    def _extreme(self, reduce: Callable[..., Any], axis: int | None, keepdims: bool) -> Tensor:
        x = self.numpy()
        axes = axes_of(axis, x.ndim)
        kept = reduce(x, axis=axes, keepdims=True)

        def backward(dy: NDArray[Any]) -> NDArray[Any]:
            chosen = x == kept
            dx: NDArray[Any] = chosen * (dy.reshape(kept.shape) / chosen.sum(axes, keepdims=True))
            return dx

        return self._from_numpy(reduce(x, axis=axes, keepdims=keepdims), backward)

    def _in_place(self, result: Tensor) -> Tensor:
        activation = self._array.layout == "lanes" or not self.is_leaf
        if activation or (result.requires_grad and not self.requires_grad):
            return result
        return self.copy_(result)

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


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape after a reduction with keepdims."""
    return tuple(1 if i in axes else size for i, size in enumerate(shape))


def _transposed(matrix: Array) -> Array:
    return from_numpy(matrix.numpy().T.copy())
