"""Dense layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from .. import _core
from ..autograd import Node, Tensor, grad_mode, wrap
from ..autograd.pending import NO_POST_OPS, Head, PostOps, computed, defer, may_wait, settle
from ._arguments import empty_batch, numpy_too, operand
from .activation import rectified_backward

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .._core import Array
    from ._arguments import Operand

__all__ = ["linear", "linear_backward"]


class _Product(Head):
    """A checked linear layer that waits for what follows it."""

    __slots__ = ("arrays", "parents")
    joins = frozenset({"activation"})

    def __init__(
        self,
        parents: tuple[Tensor, Tensor, Tensor | None],
        arrays: tuple[Array, Array, Array | None],
        recorded: bool,
    ) -> None:
        self.parents, self.arrays, self.recorded = parents, arrays, recorded

    def run(self, post: PostOps) -> tuple[Array, Node | None]:
        x, w, b = self.parents
        x_array, w_array, b_array = self.arrays
        activation = post.activation
        y, kept_x = _core.linear(
            x_array, w_array, b_array, activation, self.recorded, x._node is None
        )
        if not self.recorded:
            return y, None
        need_x, need_w, need_b = (
            x._requires_grad,
            w._requires_grad,
            b is not None and b._requires_grad,
        )
        saved_y = y if activation else None
        saved_x, saved_w = kept_x if need_w else None, w_array if need_x else None

        def backward(dy: Array) -> tuple[Array | None, Array | None, Array | None]:
            if saved_y is not None:
                dy = rectified_backward(dy, saved_y, activation)
            dx = None if saved_w is None else _core.linear_backward_input(dy, saved_w)
            dw = None if saved_x is None else _core.linear_backward_weight(dy, saved_x)
            db = _core.channel_sum(dy) if need_b else None
            return dx, dw, db

        return y, Node(self.parents, backward, "linear", (saved_y, saved_x, saved_w))


def _linear(x: Tensor, w: Tensor, b: Tensor | None, post: PostOps = NO_POST_OPS) -> Tensor:
    """x w^T + b. Layers call it."""
    if x._pending is not None:
        settle(x)
    x_array, w_array, b_array = x._array, w._array, None if b is None else b._array
    shape = x_array.shape
    if len(shape) != 2 or shape[0] == 0:
        return _linear_unusual(x, w, b, post)
    recorded = grad_mode.enabled and (
        x._requires_grad or w._requires_grad or (b is not None and b._requires_grad)
    )
    activation = post.activation
    arrays = x_array, w_array, b_array
    waits = activation is None and may_wait(*arrays) and _fits(*arrays)
    if not waits and not recorded:
        return wrap(_core.linear(*arrays, activation)[0])
    head = _Product((x, w, b), arrays, recorded)
    if waits:
        return defer(head, (shape[0], w_array.shape[0]))
    return computed(head, post)


def _fits(x: Array, w: Array, b: Array | None) -> bool:
    """Whether a product passes all checks; those that do not raise where it is computed."""
    shape = w.shape
    return (
        x.dtype == w.dtype == "float32"
        and shape[1:] == x.shape[1:]
        and (b is None or (b.shape == shape[:1] and b.dtype == "float32"))
    )


def _linear_unusual(x: Tensor, w: Tensor, b: Tensor | None, post: PostOps) -> Tensor:
    """Vectors, inputs of more than two dimensions, and batches of none."""
    if x.ndim == 2:
        return empty_batch(lambda x: _linear(x, w, b, post), x, w, b)
    if x.ndim == 0:
        raise _core.ShapeError("[linear] expected an input (..., in_features), got a number")
    y = _linear(x.reshape(-1, x.shape[-1]), w, b, post)
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
    return _linear(input, w, None if bias is None else operand(bias, "linear", "bias"))


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
