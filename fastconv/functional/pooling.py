"""Pooling: maximum and average over windows, and the explicit gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from .. import _core
from ..autograd import Tensor, grad_mode, record, unary, wrap
from ..autograd.pending import join
from ._arguments import empty_batch, numpy_too, operand, pair, pooling_of, shape_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .._core import Array, Pads, Pair, Pooling
    from ._arguments import Sizes

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "avg_pool2d_backward",
    "max_pool2d",
    "max_pool2d_backward",
]


def _window(
    op: str, kernel_size: Sizes, stride: Sizes | None, padding: Sizes
) -> tuple[Pair, Pair, Pads]:
    """Kernel, stride and pads, checked. More padding would leave windows empty."""
    kernel = pair(kernel_size, f"[{op}] kernel_size")
    step = kernel if stride is None else pair(stride, f"[{op}] stride")
    top, left = pair(padding, f"[{op}] padding", 0)
    if 2 * top > kernel[0] or 2 * left > kernel[1]:
        raise ValueError(
            f"[{op}] padding {(top, left)} must be at most half of kernel_size {kernel}"
        )
    return kernel, step, (top, top, left, left)


# --------------------------------------------------------------------------------------- maximum
def _max_pool2d(x: Tensor, pooling: Pooling) -> Tensor:
    """max_pool2d of checked arguments."""
    shape = x.shape
    if len(shape) != 4 or shape[0] == 0:
        return _unusual("max_pool2d", x, lambda x: _max_pool2d(x, pooling))
    if x._pending is not None:
        joined = join(x, "pool", pooling, pooling.output_shape(shape), _max_pool2d, pooling)
        if joined is not None:
            return joined
    recorded = grad_mode.enabled and x.requires_grad
    y, argmax = _core.max_pool2d(x._array, pooling, False, recorded, recorded, x._node is None)
    if argmax is None:
        return wrap(y)

    def backward(dy: Array) -> tuple[Array]:
        return (_core.max_pool2d_backward(dy, argmax, None, shape, pooling),)

    return record(y, (x,), backward, "max_pool2d", argmax)


def _unusual(op: str, x: Tensor, again: Any) -> Tensor:
    """One image without N, and batches of none."""
    if x.ndim == 3:
        y: Tensor = again(x.unsqueeze(0))
        return y.reshape(y.shape[1:])
    if x.ndim == 4:
        return empty_batch(again, x)
    raise shape_error(op, "(N, C, H, W) or (C, H, W)", x.shape)


@overload
def max_pool2d(
    input: NDArray[Any],
    kernel_size: Sizes,
    stride: Sizes | None = ...,
    padding: Sizes = ...,
    dilation: Sizes = ...,
    ceil_mode: bool = ...,
    return_indices: Literal[False] = ...,
) -> NDArray[np.float32]: ...
@overload
def max_pool2d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = ...,
    padding: Sizes = ...,
    dilation: Sizes = ...,
    ceil_mode: bool = ...,
    return_indices: Literal[False] = ...,
) -> Tensor: ...
@overload
def max_pool2d(
    input: Any,
    kernel_size: Sizes,
    stride: Sizes | None = ...,
    padding: Sizes = ...,
    dilation: Sizes = ...,
    ceil_mode: bool = ...,
    return_indices: bool = ...,
) -> Any: ...
def max_pool2d(
    input: Any,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window; `torch.nn.functional.max_pool2d`.

    A window with a NaN gives NaN. Of equal maxima the first, row by row, receives the gradient.

    Args:
        input: (N, C, IH, IW) float32, or (C, IH, IW).
        kernel_size: size of the window, an int or (KH, KW).
        stride: its step; kernel_size when None.
        padding: pixels of -inf at each side, at most half of kernel_size.
        dilation: distance between the taps of the window.
        ceil_mode: round the output size up: windows may begin in the image and end outside.
        return_indices: return also where each maximum is, ih * IW + iw, as int64.

    Returns:
        (N, C, OH, OW) with OH = floor((IH + 2 padding - dilation (KH - 1) - 1) / stride) + 1; with
        return_indices a pair.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> F.max_pool2d(np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4), 2)
        array([[[[ 5.,  7.],
                 [13., 15.]]]], dtype=float32)
    """
    numpy = not isinstance(input, Tensor)
    x = operand(input, "max_pool2d", "input")
    kernel, step, pads = _window("max_pool2d", kernel_size, stride, padding)
    spacing = pair(dilation, "[max_pool2d] dilation")
    pooling = pooling_of(kernel, step, pads, spacing, bool(ceil_mode))
    y = _max_pool2d(x, pooling)
    if not return_indices:
        return y.numpy() if numpy else y
    indices = wrap(_indices(x, y.shape, pooling))
    return (y.numpy(), indices.numpy()) if numpy else (y, indices)


