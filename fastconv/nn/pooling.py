"""Pooling layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..autograd import Tensor, as_tensor
from ..functional._arguments import pair, pooling_of
from ..functional.pooling import (
    _avg_pool2d,
    _divisor,
    _max_pool2d,
    _window,
    adaptive_avg_pool2d,
    max_pool2d,
)
from .module import Module

if TYPE_CHECKING:
    from .._core import Pooling
    from ..functional._arguments import Sizes

__all__ = ["AdaptiveAvgPool2d", "AvgPool2d", "MaxPool2d"]


class MaxPool2d(Module):
    """The maximum of each window; `torch.nn.MaxPool2d`.

    Args:
        kernel_size, stride, padding, dilation, return_indices, ceil_mode: see
            `functional.max_pool2d`.

    Shapes: x (N, C, IH, IW), y (N, C, OH, OW) with
    OH = floor((IH + 2 padding - dilation (KH - 1) - 1) / stride) + 1.

    Example:
        >>> import numpy as np
        >>> from fastconv import nn
        >>> nn.MaxPool2d(2)(np.zeros((1, 6, 28, 28), np.float32)).shape
        (1, 6, 14, 14)
    """

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        # As given, for repr and for whoever reads them; the checked forms are what runs.
        self.kernel_size, self.padding, self.dilation = kernel_size, padding, dilation
        self.stride = kernel_size if stride is None else stride
        self.return_indices, self.ceil_mode = bool(return_indices), bool(ceil_mode)
        self._window = _window("MaxPool2d", kernel_size, stride, padding)
        self._dilation = pair(dilation, "[MaxPool2d] dilation")

    def forward(self, x: Tensor) -> Any:
        if self.return_indices:
            return max_pool2d(
                as_tensor(x, "[MaxPool2d] input"),
                self.kernel_size,
                self.stride,
                self.padding,
                self.dilation,
                self.ceil_mode,
                True,
            )
        if not isinstance(x, Tensor):
            x = as_tensor(x, "[MaxPool2d] input")
        return _max_pool2d(x, self.pooling)

    @property
    def post_op(self) -> tuple[str, Any] | None:
        return None if self.return_indices else ("pool", self.pooling)

    @property
    def pooling(self) -> Pooling:
        """What the core takes."""
        return pooling_of(*self._window, self._dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class AvgPool2d(Module):
    """The average of each window; `torch.nn.AvgPool2d`.

    Args:
        kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override: see
            `functional.avg_pool2d`.

    Shapes: x (N, C, IH, IW), y (N, C, OH, OW) with OH = floor((IH + 2 padding - KH) / stride) + 1.

    Example:
        >>> import numpy as np
        >>> from fastconv import nn
        >>> nn.AvgPool2d(2)(np.zeros((1, 6, 28, 28), np.float32)).shape
        (1, 6, 14, 14)
    """

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size, self.padding = kernel_size, padding
        self.stride = kernel_size if stride is None else stride
        self.ceil_mode, self.count_include_pad = bool(ceil_mode), bool(count_include_pad)
        self.divisor_override = divisor_override
        self._window = _window("AvgPool2d", kernel_size, stride, padding)
        self._divisor = _divisor(divisor_override, "AvgPool2d")

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            x = as_tensor(x, "[AvgPool2d] input")
        kernel, stride, pads = self._window
        return _avg_pool2d(
            x, kernel, stride, pads, self.ceil_mode, self.count_include_pad, self._divisor
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """Averages down to a given size, 1: global pooling; `torch.nn.AdaptiveAvgPool2d`.

    Args:
        output_size: (OH, OW), or an int for both; None keeps that size.

    Example:
        >>> import numpy as np
        >>> from fastconv import nn
        >>> nn.AdaptiveAvgPool2d(1)(np.zeros((1, 512, 7, 7), np.float32)).shape
        (1, 512, 1, 1)
    """

    def __init__(self, output_size: int | Sequence[int | None] | None) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        return adaptive_avg_pool2d(as_tensor(x, "[AdaptiveAvgPool2d] input"), self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"
