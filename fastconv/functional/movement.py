"""Moving data: pad, flatten, cat, and resizing by `interpolate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from .. import _core
from ..shaping import reshaped
from ..tensor import Tensor, needs_grad, record, unary, wrap
from ._arguments import numpy_too, operand, pair, shape_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .._core import Array
    from ._arguments import Sizes

__all__ = ["cat", "flatten", "interpolate", "pad"]


@numpy_too
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Joins the dimensions from `start_dim` to `end_dim` into one; `torch.flatten`.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> F.flatten(np.zeros((2, 3, 4, 5), np.float32), 1).shape
        (2, 60)
    """
    return input.flatten(start_dim, end_dim)


@numpy_too
def pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """A border of constants; `torch.nn.functional.pad`.

    Args:
        input: float32 of up to four dimensions.
        pad: (left, right), (left, right, top, bottom), and so on from the last dimension to the
            first; negative numbers crop. The batch of (N, C, H, W) is not padded.
        mode: "constant".
        value: the constant, 0 by default.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> F.pad(np.ones((1, 1, 1, 2), np.float32), (1, 0, 0, 1), value=5)
        array([[[[5., 1., 1.],
                 [5., 5., 5.]]]], dtype=float32)
    """
    if mode != "constant":
        raise ValueError(f'[pad] mode must be "constant", got {mode!r}')
    ndim = input.ndim
    widths = [int(p) for p in pad]
    if len(widths) % 2 or len(widths) > 2 * ndim or ndim > 4:
        raise _core.ShapeError(
            f"[pad] pad {tuple(pad)} does not fit an input of shape {input.shape}"
        )
    widths += [0] * (8 - len(widths))
    before = [(widths[2 * i], widths[2 * i + 1]) for i in range(3, -1, -1)]  # of N, C, H, W
    fill = 0.0 if value is None else float(value)
    # Missing dimensions become ones: behind N if that is not padded, else in front.
    missing = (1,) * (4 - ndim)
    if ndim and before[4 - ndim] == (0, 0):
        shape4 = (input.shape[0], *missing, *input.shape[1:])
        before = [(0, 0)] * (5 - ndim) + before[5 - ndim :]
    else:
        shape4 = (*missing, *input.shape)
    if before[0] != (0, 0):
        raise _core.ShapeError(f"[pad] the batch cannot be padded: pad {tuple(pad)}, {input.shape}")
    _, (front, back), (top, bottom), (left, right) = before
    x = reshaped(input._array, shape4)
    y = _pad_channels(x, front, back, fill)
    if top or bottom or left or right:
        y = _core.pad2d(y, (top, bottom, left, right), fill)
    elif y.address == input._array.address:
        y = y.copy()  # nothing to pad, but a result of its own all the same
    joined = _padded_shape(input.shape, widths)
    input_shape, pads_back = input.shape, (-top, -bottom, -left, -right)

    def backward(dy: Array) -> Array:
        dx = reshaped(dy, y.shape)
        if top or bottom or left or right:
            dx = _core.pad2d(dx, pads_back, 0.0)
        return reshaped(_pad_channels(dx, -front, -back, 0.0), input_shape)

    return unary(input, reshaped(y, joined), backward, "pad")


def _padded_shape(shape: tuple[int, ...], widths: Sequence[int]) -> tuple[int, ...]:
    last = len(shape) - 1
    return tuple(
        size + widths[2 * (last - i)] + widths[2 * (last - i) + 1] for i, size in enumerate(shape)
    )


def _pad_channels(x: Array, front: int, back: int, value: float) -> Array:
    """Constant channels before and after those of x; negative numbers take channels away."""
    begin, end = max(-front, 0), x.shape[1] - max(-back, 0)
    if begin or end != x.shape[1]:
        x = _core.slice_axis(x, 1, begin, end)

    def block(channels: int) -> Array:
        y = _core.full((x.shape[0], channels, *x.shape[2:]), value)
        return y.to_lanes() if x.layout == "lanes" else y

    parts = [block(front)] if front > 0 else []
    parts.append(x)
    if back > 0:
        parts.append(block(back))
    return x if len(parts) == 1 else _core.cat(parts, 1)


