"""Losses. The core computes each together with its gradient; the tape only scales that."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from ..autograd import Tensor, from_numpy, needs_grad, record, unary, wrap
from ._arguments import numpy_too, operand
from .activation import log_softmax

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core import Array
    from ._arguments import Operand

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "l1_loss",
    "mse_loss",
    "nll_loss",
]


def _check_reduction(reduction: str, op: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'[{op}] reduction must be "mean", "sum" or "none", got {reduction!r}')


def _labels(target: object, logits: Tensor, op: str) -> Array:
    """Class labels as int64 of the shape of the logits without their class axis."""
    labels = target if isinstance(target, Tensor) else np.asarray(target)
    if labels.dtype.kind not in "iub":
        raise TypeError(
            f"[{op}] labels must be integers, got {labels.dtype}: use labels.astype(np.int64), or "
            f"give probabilities of the shape of the input {logits.shape}"
        )
    shape = (logits.shape[0], *logits.shape[2:])
    if labels.shape != shape:
        cure = ""
        if labels.shape == logits.shape:
            cure = ": for one-hot labels use labels.argmax(axis=1)"
        elif labels.shape == (*shape, 1):
            cure = ": use labels[..., 0]"
        raise _core.ShapeError(
            f"[{op}] labels must have shape {shape} for input {logits.shape}, got {labels.shape}"
            f"{cure}"
        )
    if isinstance(labels, Tensor) and labels._array.dtype == "int64":
        return labels._array
    return from_numpy(np.asarray(labels).astype(np.int64))


def _reduce(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def _empty(
    x: Tensor, shape: tuple[int, ...], reduction: str, target: Tensor | None = None
) -> Tensor:
    """The loss of a batch of none: nothing, a sum of 0, or a mean that is not a number."""
    none, value = reduction == "none", math.nan if reduction == "mean" else 0.0
    y = _core.zeros(shape) if none else _core.full((), value)
    if not needs_grad(x, target):
        return wrap(y)
    before = x.shape

    def backward(dy: Array) -> tuple[Array, Array]:
        return _core.zeros(before), _core.zeros(before)

    return record(y, (x, target), backward, "a loss of an empty batch")


def _scaled(x: Tensor, loss: Array, dx: Array, reduction: str, op: str) -> Tensor:
    """A loss of the shape of x, or a number, whose gradient dx is known already."""
    if reduction == "none":
        return unary(x, loss, lambda dy: _core.mul(dx, dy), op)
    return unary(x, loss, lambda dy: _core.scale_by(dx, dy), op)


@numpy_too
def cross_entropy(
    input: Tensor,
    target: Operand,
    weight: Operand | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(logits)[label], stable; `torch.nn.functional.cross_entropy`.

    Args:
        input: logits, (N, C) or (N, C, ...) float32, or (C,).
        target: labels, any integer type, (N,) or (N, ...); or probabilities of the shape of input.
        weight: (C,), how much each class counts.
        ignore_index: a label that does not count.
        reduction: "mean" (weighted by the classes' weights), "sum" or "none".
        label_smoothing: the share of each label that is spread evenly over all classes.

    Returns:
        a number, shape (); with "none" the shape of the labels.

    Raises:
        ValueError: a label outside 0 .. C - 1.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> loss = F.cross_entropy(np.zeros((2, 10), np.float32), np.array([3, 7]))
        >>> round(float(loss), 4)  # log 10
        2.3026
    """
    op = "cross_entropy"
    _check_reduction(reduction, op)
    w = None if weight is None else operand(weight, op, "weight")
    if input.ndim == 0:
        raise _core.ShapeError("[cross_entropy] expected logits (N, C), (N, C, ...) or (C,)")
    target_shape = tuple(np.shape(target)) if not isinstance(target, Tensor) else target.shape
    if input.ndim == 1:
        labels = np.asarray(target)[None]
        batch = cross_entropy(
            input.unsqueeze(0),
            labels,
            w,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
        )
        return batch.reshape(()) if reduction == "none" else batch
    if target_shape == input.shape and _is_float(target):
        return _soft_cross_entropy(
            input, operand(target, op, "target"), w, reduction, label_smoothing
        )
    labels_array = _labels(target, input, op)
    if input.shape[0] == 0:
        return _empty(input, labels_array.shape, reduction)
    loss, dx = _core.cross_entropy(
        input._array,
        labels_array,
        None if w is None else w._array,
        ignore_index,
        label_smoothing,
        reduction,
    )
    if reduction != "none":
        return _scaled(input, loss, dx, reduction, op)

    def backward(dy: Array) -> Array:  # one dy for every class of a sample
        return from_numpy(dx.values() * np.expand_dims(dy.values(), 1))

    return unary(input, loss, backward, op)


