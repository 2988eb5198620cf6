"""Functions of each element, as methods of `Tensor`.

Those that are not finite at zero (logarithm, square root's gradient) run on plain arrays: the empty
lanes of a lane block may hold zeros.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .conversion import from_numpy
from .tape import unary, unary_numpy, wrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .._core import Array
    from .tensor import Tensor

__all__ = ["abs", "clamp", "clone", "exp", "log", "sqrt", "to_float"]


def exp(x: Tensor) -> Tensor:
    y = _core.exp(x._array)
    return unary(x, y, lambda dy: _core.mul(dy, y), "exp", y)


def log(x: Tensor) -> Tensor:
    u = x._array.to_plain()
    return unary(x, _core.log(u), lambda dy: _core.div(dy.to_plain(), u), "log", u)


def sqrt(x: Tensor) -> Tensor:
    y = _core.sqrt(x._array.to_plain())

    def backward(dy: Array) -> Array:
        return _core.div(dy.to_plain(), _core.scale_shift(y, 2.0, 0.0))

    return unary(x, y, backward, "sqrt", y)


def abs(x: Tensor) -> Tensor:
    u = x._array.values()
    return unary_numpy(x, np.abs(u), lambda dy: dy * np.sign(u), "abs", x._array)


def clamp(x: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    """Values limited to [min, max]; the gradient passes where nothing was cut."""
    u = x._array.values()
    low, high = -np.inf if min is None else min, np.inf if max is None else max

    def backward(dy: NDArray[Any]) -> NDArray[Any]:
        return np.where((u >= low) & (u <= high), dy, np.float32(0))

    return unary_numpy(x, np.clip(u, min, max), backward, "clamp", x._array)


def clone(x: Tensor) -> Tensor:
    """A copy, through which gradients pass."""
    return unary(x, x._array.copy(), lambda dy: dy, "clone")


def to_float(x: Tensor) -> Tensor:
    """The values as float32: itself, if it has them."""
    if x._array.dtype == "float32":
        return x
    return wrap(from_numpy(x._array.values().astype(np.float32)))
