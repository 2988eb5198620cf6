"""Convolution: conv2d, conv1d, and the explicit gradients of conv2d.

As everywhere in the field, "convolution" is cross-correlation: the kernel is not flipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from .. import _core
from ..autograd import Node, Tensor, grad_mode, wrap
from ..autograd.pending import NO_POST_OPS, Head, PostOps, computed, defer, may_wait, settle
from ._arguments import (
    empty_batch,
    geometry_of,
    group_count,
    numpy_too,
    operand,
    pad_pair,
    pads_of,
    pair,
    shape_error,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .._core import Array, Geometry
    from ._arguments import Operand, Sizes

__all__ = ["conv1d", "conv2d", "conv2d_backward"]


class _Convolution(Head):
    """A checked convolution that waits for what follows it."""

    __slots__ = ("arrays", "geometry", "joins", "parents")

    def __init__(
        self,
        parents: tuple[Tensor, Tensor, Tensor | None],
        arrays: tuple[Array, Array, Array | None],
        geometry: Geometry,
        recorded: bool,
    ) -> None:
        self.parents, self.arrays, self.geometry = parents, arrays, geometry
        self.recorded = recorded
        self.joins = CONVOLUTION_TAKES if recorded else _TAKES_UNRECORDED

    def run(self, post: PostOps) -> tuple[Array, Node | None]:
        x, w, b = self.parents
        x_array, w_array, b_array = self.arrays
        geometry, recorded = self.geometry, self.recorded
        normalise, add, activation, pool = post
        if normalise is not None:
            plus = None if add is None else add._array
            weight, bias, mean, var, eps = normalise
            y = _core.conv2d_normalised(
                *(x_array, w_array, b_array, geometry),
                weight=weight,
                bias=bias,
                mean=mean,
                var=var,
                eps=eps,
                activation=activation,
                add=plus,
            )
            return y, None
        y, argmax, kept_x = _core.conv2d(
            x_array, w_array, b_array, geometry, activation, pool, recorded, x._node is None
        )
        if not recorded:
            return y, None
        shape = x_array.shape
        wanted = x._requires_grad, w._requires_grad, b is not None and b._requires_grad
        need_x, need_w, _ = wanted
        saved_x, saved_w = kept_x if need_w else None, w_array if need_x else None
        saved_y = y if activation else None

        def backward(dy: Array) -> tuple[Array | None, Array | None, Array | None]:
            return _core.conv2d_backward(
                *(dy, saved_y, argmax, saved_x, shape, w_array),
                *(geometry, activation, pool, wanted),
            )

        return y, Node(self.parents, backward, "conv2d", (saved_x, saved_w, saved_y, argmax))


CONVOLUTION_TAKES = frozenset({"activation", "pool"})
_TAKES_UNRECORDED = CONVOLUTION_TAKES | {"normalise"}


def _conv2d(
    x: Tensor, w: Tensor, b: Tensor | None, geometry: Geometry, post: PostOps = NO_POST_OPS
) -> Tensor:
    """conv2d of arguments in their final form."""
    if x._pending is not None:
        settle(x)
    x_array = x._array
    shape = x_array.shape
    if len(shape) != 4 or shape[0] == 0:
        return _conv2d_unusual(x, w, b, geometry, post)
    arrays = x_array, w._array, None if b is None else b._array
    recorded = grad_mode.enabled and (
        x._requires_grad or w._requires_grad or (b is not None and b._requires_grad)
    )
    waits = post.pool is None and may_wait(*arrays)
    if not waits and not recorded:
        return wrap(_core.conv2d(*arrays, geometry, post.activation, post.pool)[0])
    head = _Convolution((x, w, b), arrays, geometry, recorded)
    if not waits:
        return computed(head, post)
    return defer(head, _core.conv2d_shape(*arrays, geometry), post)


def _conv2d_unusual(
    x: Tensor, w: Tensor, b: Tensor | None, geometry: Geometry, post: PostOps
) -> Tensor:
    """One image without N, and batches of none."""

    def again(x: Tensor) -> Tensor:
        return _conv2d(x, w, b, geometry, post)

    if x.ndim == 3:
        y = again(x.unsqueeze(0))
        return y.reshape(y.shape[1:])
    if x.ndim == 4:
        return empty_batch(again, x, w, b)
    raise shape_error("conv2d", "(N, C, H, W) or (C, H, W)", x.shape)


@numpy_too
def conv2d(
    input: Tensor,
    weight: Operand,
    bias: Operand | None = None,
    stride: Sizes = 1,
    padding: str | Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """2-D convolution (cross-correlation); `torch.nn.functional.conv2d`.

    Args:
        input: (N, IC, IH, IW) float32, or (IC, IH, IW).
        weight: (OC, IC / groups, KH, KW).
        bias: (OC,), or None.
        stride: step of the window, an int or (vertical, horizontal).
        padding: zeros at each side, an int or a pair; "valid" (none); "same": output
            ceil(IH / stride), as TensorFlow.
        dilation: distance between the taps of the kernel.
        groups: the channels fall into so many independent groups; IC groups are a depthwise
            convolution.

    Returns:
        (N, OC, OH, OW) with OH = floor((IH + 2 padding - dilation (KH - 1) - 1) / stride) + 1.

    Raises:
        ShapeError: sizes that do not fit. ValueError: stride, dilation or groups below 1.
        TypeError: an element type other than float32 and float64.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
        >>> F.conv2d(x, np.ones((1, 1, 2, 2), np.float32))
        array([[[[ 8., 12.],
                 [20., 24.]]]], dtype=float32)
    """
    w = operand(weight, "conv2d", "weight")
    b = None if bias is None else operand(bias, "conv2d", "bias")
    step = pair(stride, "[conv2d] stride")
    dilated = pair(dilation, "[conv2d] dilation")
    if w.ndim != 4:
        raise shape_error("conv2d", "a weight (OC, IC / groups, KH, KW)", w.shape)
    if input.ndim not in (3, 4):
        raise shape_error("conv2d", "(N, C, H, W) or (C, H, W)", input.shape)
    pads = pads_of(pad_pair(padding, "[conv2d] padding"), input.shape, w.shape, step, dilated)
    return _conv2d(input, w, b, geometry_of(step, pads, dilated, group_count(groups, "conv2d")))


@numpy_too
def conv1d(
    input: Tensor,
    weight: Operand,
    bias: Operand | None = None,
    stride: int | tuple[int] = 1,
    padding: str | int | tuple[int] = 0,
    dilation: int | tuple[int] = 1,
    groups: int = 1,
) -> Tensor:
    """1-D convolution (cross-correlation); `torch.nn.functional.conv1d`.

    Args:
        input: (N, IC, L) float32, or (IC, L).
        weight: (OC, IC / groups, K).
        bias: (OC,), or None.
        stride, padding, dilation, groups: as in `conv2d`, each an int.

    Returns:
        (N, OC, OL) with OL = floor((L + 2 padding - dilation (K - 1) - 1) / stride) + 1.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> x = np.array([[[1, 2, 4, 8]]], np.float32)
        >>> F.conv1d(x, np.array([[[-1, 1]]], np.float32))
        array([[[1., 2., 4.]]], dtype=float32)
    """
    w = operand(weight, "conv1d", "weight")
    b = None if bias is None else operand(bias, "conv1d", "bias")
    step = (1, _single(stride, "stride"))
    dilated = (1, _single(dilation, "dilation"))
    width = padding if isinstance(padding, str) else (0, _single(padding, "padding", 0))
    if w.ndim != 3:
        raise shape_error("conv1d", "a weight (OC, IC / groups, K)", w.shape)
    if input.ndim not in (2, 3):
        raise shape_error("conv1d", "(N, C, L) or (C, L)", input.shape)
    # A line is an image one pixel high.
    x, w = input.unsqueeze(-2), w.unsqueeze(-2)
    pads = pads_of(pad_pair(width, "[conv1d] padding"), x.shape, w.shape, step, dilated)
    y = _conv2d(x, w, b, geometry_of(step, pads, dilated, group_count(groups, "conv1d")))
    return y.squeeze(-2)


@overload
def conv2d_backward(
    dy: NDArray[Any],
    x: NDArray[Any],
    w: NDArray[Any],
    stride: Sizes = ...,
    padding: str | Sizes = ...,
    dilation: Sizes = ...,
    groups: int = ...,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]: ...
@overload
def conv2d_backward(
    dy: Tensor,
    x: Tensor,
    w: Tensor,
    stride: Sizes = ...,
    padding: str | Sizes = ...,
    dilation: Sizes = ...,
    groups: int = ...,
) -> tuple[Tensor, Tensor, Tensor]: ...
def conv2d_backward(
    dy: Any,
    x: Any,
    w: Any,
    stride: Sizes = 1,
    padding: str | Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Any:
    """The gradients of `conv2d`, for networks that do without the tape.

    Args:
        dy: (N, OC, OH, OW) float32, the gradient of the output.
        x: (N, IC, IH, IW), the input. w: (OC, IC / groups, KH, KW), the weight.
        stride, padding, dilation, groups: as given to `conv2d`.

    Returns:
        dx, dw, db with the shapes of x, of w, and (OC,).

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> x, w = np.ones((2, 1, 3, 3), np.float32), np.ones((4, 1, 2, 2), np.float32)
        >>> dy = np.ones((2, 4, 2, 2), np.float32)
        >>> dx, dw, db = F.conv2d_backward(dy, x, w)
        >>> dx[0, 0]
        array([[ 4.,  8.,  4.],
               [ 8., 16.,  8.],
               [ 4.,  8.,  4.]], dtype=float32)
        >>> db
        array([8., 8., 8., 8.], dtype=float32)
    """
    tensors = isinstance(dy, Tensor) or isinstance(x, Tensor) or isinstance(w, Tensor)
    op = "conv2d_backward"
    gy, gx, gw = operand(dy, op, "dy"), operand(x, op, "x"), operand(w, op, "w")
    if not gy.ndim == gx.ndim == gw.ndim == 4:
        raise _core.ShapeError(
            f"[{op}] dy, x and w must have four dimensions, got {gy.shape}, {gx.shape}, {gw.shape}"
        )
    step, dilated = pair(stride, f"[{op}] stride"), pair(dilation, f"[{op}] dilation")
    pads = pads_of(pad_pair(padding, f"[{op}] padding"), gx.shape, gw.shape, step, dilated)
    geometry = geometry_of(step, pads, dilated, group_count(groups, op))
    y_shape = geometry.output_shape(gx.shape, gw.shape)
    if gy.shape != y_shape:
        raise _core.ShapeError(f"[{op}] dy must have the output's shape {y_shape}, got {gy.shape}")
    if gy.shape[0] == 0:
        arrays = [_core.zeros(shape) for shape in (gx.shape, gw.shape, gw.shape[:1])]
    else:
        arrays = [
            _core.conv2d_backward_input(gy._array, gw._array, gx.shape, geometry),
            _core.conv2d_backward_weight(gy._array, gx._array, gw.shape, geometry),
            _core.channel_sum(gy._array),
        ]
    return tuple(wrap(a) if tensors else a.numpy() for a in arrays)


def _single(value: int | tuple[int], name: str, least: int = 1) -> int:
    """An integer that may come as a tuple of one."""
    if isinstance(value, (tuple, list)) and len(value) == 1:
        value = value[0]
    return pair(value, f"[conv1d] {name}", least)[1]
