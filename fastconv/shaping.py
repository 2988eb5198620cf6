"""What tensors do about shape: reshape, flatten, transpose, index. A base class of `Tensor`.

Reshaping is free in any layout as long as the batch stays the first dimension. What moves elements
goes through NumPy: networks do it at their edges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from .convert import from_numpy

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    from ._core import Array
    from .tensor import Tensor

    Axes: TypeAlias = int | Sequence[int] | None

__all__ = ["Shaping", "axes_of", "reshaped", "sizes_of", "sum_to"]


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


def _index(index: Any) -> tuple[Any, ...]:
    """An index as NumPy takes it."""
    parts = index if isinstance(index, tuple) else (index,)
    return tuple(np.asarray(p) if isinstance(p, Shaping) else p for p in parts)


def _is_basic(parts: tuple[Any, ...]) -> bool:
    """Whether an index selects no element twice: only slices, integers, None and Ellipsis do."""
    kinds = (slice, int, np.integer, type(None), type(Ellipsis))
    return all(isinstance(p, kinds) and not isinstance(p, bool) for p in parts)


class Shaping:
    """The methods of `Tensor` that give the same elements another shape or order."""

    __slots__ = ()

    if TYPE_CHECKING:  # what Tensor provides
        _array: Array

        @property
        def requires_grad(self) -> bool: ...
        @property
        def shape(self) -> tuple[int, ...]: ...
        @property
        def ndim(self) -> int: ...
        @property
        def is_leaf(self) -> bool: ...
        def numpy(self) -> NDArray[Any]: ...
        def _values(self) -> NDArray[Any]: ...
        def _needs_grad(self, *others: Tensor) -> bool: ...
        def _become(self, result: Tensor) -> Tensor: ...
        def _related(self, reshape: Tensor) -> Tensor: ...
        def _unary(
            self, array: Array, backward: Callable[[Array], Array], op: str, *saved: Array | None
        ) -> Tensor: ...
        def _binary(
            self,
            other: Any,
            array: Array,
            backward: Callable[[Array], Any],
            op: str,
            *saved: Array | None,
        ) -> Tensor: ...
        def _operand(self, value: object) -> Tensor: ...
        def _wrap(self, array: Array) -> Tensor: ...

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in another shape; one size may be -1."""
        return self._reshape(_resolve(sizes_of(shape), math.prod(self.shape)))

    view = reshape

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """Joins the dimensions from `start_dim` to `end_dim` into one."""
        shape = self.shape or (1,)
        start, end = axes_of((start_dim, end_dim), len(shape))
        return self._reshape((*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))

    def squeeze(self, dim: Axes = None) -> Tensor:
        """Without the dimensions of size 1, or those of them that `dim` names."""
        axes = axes_of(dim, self.ndim)
        shape = self.shape
        return self._reshape(tuple(n for i, n in enumerate(shape) if n != 1 or i not in axes))

    def unsqueeze(self, dim: int) -> Tensor:
        """With a new dimension of size 1 at `dim`."""
        (dim,) = axes_of(dim, self.ndim + 1)
        return self._reshape((*self.shape[:dim], 1, *self.shape[dim:]))

    def permute(self, *dims: Any) -> Tensor:
        """The dimensions in another order (a copy)."""
        order = axes_of(sizes_of(dims), self.ndim)
        inverse = tuple(int(i) for i in np.argsort(order))
        y = self._values().transpose(order).copy()
        return self._from_numpy(y, lambda dy: dy.transpose(inverse), "permute")

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        """Two dimensions exchanged (a copy)."""
        order = list(range(self.ndim))
        dim0, dim1 = axes_of((dim0, dim1), self.ndim)
        order[dim0], order[dim1] = dim1, dim0
        return self.permute(order)

    @property
    def T(self) -> Tensor:  # noqa: N802
        """All dimensions reversed."""
        return self.permute(*reversed(range(self.ndim)))

    def __getitem__(self, index: Any) -> Tensor:
        """A copy of what NumPy's indexing selects. Elements selected twice get both gradients."""
        parts = _index(index)
        shape = self.shape

        def backward(dy: NDArray[Any]) -> NDArray[Any]:
            dx = np.zeros(shape, np.float32)
            if _is_basic(parts):
                dx[parts] = dy
            else:
                np.add.at(dx, parts, dy)
            return dx

        return self._from_numpy(np.array(self._values()[parts]), backward, "getitem")

    def __setitem__(self, index: Any, value: Any) -> None:
        """Overwrites what NumPy's indexing selects, in place.

        Gradients: `value` gets those of the elements it was written to, and their old values none.
        Parameters can be written to under `fc.no_grad()` only.
        """
        parts = _index(index)
        if self._array.dtype != "float32":
            self.numpy()[parts] = np.asarray(value)
            return
        source = self._operand(value)
        values = source._values()
        values = values.reshape(()) if values.size == 1 else values  # one value fits any place
        if self.is_leaf and self._array.layout == "plain" and not self._needs_grad(source):
            self.numpy()[parts] = values
            return
        y = np.array(self._values())
        y[parts] = values
        shape = source.shape

        def backward(dy: Array) -> tuple[Array, Array]:
            dx = np.array(dy.values())
            dvalue = np.array(dx[parts])
            dx[parts] = 0
            return from_numpy(dx), from_numpy(sum_to(dvalue, shape))

        self._become(self._binary(source, from_numpy(y), backward, "setitem"))

    def _reshape(self, shape: tuple[int, ...]) -> Tensor:
        before = self.shape
        y = reshaped(self._array, shape)
        return self._related(self._unary(y, lambda dy: reshaped(dy, before), "reshape"))

    def _from_numpy(
        self, y: Any, backward: Callable[[NDArray[Any]], Any], op: str, *saved: Array | None
    ) -> Tensor:
        """The result of a computation in NumPy, with its gradient in NumPy."""

        def in_numpy(dy: Array) -> Array:
            dx = np.asarray(backward(dy.values()), np.float32)
            return _core.array(dx, shared=False)

        return self._unary(from_numpy(y), in_numpy, op, *saved)

    def _expanded(self, shape: tuple[int, ...]) -> Any:
        """Broadcast to `shape`; the gradient is summed where elements were repeated."""
        before = self.shape
        if before == shape:
            return self
        y = np.broadcast_to(self._values(), shape).copy()
        return self._from_numpy(y, lambda dy: sum_to(dy, before), "expand")
