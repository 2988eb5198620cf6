"""Activation layers."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..autograd import Tensor
from ..functional.activation import rectified
from .module import Module

__all__ = ["LeakyReLU", "LogSoftmax", "ReLU", "ReLU6", "Sigmoid", "Softmax", "Tanh"]


class ReLU(Module):
    """max(x, 0); `torch.nn.ReLU`. `inplace` is accepted, and changes nothing.

    Example:
        >>> import fastconv as fc
        >>> fc.nn.ReLU()(fc.Tensor([-1.0, 2.0]))
        Tensor([0., 2.])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    @property
    def post_op(self) -> tuple[str, Any] | None:
        return ("activation", "relu")

    def forward(self, x: Any) -> Any:
        return rectified(x, "relu") if isinstance(x, Tensor) else F.relu(x)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class ReLU6(ReLU):
    """min(max(x, 0), 6); `torch.nn.ReLU6`."""

    @property
    def post_op(self) -> tuple[str, Any] | None:
        return ("activation", "relu6")

    def forward(self, x: Any) -> Any:
        return rectified(x, "relu6") if isinstance(x, Tensor) else F.relu6(x)


class LeakyReLU(Module):
    """x where positive, negative_slope * x elsewhere; `torch.nn.LeakyReLU`."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope, self.inplace = negative_slope, inplace

    def forward(self, x: Any) -> Any:
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class Sigmoid(Module):
    """1 / (1 + exp(-x)); `torch.nn.Sigmoid`."""

    def forward(self, x: Any) -> Any:
        return F.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent; `torch.nn.Tanh`."""

    def forward(self, x: Any) -> Any:
        return F.tanh(x)


class Softmax(Module):
    """Probabilities along `dim`; `torch.nn.Softmax`.

    Losses take logits: `fit` recognises a network that ends in Softmax; a training loop of your own
    should leave it out, and use CrossEntropyLoss.
    """

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Any) -> Any:
        return F.softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """The logarithm of softmax, stable; `torch.nn.LogSoftmax`."""

    def forward(self, x: Any) -> Any:
        return F.log_softmax(x, self.dim)