def _indices(x: Tensor, y_shape: tuple[int, ...], pooling: Pooling) -> Array:
    """ih * IW + iw of every maximum."""
    if y_shape[0] == 0:
        return _core.array(np.zeros(y_shape, np.int64))
    shape = x.shape if x.ndim == 4 else (1, *x.shape)
    _, argmax = _core.max_pool2d(x._array.reshape(shape), pooling)
    assert argmax is not None
    return _core.max_pool2d_indices(argmax, shape, pooling).reshape(y_shape)


def max_pool2d_backward(
    dy: Any,
    x: Any,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> Any:
    """The gradient of `max_pool2d`, for networks that do without the tape.

    Args:
        dy: (N, C, OH, OW) float32, the gradient of the output.
        x: (N, C, IH, IW), the input.
        kernel_size, stride, padding, dilation, ceil_mode: as given to `max_pool2d`.

    Returns:
        dx, of the shape of x: each dy where its window had the (first) maximum.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> x = np.array([[[[1, 3], [2, 3]]]], np.float32)
        >>> F.max_pool2d_backward(np.array([[[[7]]]], np.float32), x, 2)
        array([[[[0., 7.],
                 [0., 0.]]]], dtype=float32)
    """
    op = "max_pool2d_backward"
    tensors = isinstance(dy, Tensor) or isinstance(x, Tensor)
    gy, gx = operand(dy, op, "dy"), operand(x, op, "x")
    kernel, step, pads = _window(op, kernel_size, stride, padding)
    spacing = pair(dilation, f"[{op}] dilation")
    _check_four(op, gy, gx)
    if gx.shape[0] == 0:
        dx = _core.zeros(gx.shape)
    else:
        pooling = pooling_of(kernel, step, pads, spacing, bool(ceil_mode))
        y, argmax = _core.max_pool2d(gx._array, pooling)
        _check_dy(op, gy, y.shape)
        assert argmax is not None
        dx = _core.max_pool2d_backward(gy._array, argmax, None, gx.shape, pooling)
    return wrap(dx) if tensors else dx.numpy()


# --------------------------------------------------------------------------------------- average
def _avg_pool2d(
    x: Tensor,
    kernel: Pair,
    stride: Pair,
    pads: Pads,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int,
) -> Tensor:
    """avg_pool2d of checked arguments; divisor 0: the size of the window."""
    shape = x._array.shape
    if len(shape) != 4 or shape[0] == 0:
        return _unusual(
            "avg_pool2d",
            x,
            lambda x: _avg_pool2d(x, kernel, stride, pads, ceil_mode, count_include_pad, divisor),
        )
    recorded = grad_mode.enabled and x.requires_grad
    y = _core.avg_pool2d_forward(
        x._array,
        kernel,
        stride,
        pads,
        ceil_mode,
        count_include_pad,
        divisor,
        recorded,
        x._node is None,
    )
    if not recorded:
        return wrap(y)

    def backward(dy: Array) -> tuple[Array]:
        return (
            _core.avg_pool2d_backward(
                dy, shape, kernel, stride, pads, ceil_mode, count_include_pad, divisor
            ),
        )

    return record(y, (x,), backward, "avg_pool2d")


@numpy_too
def avg_pool2d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The average of each window; `torch.nn.functional.avg_pool2d`.

    Args:
        input: (N, C, IH, IW) float32, or (C, IH, IW).
        kernel_size: size of the window, an int or (KH, KW).
        stride: its step; kernel_size when None.
        padding: zeros at each side, at most half of kernel_size.
        ceil_mode: round the output size up.
        count_include_pad: whether the zeros of the padding count in the average.
        divisor_override: divide the sum of each window by this number instead.

    Returns:
        (N, C, OH, OW) with OH = floor((IH + 2 padding - KH) / stride) + 1.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> F.avg_pool2d(np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4), 2)
        array([[[[ 2.5,  4.5],
                 [10.5, 12.5]]]], dtype=float32)
    """
    kernel, step, pads = _window("avg_pool2d", kernel_size, stride, padding)
    divisor = _divisor(divisor_override, "avg_pool2d")
    return _avg_pool2d(input, kernel, step, pads, bool(ceil_mode), bool(count_include_pad), divisor)


def _divisor(divisor_override: int | None, op: str) -> int:
    return 0 if divisor_override is None else pair(divisor_override, f"[{op}] divisor_override")[0]


def avg_pool2d_backward(
    dy: Any,
    x_shape: Sequence[int],
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The gradient of `avg_pool2d`, for networks that do without the tape.

    Args:
        dy: (N, C, OH, OW) float32, the gradient of the output.
        x_shape: (N, C, IH, IW), the shape of the input; its values do not matter.
        kernel_size and the rest: as given to `avg_pool2d`.

    Returns:
        dx of shape x_shape.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> F.avg_pool2d_backward(np.array([[[[8]]]], np.float32), (1, 1, 2, 2), 2)
        array([[[[2., 2.],
                 [2., 2.]]]], dtype=float32)
    """
    op = "avg_pool2d_backward"
    gy = operand(dy, op, "dy")
    kernel, step, pads = _window(op, kernel_size, stride, padding)
    _check_four(op, gy)
    if gy.shape[0] == 0:
        dx = _core.zeros(x_shape)
    else:
        dx = _core.avg_pool2d_backward(
            gy._array,
            x_shape,
            kernel,
            step,
            pads,
            bool(ceil_mode),
            bool(count_include_pad),
            _divisor(divisor_override, op),
            True,
        )
    return wrap(dx) if isinstance(dy, Tensor) else dx.numpy()


