"""Dense layers, and the identity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import Tensor, as_tensor
from ..autograd.pending import NO_POST_OPS, PostOps
from ..functional.linear import _linear, _Product
from . import init
from .module import Module, Parameter

__all__ = ["Identity", "Linear"]


class Identity(Module):
    """Returns its input; `torch.nn.Identity`. Arguments are ignored."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        return x


class Linear(Module):
    """y = x w^T + b; `torch.nn.Linear`.

    Args:
        in_features: size of each input sample.
        out_features: size of each output sample.
        bias: whether b is added.

    Shapes: x (N, in_features) or (..., in_features), y the same with out_features. Parameters:
    `weight` (out_features, in_features) and `bias` (out_features,), uniform within
    +-1 / sqrt(in_features).

    Example:
        >>> import numpy as np
        >>> from fastconv import nn
        >>> nn.Linear(3, 2)(np.zeros((5, 3), np.float32)).shape
        (5, 2)
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise ValueError(
                f"[Linear] in_features and out_features must be at least 1, got {in_features}, "
                f"{out_features}"
            )
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(np.empty((out_features, in_features), np.float32))
        self.bias = Parameter(np.empty(out_features, np.float32)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """New initial values, with PyTorch's distribution."""
        bound = 1.0 / math.sqrt(self.in_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    takes = _Product.joins

    def forward(self, x: Tensor, post: PostOps = NO_POST_OPS) -> Tensor:
        if not isinstance(x, Tensor):
            x = as_tensor(x, "[Linear] input")
        return _linear(x, self.weight, self.bias, post)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )
