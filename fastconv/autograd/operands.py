"""What operators take: tensors, NumPy arrays and numbers, and how they broadcast."""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .conversion import as_array, from_numpy
from .shaping import expanded
from .tape import is_tensor, wrap

if TYPE_CHECKING:
    from typing import TypeAlias, TypeGuard

    from numpy.typing import NDArray

    from .tensor import Tensor

    Operand: TypeAlias = "Tensor | NDArray[Any] | float"

__all__ = ["as_tensor", "broadcast", "is_number", "operand"]


def is_number(x: object) -> TypeGuard[float]:
    return isinstance(x, (float, int, numbers.Real))


def operand(value: object) -> Tensor:
    """A Tensor as it is; anything else as a float32 Tensor, without a copy if possible."""
    if is_tensor(value):
        return value
    array = as_array(value)
    if array.dtype != "float32":  # whole numbers and booleans
        array = from_numpy(array.values().astype(np.float32))
    return wrap(array)


def as_tensor(data: object, what: str = "[Tensor] value") -> Tensor:
    """A Tensor as it is; anything else of float32 as a Tensor, without a copy if possible.

    Raises:
        TypeError: for integers and bytes, whose scale only the caller knows.
    """
    if is_tensor(data):
        return data
    array = as_array(data)
    if array.dtype != "float32":
        came = getattr(data, "dtype", array.dtype)
        scale = " / 255" if array.dtype == "uint8" else ""
        raise TypeError(f"{what} must be float32, got {came}: use x.astype(np.float32){scale}")
    return wrap(array)


def broadcast(x: Tensor, other: Operand) -> tuple[Tensor, Tensor]:
    """Both operands, broadcast to their common shape."""
    a, b = x, operand(other)
    if a.shape == b.shape:
        return a, b
    try:
        shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise _core.ShapeError(
            f"[broadcast] shapes {a.shape} and {b.shape} do not fit: aligned at the right, "
            "sizes must be equal or 1"
        ) from None
    return expanded(a, shape), expanded(b, shape)