@numpy_too
def adaptive_avg_pool2d(input: Tensor, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Averages down to a given size; `torch.nn.functional.adaptive_avg_pool2d`.

    Args:
        input: (N, C, IH, IW) float32, or (C, IH, IW).
        output_size: (OH, OW), or an int for both; None keeps that size. 1: global average pooling.

    Returns:
        (N, C, OH, OW); window i covers the rows floor(i IH / OH) to ceil((i + 1) IH / OH) - 1.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> F.adaptive_avg_pool2d(np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3), 1)
        array([[[[2.5]]]], dtype=float32)
    """
    shape = input.shape
    if len(shape) != 4 or shape[0] == 0:
        return _unusual("adaptive_avg_pool2d", input, lambda x: adaptive_avg_pool2d(x, output_size))
    wanted = (
        (output_size,) * 2 if output_size is None or isinstance(output_size, int) else output_size
    )
    if len(wanted) != 2:
        raise ValueError(
            f"[adaptive_avg_pool2d] output_size must be one or two, got {output_size!r}"
        )
    height, width = (shape[2 + i] if size is None else size for i, size in enumerate(wanted))
    size = pair((height, width), "[adaptive_avg_pool2d] output_size")
    recorded = grad_mode.enabled and input.requires_grad
    y = _core.adaptive_avg_pool2d_forward(input._array, size, recorded, input._node is None)

    def backward(dy: Array) -> Array:
        return _core.adaptive_avg_pool2d_backward(dy, shape)

    return unary(input, y, backward, "adaptive_avg_pool2d")


def _check_four(op: str, *tensors: Tensor) -> None:
    for tensor in tensors:
        if tensor.ndim != 4:
            raise shape_error(op, "(N, C, H, W)", tensor.shape)


def _check_dy(op: str, dy: Tensor, shape: tuple[int, ...]) -> None:
    if dy.shape != shape:
        raise _core.ShapeError(f"[{op}] dy must have the output's shape {shape}, got {dy.shape}")
