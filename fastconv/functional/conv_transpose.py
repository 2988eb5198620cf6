"""Transposed convolution: the gradient of conv2d by its input, run forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import _core
from ..autograd import Tensor, needs_grad, record, wrap
from ._arguments import empty_batch, geometry_of, group_count, numpy_too, operand, pair, shape_error

if TYPE_CHECKING:
    from .._core import Array, Pair
    from ._arguments import Operand, Sizes

__all__ = ["conv_transpose2d"]


@numpy_too
def conv_transpose2d(
    input: Tensor,
    weight: Operand,
    bias: Operand | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """The transpose of `conv2d`, which maps its output sizes back to its input sizes.

    `torch.nn.functional.conv_transpose2d`; Zeiler et al., "Deconvolutional networks", 2010.

    Args:
        input: (N, IC, IH, IW) float32, or (IC, IH, IW).
        weight: (IC, OC / groups, KH, KW).
        bias: (OC,), or None.
        stride, padding, dilation, groups: those of the convolution that it transposes.
        output_padding: rows and columns added at the bottom and right, less than stride.

    Returns:
        (N, OC, OH, OW) with
        OH = (IH - 1) stride - 2 padding + dilation (KH - 1) + output_padding + 1.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> x = np.array([[[[1, 2]]]], np.float32)
        >>> F.conv_transpose2d(x, np.ones((1, 1, 1, 2), np.float32), stride=2)
        array([[[[1., 1., 2., 2.]]]], dtype=float32)
    """
    op = "conv_transpose2d"
    w = operand(weight, op, "weight")
    b = None if bias is None else operand(bias, op, "bias")
    step, spread = pair(stride, f"[{op}] stride"), pair(dilation, f"[{op}] dilation")
    margin = pair(padding, f"[{op}] padding", 0)
    extra = pair(output_padding, f"[{op}] output_padding", 0)
    if extra[0] >= step[0] or extra[1] >= step[1]:
        raise ValueError(f"[{op}] output_padding {extra} must be smaller than stride {step}")
    if w.ndim != 4:
        raise shape_error(op, "a weight (IC, OC / groups, KH, KW)", w.shape)
    return _conv_transpose2d(input, w, b, step, margin, extra, group_count(groups, op), spread)


def _conv_transpose2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    stride: Pair,
    padding: Pair,
    output_padding: Pair,
    groups: int,
    dilation: Pair,
) -> Tensor:
    """conv_transpose2d of checked arguments: conv2d's gradient by its input, run forward."""

    def again(x: Tensor) -> Tensor:
        return _conv_transpose2d(x, w, b, stride, padding, output_padding, groups, dilation)

    x_array, w_array = x._array, w._array
    shape, w_shape = x_array.shape, w_array.shape
    if len(shape) == 3:
        batch = again(x.unsqueeze(0))
        return batch.reshape(batch.shape[1:])
    if len(shape) != 4:
        raise shape_error("conv_transpose2d", "(N, C, H, W) or (C, H, W)", shape)
    if shape[1] != w_shape[0]:
        raise _core.ShapeError(
            f"[conv_transpose2d] input has {shape[1]} channels, weight expects {w_shape[0]}: "
            f"input {shape}, weight {w_shape}"
        )
    if shape[0] == 0:
        return empty_batch(again, x, w, b)
    height, width = (
        (shape[2 + i] - 1) * stride[i]
        - 2 * padding[i]
        + dilation[i] * (w_shape[2 + i] - 1)
        + output_padding[i]
        + 1
        for i in (0, 1)
    )
    channels = w_shape[1] * groups
    if height < 1 or width < 1:
        raise _core.ShapeError(
            f"[conv_transpose2d] the output would be {height} x {width}: input {shape}, weight "
            f"{w_shape}, stride {stride}, padding {padding}, dilation {dilation}"
        )
    y_shape = (shape[0], channels, height, width)
    pads = (padding[0], padding[0], padding[1], padding[1])
    geometry = geometry_of(stride, pads, dilation, groups)
    need_x, need_w, need_b = x.requires_grad, w.requires_grad, b is not None and b.requires_grad
    recorded = needs_grad(x, w, b)
    if b is not None and b.shape != (channels,):
        raise _core.ShapeError(
            f"[conv_transpose2d] bias must have shape ({channels},), got {b.shape}"
        )
    y = _core.conv2d_backward_input(
        *(x_array, w_array, y_shape, geometry),
        *(None if b is None else b._array, recorded, x._node is None),
    )
    if not recorded:
        return wrap(y)

    def backward(dy: Array) -> tuple[Array | None, Array | None, Array | None]:
        dx = dw = db = None
        if need_x:
            dx = _core.conv2d(dy, w_array, None, geometry)[0]
        if need_w:
            dw = _core.conv2d_backward_weight(x_array, dy, w_shape, geometry)
        if need_b:
            db = _core.channel_sum(dy)
        return dx, dw, db

    saved = x_array if need_w else None, w_array if need_x else None
    return record(y, (x, w, b), backward, "conv_transpose2d", *saved)
