"""Dense layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from .. import _core
from ..autograd import Tensor, grad_mode, record, wrap
from ._arguments import LANES, empty_batch, numpy_too, operand
from ._neighbours import recent, remember

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .._core import Array, Pooling
    from ._arguments import Operand

__all__ = ["linear", "linear_backward"]


def _linear(x: Tensor, w: Tensor, b: Tensor | None, relu: bool) -> Tensor:
    """x w^T + b, then ReLU if asked for. Layers call it."""
    x_array, w_array = x._array, w._array
    shape = x_array.shape
    if len(shape) != 2 or shape[0] == 0:
        return _linear_unusual(x, w, b, relu)
    b_array = None if b is None else b._array
    need_x, need_w, need_b = x.requires_grad, w.requires_grad, b is not None and b.requires_grad
    if shape[0] >= LANES:
        x_array = x_array.to_lanes()
    y = _core.linear_forward(x_array, w_array, b_array, relu)
    if not (grad_mode.enabled and (need_x or need_w or need_b)):
        return _remembered(wrap(y), x, w, b, relu)

    mask = y if relu else None
    saved_x = x_array if need_w else None

    def backward(dy: Array) -> tuple[Array | None, Array | None, Array | None]:
        dx = dw = db = None
        if mask is not None:
            dy = _core.relu_backward(dy, mask)
        if need_x:
            dx = _core.linear_backward_input(dy, w_array)
        if saved_x is not None:
            dw = _core.linear_backward_weight(dy, saved_x)
        if need_b:
            db = _core.channel_sum(dy)
        return dx, dw, db

    saved = mask, saved_x, w_array if need_x else None
    return _remembered(record(y, (x, w, b), backward, "linear", *saved), x, w, b, relu)


def _remembered(result: Tensor, x: Tensor, w: Tensor, b: Tensor | None, relu: bool) -> Tensor:
    if recent.results is not None:

        def again(relu: bool, _: Pooling | None) -> Tensor:
            return _linear(x, w, b, relu)

        remember(result, again, relu, None, False, x, w, b)
    return result


def _linear_unusual(x: Tensor, w: Tensor, b: Tensor | None, relu: bool) -> Tensor:
    """Vectors, inputs of more than two dimensions, and batches of none."""
    if x.ndim == 2:
        return empty_batch(lambda x: _linear(x, w, b, relu), x, w, b)
    if x.ndim == 0:
        raise _core.ShapeError("[linear] expected an input (..., in_features), got a number")
    y = _linear(x.reshape(-1, x.shape[-1]), w, b, relu)
    return y.reshape((*x.shape[:-1], y.shape[-1]))


@numpy_too
def linear(input: Tensor, weight: Operand, bias: Operand | None = None) -> Tensor:
    """A dense layer, y = x w^T + b; `torch.nn.functional.linear`.

    Args:
        input: (N, in_features) float32, or (..., in_features).
        weight: (out_features, in_features).
        bias: (out_features,), or None.

    Returns:
        (N, out_features), or (..., out_features).

    Raises:
        ShapeError: sizes that do not fit.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> x, w = np.array([[1, 2]], np.float32), np.array([[1, 0], [0, 1], [1, 1]], np.float32)
        >>> F.linear(x, w, np.array([0, 0, 10], np.float32))
        array([[ 1.,  2., 13.]], dtype=float32)
    """
    w = operand(weight, "linear", "weight")
    return _linear(input, w, None if bias is None else operand(bias, "linear", "bias"), False)


@overload
def linear_backward(
    dy: NDArray[Any], x: NDArray[Any], w: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]: ...
@overload
def linear_backward(dy: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]: ...
def linear_backward(dy: Any, x: Any, w: Any) -> Any:
    """The gradients of `linear`, for networks that do without the tape.

    Args:
        dy: (N, out_features) float32, the gradient of the output.
        x: (N, in_features), the input. w: (out_features, in_features), the weight.

    Returns:
        dx = dy w, dw = dy^T x and db, the sum of dy over N.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> x, w = np.array([[1, 2]], np.float32), np.array([[3, 4]], np.float32)
        >>> dx, dw, db = F.linear_backward(np.array([[10]], np.float32), x, w)
        >>> dx, dw, db
        (array([[30., 40.]], dtype=float32), array([[10., 20.]], dtype=float32), \
array([10.], dtype=float32))
    """
    tensors = isinstance(dy, Tensor) or isinstance(x, Tensor) or isinstance(w, Tensor)
    op = "linear_backward"
    gy, gx, gw = operand(dy, op, "dy"), operand(x, op, "x"), operand(w, op, "w")
    expected = (*gx.shape[:1], *gw.shape[:1])
    if not gy.ndim == gx.ndim == gw.ndim == 2 or gy.shape != expected or gx.shape[1] != gw.shape[1]:
        raise _core.ShapeError(
            f"[{op}] expected dy (N, O), x (N, I), w (O, I), got {gy.shape}, {gx.shape}, {gw.shape}"
        )
    if gy.shape[0] == 0:
        arrays = [_core.zeros(shape) for shape in (gx.shape, gw.shape, gw.shape[:1])]
    else:
        arrays = [
            _core.linear_backward_input(gy._array, gw._array),
            _core.linear_backward_weight(gy._array, gx._array),
            _core.channel_sum(gy._array),
        ]
    return tuple(wrap(a) if tensors else a.numpy() for a in arrays)
