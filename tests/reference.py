"""The float64 oracle: what every operation means, in NumPy.

This is the specification that the kernels are held to. Each function is the textbook formula with
the equation in its docstring; speed comes only from looping over filter taps instead of pixels.
Shapes are (N, C, H, W); `pads` is (top, bottom, left, right); padded positions are zero unless told
otherwise.
What CNN courses call convolution is cross-correlation: the filter is not flipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Pair = tuple[int, int]
Pads = tuple[int, int, int, int]
ONE: Pair = (1, 1)
NO_PADS: Pads = (0, 0, 0, 0)


def f64(x: Any) -> Floats:
    return np.asarray(x, dtype=np.float64)


# ------------------------------------------------------------------------------------ windows


def output_size(size: int, kernel: int, stride: int, pad: int, dilation: int = 1) -> int:
    """floor((size + pad - dilation * (kernel - 1) - 1) / stride) + 1, `pad` being both sides."""
    return (size + pad - dilation * (kernel - 1) - 1) // stride + 1


def pooled_size(size: int, kernel: int, stride: int, pads: Pair, dilation: int, ceil: bool) -> int:
    """output_size, rounded up in ceil mode, less a last window that would begin past the image."""
    span = size + sum(pads) - dilation * (kernel - 1) - 1
    out = (-(-span // stride) if ceil else span // stride) + 1
    return out - 1 if ceil and (out - 1) * stride >= size + pads[0] else out


def padded(x: Floats, pads: Pads, value: float = 0.0) -> Floats:
    top, bottom, left, right = pads
    return np.pad(f64(x), ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def taps(
    kernel: Pair, out: Pair, stride: Pair, dilation: Pair
) -> Iterator[tuple[int, int, tuple[slice, slice]]]:
    """Every tap (kh, kw) with the slice of the padded image that it meets, one value an output."""
    for kh in range(kernel[0]):
        for kw in range(kernel[1]):
            h0, w0 = kh * dilation[0], kw * dilation[1]
            rows = slice(h0, h0 + (out[0] - 1) * stride[0] + 1, stride[0])
            cols = slice(w0, w0 + (out[1] - 1) * stride[1] + 1, stride[1])
            yield kh, kw, (rows, cols)


# -------------------------------------------------------------------------------- convolution


def conv2d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Pair = ONE,
    pads: Pads = NO_PADS,
    dilation: Pair = ONE,
    groups: int = 1,
) -> Floats:
    """y[n,o,i,j] = b[o] + the sum over c, kh, kw of
    x[n, c, i*sh + kh*dh - top, j*sw + kw*dw - left] * w[o,c,kh,kw].

    x (N, IC, IH, IW), w (OC, IC/groups, KH, KW), y (N, OC, OH, OW).
    """
    (N, IC, IH, IW), (OC, _, KH, KW) = x.shape, w.shape
    OH = output_size(IH, KH, stride[0], pads[0] + pads[1], dilation[0])
    OW = output_size(IW, KW, stride[1], pads[2] + pads[3], dilation[1])
    xp = padded(x, pads)
    wg = f64(w).reshape(groups, OC // groups, IC // groups, KH, KW)
    y = np.zeros((N, groups, OC // groups, OH * OW))
    for kh, kw, (rows, cols) in taps((KH, KW), (OH, OW), stride, dilation):
        seen = xp[:, :, rows, cols].reshape(N, groups, IC // groups, OH * OW)
        y += wg[:, :, :, kh, kw] @ seen
    y = y.reshape(N, OC, OH, OW)
    return y if b is None else y + f64(b)[:, None, None]


def conv2d_backward_input(
    dy: Any,
    w: Any,
    x_shape: Sequence[int],
    stride: Pair = ONE,
    pads: Pads = NO_PADS,
    dilation: Pair = ONE,
    groups: int = 1,
) -> Floats:
    """The adjoint of conv2d in x: dy goes back, times w, to the pixels it came from."""
    (N, IC, IH, IW), (OC, _, KH, KW) = x_shape, w.shape
    OH, OW = dy.shape[2:]
    dyg = f64(dy).reshape(N, groups, OC // groups, OH * OW)
    wg = f64(w).reshape(groups, OC // groups, IC // groups, KH, KW)
    dxp = padded(np.zeros((N, IC, IH, IW)), pads)
    for kh, kw, (rows, cols) in taps((KH, KW), (OH, OW), stride, dilation):
        sent = wg[:, :, :, kh, kw].transpose(0, 2, 1) @ dyg
        dxp[:, :, rows, cols] += sent.reshape(N, IC, OH, OW)
    return dxp[:, :, pads[0] : pads[0] + IH, pads[2] : pads[2] + IW]


def conv2d_backward_weight(
    dy: Any,
    x: Any,
    w_shape: Sequence[int],
    stride: Pair = ONE,
    pads: Pads = NO_PADS,
    dilation: Pair = ONE,
    groups: int = 1,
) -> Floats:
    """dw[o,c,kh,kw] = the sum over n, i, j of
    dy[n,o,i,j] * x[n, c, i*sh + kh*dh - top, j*sw + kw*dw - left]."""
    (OC, _, KH, KW), (N, IC) = w_shape, x.shape[:2]
    OH, OW = dy.shape[2:]
    dyg = f64(dy).reshape(N, groups, OC // groups, OH * OW)
    xp = padded(x, pads)
    dw = np.zeros((groups, OC // groups, IC // groups, KH, KW))
    for kh, kw, (rows, cols) in taps((KH, KW), (OH, OW), stride, dilation):
        seen = xp[:, :, rows, cols].reshape(N, groups, IC // groups, OH * OW)
        dw[:, :, :, kh, kw] = (dyg @ seen.transpose(0, 1, 3, 2)).sum(axis=0)
    return dw.reshape(w_shape)


def conv_transpose2d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Pair = ONE,
    padding: Pair = (0, 0),
    output_padding: Pair = (0, 0),
    dilation: Pair = ONE,
    groups: int = 1,
) -> Floats:
    """conv2d_backward_input read forwards. w (IC, OC/groups, KH, KW);
    OH = (IH - 1) * stride - 2 * padding + dilation * (KH - 1) + output_padding + 1."""
    IH, IW = x.shape[2:]
    KH, KW = w.shape[2:]
    OH = (IH - 1) * stride[0] - 2 * padding[0] + dilation[0] * (KH - 1) + output_padding[0] + 1
    OW = (IW - 1) * stride[1] - 2 * padding[1] + dilation[1] * (KW - 1) + output_padding[1] + 1
    y_shape = (x.shape[0], w.shape[1] * groups, OH, OW)
    y = conv2d_backward_input(x, w, y_shape, stride, symmetric(padding), dilation, groups)
    return y if b is None else y + f64(b)[:, None, None]


def symmetric(padding: Pair) -> Pads:
    return (padding[0], padding[0], padding[1], padding[1])


def linear(x: Any, w: Any, b: Any = None) -> Floats:
    """y = x w^T + b. x (N, I), w (O, I), y (N, O); so dx = dy w and dw = dy^T x."""
    y: Floats = f64(x) @ f64(w).T
    return y if b is None else y + f64(b)


# ------------------------------------------------------------------------------------ pooling


def pool_windows(
    x: Any, kernel: Pair, stride: Pair, pads: Pads, dilation: Pair = ONE, ceil: bool = False
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.int64]]:
    """Values (N, C, OH, OW, KH*KW), whether each lies inside the image, and its ih * IW + iw."""
    IH, IW = x.shape[2:]
    OH = pooled_size(IH, kernel[0], stride[0], pads[:2], dilation[0], ceil)
    OW = pooled_size(IW, kernel[1], stride[1], pads[2:], dilation[1], ceil)
    ih = (np.arange(OH) * stride[0])[:, None] + np.arange(kernel[0]) * dilation[0] - pads[0]
    iw = (np.arange(OW) * stride[1])[:, None] + np.arange(kernel[1]) * dilation[1] - pads[2]
    ih, iw = ih[:, None, :, None], iw[None, :, None, :]
    inside = ((ih >= 0) & (ih < IH) & (iw >= 0) & (iw < IW)).reshape(OH, OW, -1)
    place = (ih.clip(0, IH - 1) * IW + iw.clip(0, IW - 1)).reshape(OH, OW, -1)
    return f64(x).reshape(*x.shape[:2], IH * IW)[:, :, place], inside, place


def max_pool2d(
    x: Any,
    kernel: Pair,
    stride: Pair,
    pads: Pads = NO_PADS,
    dilation: Pair = ONE,
    ceil: bool = False,
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """y, the tap (kh * KW + kw) and the pixel (ih * IW + iw) of each maximum.

    The first NaN wins; else the first maximum; among -inf the first tap inside the image.
    """
    values, inside, place = pool_windows(x, kernel, stride, pads, dilation, ceil)
    values = np.where(inside, values, -np.inf)
    nan = np.isnan(values)
    top = np.where(nan, -np.inf, values).max(axis=-1, keepdims=True)
    tap = np.where(nan.any(-1), nan.argmax(-1), (inside & (values == top)).argmax(-1))
    y = np.take_along_axis(values, tap[..., None], -1)[..., 0]
    pixel = np.take_along_axis(np.broadcast_to(place, values.shape), tap[..., None], -1)[..., 0]
    return y, tap, pixel


def max_pool2d_backward(dy: Any, pixel: NDArray[np.int64], x_shape: Sequence[int]) -> Floats:
    """Each dy goes whole to the pixel that was the maximum; a pixel chosen twice gets the sum."""
    N, C, IH, IW = x_shape
    dx = np.zeros((N * C, IH * IW))
    planes = np.arange(N * C)[:, None]
    np.add.at(dx, (planes, pixel.reshape(N * C, -1)), f64(dy).reshape(N * C, -1))
    return dx.reshape(N, C, IH, IW)


def avg_pool2d_weights(
    shape: Pair, kernel: Pair, stride: Pair, pads: Pads, ceil: bool, include_pad: bool, divisor: int
) -> Floats:
    """Average pooling as a matrix (OH*OW, IH*IW): 1 / divisor at the pixels inside each window.

    The divisor is `divisor` if not 0; the window clipped to the padded image when padding counts
    (what ceil mode hangs over does not); the pixels inside the image otherwise.
    """
    IH, IW = shape
    _, inside, place = pool_windows(np.zeros((1, 1, IH, IW)), kernel, stride, pads, ONE, ceil)
    OH, OW, _ = inside.shape
    rows = (
        np.minimum(np.arange(OH) * stride[0] + kernel[0], IH + pads[0] + pads[1])
        - np.arange(OH) * stride[0]
    )
    cols = (
        np.minimum(np.arange(OW) * stride[1] + kernel[1], IW + pads[2] + pads[3])
        - np.arange(OW) * stride[1]
    )
    count = rows[:, None] * cols if include_pad else inside.sum(-1)
    if divisor:
        count = np.full((OH, OW), divisor)
    weights = np.zeros((OH, OW, IH * IW))
    for o, p in zip(*np.nonzero(inside.reshape(OH * OW, -1)), strict=True):
        weights.reshape(OH * OW, -1)[o, place.reshape(OH * OW, -1)[o, p]] = 1.0 / count.flat[o]
    return weights


def adaptive_avg_pool2d_weights(shape: Pair, out: Pair) -> Floats:
    """Output i of O averages inputs floor(i * I / O) .. ceil((i + 1) * I / O) - 1, both ways."""

    def one_way(size: int, count: int) -> Floats:
        m = np.zeros((count, size))
        for i in range(count):
            begin, end = i * size // count, -(-(i + 1) * size // count)
            m[i, begin:end] = 1.0 / (end - begin)
        return m

    return np.einsum("yh,xw->yxhw", one_way(shape[0], out[0]), one_way(shape[1], out[1])).reshape(
        *out, -1
    )


def upsample_bilinear2d_weights(shape: Pair, out: Pair, align_corners: bool) -> Floats:
    """Interpolation at i (I - 1) / (O - 1) (corners aligned) or max((i + 0.5) I / O - 0.5, 0)."""

    def one_way(size: int, count: int) -> Floats:
        m = np.zeros((count, size))
        for i in range(count):
            if align_corners:
                at = i * (size - 1) / (count - 1) if count > 1 else 0.0
            else:
                at = max((i + 0.5) * size / count - 0.5, 0.0)
            low = int(at)
            m[i, low] += 1.0 - (at - low)
            m[i, min(low + 1, size - 1)] += at - low
        return m

    return np.einsum("yh,xw->yxhw", one_way(shape[0], out[0]), one_way(shape[1], out[1])).reshape(
        *out, -1
    )


def resample(x: Any, weights: Floats) -> Floats:
    """Any of the *_weights matrices above, (OH, OW, IH*IW), applied to every plane of x."""
    return np.einsum("ncp,yxp->ncyx", f64(x).reshape(*x.shape[:2], -1), weights, optimize=True)


def resample_backward(dy: Any, weights: Floats, x_shape: Sequence[int]) -> Floats:
    """The transpose of resample."""
    return np.einsum("ncyx,yxp->ncp", f64(dy), weights, optimize=True).reshape(x_shape)


def pad2d(x: Any, pads: Pads, value: float = 0.0) -> Floats:
    """Constant padding; a negative pad crops."""
    y = padded(x, tuple(max(p, 0) for p in pads), value)  # type: ignore[arg-type]
    top, bottom, left, right = (max(-p, 0) for p in pads)
    return y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]


# ------------------------------------------------------------------------------ normalisation


def channels(v: Any, ndim: int) -> Floats:
    """A vector (C,) shaped to broadcast over (N, C, ...)."""
    return f64(v).reshape(1, -1, *[1] * (ndim - 2))


def batch_norm(x: Any, weight: Any, bias: Any, mean: Any, var: Any, eps: float) -> Floats:
    """y = (x - mean) / sqrt(var + eps) * weight + bias, each a vector over the channels."""
    x = f64(x)
    inv_std = 1.0 / np.sqrt(channels(var, x.ndim) + eps)
    return (x - channels(mean, x.ndim)) * inv_std * channels(weight, x.ndim) + channels(
        bias, x.ndim
    )


def batch_statistics(x: Any) -> tuple[Floats, Floats]:
    """Mean and biased variance of every channel over the batch and the pixels."""
    axes = (0, *range(2, x.ndim))
    return f64(x).mean(axis=axes), f64(x).var(axis=axes)


def batch_norm_backward(
    dy: Any, x: Any, weight: Any, mean: Any, var: Any, eps: float, training: bool
) -> tuple[Floats, Floats, Floats]:
    """With h = (x - mean) / std:  dweight = sum(dy h), dbias = sum(dy), and
    dx = weight / std * (dy - mean(dy) - h mean(dy h)); in eval mode without the two means."""
    dy, x = f64(dy), f64(x)
    axes = (0, *range(2, x.ndim))
    inv_std = 1.0 / np.sqrt(channels(var, x.ndim) + eps)
    h = (x - channels(mean, x.ndim)) * inv_std
    centred = dy
    if training:
        centred = dy - dy.mean(axes, keepdims=True) - h * (dy * h).mean(axes, keepdims=True)
    return channels(weight, x.ndim) * inv_std * centred, (dy * h).sum(axes), dy.sum(axes)


def lrn_band(C: int, size: int) -> Floats:
    """band[c, j] = 1 where j is a neighbour of c: from c - size//2 to c + (size-1)//2."""
    c, j = np.arange(C)[:, None], np.arange(C)
    return f64((j >= c - size // 2) & (j <= c + (size - 1) // 2))


def local_response_norm(x: Any, size: int, alpha: float, beta: float, k: float) -> Floats:
    """y_c = x_c s_c^-beta with s_c = k + alpha / size * sum over neighbours j of x_j^2."""
    x = f64(x)
    s = k + alpha / size * np.einsum("cj,nj...->nc...", lrn_band(x.shape[1], size), x**2)
    return x * s**-beta


def local_response_norm_backward(
    dy: Any, x: Any, size: int, alpha: float, beta: float, k: float
) -> Floats:
    """dx_j = dy_j s_j^-beta
    - 2 alpha beta / size * x_j * the sum over c near j of dy_c x_c s_c^(-beta-1)."""
    dy, x = f64(dy), f64(x)
    band = lrn_band(x.shape[1], size)
    s = k + alpha / size * np.einsum("cj,nj...->nc...", band, x**2)
    spread = np.einsum("cj,nc...->nj...", band, dy * x * s ** (-beta - 1))
    return dy * s**-beta - 2 * alpha * beta / size * x * spread


# -------------------------------------------------------------------- activations and losses


def sigmoid(x: Any) -> Floats:
    """1 / (1 + e^-x), without overflow."""
    x = f64(x)
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def log_softmax(x: Any, axis: int) -> Floats:
    """x - log sum e^x, shifted by the maximum so that nothing overflows."""
    z = f64(x) - f64(x).max(axis=axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=axis, keepdims=True))


def softmax(x: Any, axis: int) -> Floats:
    return np.exp(log_softmax(x, axis))


def softmax_backward(dy: Any, y: Any, axis: int) -> Floats:
    """dx = y (dy - sum(dy y))."""
    dy, y = f64(dy), f64(y)
    return y * (dy - (dy * y).sum(axis=axis, keepdims=True))


def log_softmax_backward(dy: Any, y: Any, axis: int) -> Floats:
    """dx = dy - e^y sum(dy)."""
    dy, y = f64(dy), f64(y)
    return dy - np.exp(y) * dy.sum(axis=axis, keepdims=True)


def cross_entropy(
    logits: Any,
    labels: NDArray[np.int64],
    weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> tuple[Floats, Floats]:
    """loss_n = -sum over c of q_nc weight_c log_softmax(x)_nc, with q = (1 - e) onehot + e / C.

    "mean" divides by the sum of weight[label]; ignored samples count nowhere. Returns the loss and
    its gradient.
    """
    C = logits.shape[1]
    weight = np.ones(C) if weight is None else f64(weight)
    keep = labels != ignore_index
    target = np.where(keep, labels, 0)
    onehot = np.moveaxis(np.eye(C)[target], -1, 1)
    q = ((1 - label_smoothing) * onehot + label_smoothing / C) * channels(weight, logits.ndim)
    q = q * keep[:, None]
    losses = -(q * log_softmax(logits, 1)).sum(axis=1)
    gradient = softmax(logits, 1) * q.sum(axis=1, keepdims=True) - q
    if reduction == "mean":
        total = (weight[target] * keep).sum()
        return losses.sum() / total, gradient / total
    return (losses.sum() if reduction == "sum" else losses), gradient


def reduced(losses: Floats, gradient: Floats, reduction: str) -> tuple[Floats, Floats]:
    if reduction == "mean":
        return np.asarray(losses.mean()), gradient / losses.size
    return (np.asarray(losses.sum()) if reduction == "sum" else losses), gradient


def mse_loss(x: Any, target: Any, reduction: str = "mean") -> tuple[Floats, Floats]:
    """(x - target)^2 and 2 (x - target)."""
    d = f64(x) - f64(target)
    return reduced(d**2, 2 * d, reduction)


def binary_cross_entropy(x: Any, target: Any, reduction: str = "mean") -> tuple[Floats, Floats]:
    """-(t log x + (1 - t) log(1 - x)), logarithms not below -100;
    gradient (x - t) / max(x (1 - x), 1e-12)."""
    x, t = f64(x), f64(target)
    with np.errstate(divide="ignore"):
        log_x, log_not = np.maximum(np.log(x), -100), np.maximum(np.log1p(-x), -100)
    return reduced(
        -(t * log_x + (1 - t) * log_not), (x - t) / np.maximum(x * (1 - x), 1e-12), reduction
    )


def binary_cross_entropy_with_logits(
    x: Any, target: Any, reduction: str = "mean"
) -> tuple[Floats, Floats]:
    """max(x, 0) - x t + log(1 + e^-|x|); gradient sigmoid(x) - t."""
    x, t = f64(x), f64(target)
    losses = np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))
    return reduced(losses, sigmoid(x) - t, reduction)
