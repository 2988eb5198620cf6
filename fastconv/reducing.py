"""What tensors do with many elements at once: sums, means, extremes, norms.

A base class of `Tensor`. All elements, and the pixels of (N, C, H, W), are summed by the compiled
core; reductions along other axes go through NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _core
from .convert import from_numpy
from .shaping import Shaping, axes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .shaping import Axes
    from .tensor import Tensor

__all__ = ["Reducing", "ValuesAndIndices"]


class ValuesAndIndices(NamedTuple):
    """What `max` and `min` along one dimension give."""

    values: Tensor
    indices: Tensor  # int64


class Reducing(Shaping):
    """The methods of `Tensor` that reduce. `axis` and `keepdims` are NumPy's names of `dim`."""

    __slots__ = ()

    if TYPE_CHECKING:  # what Arithmetic provides

        def _broadcast(self, other: Any) -> tuple[Tensor, Tensor]: ...

    def sum(
        self, dim: Axes = None, keepdim: bool = False, *, axis: Axes = None, keepdims: bool = False
    ) -> Tensor:
        """The sum over all elements, or along `dim`, an int or several."""
        shape = self.shape
        dim, keepdim = _one_of(dim, axis), keepdim or keepdims
        if dim is None and not keepdim:
            total = _core.sum(self._array)
            return self._unary(total, lambda dy: _core.full(shape, dy.item()), "sum")
        axes = axes_of(dim, len(shape))

        def backward(dy: NDArray[Any]) -> Any:
            return np.broadcast_to(dy.reshape(_kept(shape, axes)), shape)

        return self._from_numpy(self._values().sum(axes, keepdims=keepdim), backward, "sum")

    def mean(
        self, dim: Axes = None, keepdim: bool = False, *, axis: Axes = None, keepdims: bool = False
    ) -> Tensor:
        """The mean over all elements, or along `dim`. Fast over the pixels of (N, C, H, W)."""
        shape = self.shape
        keepdim = keepdim or keepdims
        axes = axes_of(_one_of(dim, axis), len(shape))
        if len(shape) == 4 and axes == (2, 3) and self.shape[2] and self.shape[3]:
            y = self._unary(
                _core.adaptive_avg_pool2d_forward(self._array, (1, 1)),
                lambda dy: _core.adaptive_avg_pool2d_backward(dy, shape),
                "mean",
            )
            return y if keepdim else y.reshape(shape[:2])
        total = self.sum(None if len(axes) == len(shape) and not keepdim else axes, keepdim)
        return total / math.prod(shape[a] for a in axes)

    def max(
        self,
        dim: Any = None,
        keepdim: bool = False,
        *,
        axis: Axes = None,
        keepdims: bool = False,
    ) -> Any:
        """The largest of all elements; along `dim`, (values, indices); or of two tensors.

        NaN is larger than anything. Equal elements share the gradient of the largest of all; along
        `dim` the one that `indices` names has it.

        Args:
            dim: a dimension; or another tensor, elementwise.
            keepdim: keep the dimension, with size 1.
            axis, keepdims: as in NumPy: the values alone, along one or several axes.

        Example:
            >>> import fastconv as fc
            >>> t = fc.Tensor([[1.0, 5.0, 2.0], [7.0, 3.0, 9.0]])
            >>> t.max()
            Tensor(9.)
            >>> values, indices = t.max(1)
            >>> values, indices
            (Tensor([5., 9.]), Tensor([1, 2], dtype=int64))
        """
        return self._largest(1, "max", dim, keepdim, axis, keepdims)

    def min(
        self,
        dim: Any = None,
        keepdim: bool = False,
        *,
        axis: Axes = None,
        keepdims: bool = False,
    ) -> Any:
        """The smallest of all elements; along `dim`, (values, indices); see `max`."""
        return self._largest(-1, "min", dim, keepdim, axis, keepdims)

    def argmax(
        self,
        dim: int | None = None,
        keepdim: bool = False,
        *,
        axis: int | None = None,
        keepdims: bool = False,
    ) -> Tensor:
        """The index (int64) of the first largest element, of all or along `dim`."""
        return self._index_of(np.argmax, _one_of(dim, axis), keepdim or keepdims)

    def argmin(
        self,
        dim: int | None = None,
        keepdim: bool = False,
        *,
        axis: int | None = None,
        keepdims: bool = False,
    ) -> Tensor:
        """The index (int64) of the first smallest element, of all or along `dim`."""
        return self._index_of(np.argmin, _one_of(dim, axis), keepdim or keepdims)

    def var(
        self,
        dim: Axes = None,
        keepdim: bool = False,
        *,
        correction: float = 1,
        axis: Axes = None,
        keepdims: bool = False,
    ) -> Tensor:
        """The variance: squared distances from the mean, summed, over their number less correction.

        correction is 1, as in PyTorch; NumPy's is 0.
        """
        y, distance, kept, free = self._spread(_one_of(dim, axis), correction)

        def backward(dy: NDArray[Any]) -> Any:
            return dy.reshape(kept) * distance * (2 / free)

        y = y if keepdim or keepdims else self._without(y, _one_of(dim, axis))
        return self._from_numpy(y.astype(np.float32), backward, "var")

    def std(
        self,
        dim: Axes = None,
        keepdim: bool = False,
        *,
        correction: float = 1,
        axis: Axes = None,
        keepdims: bool = False,
    ) -> Tensor:
        """The standard deviation: the root of `var`. Where it is 0, so is its gradient."""
        variance, distance, kept, free = self._spread(_one_of(dim, axis), correction)
        root = np.sqrt(variance)

        def backward(dy: NDArray[Any]) -> Any:
            scale = np.divide(dy.reshape(kept), root * free, where=root != 0, out=np.zeros(kept))
            return scale * distance

        y = root if keepdim or keepdims else self._without(root, _one_of(dim, axis))
        return self._from_numpy(y.astype(np.float32), backward, "std")

    def norm(
        self,
        p: float = 2,
        dim: Axes = None,
        keepdim: bool = False,
        *,
        axis: Axes = None,
        keepdims: bool = False,
    ) -> Tensor:
        """The p-norm, (sum of |x|^p)^(1/p): of all elements or along `dim`. p may be infinite.

        Where the norm is 0, so is its gradient.
        """
        if not p > 0:
            raise ValueError(f"[norm] p must be above 0, got {p!r}")
        x = self._values().astype(np.float64)
        axes = axes_of(_one_of(dim, axis), x.ndim)
        size = np.abs(x)
        if math.isinf(p):
            y = size.max(axes, keepdims=True)
        else:
            y = (size**p).sum(axes, keepdims=True) ** (1 / p)

        def backward(dy: NDArray[Any]) -> Any:
            dy = dy.reshape(y.shape)
            if math.isinf(p):
                largest = (size == y) & (y != 0)
                count = np.maximum(largest.sum(axes, keepdims=True), 1)
                return np.sign(x) * np.where(largest, dy / count, 0)
            share = np.divide(size, y, where=y != 0, out=np.zeros_like(size))
            return np.sign(x) * dy * np.where(share > 0, share, 1) ** (p - 1) * (share > 0)

        kept = y if keepdim or keepdims else self._without(y, axes)
        return self._from_numpy(kept.astype(np.float32), backward, "norm", self._array)

    def prod(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """The product of all elements, or along `dim`."""
        x = self._values()
        axes = axes_of(dim, x.ndim)
        y = x.prod(axes, keepdims=True)

        def backward(dy: NDArray[Any]) -> Any:
            zeros = (x == 0).sum(axes, keepdims=True)
            others = np.where(x == 0, np.float32(1), x).prod(axes, keepdims=True)
            with np.errstate(all="ignore"):
                plain = np.where(zeros == 0, y / x, np.float32(0))
            slope = np.where((zeros == 1) & (x == 0), others, plain)
            return dy.reshape(y.shape) * slope

        kept = y if keepdim else self._without(y, axes)
        return self._from_numpy(kept, backward, "prod", self._array)

    # ---- helpers
    def _without(self, y: NDArray[Any], dim: Axes) -> NDArray[Any]:
        return np.asarray(y.squeeze(axes_of(dim, self.ndim)))

    def _spread(
        self, dim: Axes, correction: float
    ) -> tuple[NDArray[Any], NDArray[Any], tuple[int, ...], float]:
        """The variance, distances from the mean, the shape with kept dimensions, and freedom."""
        x = self._values().astype(np.float64)
        axes = axes_of(dim, x.ndim)
        free = math.prod(x.shape[a] for a in axes) - correction
        with np.errstate(all="ignore"):
            distance = x - x.mean(axes, keepdims=True)
            variance = np.divide(np.square(distance).sum(axes, keepdims=True), max(free, 0))
        return variance, distance, variance.shape, free

    def _index_of(self, find: Callable[..., Any], dim: Axes, keepdim: bool) -> Tensor:
        index = np.asarray(find(self._values(), axis=dim, keepdims=keepdim))
        return self._wrap(from_numpy(index.astype(np.int64)))

    def _largest(
        self, sign: int, op: str, dim: Any, keepdim: bool, axis: Axes, keepdims: bool
    ) -> Any:
        if dim is not None and not isinstance(dim, (int, np.integer)):
            return self._larger(sign, op, dim)
        find: Any = np.max if sign > 0 else np.min
        if dim is None:
            return self._shared_extreme(find, op, axis, keepdim or keepdims)
        x = self._values()
        (along,) = axes_of(int(dim), x.ndim)
        places = np.expand_dims((np.argmax if sign > 0 else np.argmin)(x, axis=along), along)
        y = np.take_along_axis(x, places, along)
        shape = x.shape

        def backward(dy: NDArray[Any]) -> Any:
            dx = np.zeros(shape, np.float32)
            np.put_along_axis(dx, places, dy.reshape(places.shape), along)
            return dx

        if not keepdim:
            y, indices = y.squeeze(along), places.squeeze(along)
        else:
            indices = places
        values = (
            self._from_numpy(y, backward, op)
            if x.dtype == np.float32
            else self._wrap(from_numpy(np.array(y)))
        )
        return ValuesAndIndices(values, self._wrap(from_numpy(np.array(indices, np.int64))))

    def _shared_extreme(self, find: Any, op: str, axis: Axes, keepdims: bool) -> Tensor:
        x = self._values()
        axes = axes_of(axis, x.ndim)
        kept = find(x, axis=axes, keepdims=True)

        def backward(dy: NDArray[Any]) -> Any:
            chosen = (x == kept) | (np.isnan(x) & np.isnan(kept))
            share = dy.reshape(kept.shape) / chosen.sum(axes, keepdims=True)
            return chosen * share

        y = kept if keepdims else self._without(kept, axes)
        return self._from_numpy(y, backward, op, self._array)

    def _larger(self, sign: int, op: str, other: Any) -> Tensor:
        """The larger (or smaller) of two elements; where they are equal each has half of dy."""
        a, b = self._broadcast(other)
        u, v = a._values(), b._values()

        def backward(dy: Any) -> tuple[Any, Any]:
            half = np.where(u == v, np.float32(0.5), np.float32(0))
            first = np.where((u > v) if sign > 0 else (u < v), np.float32(1), half)
            first = np.where(np.isnan(u), np.float32(1), first)
            second = np.where(np.isnan(u) & ~np.isnan(v), np.float32(0), 1 - first)
            return from_numpy(dy.values() * first), from_numpy(dy.values() * second)

        y = (np.maximum if sign > 0 else np.minimum)(u, v)
        made: Tensor = a._binary(b, from_numpy(np.asarray(y)), backward, op, a._array, b._array)
        return made


def _one_of(dim: Axes, axis: Axes) -> Axes:
    return dim if axis is None else axis


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape after a reduction with keepdim."""
    return tuple(1 if i in axes else size for i, size in enumerate(shape))
