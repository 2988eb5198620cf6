"""Moving data: pad, flatten, cat, and resizing by `interpolate`."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from .. import _core
from ..autograd import Tensor, reshaped, shaping, unary
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
    """A border of constants, or of the image itself; `torch.nn.functional.pad`.

    Args:
        input: float32 of up to four dimensions.
        pad: (left, right), (left, right, top, bottom), and so on from the last dimension to the
            first; negative numbers crop. The batch of (N, C, H, W) is not padded.
        mode: "constant"; "reflect", the image mirrored at its outermost pixels; "replicate", these
            repeated; "circular", what lies at the other side. But for "constant", pad has two
            numbers for (C, L) and (N, C, L), and four for (C, H, W) and (N, C, H, W).
        value: the constant, 0 by default.

    Raises:
        ShapeError: pad does not fit the input; "reflect" as far as its size, "circular" further.
        ValueError: an unknown mode, or a value for one that takes none.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> F.pad(np.ones((1, 1, 1, 2), np.float32), (1, 0, 0, 1), value=5)
        array([[[[5., 1., 1.],
                 [5., 5., 5.]]]], dtype=float32)
        >>> F.pad(np.array([[1, 2, 3]], np.float32), (2, 1), mode="reflect")
        array([[3., 2., 1., 2., 3., 2.]], dtype=float32)
    """
    if mode in ("reflect", "replicate", "circular"):
        if value is not None:
            raise ValueError(f'[pad] mode="{mode}" takes no value, got {value}')
        return _pad_with_image(input, pad, mode)
    if mode != "constant":
        raise ValueError(
            f'[pad] mode must be "constant", "reflect", "replicate" or "circular", got {mode!r}'
        )
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


def _pad_with_image(input: Tensor, pad: Sequence[int], mode: str) -> Tensor:
    """Every pixel of the result is one of the input: two lists of indices say which."""
    shape, widths = input.shape, [int(p) for p in pad]
    if (len(widths), len(shape)) not in ((2, 2), (2, 3), (4, 3), (4, 4)):
        raise _core.ShapeError(
            f'[pad] mode="{mode}" takes two numbers for (C, L) and (N, C, L), four for (C, H, W) '
            f"and (N, C, H, W): got pad {tuple(pad)}, input {shape}"
        )
    shape4 = (shape[0], *(1,) * (4 - len(shape)), *shape[1:])  # the first dimension may be in lanes
    left, right, top, bottom = (*widths, 0, 0)[:4]
    rows = _border(shape4[2], top, bottom, mode)
    cols = _border(shape4[3], left, right, mode)
    y = _core.gather2d(reshaped(input._array, shape4), rows, cols)
    gathered, joined = y.shape, (y.shape[0], *y.shape[5 - len(shape) :])

    def backward(dy: Array) -> Array:
        dx = _core.gather2d_backward(reshaped(dy, gathered), rows, cols, shape4)
        return reshaped(dx, shape)

    return unary(input, reshaped(y, joined), backward, "pad")


@functools.lru_cache(256)
def _border(size: int, before: int, after: int, mode: str) -> list[int]:
    """Which of `size` pixels stands at each place of a padded line."""
    most = {"reflect": size - 1, "circular": size}.get(mode)
    if most is not None and max(before, after) > most:
        raise _core.ShapeError(
            f'[pad] mode="{mode}" pads {size} pixels by at most {most}, got pads '
            f"{before} and {after}"
        )
    if size + before + after < 1 or size + min(before, 0) + min(after, 0) < 1:
        raise _core.ShapeError(
            f"[pad] nothing is left of {size} pixels with pads {before} and {after}"
        )
    at = np.arange(-before, size + after)
    if mode == "replicate":
        at = at.clip(0, size - 1)
    elif mode == "reflect":
        at = size - 1 - np.abs(size - 1 - np.abs(at))
    else:  # what is cropped does not come back at the other side
        first, end = max(-before, 0), size + min(after, 0)
        at = first + (at - first) % (end - first)
    return list(map(int, at))


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
    y = shaping.cat(parts, axis)
    return y if any(isinstance(t, Tensor) for t in tensors) else y.numpy()


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
        scale_factor: one or two numbers: OH = floor(IH scale_factor), OW likewise. "bilinear" needs
            one that gives whole sizes.
        mode: "nearest", where y[i] = x[floor(i IH / OH)], or x[floor(i / scale_factor)] with a
            scale_factor; or "bilinear".
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
    shape = input.shape
    if len(shape) != 4:
        raise shape_error("interpolate", "(N, C, H, W)", shape)
    factors = _scale_factors(size, scale_factor)
    x = input._array
    if mode == "nearest":
        if align_corners is not None:
            raise ValueError('[interpolate] align_corners goes with mode="bilinear"')
        height, width = _output_size(shape, size, factors)
        rows = _nearest(shape[2], height, factors[0] if factors else None)
        cols = _nearest(shape[3], width, factors[1] if factors else None)
        y = _core.gather2d(x, rows, cols)
        return unary(
            input, y, lambda dy: _core.gather2d_backward(dy, rows, cols, shape), "interpolate"
        )
    if mode == "bilinear":
        if factors and any((shape[2 + i] * factor) % 1 for i, factor in enumerate(factors)):
            raise ValueError(
                f"[interpolate] scale_factor {scale_factor} of {shape[2]} x {shape[3]} does not "
                "give whole sizes: use size="
            )
        height, width = _output_size(shape, size, factors)
        corners = bool(align_corners)
        y = _core.upsample_bilinear2d(x, (height, width), corners)

        def backward(dy: Array) -> Array:
            return _core.upsample_bilinear2d_backward(dy, shape, corners)

        return unary(input, y, backward, "interpolate")
    raise ValueError(f'[interpolate] mode must be "nearest" or "bilinear", got {mode!r}')


def _scale_factors(
    size: Sizes | None, scale_factor: float | Sequence[float] | None
) -> tuple[float, float] | None:
    """Vertical and horizontal; None where a size is given."""
    if (size is None) == (scale_factor is None):
        raise ValueError("[interpolate] give either size or scale_factor")
    if scale_factor is None:
        return None
    given = list(scale_factor) if isinstance(scale_factor, Sequence) else [scale_factor] * 2
    factors = [float(factor) for factor in given]
    if len(factors) != 2 or not all(0 < factor < math.inf for factor in factors):
        raise ValueError(
            f"[interpolate] scale_factor must be one or two numbers above 0, got {scale_factor}"
        )
    return factors[0], factors[1]


def _output_size(
    shape: tuple[int, ...], size: Sizes | None, factors: tuple[float, float] | None
) -> tuple[int, int]:
    if factors is None:
        return pair(size, "[interpolate] size")  # type: ignore[arg-type]
    height, width = (math.floor(shape[2 + i] * factor) for i, factor in enumerate(factors))
    if height < 1 or width < 1:
        raise ValueError(
            f"[interpolate] scale_factor {factors} leaves nothing of {shape[2]} x {shape[3]} pixels"
        )
    return height, width


@functools.lru_cache(256)
def _nearest(size: int, count: int, factor: float | None) -> list[int]:
    """The pixel of `size` that each of `count` shows.

    In float32, so that positions round as PyTorch's do. As there, a size that stays or doubles does
    not look at the factor.
    """
    if count in (size, 2 * size):
        return [i * size // count for i in range(count)]
    step = np.float32(size) / np.float32(count) if factor is None else np.float32(1.0 / factor)
    at = np.floor(np.arange(count, dtype=np.float32) * step)
    return list(map(int, np.minimum(at, size - 1)))