@overload
def cat(tensors: Sequence[NDArray[Any]], dim: int = ...) -> NDArray[np.float32]: ...
@overload
def cat(tensors: Sequence[Tensor], dim: int = ...) -> Tensor: ...
def cat(tensors: Any, dim: int = 0) -> Any:
    """Joins tensors along an axis they may differ in; `torch.cat`.

    Args:
        tensors: float32, of the same shape except along `dim`.
        dim: the axis.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> F.cat([np.zeros((1, 2), np.float32), np.ones((1, 1), np.float32)], dim=1)
        array([[0., 0., 1.]], dtype=float32)
    """
    parts = [operand(t, "cat", f"tensors[{i}]") for i, t in enumerate(tensors)]
    if not parts:
        raise ValueError("[cat] expected at least one tensor")
    shape = parts[0].shape
    if not -len(shape) <= dim < len(shape):
        raise IndexError(f"[cat] dim {dim} is out of range for {len(shape)} dimensions")
    axis = dim % len(shape)
    y = _core.cat([p._array for p in parts], axis)
    if not needs_grad(*parts):
        return wrap(y) if any(isinstance(t, Tensor) for t in tensors) else y.numpy()
    ends = np.cumsum([p.shape[axis] for p in parts]).tolist()
    ranges = [
        (begin, end) if p.requires_grad else None
        for p, begin, end in zip(parts, [0, *ends], ends, strict=False)
    ]

    def backward(dy: Array) -> tuple[Array | None, ...]:
        if axis == 0:
            dy = dy.to_plain()
        return tuple(None if r is None else _core.slice_axis(dy, axis, *r) for r in ranges)

    return record(y, tuple(parts), backward, "cat")


@numpy_too
def interpolate(
    input: Tensor,
    size: Sizes | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """Resizes images; `torch.nn.functional.interpolate`.

    Args:
        input: (N, C, IH, IW) float32.
        size: (OH, OW), or an int for both; or instead
        scale_factor: OH / IH and OW / IW, which must give whole sizes.
        mode: "nearest", by whole factors, or "bilinear".
        align_corners: bilinear: the corner pixels keep their place, not the corners of the image.

    Returns:
        (N, C, OH, OW).

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> F.interpolate(np.array([[[[1, 2]]]], np.float32), scale_factor=2)
        array([[[[1., 1., 2., 2.],
                 [1., 1., 2., 2.]]]], dtype=float32)
    """
    op = "interpolate"
    shape = input.shape
    if len(shape) != 4:
        raise shape_error(op, "(N, C, H, W)", shape)
    height, width = _output_size(shape, size, scale_factor)
    x = input._array
    if mode == "nearest":
        if align_corners is not None:
            raise ValueError('[interpolate] align_corners goes with mode="bilinear"')
        scale = (height // shape[2], width // shape[3])
        if (scale[0] * shape[2], scale[1] * shape[3]) != (height, width) or min(scale) < 1:
            raise ValueError(
                f'[interpolate] mode="nearest" enlarges by whole factors, not {shape} to '
                f"{height} x {width}"
            )
        y = _core.upsample_nearest2d(x, scale)
        return unary(input, y, lambda dy: _core.upsample_nearest2d_backward(dy, scale), op)
    if mode == "bilinear":
        corners = bool(align_corners)
        y = _core.upsample_bilinear2d(x, (height, width), corners)

        def backward(dy: Array) -> Array:
            return _core.upsample_bilinear2d_backward(dy, shape, corners)

        return unary(input, y, backward, op)
    raise ValueError(f'[interpolate] mode must be "nearest" or "bilinear", got {mode!r}')


def _output_size(
    shape: tuple[int, ...], size: Sizes | None, scale_factor: float | Sequence[float] | None
) -> tuple[int, int]:
    if (size is None) == (scale_factor is None):
        raise ValueError("[interpolate] give either size or scale_factor")
    if size is not None:
        return pair(size, "[interpolate] size")
    assert scale_factor is not None
    factors = [scale_factor] * 2 if isinstance(scale_factor, (int, float)) else list(scale_factor)
    if len(factors) != 2:
        raise ValueError(
            f"[interpolate] scale_factor must be one or two numbers, got {scale_factor}"
        )
    sizes = [shape[2 + i] * float(factor) for i, factor in enumerate(factors)]
    if any(s < 1 or s != int(s) for s in sizes):
        raise ValueError(
            f"[interpolate] scale_factor {scale_factor} of {shape[2]} x {shape[3]} does not give "
            "whole sizes: use size="
        )
    return int(sizes[0]), int(sizes[1])
