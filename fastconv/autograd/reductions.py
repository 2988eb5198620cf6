"""The operations that reduce many elements to one: sums, means, extremes, norms.

They are methods of `Tensor`. The compiled core sums all elements, and the pixels of (N, C, H, W);
reductions along other axes go through NumPy. `axis` and `keepdims` are NumPy's names of `dim` and
`keepdim`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _core
from .conversion import from_numpy
from .operands import broadcast
from .shaping import axes_of
from .tape import binary, unary, unary_numpy, wrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .._core import Array
    from .shaping import Axes
    from .tensor import Tensor

__all__ = [
    "ValuesAndIndices",
    "argmax",
    "argmin",
    "max",
    "mean",
    "min",
    "norm",
    "prod",
    "std",
    "sum",
    "var",
]


class ValuesAndIndices(NamedTuple):
    """What `max` and `min` along one dimension give."""

    values: Tensor
    indices: Tensor  # int64


def sum(
    x: Tensor, dim: Axes = None, keepdim: bool = False, *, axis: Axes = None, keepdims: bool = False
) -> Tensor:
    """The sum over all elements, or along `dim`, an int or several."""
    shape = x.shape
    dim, keepdim = _one_of(dim, axis), keepdim or keepdims
    if dim is None and not keepdim:
        total = _core.sum(x._array)
        return unary(x, total, lambda dy: _core.full(shape, dy.item()), "sum")
    axes = axes_of(dim, len(shape))

    def backward(dy: NDArray[Any]) -> Any:
        return np.broadcast_to(dy.reshape(_kept(shape, axes)), shape)

    return unary_numpy(x, x._array.values().sum(axes, keepdims=keepdim), backward, "sum")


def mean(
    x: Tensor, dim: Axes = None, keepdim: bool = False, *, axis: Axes = None, keepdims: bool = False
) -> Tensor:
    """The mean over all elements, or along `dim`. Fast over the pixels of (N, C, H, W)."""
    shape = x.shape
    keepdim = keepdim or keepdims
    axes = axes_of(_one_of(dim, axis), len(shape))
    if len(shape) == 4 and axes == (2, 3) and x.shape[2] and x.shape[3]:
        y = unary(
            x,
            _core.adaptive_avg_pool2d_forward(x._array, (1, 1)),
            lambda dy: _core.adaptive_avg_pool2d_backward(dy, shape),
            "mean",
        )
        return y if keepdim else y.reshape(shape[:2])
    total = x.sum(None if len(axes) == len(shape) and not keepdim else axes, keepdim)
    return total / math.prod(shape[a] for a in axes)


def max(
    x: Tensor,
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
    return _extreme(_MAX, x, dim, keepdim, axis, keepdims)


def min(
    x: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    axis: Axes = None,
    keepdims: bool = False,
) -> Any:
    """The smallest of all elements; along `dim`, (values, indices); see `max`."""
    return _extreme(_MIN, x, dim, keepdim, axis, keepdims)


def argmax(
    x: Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    axis: int | None = None,
    keepdims: bool = False,
) -> Tensor:
    """The index (int64) of the first largest element, of all or along `dim`."""
    return _index_of(x, np.argmax, _one_of(dim, axis), keepdim or keepdims)


def argmin(
    x: Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    axis: int | None = None,
    keepdims: bool = False,
) -> Tensor:
    """The index (int64) of the first smallest element, of all or along `dim`."""
    return _index_of(x, np.argmin, _one_of(dim, axis), keepdim or keepdims)


def var(
    x: Tensor,
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
    y, distance, kept, free = _deviations(x, _one_of(dim, axis), correction)

    def backward(dy: NDArray[Any]) -> Any:
        return dy.reshape(kept) * distance * (2 / free)

    y = y if keepdim or keepdims else _without(y, _one_of(dim, axis))
    return unary_numpy(x, y.astype(np.float32), backward, "var")


def std(
    x: Tensor,
    dim: Axes = None,
    keepdim: bool = False,
    *,
    correction: float = 1,
    axis: Axes = None,
    keepdims: bool = False,
) -> Tensor:
    """The standard deviation: the root of `var`. Where it is 0, so is its gradient."""
    variance, distance, kept, free = _deviations(x, _one_of(dim, axis), correction)
    root = np.sqrt(variance)

    def backward(dy: NDArray[Any]) -> Any:
        scale = np.divide(dy.reshape(kept), root * free, where=root != 0, out=np.zeros(kept))
        return scale * distance

    y = root if keepdim or keepdims else _without(root, _one_of(dim, axis))
    return unary_numpy(x, y.astype(np.float32), backward, "std")


def norm(
    x: Tensor,
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
    u = x._array.values().astype(np.float64)
    axes = axes_of(_one_of(dim, axis), u.ndim)
    size = np.abs(u)
    if math.isinf(p):
        y = size.max(axes, keepdims=True)
    else:
        y = (size**p).sum(axes, keepdims=True) ** (1 / p)

    def backward(dy: NDArray[Any]) -> Any:
        dy = dy.reshape(y.shape)
        if math.isinf(p):
            largest = (size == y) & (y != 0)
            count = np.maximum(largest.sum(axes, keepdims=True), 1)
            return np.sign(u) * np.where(largest, dy / count, 0)
        share = np.divide(size, y, where=y != 0, out=np.zeros_like(size))
        return np.sign(u) * dy * np.where(share > 0, share, 1) ** (p - 1) * (share > 0)

    kept = y if keepdim or keepdims else _without(y, axes)
    return unary_numpy(x, kept.astype(np.float32), backward, "norm", x._array)


def prod(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The product of all elements, or along `dim`."""
    u = x._array.values()
    axes = axes_of(dim, u.ndim)
    y = u.prod(axes, keepdims=True)

    def backward(dy: NDArray[Any]) -> Any:
        zeros = (u == 0).sum(axes, keepdims=True)
        others = np.where(u == 0, np.float32(1), u).prod(axes, keepdims=True)
        with np.errstate(all="ignore"):
            plain = np.where(zeros == 0, y / u, np.float32(0))
        slope = np.where((zeros == 1) & (u == 0), others, plain)
        return dy.reshape(y.shape) * slope

    return unary_numpy(x, y if keepdim else _without(y, axes), backward, "prod", x._array)


