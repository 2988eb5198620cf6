"""Convolution: conv1d, conv2d, conv_transpose2d, and the explicit gradients of conv2d.

As everywhere in the field, "convolution" is cross-correlation: the kernel is not flipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from .. import _core
from ..grad_mode import grad_mode
from ..tensor import Tensor, needs_grad, record, wrap
from ._arguments import (
    LANES,
    empty_batch,
    numpy_too,
    operand,
    pad_pair,
    pads_of,
    pair,
    shape_error,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .._core import Array, Pads, Pair
    from ._arguments import Operand, Sizes

__all__ = ["conv1d", "conv2d", "conv2d_backward", "conv_transpose2d"]


def _conv2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    stride: Pair,
    pads: Pads,
    dilation: Pair,
    groups: int,
    relu: bool,
) -> Tensor:
    """conv2d, then ReLU if asked for. Arguments are in their final form: layers call it."""
    x_array, w_array = x._array, w._array
    shape = x_array.shape
    if len(shape) != 4 or shape[0] == 0:
        return _conv2d_unusual(x, w, b, stride, pads, dilation, groups, relu)
    b_array = None if b is None else b._array
    need_x, need_w, need_b = x.requires_grad, w.requires_grad, b is not None and b.requires_grad
    if not (grad_mode.enabled and (need_x or need_w or need_b)):
        if shape[0] >= LANES:
            x_array = x_array.to_lanes()
        return wrap(
            _core.conv2d_forward(x_array, w_array, b_array, stride, pads, dilation, groups, relu)
        )

    x_array = x_array.to_lanes()
    y = _core.conv2d_forward(x_array, w_array, b_array, stride, pads, dilation, groups, relu)
    w_shape = w_array.shape
    mask = y if relu else None
    saved_x = x_array if need_w else None

    def backward(dy: Array) -> tuple[Array | None, Array | None, Array | None]:
        dx = dw = db = None
        if mask is not None:
            dy = _core.relu_backward(dy, mask)
        if need_x:
            dx = _core.conv2d_backward_input(dy, w_array, shape, stride, pads, dilation, groups)
        if saved_x is not None:
            dw = _core.conv2d_backward_weight(dy, saved_x, w_shape, stride, pads, dilation, groups)
        if need_b:
            db = _core.channel_sum(dy)
        return dx, dw, db

    return record(y, (x, w, b), backward)


def _conv2d_unusual(
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    stride: Pair,
    pads: Pads,
    dilation: Pair,
    groups: int,
    relu: bool,
) -> Tensor:
    """One image without N, and batches of none."""

    def again(x: Tensor) -> Tensor:
        return _conv2d(x, w, b, stride, pads, dilation, groups, relu)

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
    spread = pair(dilation, "[conv2d] dilation")
    if w.ndim != 4:
        raise shape_error("conv2d", "a weight (OC, IC / groups, KH, KW)", w.shape)
    if input.ndim not in (3, 4):
        raise shape_error("conv2d", "(N, C, H, W) or (C, H, W)", input.shape)
    pads = pads_of(pad_pair(padding, "[conv2d] padding"), input.shape, w.shape, step, spread)
    return _conv2d(input, w, b, step, pads, spread, _groups(groups, "conv2d"), False)


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
    spread = (1, _single(dilation, "dilation"))
    width = padding if isinstance(padding, str) else (0, _single(padding, "padding", 0))
    if w.ndim != 3:
        raise shape_error("conv1d", "a weight (OC, IC / groups, K)", w.shape)
    if input.ndim not in (2, 3):
        raise shape_error("conv1d", "(N, C, L) or (C, L)", input.shape)
    # A line is an image one pixel high.
    x, w = input.unsqueeze(-2), w.unsqueeze(-2)
    pads = pads_of(pad_pair(width, "[conv1d] padding"), x.shape, w.shape, step, spread)
    y = _conv2d(x, w, b, step, pads, spread, _groups(groups, "conv1d"), False)
    return y.squeeze(-2)


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
        array([[[[1., 1., 2., 2.],
                 [0., 0., 0., 0.]]]], dtype=float32)
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
    return _conv_transpose2d(input, w, b, step, margin, extra, _groups(groups, op), spread)


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
    need_x, need_w, need_b = x.requires_grad, w.requires_grad, b is not None and b.requires_grad
    recorded = needs_grad(x, w, b)
    if recorded or shape[0] >= LANES:
        x_array = x_array.to_lanes()
    y = _core.conv2d_backward_input(x_array, w_array, y_shape, stride, pads, dilation, groups)
    if b is not None:
        y = _add_bias(y, b)
    if not recorded:
        return wrap(y)

    def backward(dy: Array) -> tuple[Array | None, Array | None, Array | None]:
        dx = dw = db = None
        dy = dy.to_lanes()
        if need_x:
            dx = _core.conv2d_forward(dy, w_array, None, stride, pads, dilation, groups, False)
        if need_w:
            dw = _core.conv2d_backward_weight(x_array, dy, w_shape, stride, pads, dilation, groups)
        if need_b:
            db = _core.channel_sum(dy)
        return dx, dw, db

    return record(y, (x, w, b), backward)


def _add_bias(y: Array, b: Tensor) -> Array:
    """y + b along the channels: batch normalisation that has nothing to normalise."""
    channels = y.shape[1]
    if b.shape != (channels,):
        raise _core.ShapeError(
            f"[conv_transpose2d] bias must have shape ({channels},), got {b.shape}"
        )
    mean, var = _core.zeros((channels,)), _core.full((channels,), 1.0)
    return _core.batch_norm_eval(y, None, b._array, mean, var, 0.0)


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
    step, spread = pair(stride, f"[{op}] stride"), pair(dilation, f"[{op}] dilation")
    pads = pads_of(pad_pair(padding, f"[{op}] padding"), gx.shape, gw.shape, step, spread)
    y_shape = _core.conv2d_output_shape(gx.shape, gw.shape, step, pads, spread, _groups(groups, op))
    if gy.shape != y_shape:
        raise _core.ShapeError(f"[{op}] dy must have the output's shape {y_shape}, got {gy.shape}")
    if gy.shape[0] == 0:
        arrays = [_core.zeros(shape) for shape in (gx.shape, gw.shape, gw.shape[:1])]
    else:
        dy_array = gy._array.to_lanes()
        arrays = [
            _core.conv2d_backward_input(dy_array, gw._array, gx.shape, step, pads, spread, groups),
            _core.conv2d_backward_weight(
                dy_array, gx._array.to_lanes(), gw.shape, step, pads, spread, groups
            ),
            _core.channel_sum(dy_array),
        ]
    return tuple(wrap(a) if tensors else a.numpy() for a in arrays)


def _groups(groups: int, op: str) -> int:
    return pair(groups, f"[{op}] groups")[0]


def _single(value: int | tuple[int], name: str, least: int = 1) -> int:
    """An integer that may come as a tuple of one."""
    if isinstance(value, (tuple, list)) and len(value) == 1:
        value = value[0]
    return pair(value, f"[conv1d] {name}", least)[1]
