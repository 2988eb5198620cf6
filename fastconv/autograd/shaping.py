"""The operations that give the same elements another shape or order: methods of `Tensor`.

Reshaping is free in any layout as long as the batch stays the first dimension. What moves elements
goes through NumPy: networks do it at their edges.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .grad_mode import grad_mode
from .tape import is_tensor, needs_grad, record, unary, unary_numpy, wrap

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    from .._core import Array
    from .tensor import Tensor

    Axes: TypeAlias = int | Sequence[int] | None

__all__ = [
    "axes_of",
    "cat",
    "expanded",
    "flatten",
    "getitem",
    "index_parts",
    "permute",
    "reshape",
    "reshaped",
    "sizes_of",
    "squeeze",
    "sum_to",
    "transpose",
    "unsqueeze",
]

_LARGE_FAMILY = 8  # reshapes of one tensor, of which some may have gone


# ------------------------------------------------------------------------- shapes, axes, indices
def reshaped(x: Array, shape: Sequence[int]) -> Array:
    """The same elements under another shape: free, unless lanes would have to change their N."""
    if x.layout == "lanes" and (len(shape) == 0 or shape[0] != x.shape[0]):
        x = x.to_plain()
    return x.reshape(shape)


def sizes_of(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """Sizes given as f(2, 3) or f((2, 3))."""
    if len(sizes) == 1 and not isinstance(sizes[0], (int, np.integer)):
        return tuple(sizes[0])
    return sizes


def axes_of(axis: Axes, ndim: int) -> tuple[int, ...]:
    """Axes as a tuple of numbers from 0."""
    if axis is None:
        return tuple(range(ndim))
    axes = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    for a in axes:
        if not -ndim <= a < ndim:
            raise IndexError(f"[Tensor] axis {a} is out of range for {ndim} dimensions")
    return tuple([int(a) % ndim for a in axes])


def _resolve(shape: Sequence[int], count: int) -> tuple[int, ...]:
    """Puts the missing size in the place of -1."""
    if -1 in shape:
        known = -math.prod(shape)
        if known > 0 and count % known == 0 and list(shape).count(-1) == 1:
            return tuple(count // known if size == -1 else int(size) for size in shape)
    return tuple(int(size) for size in shape)


def sum_to(dy: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The gradient of something of `shape` that was broadcast to the shape of `dy`."""
    if math.prod(shape) == 1:
        return np.asarray(dy.sum()).reshape(shape)
    added = dy.ndim - len(shape)
    axes = tuple(range(added)) + tuple(
        added + i for i, size in enumerate(shape) if size == 1 != dy.shape[added + i]
    )
    summed: NDArray[Any] = dy.sum(axes) if axes else np.array(dy)
    return summed.reshape(shape)


def index_parts(index: Any) -> tuple[Any, ...]:
    """An index as NumPy takes it."""
    parts = index if isinstance(index, tuple) else (index,)
    return tuple(np.asarray(p) if is_tensor(p) else p for p in parts)


def _is_basic(parts: tuple[Any, ...]) -> bool:
    """Whether an index selects no element twice: only slices, integers, None and Ellipsis do."""
    kinds = (slice, int, np.integer, type(None), type(Ellipsis))
    return all(isinstance(p, kinds) and not isinstance(p, bool) for p in parts)


# ---------------------------------------------------------------------------------- operations
def reshape(x: Tensor, *shape: Any) -> Tensor:
    """The same elements in another shape; one size may be -1."""
    return _reshape(x, _resolve(sizes_of(shape), math.prod(x.shape)))


def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Joins the dimensions from `start_dim` to `end_dim` into one."""
    shape = x.shape or (1,)
    start, end = axes_of((start_dim, end_dim), len(shape))
    return _reshape(x, (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))


def squeeze(x: Tensor, dim: Axes = None) -> Tensor:
    """Without the dimensions of size 1, or those of them that `dim` names."""
    axes = axes_of(dim, x.ndim)
    return _reshape(x, tuple(n for i, n in enumerate(x.shape) if n != 1 or i not in axes))


def unsqueeze(x: Tensor, dim: int) -> Tensor:
    """With a new dimension of size 1 at `dim`."""
    (dim,) = axes_of(dim, x.ndim + 1)
    return _reshape(x, (*x.shape[:dim], 1, *x.shape[dim:]))


def permute(x: Tensor, *dims: Any) -> Tensor:
    """The dimensions in another order (a copy)."""
    order = axes_of(sizes_of(dims), x.ndim)
    inverse = tuple(int(i) for i in np.argsort(order))
    y = x._array.values().transpose(order).copy()
    return unary_numpy(x, y, lambda dy: dy.transpose(inverse), "permute")


def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged (a copy)."""
    order = list(range(x.ndim))
    dim0, dim1 = axes_of((dim0, dim1), x.ndim)
    order[dim0], order[dim1] = dim1, dim0
    return permute(x, order)


def getitem(x: Tensor, index: Any) -> Tensor:
    """A copy of what NumPy's indexing selects. Elements selected twice get both gradients."""
    parts = index_parts(index)
    shape = x.shape

    def backward(dy: NDArray[Any]) -> NDArray[Any]:
        dx = np.zeros(shape, np.float32)
        if _is_basic(parts):
            dx[parts] = dy
        else:
            np.add.at(dx, parts, dy)
        return dx

    return unary_numpy(x, np.array(x._array.values()[parts]), backward, "getitem")


def expanded(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Broadcast to `shape`; the gradient is summed where elements were repeated."""
    before = x.shape
    if before == shape:
        return x
    y = np.broadcast_to(x._array.values(), shape).copy()
    return unary_numpy(x, y, lambda dy: sum_to(dy, before), "expand")


def cat(tensors: Sequence[Tensor], axis: int) -> Tensor:
    """Joins tensors along an axis they may differ in."""
    y = _core.cat([t._array for t in tensors], axis)
    if not needs_grad(*tensors):
        return wrap(y)
    ends = np.cumsum([t.shape[axis] for t in tensors]).tolist()
    ranges = [
        (begin, end) if t.requires_grad else None
        for t, begin, end in zip(tensors, [0, *ends], ends, strict=False)
    ]

    def backward(dy: Array) -> tuple[Array | None, ...]:
        if axis == 0:
            dy = dy.to_plain()
        return tuple(None if r is None else _core.slice_axis(dy, axis, *r) for r in ranges)

    return record(y, tuple(tensors), backward, "cat")


# -------------------------------------------------------------------------------------- reshapes
def _reshape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    before = x.shape
    y = reshaped(x._array, shape)
    return _related(x, unary(x, y, lambda dy: reshaped(dy, before), "reshape"))


def _related(x: Tensor, reshape: Tensor) -> Tensor:
    """`reshape`, which changes along with `x`; see in_place.py."""
    if grad_mode.enabled or reshape._array.address != x._array.address:
        family = x._family = x._family or [weakref.ref(x)]
        if len(family) > _LARGE_FAMILY:
            family[:] = [ref for ref in family if ref() is not None]
        family.append(weakref.ref(reshape))
        reshape._family = family
    return reshape
