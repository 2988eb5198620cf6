"""Batch normalisation, local response normalisation, dropout."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .. import _core, random
from ..autograd import Node, Tensor, needs_grad, record, unary
from ..autograd.pending import (
    NO_POST_OPS,
    NORMALISATION_TAKES,
    Head,
    PostOps,
    computed,
    defer,
    join,
    may_wait,
)
from ..errors import ShapeError
from ._arguments import empty_batch, numpy_too, operand, shape_error

if TYPE_CHECKING:
    from .._core import Array
    from ._arguments import Operand

__all__ = ["batch_norm", "dropout", "local_response_norm"]


@numpy_too
def batch_norm(
    input: Tensor,
    running_mean: Operand | None,
    running_var: Operand | None,
    weight: Operand | None = None,
    bias: Operand | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel.

    `torch.nn.functional.batch_norm`; Ioffe and Szegedy, "Batch normalization", 2015.

    Args:
        input: (N, C), (N, C, L) or (N, C, H, W) float32.
        running_mean, running_var: (C,). In training they are updated in place, by
            running += momentum * (batch - running), the variance unbiased; otherwise they are used.
        weight, bias: (C,), or None for 1 and 0.
        training: use the statistics of this batch.

    Returns:
        the shape of input.

    Raises:
        ValueError: in training with one value a channel; otherwise without running statistics.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> x = np.array([[1], [3]], np.float32)
        >>> F.batch_norm(x, None, None, training=True, eps=0)
        array([[-1.],
               [ 1.]], dtype=float32)
    """
    op = "batch_norm"
    w = None if weight is None else operand(weight, op, "weight")
    b = None if bias is None else operand(bias, op, "bias")
    mean = None if running_mean is None else operand(running_mean, op, "running_mean")
    var = None if running_var is None else operand(running_var, op, "running_var")
    y = _batch_norm(input, mean, var, w, b, training, momentum, eps)
    if training:
        for target, updated in ((running_mean, mean), (running_var, var)):
            if isinstance(target, np.ndarray) and updated is not None:
                np.copyto(target, updated.numpy())  # nothing to do where memory is shared
    return y


class _Normalisation(Head):
    """A checked batch normalisation that waits for what follows it."""

    __slots__ = ("arrays", "eps", "momentum", "parents", "training", "writes")
    joins = NORMALISATION_TAKES

    def __init__(
        self,
        parents: tuple[Tensor, Tensor | None, Tensor | None],
        arrays: tuple[Array, Array | None, Array | None, Array | None, Array | None],
        statistics: tuple[Tensor, ...],
        momentum: float,
        eps: float,
        training: bool,
        recorded: bool,
    ) -> None:
        self.parents, self.arrays, self.training = parents, arrays, training
        self.momentum, self.eps, self.recorded = momentum, eps, recorded
        self.writes = statistics if training else ()

    def run(self, post: PostOps) -> tuple[Array, Node | None]:
        x, w, b = self.parents
        activation = post.activation
        add = None if post.add is None else post.add._array
        recorded, leaf = self.recorded, x._node is None
        x_array, w_array, b_array, mean, var = self.arrays
        if not self.training:
            assert mean is not None
            assert var is not None
            y, _ = _core.batch_norm_eval(
                x_array, w_array, b_array, mean, var, self.eps, activation, add, recorded, leaf
            )
            return y, None
        y, mean, inv_std, x_array = _core.batch_norm_train(
            *(x_array, w_array, b_array, mean, var, self.momentum, self.eps),
            *(activation, add, recorded, leaf),
        )
        if not recorded:
            return y, None
        need_x = x.requires_grad
        need_w, need_b = w is not None and w.requires_grad, b is not None and b.requires_grad
        need_add = post.add is not None and post.add.requires_grad
        # A sum before an activation is known from its result alone; else x and the bias tell.
        saved_y = y if activation and post.add is not None else None

        def backward(dy: Array) -> tuple[Array | None, ...]:
            dx, dw, db, dadd = _core.batch_norm_train_backward(
                dy, x_array, w_array, b_array, mean, inv_std, saved_y, activation, need_add
            )
            grads = (dx if need_x else None, dw if need_w else None, db if need_b else None)
            return *grads, dadd

        # The statistics are the tape's own.
        saved = x_array, w_array, saved_y, b_array if activation else None
        return y, Node((x, w, b, post.add), backward, "batch_norm", saved)


