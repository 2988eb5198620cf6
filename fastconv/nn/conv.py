"""Convolution layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import functional as F
from ..autograd import Tensor, as_tensor
from ..autograd.pending import NO_POST_OPS, PostOps
from ..functional._arguments import geometry_of, pad_pair, pads_of, pair
from ..functional.conv import CONVOLUTION_TAKES, _conv2d, conv1d
from ..functional.conv_transpose import _conv_transpose2d
from . import init
from .module import Module, Parameter

if TYPE_CHECKING:
    from .._core import Pads
    from ..functional._arguments import Sizes

__all__ = ["Conv1d", "Conv2d", "ConvTranspose2d"]


class _Conv(Module):
    """What convolutions share: arguments, checked once, and parameters."""

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, ...],
        groups: int,
        bias: bool,
        padding_mode: str,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        modes = ("zeros",) if transposed else ("zeros", "reflect", "replicate", "circular")
        if padding_mode not in modes:
            raise ValueError(
                f"[{name}] padding_mode must be one of {', '.join(modes)}, got {padding_mode!r}"
            )
        pair((in_channels, out_channels), f"[{name}] in_channels and out_channels")
        pair(groups, f"[{name}] groups")
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"[{name}] in_channels={in_channels} and out_channels={out_channels} must be "
                f"multiples of groups={groups}"
            )
        self.in_channels, self.out_channels = int(in_channels), int(out_channels)
        self.kernel_size, self.groups, self.padding_mode = kernel_size, int(groups), padding_mode
        outer, inner = (in_channels, out_channels) if transposed else (out_channels, in_channels)
        self.weight = Parameter(np.empty((outer, inner // groups, *kernel_size), np.float32))
        self.bias = Parameter(np.empty(out_channels, np.float32)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """New initial values, with PyTorch's distribution: uniform within +-1 / sqrt(fan_in)."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1.0 / math.sqrt(init.fans(self.weight.shape)[0])
            init.uniform_(self.bias, -bound, bound)

    def _options(self, **others: tuple[Any, Any]) -> str:
        """For extra_repr: name=value of what is not at its default."""
        options = {
            "padding": (self.__dict__["padding"], (0,) * len(self.kernel_size)),
            "dilation": (self.__dict__["dilation"], (1,) * len(self.kernel_size)),
            **others,
            "groups": (self.groups, 1),
            "bias": (self.bias is not None, True),
            "padding_mode": (self.padding_mode, "zeros"),
        }
        return "".join(f", {name}={v}" for name, (v, default) in options.items() if v != default)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.__dict__['stride']}{self._options()}"
        )