def _is_float(x: object) -> bool:
    return (x.dtype if isinstance(x, Tensor) else np.asarray(x).dtype).kind == "f"


def _soft_cross_entropy(
    x: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float
) -> Tensor:
    """Cross-entropy against probabilities instead of labels."""
    classes = x.shape[1]
    if smoothing:
        target = target * (1.0 - smoothing) + smoothing / classes
    losses = -log_softmax(x, dim=1) * target
    if weight is not None:
        losses = losses * weight.reshape((1, classes) + (1,) * (x.ndim - 2))
    losses = losses.sum(axis=1)
    return _reduce(losses, reduction)


@numpy_too
def nll_loss(
    input: Tensor,
    target: Operand,
    weight: Operand | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """-log_probability[label]; `torch.nn.functional.nll_loss`.

    `cross_entropy` is this of log_softmax, in one operation.

    Args:
        input: log-probabilities, (N, C) or (N, C, ...) float32.
        target, weight, ignore_index, reduction: as in `cross_entropy`.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> x = np.log(np.array([[0.5, 0.5], [0.25, 0.75]], np.float32))
        >>> loss = F.nll_loss(x, np.array([0, 0]), reduction="sum")
        >>> round(float(loss), 4)  # log 8
        2.0794
    """
    op = "nll_loss"
    _check_reduction(reduction, op)
    if input.ndim < 2:
        raise _core.ShapeError(f"[nll_loss] expected (N, C) or (N, C, ...), got {input.shape}")
    labels = _labels(target, input, op).numpy()
    classes = input.shape[1]
    counted = labels != ignore_index
    outside = counted & ((labels < 0) | (labels >= classes))
    if outside.any():
        where = tuple(int(i) for i in np.argwhere(outside)[0])
        raise ValueError(
            f"[nll_loss] label {labels[where]} at {where} is outside 0 .. {classes - 1}"
        )
    chosen = np.expand_dims(np.where(counted, labels, 0), 1)
    one = np.ones(classes, np.float32) if weight is None else np.asarray(weight, np.float32)
    scale = np.where(counted, one[chosen[:, 0]], 0).astype(np.float32)
    if reduction == "mean":
        scale = scale / scale.sum()
    taken = np.take_along_axis(input.numpy(), chosen, 1)[:, 0]
    losses = np.where(counted, -taken * scale, np.float32(0))
    shape = input.shape

    def backward(dy: Array) -> Array:
        dx = np.zeros(shape, np.float32)
        np.put_along_axis(dx, chosen, np.expand_dims(-scale * dy.numpy(), 1), 1)
        return from_numpy(dx)

    loss = losses if reduction == "none" else losses.sum()
    return unary(input, from_numpy(loss), backward, op)


# --------------------------------------------------------------------------- losses of two equals
def _pair_of_equals(input: Tensor, target: Operand, op: str) -> Tensor:
    if not isinstance(target, Tensor) and np.asarray(target).dtype.kind in "iub":
        target = np.asarray(target, np.float32)  # labels 0 and 1, counts: whole numbers are meant
    y = operand(target, op, "target")
    if y.shape != input.shape:
        raise _core.ShapeError(
            f"[{op}] target must have the shape of input, got input {input.shape}, target {y.shape}"
        )
    return y


@numpy_too
def mse_loss(input: Tensor, target: Operand, reduction: str = "mean") -> Tensor:
    """(x - target)^2; `torch.nn.functional.mse_loss`.

    Args:
        input: float32, any shape.
        target: the same shape; nothing is broadcast.
        reduction: "mean" over all elements, "sum" or "none".

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> float(F.mse_loss(np.array([1, 2], np.float32), np.array([1, 4], np.float32)))
        2.0
    """
    _check_reduction(reduction, "mse_loss")
    y = _pair_of_equals(input, target, "mse_loss")
    if input.numel() == 0:
        return _empty(input, input.shape, reduction, y)
    loss, dx = _core.mse_loss(input._array, y._array, reduction)
    if not needs_grad(input, y):
        return wrap(loss)

    def backward(dy: Array) -> tuple[Array, Array]:
        gx = _core.mul(dx, dy) if reduction == "none" else _core.scale_by(dx, dy)
        return gx, _core.scale_shift(gx, -1.0, 0.0)

    return record(loss, (input, y), backward, "mse_loss")


@numpy_too
def l1_loss(input: Tensor, target: Operand, reduction: str = "mean") -> Tensor:
    """|x - target|; `torch.nn.functional.l1_loss`.

    Args:
        input, target, reduction: as in `mse_loss`.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> float(F.l1_loss(np.array([1, 2], np.float32), np.array([1, 4], np.float32)))
        1.0
    """
    _check_reduction(reduction, "l1_loss")
    return _reduce((input - _pair_of_equals(input, target, "l1_loss")).abs(), reduction)


def _binary(
    kernel: Callable[[Array, Array, str], tuple[Array, Array]],
    op: str,
    x: Tensor,
    target: Operand,
    weight: Operand | None,
    reduction: str,
) -> Tensor:
    """Either binary cross-entropy."""
    _check_reduction(reduction, op)
    y = _pair_of_equals(x, target, op)
    if y.requires_grad:
        raise ValueError(
            f"[{op}] gradients with respect to the target are not computed: detach() it"
        )
    if x.numel() == 0:
        return _empty(x, x.shape, reduction)
    if weight is None:
        loss, dx = kernel(x._array, y._array, reduction)
        return _scaled(x, loss, dx, reduction, op)
    loss, dx = kernel(x._array, y._array, "none")
    return _reduce(_scaled(x, loss, dx, "none", op) * operand(weight, op, "weight"), reduction)


@numpy_too
def binary_cross_entropy(
    input: Tensor, target: Operand, weight: Operand | None = None, reduction: str = "mean"
) -> Tensor:
    """-(y log p + (1 - y) log(1 - p)); `torch.nn.functional.binary_cross_entropy`.

    Args:
        input: probabilities p, float32, any shape. Logarithms are limited to -100.
        target: y from 0 to 1, the same shape.
        weight: factors that broadcast to that shape.
        reduction: "mean", "sum" or "none".

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> loss = F.binary_cross_entropy(np.array([0.5], np.float32), np.array([1]))
        >>> round(float(loss), 4)  # log 2
        0.6931
    """
    return _binary(
        _core.binary_cross_entropy, "binary_cross_entropy", input, target, weight, reduction
    )


@numpy_too
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Operand,
    weight: Operand | None = None,
    *,
    reduction: str = "mean",
    pos_weight: Operand | None = None,
) -> Tensor:
    """`binary_cross_entropy` of sigmoid(x), stable; `torch.nn.functional.` the same name.

    Args:
        input: logits x, float32, any shape.
        target: y from 0 to 1, the same shape.
        weight: factors that broadcast to that shape.
        reduction: "mean", "sum" or "none".
        pos_weight: factors of the term y log p, which broadcast likewise.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> loss = F.binary_cross_entropy_with_logits(np.array([0], np.float32), np.array([1]))
        >>> round(float(loss), 4)  # log 2
        0.6931
    """
    op = "binary_cross_entropy_with_logits"
    kernel: Any = _core.binary_cross_entropy_with_logits
    if pos_weight is None:
        return _binary(kernel, op, input, target, weight, reduction)
    # The loss of y plus (pos_weight - 1) y times the loss of certainty, -log p.
    y = _pair_of_equals(input, target, op)
    losses = _binary(kernel, op, input, y, None, "none")
    certain = _binary(kernel, op, input, wrap(_core.full(input.shape, 1.0)), None, "none")
    losses = losses + certain * ((operand(pos_weight, op, "pos_weight") - 1.0) * y)
    if weight is not None:
        losses = losses * operand(weight, op, "weight")
    _check_reduction(reduction, op)
    return _reduce(losses, reduction)
