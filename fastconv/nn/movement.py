"""Layers that only move data: Flatten and Upsample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import functional as F
from ..autograd import Tensor, as_tensor
from .module import Module

if TYPE_CHECKING:
    from ..functional._arguments import Sizes

__all__ = ["Flatten", "Upsample"]


class Flatten(Module):
    """Joins dimensions, by default all but the batch; `torch.nn.Flatten`.

    Example:
        >>> import numpy as np
        >>> from fastconv import nn
        >>> nn.Flatten()(np.zeros((2, 16, 5, 5), np.float32)).shape
        (2, 400)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Tensor:
        return as_tensor(x, "[Flatten] input").flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Upsample(Module):
    """Resizes images; `torch.nn.Upsample`, see `functional.interpolate`.

    Args:
        size: (OH, OW), or an int for both; or instead
        scale_factor: OH / IH and OW / IW.
        mode: "nearest" or "bilinear".
        align_corners: for bilinear.
    """

    def __init__(
        self,
        size: Sizes | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        self.scale_factor = (
            float(scale_factor) if isinstance(scale_factor, (int, float)) else scale_factor
        )
        self.mode, self.align_corners = mode, align_corners

    def forward(self, x: Any) -> Any:
        return F.interpolate(x, self.size, self.scale_factor, self.mode, self.align_corners)

    def extra_repr(self) -> str:
        if self.scale_factor is not None:
            return f"scale_factor={self.scale_factor}, mode={self.mode!r}"
        return f"size={self.size}, mode={self.mode!r}"