def _batch_norm(
    x: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    w: Tensor | None,
    b: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """batch_norm of tensors."""
    shape = x.shape
    if len(shape) < 2:
        raise shape_error("batch_norm", "(N, C), (N, C, L) or (N, C, H, W)", shape)
    if not training and (mean is None or var is None):
        raise ValueError("[batch_norm] without training=True it needs running_mean, running_var")
    if training and shape[0] > 0 and math.prod(shape) == shape[0] * shape[1] == shape[1]:
        raise ShapeError(
            f"[batch_norm] training needs more than one value a channel, got input {shape}; a "
            "last batch of one sample is left out by drop_last=True, of fit or of a Loader"
        )
    if shape[0] == 0:
        return empty_batch(lambda x: x, x, w, b)
    recorded = needs_grad(x, w, b)
    statistics = tuple([t for t in (mean, var) if t is not None])
    w_array, b_array, mean_array, var_array = (
        None if t is None else t._array for t in (w, b, mean, var)
    )
    arrays = w_array, b_array, mean_array, var_array
    if not training and recorded:
        return _evaluated(x, w, b, arrays, eps)
    fits = all(a is None or (a.shape == shape[1:2] and a.dtype == "float32") for a in arrays)
    if not training and fits and x._pending is not None and may_wait(*arrays):
        arguments = mean, var, w, b, training, momentum, eps
        joined = join(x, "normalise", (*arrays, eps), None, _batch_norm, *arguments)
        if joined is not None:
            return joined
    x_array = x._array
    operands = (x_array, *arrays)
    head = _Normalisation((x, w, b), operands, statistics, momentum, eps, training, recorded)
    checked = fits and x_array.dtype == "float32" and math.prod(shape) > 0
    # Another thread may be about to move the same statistics.
    free = all(t._pending is None for t in statistics)
    if checked and free and may_wait(*operands):
        return defer(head, shape)
    return computed(head, NO_POST_OPS)


def _evaluated(
    x: Tensor, w: Tensor | None, b: Tensor | None, arrays: tuple[Array | None, ...], eps: float
) -> Tensor:
    """Normalisation by running statistics, recorded."""
    need_w, need_b = w is not None and w.requires_grad, b is not None and b.requires_grad
    w_array, b_array, mean, var = arrays
    assert mean is not None
    assert var is not None
    y, x_array = _core.batch_norm_eval(
        x._array, w_array, b_array, mean, var, eps, None, None, True, x._node is None
    )
    if not (need_w or need_b):
        # Frozen: no x is kept.
        def frozen(dy: Array) -> Array:
            return _core.batch_norm_eval_backward_input(dy, w_array, var, eps)

        return unary(x, y, frozen, "batch_norm", w_array, var)

    def backward(dy: Array) -> tuple[Array | None, Array | None, Array | None]:
        dx, dw, db = _core.batch_norm_eval_backward(dy, x_array, w_array, mean, var, eps)
        return dx if x.requires_grad else None, dw if need_w else None, db if need_b else None

    return record(y, (x, w, b), backward, "batch_norm", x_array, w_array, mean, var)


@numpy_too
def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """x / (k + alpha / size * sum of x^2 over `size` neighbouring channels)^beta.

    `torch.nn.functional.local_response_norm`; Krizhevsky et al., "ImageNet classification with deep
    convolutional neural networks", 2012.

    Args:
        input: (N, C, H, W) float32.
        size: how many channels, centred on each.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> x = np.full((1, 1, 1, 1), 3, np.float32)
        >>> F.local_response_norm(x, 1, alpha=1, beta=0.5, k=16).round(3)
        array([[[[0.6]]]], dtype=float32)
    """
    if input.ndim < 2:
        raise shape_error("local_response_norm", "(N, C, ...)", input.shape)
    if size < 1:
        raise ValueError(f"[local_response_norm] size must be at least 1, got {size}")
    use = needs_grad(input), input._node is None
    y, x = _core.local_response_norm(input._array, size, alpha, beta, k, *use)

    def backward(dy: Array) -> Array:
        return _core.local_response_norm_backward(dy, x, size, alpha, beta, k)

    return unary(input, y, backward, "local_response_norm", x)


@numpy_too
def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zeroes each element with probability p and scales the others by 1 / (1 - p), in training.

    `torch.nn.functional.dropout`; Srivastava et al., "Dropout", 2014. The mask follows from
    `fc.manual_seed` alone, whatever the number of threads.

    Args:
        input: float32, any shape.
        p: the probability, from 0 to 1.
        training: False returns the input as it is.
        inplace: accepted for compatibility; the result is always returned.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> F.dropout(np.array([1, 2], np.float32), training=False)
        array([1., 2.], dtype=float32)
    """
    if not 0 <= p <= 1:
        raise ValueError(f"[dropout] p must be from 0 to 1, got {p}")
    if not training or p == 0:
        return input
    if p == 1:
        return input * 0.0
    seed = random.draw_seed()
    y = _core.dropout(input._array, p, seed)
    return unary(input, y, lambda dy: _core.dropout(dy, p, seed), "dropout")
