"""NumPy's functions on Tensors: np.exp(t), np.concatenate([t, u]), array + t.

A call with a Tensor does one of three things, and none drops a gradient silently:

* a function with a known gradient returns a Tensor and is recorded like any operation;
* a function that is piecewise constant (comparisons, argmax, rounding) or only inspects (np.shape)
  returns NumPy's result for the values;
* any other function returns that too, but raises where a gradient is needed.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import elementwise, shaping
from .conversion import as_array, from_numpy
from .shaping import axes_of, sum_to
from .tape import binary, is_tensor, needs_grad, unary_numpy, wrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .._core import Array
    from .tensor import Tensor

__all__ = ["apply_function", "apply_ufunc"]


def apply_ufunc(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], options: Any) -> Any:
    """What NumPy calls for a ufunc with a Tensor among its arguments."""
    known = _ufuncs().get(ufunc) if method == "__call__" and not options else None
    if known is not None and _are_float32(inputs):
        return known(*(_operand(x) for x in inputs))
    out = options.get("out", (None,))[0]
    if is_tensor(out):
        return out.copy_(apply_ufunc(ufunc, method, inputs, {**options, "out": (None,)}))
    name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
    return _values_only(name, getattr(ufunc, method), inputs, options, ufunc in _CONSTANT_UFUNCS)


def apply_function(function: Callable[..., Any], args: Any, options: Any) -> Any:
    """What NumPy calls for one of its other functions with a Tensor among its arguments."""
    known = _functions().get(function)
    if known is not None and _fits(known, args, options) and _are_float32((*args, options)):
        return known(*args, **options)
    name = function.__name__
    return _values_only(name, function, args, options, name in _CONSTANT_FUNCTIONS)


# ------------------------------------------------------------------------------------- by values
_CONSTANT_UFUNCS = {
    *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
    *(np.isnan, np.isinf, np.isfinite, np.signbit, np.sign, np.floor, np.ceil, np.trunc, np.rint),
    *(np.logical_and, np.logical_or, np.logical_not, np.logical_xor, np.floor_divide),
}
_CONSTANT_FUNCTIONS = {
    *("argmax", "argmin", "argsort", "argpartition", "nanargmax", "nanargmin", "argwhere"),
    *("nonzero", "flatnonzero", "count_nonzero", "searchsorted", "digitize", "bincount"),
    *("histogram", "round", "around", "fix", "isclose", "allclose", "array_equal", "array_equiv"),
    *("any", "all", "shape", "ndim", "size", "iscomplexobj", "isrealobj", "isscalar"),
    *("result_type", "can_cast", "zeros_like", "ones_like", "empty_like", "full_like"),
    *("may_share_memory", "shares_memory", "array_repr", "array_str", "array2string"),
    *("save", "savez", "savez_compressed", "savetxt"),
}


def _values_only(
    name: str, function: Callable[..., Any], args: Any, options: Any, constant: bool
) -> Any:
    tensors = _tensors((*args, options))
    if not constant and needs_grad(*tensors):
        raise TypeError(
            f"[numpy] np.{name} would cut its result off the tape: no gradient is known for it. "
            "Use the methods of Tensor or fastconv.functional, or t.detach() for the values alone"
        )
    return function(*_as_numpy(args), **_as_numpy(options))


def _as_numpy(value: Any) -> Any:
    if is_tensor(value):
        return value.numpy()
    if isinstance(value, dict):
        return {key: _as_numpy(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(_as_numpy(v) for v in value)
    return value


def _tensors(value: Any) -> list[Tensor]:
    if is_tensor(value):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [t for v in value for t in _tensors(v)]
    return []


# ---------------------------------------------------------------------------------- with gradients
def _are_float32(value: Any) -> bool:
    return all(t._array.dtype == "float32" for t in _tensors(value))


@functools.lru_cache(maxsize=256)
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def _fits(function: Callable[..., Any], args: Any, options: Any) -> bool:
    """Whether it takes these arguments: dtype=, out= and where= it does not."""
    try:
        _signature(function).bind(*args, **options)
    except TypeError:
        return False
    return True


def _operand(x: Any) -> Any:
    """An operand that Tensor's operators take without calling NumPy again."""
    if is_tensor(x) or (isinstance(x, (int, float)) and not isinstance(x, np.generic)):
        return x
    x = np.asarray(x)
    return x.item() if x.ndim == 0 else _tensor(x)


def _tensor(x: Any) -> Tensor:
    if is_tensor(x):
        return x
    return wrap(as_array(np.asarray(x, np.float32), copy=True))


def _elementwise(
    f: Callable[[NDArray[Any]], Any], slope: Callable[[NDArray[Any]], Any]
) -> Callable[[Tensor], Tensor]:
    def apply(t: Tensor) -> Tensor:
        x = t._array.values()

        @np.errstate(all="ignore")
        def backward(dy: NDArray[Any]) -> NDArray[Any]:
            return np.asarray(dy * slope(x))

        return unary_numpy(t, f(x), backward, getattr(f, "__name__", "elementwise"), t._array)

    return apply


