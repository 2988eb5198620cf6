"""Batch normalisation, local response normalisation, dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from .. import functional as F
from ..autograd import Tensor, as_tensor
from ..errors import ShapeError
from ..functional.normalization import _batch_norm
from . import init
from .module import Module, Parameter

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "Dropout",
    "LocalResponseNorm",
]


class _BatchNorm(Module):
    """What the batch normalisations of different dimensions share."""

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    _dims: tuple[int, ...]
    _expected: str

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if num_features < 1:
            raise ValueError(f"[{type(self).__name__}] num_features must be at least 1")
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.weight = Parameter(np.ones(num_features, np.float32)) if affine else None
        self.bias = Parameter(np.zeros(num_features, np.float32)) if affine and bias else None
        track = track_running_stats
        ones = np.ones(num_features, np.float32)
        self.register_buffer("running_mean", Tensor(ones * 0) if track else None)
        self.register_buffer("running_var", Tensor(ones) if track else None)
        self.register_buffer("num_batches_tracked", Tensor(np.int64(0)) if track else None)

    @property
    def frozen(self) -> bool:
        """Whether weight and bias are there and not trained: then the statistics stay as well."""
        parameters = [p for p in (self.weight, self.bias) if p is not None]
        return bool(parameters) and not any(p.requires_grad for p in parameters)

    @property
    def _by_batch(self) -> bool:
        """Whether it normalises by the statistics of the batch, not by the running ones."""
        return self.running_mean is None or (self.training and not self.frozen)

    def reset_running_stats(self) -> None:
        """Forgets the running statistics."""
        if self.running_mean is not None and self.running_var is not None:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.numpy()[...] = 0

    def reset_parameters(self) -> None:
        """Forgets statistics, weight and bias."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = as_tensor(x, f"[{type(self).__name__}] input")
        if x.ndim not in self._dims:
            raise ShapeError(f"[{type(self).__name__}] expected {self._expected}, got {x.shape}")
        momentum = 0.0 if self.momentum is None else self.momentum
        training = self._by_batch
        if training and self.num_batches_tracked is not None:
            _core.count_up(self.num_batches_tracked._array)
            if self.momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked)
        return _batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training,
            momentum,
            self.eps,
        )

    def extra_repr(self) -> str:
        bias = "bias=False, " if self.affine and self.bias is None else ""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"{bias}track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L); `torch.nn.BatchNorm1d`; see BatchNorm2d."""

    _dims, _expected = (2, 3), "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W); `torch.nn.BatchNorm2d`.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: how far the running statistics move to those of each batch; None: their mean.
        affine: whether there are weight and bias.
        track_running_stats: whether running statistics are kept, for evaluation.
        bias: False leaves out the bias alone.

    Parameters: `weight` (ones) and `bias` (zeros), (C,). Buffers: `running_mean`, `running_var`,
    `num_batches_tracked`.

    Where weight and bias require no gradient the layer is frozen: other than in PyTorch it then
    uses its running statistics, and leaves them alone, in training mode too.

    Example:
        >>> from fastconv import nn
        >>> list(nn.BatchNorm2d(3).state_dict())
        ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
    """

    _dims, _expected = (4,), "(N, C, H, W)"


class LocalResponseNorm(Module):
    """x / (k + alpha / size * sum of x^2 over neighbouring channels)^beta, of AlexNet.

    `torch.nn.LocalResponseNorm`; see `functional.local_response_norm`.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Any) -> Any:
        return F.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class Dropout(Module):
    """In training, zeroes elements with probability p and scales the others; `torch.nn.Dropout`.

    Args:
        p: the probability.
        inplace: accepted, and changes nothing.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"[{type(self).__name__}] p must be from 0 to 1, got {p}")
        self.p, self.inplace = p, inplace

    def forward(self, x: Any) -> Any:
        return F.dropout(x, self.p) if self.training and self.p else x

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"
