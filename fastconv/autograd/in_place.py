"""Operations that overwrite a tensor: copy_, t[i] = v, the operators such as +=.

They overwrite the storage itself, unless a recorded gradient needs the old values. A tensor and its
reshapes share their elements, so they change together, on the tape too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .changes import changes
from .conversion import from_numpy
from .grad_mode import grad_mode
from .operands import operand
from .pending import settle_here, take_over
from .shaping import index_parts, sum_to
from .tape import Node, binary, is_tensor, needs_grad, wrap

if TYPE_CHECKING:
    from .._core import Array
    from .operands import Operand
    from .tensor import Tensor

__all__ = ["copy_", "fill_", "iadd", "imul", "ipow", "isub", "itruediv", "setitem", "zero_"]


# ---- outside the tape
def copy_(x: Tensor, source: object) -> Tensor:
    """Overwrites the values; `source` broadcasts. Parameters: only under `fc.no_grad()`.

    A gradient that needs the old values raises when it is computed.
    """
    if grad_mode.enabled and x.requires_grad:
        raise RuntimeError(
            "[Tensor] what requires gradients can be changed in place only under fc.no_grad()"
        )
    if is_tensor(source) and source.shape == x.shape:
        return _become(x, source)
    if x._array.dtype == "float32":
        values = np.broadcast_to(np.asarray(source), x.shape)
        if not np.can_cast(values.dtype, np.float32, "same_kind"):
            raise TypeError(f"[copy_] expected float32 values, got {values.dtype}")
        return _become(x, wrap(from_numpy(values.astype(np.float32))))
    np.copyto(x._array.numpy(), np.asarray(source), casting="same_kind")
    return x


def fill_(x: Tensor, value: float) -> Tensor:
    """Overwrites every value with one number."""
    return copy_(x, np.float32(value))


def zero_(x: Tensor) -> Tensor:
    """Overwrites every value with zero."""
    return fill_(x, 0.0)


# ---- recorded where gradients are wanted
def iadd(x: Tensor, other: Operand) -> Tensor:
    return _become(x, x + other)


def isub(x: Tensor, other: Operand) -> Tensor:
    return _become(x, x - other)


def imul(x: Tensor, other: Operand) -> Tensor:
    return _become(x, x * other)


def itruediv(x: Tensor, other: Operand) -> Tensor:
    return _become(x, x / other)


def ipow(x: Tensor, other: Operand) -> Tensor:
    return _become(x, x**other)


def setitem(x: Tensor, index: Any, value: Any) -> None:
    """Overwrites what NumPy's indexing selects, in place.

    Gradients: `value` gets those of the elements it was written to, and their old values none.
    Parameters can be written to under `fc.no_grad()` only.
    """
    parts = index_parts(index)
    if x._array.dtype != "float32":
        x.numpy()[parts] = np.asarray(value)
        return
    source = operand(value)
    values = source._array.values()
    values = values.reshape(()) if values.size == 1 else values  # one value fits any place
    if x.is_leaf and x._array.is_contiguous and not needs_grad(x, source):
        x.numpy()[parts] = values
        return
    y = np.array(x._array.values())
    y[parts] = values
    shape = source.shape

    def backward(dy: Array) -> tuple[Array, Array]:
        dx = np.array(dy.values())
        dvalue = np.array(dx[parts])
        dx[parts] = 0
        return from_numpy(dx), from_numpy(sum_to(dvalue, shape))

    _become(x, binary(x, source, from_numpy(y), backward, "setitem"))


# ---- taking the values of a result
def _become(x: Tensor, result: Tensor) -> Tensor:
    """`x` takes the values of `result`, and its place on the tape; so do the reshapes of `x`."""
    if take_over(x, result):
        return x
    settle_here()
    family = [t for ref in x._family or () if (t := ref()) is not None and t is not x]
    leaves = [t for t in (x, *family) if t._requires_grad and t._node is None]
    if result._requires_grad and leaves:
        raise RuntimeError(
            "[Tensor] a leaf that requires gradients can be changed in place only under "
            "fc.no_grad()"
        )
    if result.shape != x.shape:
        raise _core.ShapeError(
            f"[Tensor] a tensor of shape {x.shape} cannot take values of shape "
            f"{result.shape} in place"
        )
    if x._array.saved and (result._requires_grad or x._node is not None):
        x._array = result._array.copy()  # the gradient of something needs the old values
        changes.of_state()
    elif x._array.dtype == result._array.dtype == "float32":
        _core.assign(x._array, result._array)
    else:
        np.copyto(x._array.numpy(), result._array.values(), casting="same_kind")
    if result._requires_grad:
        x._node, x._requires_grad = result._node, True
    for reshape in family:
        _follow(reshape, x, result._requires_grad)
    return x


def _follow(reshape: Tensor, changed: Tensor, recorded: bool) -> None:
    """Brings a reshape of `changed` up to date."""
    array, shape = changed._array.reshape(reshape.shape), changed.shape
    if array.address != reshape._array.address:
        reshape._array = array
        changes.of_state()
    if recorded:
        reshape._node = Node((changed,), lambda dy: (dy.reshape(shape),), "reshape", ())
        reshape._requires_grad = True