@functools.lru_cache(maxsize=1)
def _ufuncs() -> dict[np.ufunc, Callable[..., Any]]:
    return {
        np.add: operator.add,
        np.subtract: operator.sub,
        np.multiply: operator.mul,
        np.divide: operator.truediv,
        np.power: operator.pow,
        np.matmul: operator.matmul,
        np.negative: operator.neg,
        np.positive: lambda t: t,
        np.square: lambda t: t * t,
        np.reciprocal: lambda t: 1.0 / t,
        np.exp: elementwise.exp,
        np.log: elementwise.log,
        np.sqrt: elementwise.sqrt,
        np.absolute: elementwise.abs,
        np.fabs: elementwise.abs,
        np.maximum: lambda a, b: _tensor(a).max(_tensor(b)),
        np.minimum: lambda a, b: _tensor(a).min(_tensor(b)),
        np.tanh: _elementwise(np.tanh, lambda x: 1 - np.tanh(x) ** 2),
        np.sin: _elementwise(np.sin, np.cos),
        np.cos: _elementwise(np.cos, lambda x: -np.sin(x)),
        np.expm1: _elementwise(np.expm1, np.exp),
        np.log1p: _elementwise(np.log1p, lambda x: 1 / (1 + x)),
        np.log2: _elementwise(np.log2, lambda x: 1 / (x * np.float32(math.log(2)))),
        np.log10: _elementwise(np.log10, lambda x: 1 / (x * np.float32(math.log(10)))),
    }


@functools.lru_cache(maxsize=1)
def _functions() -> dict[Callable[..., Any], Callable[..., Any]]:
    return {
        np.sum: lambda a, axis=None, *, keepdims=False: a.sum(axis=axis, keepdims=keepdims),
        np.mean: lambda a, axis=None, *, keepdims=False: a.mean(axis=axis, keepdims=keepdims),
        np.max: lambda a, axis=None, *, keepdims=False: a.max(axis=axis, keepdims=keepdims),
        np.amax: lambda a, axis=None, *, keepdims=False: a.max(axis=axis, keepdims=keepdims),
        np.min: lambda a, axis=None, *, keepdims=False: a.min(axis=axis, keepdims=keepdims),
        np.amin: lambda a, axis=None, *, keepdims=False: a.min(axis=axis, keepdims=keepdims),
        np.prod: lambda a, axis=None, *, keepdims=False: a.prod(axis, keepdims),
        np.std: lambda a, axis=None, *, ddof=0, keepdims=False: a.std(
            axis=axis, keepdims=keepdims, correction=ddof
        ),
        np.var: lambda a, axis=None, *, ddof=0, keepdims=False: a.var(
            axis=axis, keepdims=keepdims, correction=ddof
        ),
        np.clip: _clip,
        np.squeeze: lambda a, axis=None: a.squeeze(axis),
        np.expand_dims: lambda a, axis: functools.reduce(
            shaping.unsqueeze, sorted(axes_of(axis, a.ndim + np.size(axis))), a
        ),
        np.transpose: lambda a, axes=None: a.T if axes is None else a.permute(*axes),
        np.swapaxes: lambda a, axis1, axis2: a.transpose(axis1, axis2),
        np.moveaxis: lambda a, source, destination: a.permute(*_moved(a.ndim, source, destination)),
        np.reshape: lambda a, shape: a.reshape(shape),
        np.ravel: lambda a: a.reshape(-1),
        np.broadcast_to: lambda array, shape: shaping.expanded(array, tuple(np.atleast_1d(shape))),
        np.flip: lambda m, axis=None: m[
            tuple(slice(None, None, -1 if i in axes_of(axis, m.ndim) else 1) for i in range(m.ndim))
        ],
        np.concatenate: _concatenate,
        np.stack: lambda arrays, axis=0: _concatenate(
            [_tensor(t).unsqueeze(axis) for t in arrays], axis
        ),
        np.hstack: lambda tup: _concatenate(tup, 0 if np.ndim(tup[0]) == 1 else 1),
        np.vstack: lambda tup: _concatenate(
            [t.reshape(1, -1) if t.ndim < 2 else t for t in map(_tensor, tup)], 0
        ),
        np.where: _where,
        np.dot: lambda a, b: (
            (_tensor(a) * _tensor(b)).sum() if np.ndim(a) == 1 else _tensor(a) @ _tensor(b)
        ),
    }


def _moved(ndim: int, source: Any, destination: Any) -> list[int]:
    """The permutation that np.moveaxis stands for."""
    sources, targets = axes_of(source, ndim), axes_of(destination, ndim)
    order = [i for i in range(ndim) if i not in sources]
    for target, origin in sorted(zip(targets, sources, strict=True)):
        order.insert(target, origin)
    return order


def _clip(a: Any, a_min: Any = None, a_max: Any = None) -> Tensor:
    t = _tensor(a)
    if all(bound is None or np.ndim(bound) == 0 for bound in (a_min, a_max)):
        low, high = (None if b is None else float(b) for b in (a_min, a_max))
        return t.clamp(low, high)
    t = t if a_min is None else t.max(_tensor(a_min))
    return t if a_max is None else t.min(_tensor(a_max))


def _concatenate(arrays: Sequence[Any], axis: int | None = 0) -> Tensor:
    tensors = [_tensor(t) for t in arrays]
    if axis is None:
        tensors, axis = [t.reshape(-1) for t in tensors], 0
    return shaping.cat(tensors, axis)


def _where(condition: Any, x: Any, y: Any) -> Tensor:
    chosen = np.asarray(condition) != 0
    a, b = _tensor(x), _tensor(y)
    shapes = a.shape, b.shape
    values = np.where(chosen, a._array.values(), b._array.values())

    def backward(dy: Array) -> tuple[Array, Array]:
        dx = dy.values()
        da, db = np.where(chosen, dx, np.float32(0)), np.where(chosen, np.float32(0), dx)
        return from_numpy(sum_to(da, shapes[0])), from_numpy(sum_to(db, shapes[1]))

    return binary(a, b, from_numpy(values), backward, "where")