class Conv2d(_Conv):
    """2-D convolution; `torch.nn.Conv2d`.

    Args:
        in_channels, out_channels: IC and OC.
        kernel_size: KH and KW, an int or a pair.
        stride: step of the window.
        padding: rows and columns at each side, "valid" or "same"; see `functional.conv2d`.
        dilation: distance between the taps of the kernel.
        groups: independent groups of channels.
        bias: whether a bias is added to each output channel.
        padding_mode: what the border is made of: "zeros", or the image: "reflect", "replicate" or
            "circular", as in `functional.pad`.

    Shapes: x (N, IC, IH, IW), y (N, OC, OH, OW) with
    OH = floor((IH + 2 padding - dilation (KH - 1) - 1) / stride) + 1. Parameters: `weight` (OC,
    IC / groups, KH, KW) and `bias` (OC,), uniform within +-1 / sqrt(IC / groups KH KW).

    Example:
        >>> import numpy as np
        >>> from fastconv import nn
        >>> nn.Conv2d(1, 6, 5, padding=2)(np.zeros((2, 1, 28, 28), np.float32)).shape
        (2, 6, 28, 28)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: str | Sizes = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ) -> None:
        kernel = pair(kernel_size, "[Conv2d] kernel_size")
        super().__init__(in_channels, out_channels, kernel, groups, bias, padding_mode)
        self.stride = pair(stride, "[Conv2d] stride")
        self.padding = pad_pair(padding, "[Conv2d] padding")
        self.dilation = pair(dilation, "[Conv2d] dilation")

    def _pads(self, x: Tensor) -> Pads:
        padding = self.padding
        if isinstance(padding, str):
            return pads_of(padding, x.shape, self.kernel_size, self.stride, self.dilation)
        top, left = padding
        return (top, top, left, left)

    def _with_border(self, x: Tensor) -> tuple[Tensor, Pads]:
        """The images, with the border that is made of themselves, and the zeros still to come."""
        pads = self._pads(x)
        if self.padding_mode == "zeros":
            return x, pads
        top, bottom, left, right = pads
        return F.pad(x, (left, right, top, bottom), self.padding_mode), (0, 0, 0, 0)

    takes = CONVOLUTION_TAKES

    def forward(self, x: Tensor, post: PostOps = NO_POST_OPS) -> Tensor:
        if not isinstance(x, Tensor):
            x = as_tensor(x, "[Conv2d] input")
        x, pads = self._with_border(x)
        geometry = geometry_of(self.stride, pads, self.dilation, self.groups)
        return _conv2d(x, self.weight, self.bias, geometry, post)


class Conv1d(_Conv):
    """1-D convolution; `torch.nn.Conv1d`.

    Args: as for `Conv2d`, with one size each.

    Shapes: x (N, IC, L), y (N, OC, OL) with
    OL = floor((L + 2 padding - dilation (K - 1) - 1) / stride) + 1.

    Example:
        >>> import numpy as np
        >>> from fastconv import nn
        >>> nn.Conv1d(4, 8, 3, stride=2)(np.zeros((2, 4, 15), np.float32)).shape
        (2, 8, 7)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: str | int | tuple[int] = 0,
        dilation: int | tuple[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ) -> None:
        kernel = _one(kernel_size, "[Conv1d] kernel_size")
        super().__init__(in_channels, out_channels, kernel, groups, bias, padding_mode)
        self.stride = _one(stride, "[Conv1d] stride")
        if isinstance(padding, str):
            pad_pair(padding, "[Conv1d] padding")
        self.padding = padding if isinstance(padding, str) else _one(padding, "[Conv1d] padding", 0)
        self.dilation = _one(dilation, "[Conv1d] dilation")

    def forward(self, x: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            x = as_tensor(x, "[Conv1d] input")
            x = F.pad(x, self._pads(x), self.padding_mode)
            padding = (0,)
        y: Tensor = conv1d(
            x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )
        return y

    def _pads(self, x: Tensor) -> tuple[int, int]:
        padding = self.padding
        if not isinstance(padding, str):
            return (padding[0], padding[0])
        image = (*x.shape[:2], 1, x.shape[-1])
        sizes = ((1, size[0]) for size in (self.kernel_size, self.stride, self.dilation))
        return pads_of(padding, image, *sizes)[2:]


def _one(value: int | tuple[int], what: str, least: int = 1) -> tuple[int]:
    if isinstance(value, Sequence):
        (value,) = value
    return pair(value, what, least)[:1]


class ConvTranspose2d(_Conv):
    """Transposed 2-D convolution; `torch.nn.ConvTranspose2d`.

    Args:
        in_channels, out_channels: IC and OC.
        kernel_size, stride, padding, dilation: those of the convolution that it transposes.
        output_padding: rows and columns added at the bottom and right, less than stride.
        groups: independent groups of channels.
        bias: whether a bias is added to each output channel.

    Shapes: x (N, IC, IH, IW), y (N, OC, OH, OW) with
    OH = (IH - 1) stride - 2 padding + dilation (KH - 1) + output_padding + 1. Parameters: `weight`
    (IC, OC / groups, KH, KW) and `bias` (OC,).

    Example:
        >>> import numpy as np
        >>> from fastconv import nn
        >>> nn.ConvTranspose2d(8, 4, 2, stride=2)(np.zeros((1, 8, 7, 7), np.float32)).shape
        (1, 4, 14, 14)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        padding_mode: str = "zeros",
    ) -> None:
        name = "[ConvTranspose2d]"
        kernel = pair(kernel_size, f"{name} kernel_size")
        super().__init__(
            in_channels, out_channels, kernel, groups, bias, padding_mode, transposed=True
        )
        self.stride = pair(stride, f"{name} stride")
        self.padding = pair(padding, f"{name} padding", 0)
        self.output_padding = pair(output_padding, f"{name} output_padding", 0)
        self.dilation = pair(dilation, f"{name} dilation")
        if self.output_padding[0] >= self.stride[0] or self.output_padding[1] >= self.stride[1]:
            raise ValueError(
                f"{name} output_padding {self.output_padding} must be smaller than stride "
                f"{self.stride}"
            )

    def forward(self, x: Tensor) -> Tensor:
        return _conv_transpose2d(
            as_tensor(x, "[ConvTranspose2d] input"),
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )

    def _options(self, **others: tuple[Any, Any]) -> str:
        return super()._options(output_padding=(self.output_padding, (0, 0)))
