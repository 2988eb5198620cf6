"""Elementwise nonlinearities, and softmax."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from .. import _core
from ..autograd import Tensor, unary
from ..autograd.pending import join
from ._arguments import numpy_too

if TYPE_CHECKING:
    from .._core import Activation, Array, Saved

__all__ = [
    "Activated",
    "activations_noted",
    "leaky_relu",
    "log_softmax",
    "relu",
    "relu6",
    "sigmoid",
    "softmax",
    "tanh",
]


# ------------------------------------------------------------------- what may end a network
class Activated(NamedTuple):
    """A sigmoid or softmax that was computed."""

    kind: str  # "sigmoid" or "softmax"
    input: Tensor
    output: Tensor
    axis: int | None  # of softmax
    arrays: Saved  # of the output and the input, as they were

    def holds(self) -> bool:
        """Whether output and input are still what they were."""
        tensors = self.output, self.input
        same = all(t._array.address == self.arrays[i].address for i, t in enumerate(tensors))
        return same and self.arrays.changed < 0


class _Notes(threading.local):
    last: deque[Activated] | None = None  # while somebody wants to know


_notes = _Notes()
_FEW = 4  # activations that are noted: that at the end, and some beside or behind it


@contextmanager
def activations_noted() -> Iterator[deque[Activated]]:
    """While open, notes the last sigmoids and softmaxes that this thread computes.

    Training runs a network so, to find the logits behind the probabilities that it returns.
    """
    before, _notes.last = _notes.last, deque(maxlen=_FEW)
    try:
        yield _notes.last
    finally:
        _notes.last = before


def _noted(kind: str, x: Tensor, y: Tensor, axis: int | None = None) -> Tensor:
    if _notes.last is not None:
        arrays = _core.Saved([y._array, x._array])
        _notes.last.append(Activated(kind, x, y, axis, arrays))
    return y


# ----------------------------------------------------------------------------- the functions
def rectified(x: Tensor, activation: Activation) -> Tensor:
    """relu or relu6 of a tensor. Layers call it."""
    if x._pending is not None:
        joined = join(x, "activation", activation, None, rectified, activation)
        if joined is not None:
            return joined
    y = _core.relu(x._array) if activation == "relu" else _core.relu6(x._array)
    return unary(x, y, lambda dy: rectified_backward(dy, y, activation), str(activation), y)


def rectified_backward(dy: Array, y: Array, activation: Activation) -> Array:
    """The gradient of relu or relu6 with the result y."""
    return _core.relu_backward(dy, y) if activation == "relu" else _core.relu6_backward(dy, y)


@numpy_too
def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0); NaN stays NaN. `torch.nn.functional.relu`.

    Args:
        input: float32, any shape.
        inplace: accepted for compatibility; the result is always returned.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> F.relu(np.array([-1, 0, 2], np.float32))
        array([0., 0., 2.], dtype=float32)
    """
    return rectified(input, "relu")


@numpy_too
def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6); `torch.nn.functional.relu6`, of MobileNet.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> F.relu6(np.array([-1, 2, 8], np.float32))
        array([0., 2., 6.], dtype=float32)
    """
    return rectified(input, "relu6")


@numpy_too
def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where positive, negative_slope * x elsewhere; `torch.nn.functional.leaky_relu`.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> F.leaky_relu(np.array([-4, 2], np.float32), 0.25)
        array([-1.,  2.], dtype=float32)
    """
    x = input._array
    y = _core.leaky_relu(x, negative_slope)

    def backward(dy: Array) -> Array:
        return _core.leaky_relu_backward(dy, x, negative_slope)

    return unary(input, y, backward, "leaky_relu", x)


@numpy_too
def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), without overflow; `torch.nn.functional.sigmoid`.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> F.sigmoid(np.array([-1000, 0, 1000], np.float32))
        array([0. , 0.5, 1. ], dtype=float32)
    """
    y = _core.sigmoid(input._array)
    result = unary(input, y, lambda dy: _core.sigmoid_backward(dy, y), "sigmoid", y)
    return _noted("sigmoid", input, result)


@numpy_too
def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent; `torch.nn.functional.tanh`.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> F.tanh(np.array([-1000, 0, 1000], np.float32))
        array([-1.,  0.,  1.], dtype=float32)
    """
    y = _core.tanh(input._array)
    return unary(input, y, lambda dy: _core.tanh_backward(dy, y), "tanh", y)


def _softmax_axis(x: Tensor, dim: int | None, op: str) -> int:
    ndim = x.ndim
    if dim is None:  # PyTorch's choice: the classes of (C,), (N, C), (C, H, W), (N, C, H, W)
        dim = 0 if ndim in (0, 1, 3) else 1
    if not -ndim <= dim < ndim:
        raise IndexError(f"[{op}] dim {dim} is out of range for {ndim} dimensions")
    return dim % ndim


@numpy_too
def softmax(input: Tensor, dim: int | None = None) -> Tensor:
    """exp(x) / sum of exp(x) along `dim`, computed without overflow; `torch.nn.functional.softmax`.

    Args:
        input: float32, any shape.
        dim: the axis that sums to 1; by default that of the classes: 1, or 0 without a batch.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> F.softmax(np.array([[1000, 1000]], np.float32), dim=1)
        array([[0.5, 0.5]], dtype=float32)
    """
    axis = _softmax_axis(input, dim, "softmax")
    y = _core.softmax(input._array, axis)
    result = unary(input, y, lambda dy: _core.softmax_backward(dy, y, axis), "softmax", y)
    return _noted("softmax", input, result, axis)


@numpy_too
def log_softmax(input: Tensor, dim: int | None = None) -> Tensor:
    """x - log of the sum of exp(x) along `dim`, stable; `torch.nn.functional.log_softmax`.

    Example:
        >>> import numpy as np
        >>> from fastconv import functional as F
        >>> F.log_softmax(np.array([[0, 1000]], np.float32), dim=1)
        array([[-1000.,     0.]], dtype=float32)
    """
    axis = _softmax_axis(input, dim, "log_softmax")
    y = _core.log_softmax(input._array, axis)

    def backward(dy: Array) -> Array:
        return _core.log_softmax_backward(dy, y, axis)

    return unary(input, y, backward, "log_softmax", y)