# ---------------------------------------------------------------------------- largest, smallest
class _Extreme(NamedTuple):
    """What differs between `max` and `min`."""

    name: str
    find: Callable[..., Any]
    find_index: Callable[..., Any]
    of_two: Callable[..., Any]
    beats: Callable[..., Any]


_MAX = _Extreme("max", np.max, np.argmax, np.maximum, np.greater)
_MIN = _Extreme("min", np.min, np.argmin, np.minimum, np.less)


def _extreme(kind: _Extreme, x: Tensor, dim: Any, keepdim: bool, axis: Axes, keepdims: bool) -> Any:
    if dim is None:
        return _values_alone(kind, x, axis, keepdim or keepdims)
    if isinstance(dim, (int, np.integer)):
        return _values_and_indices(kind, x, int(dim), keepdim)
    return _of_two(kind, x, dim)


def _values_alone(kind: _Extreme, x: Tensor, axis: Axes, keepdims: bool) -> Tensor:
    u = x._array.values()
    axes = axes_of(axis, u.ndim)
    kept = kind.find(u, axis=axes, keepdims=True)

    def backward(dy: NDArray[Any]) -> Any:
        chosen = (u == kept) | (np.isnan(u) & np.isnan(kept))
        share = dy.reshape(kept.shape) / chosen.sum(axes, keepdims=True)
        return chosen * share

    y = kept if keepdims else _without(kept, axes)
    return unary_numpy(x, y, backward, kind.name, x._array)


def _values_and_indices(kind: _Extreme, x: Tensor, dim: int, keepdim: bool) -> ValuesAndIndices:
    u = x._array.values()
    (along,) = axes_of(dim, u.ndim)
    places = np.expand_dims(kind.find_index(u, axis=along), along)
    y, indices = np.take_along_axis(u, places, along), places
    if not keepdim:
        y, indices = y.squeeze(along), indices.squeeze(along)

    def backward(dy: NDArray[Any]) -> Any:
        dx = np.zeros(u.shape, np.float32)
        np.put_along_axis(dx, places, dy.reshape(places.shape), along)
        return dx

    if u.dtype == np.float32:
        values = unary_numpy(x, y, backward, kind.name)
    else:
        values = wrap(from_numpy(np.array(y)))
    return ValuesAndIndices(values, wrap(from_numpy(np.array(indices, np.int64))))


def _of_two(kind: _Extreme, x: Tensor, other: Any) -> Tensor:
    """The larger (or smaller) of two elements; where they are equal each has half of dy."""
    a, b = broadcast(x, other)
    u, v = a._array.values(), b._array.values()

    def backward(dy: Array) -> tuple[Array, Array]:
        half = np.where(u == v, np.float32(0.5), np.float32(0))
        first = np.where(kind.beats(u, v), np.float32(1), half)
        first = np.where(np.isnan(u), np.float32(1), first)
        second = np.where(np.isnan(u) & ~np.isnan(v), np.float32(0), 1 - first)
        return from_numpy(dy.values() * first), from_numpy(dy.values() * second)

    y = from_numpy(np.asarray(kind.of_two(u, v)))
    return binary(a, b, y, backward, kind.name, a._array, b._array)


# --------------------------------------------------------------------------------------- helpers
def _deviations(
    x: Tensor, dim: Axes, correction: float
) -> tuple[NDArray[Any], NDArray[Any], tuple[int, ...], float]:
    """Along `dim`, kept: variances, distances from the mean, shape, degrees of freedom."""
    u = x._array.values().astype(np.float64)
    axes = axes_of(dim, u.ndim)
    free = math.prod(u.shape[a] for a in axes) - correction
    with np.errstate(all="ignore"):
        distance = u - u.mean(axes, keepdims=True)
        squares = np.square(distance).sum(axes, keepdims=True)
        variance = np.divide(squares, free if free > 0 else 0)
    return variance, distance, variance.shape, free


def _index_of(x: Tensor, find: Callable[..., Any], dim: Axes, keepdim: bool) -> Tensor:
    index = np.asarray(find(x._array.values(), axis=dim, keepdims=keepdim))
    return wrap(from_numpy(index.astype(np.int64)))


def _one_of(dim: Axes, axis: Axes) -> Axes:
    return dim if axis is None else axis


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape after a reduction with keepdim."""
    return tuple(1 if i in axes else size for i, size in enumerate(shape))


def _without(y: NDArray[Any], dim: Axes) -> NDArray[Any]:
    """Drops the dimensions that keepdim kept."""
    return np.asarray(y.squeeze(axes_of(dim, y.ndim)))
