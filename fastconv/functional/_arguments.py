"""What all functions share: NumPy in and out, pairs, padding, empty batches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, overload

import numpy as np

from .. import _core
from ..autograd import Tensor, as_tensor, needs_grad, no_grad, record, wrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .._core import Array, Pads, Pair

    Operand = Tensor | NDArray[Any]
    Sizes = int | Sequence[int]

__all__ = [
    "empty_batch",
    "geometry_of",
    "group_count",
    "numpy_too",
    "operand",
    "pad_pair",
    "pads_of",
    "pair",
    "pooling_of",
    "shape_error",
]

P = ParamSpec("P")


class Function(Protocol[P]):
    """A function of a Tensor that also takes, and then returns, NumPy arrays."""

    __name__: str
    __wrapped__: Callable[..., Any]

    @overload
    def __call__(self, input: Tensor, *args: P.args, **kwargs: P.kwargs) -> Tensor: ...
    @overload
    def __call__(
        self, input: NDArray[Any], *args: P.args, **kwargs: P.kwargs
    ) -> NDArray[np.float32]: ...


def numpy_too(function: Callable[Concatenate[Tensor, P], Tensor]) -> Function[P]:
    """Lets a function of tensors take NumPy arrays: NumPy in, NumPy out.

    When another argument is a Tensor, a layer's weight for instance, so is the result.
    """

    @functools.wraps(function)
    def wrapper(input: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(input, Tensor):
            return function(input, *args, **kwargs)
        result: Any = function(operand(input, function.__name__, "input"), *args, **kwargs)
        if any(isinstance(value, Tensor) for value in (*args, *kwargs.values())):
            return result
        return tuple(t.numpy() for t in result) if isinstance(result, tuple) else result.numpy()

    return wrapper


def operand(value: object, op: str, name: str) -> Tensor:
    """A float32 Tensor from a Tensor or a NumPy array; the error names operation and argument."""
    return value if isinstance(value, Tensor) else as_tensor(value, f"[{op}] {name}")


def shape_error(op: str, expected: str, shape: tuple[int, ...]) -> _core.ShapeError:
    """The error for a wrong number of dimensions, with the likely cure."""
    cure = ""
    if len(shape) == 2:
        cure = "; a grey image (H, W) becomes a batch with x[None, None]"
    elif len(shape) == 3:
        cure = "; a batch of grey images (N, H, W) becomes (N, 1, H, W) with x[:, None]"
    return _core.ShapeError(f"[{op}] expected {expected}, got {shape}{cure}")


def _whole(value: object, least: int) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool) and value >= least  # type: ignore[operator]


def pair(value: Sizes, what: str, least: int = 1) -> Pair:
    """An integer, or two, as two.

    Raises:
        ValueError: not whole, below `least`, or not one or two of them.
        OverflowError: beyond 63 bits.
    """
    if isinstance(value, (int, np.integer)):
        first = second = value
    else:
        try:
            first, second = value
        except (TypeError, ValueError):
            raise ValueError(
                f"{what} must be an integer or a pair of integers, got {value!r}"
            ) from None
    if not (_whole(first, least) and _whole(second, least)):
        raise ValueError(f"{what} must be integers of at least {least}, got {value!r}")
    first, second = int(first), int(second)
    if max(first, second) >= 1 << 63:
        raise OverflowError(f"{what} does not fit 63 bits: {value!r}")
    return first, second


def group_count(groups: int, op: str) -> int:
    """How many groups, checked."""
    return pair(groups, f"[{op}] groups")[0]


def pad_pair(padding: str | Sizes, what: str) -> str | Pair:
    """Padding as users say it: "same", "valid", or an integer or two, as two."""
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ValueError(
                f'{what} must be "same", "valid", an integer or a pair, got {padding!r}'
            )
        return padding
    return pair(padding, what, 0)


def pads_of(
    padding: str | Pair, size: Sequence[int], kernel: Sequence[int], stride: Pair, dilation: Pair
) -> Pads:
    """(top, bottom, left, right) for images of `size` (..., H, W) and kernels (..., KH, KW).

    "same" follows TensorFlow: an output of ceil(size / stride), the odd pixel at bottom and right.
    """
    if not isinstance(padding, str):
        return (padding[0], padding[0], padding[1], padding[1])
    if padding == "valid":
        return (0, 0, 0, 0)
    pads = []
    for axis in (0, 1):
        length, step = size[axis - 2], stride[axis]
        span = dilation[axis] * (kernel[axis - 2] - 1) + 1
        total = max((-(-length // step) - 1) * step + span - length, 0)
        pads += [total // 2, total - total // 2]
    return (pads[0], pads[1], pads[2], pads[3])


def empty_batch(function: Callable[[Tensor], Tensor], x: Tensor, *others: Tensor | None) -> Tensor:
    """What `function` gives for a batch x of N = 0: no values, zero gradients for every operand.

    The shape comes from one sample of zeros, so that every check is made as for any other batch.
    """
    with no_grad():
        shape = function(wrap(_core.zeros((1, *x.shape[1:])))).shape
    y = _core.zeros((0, *shape[1:]))
    parents = (x, *others)
    if not needs_grad(*parents):
        return wrap(y)
    shapes = [None if p is None else p.shape for p in parents]

    def backward(dy: Array) -> tuple[Array | None, ...]:
        return tuple(None if s is None else _core.zeros(s) for s in shapes)

    return record(y, parents, backward, "an operation on an empty batch")


# Made once for all calls that say the same.
geometry_of = functools.lru_cache(maxsize=1024)(_core.Geometry)
pooling_of = functools.lru_cache(maxsize=1024)(_core.Pooling)
