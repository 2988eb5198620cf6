"""MobileNet v2: residual blocks that are wide inside and narrow where they meet.

M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen: "MobileNetV2: inverted residuals and linear
bottlenecks", CVPR 2018.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import functional as F
from ..nn import BatchNorm2d, Conv2d, Dropout, Linear, Module, ReLU6, Sequential, init
from .catalogue import network

if TYPE_CHECKING:
    from ..io import PathLike

__all__ = ["InvertedResidual", "MobileNetV2", "mobilenet_v2"]

# Expansion, output channels (at width 1), blocks, and stride of the first: table 2 of the paper.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(Module):
    """1x1 convolution to more channels, 3x3 for each channel, 1x1 back: no ReLU where it is narrow.

    Args:
        in_channels, out_channels: IC and OC; if equal, and stride is 1, the input is added.
        stride: of the 3x3 convolution.
        expansion: how many times wider it is inside.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers: list[Module] = [_conv(in_channels, hidden, 1)] if expansion != 1 else []
        layers += [
            _conv(hidden, hidden, 3, stride, groups=hidden),
            Conv2d(hidden, out_channels, 1, bias=False),
            BatchNorm2d(out_channels),
        ]
        self.conv = Sequential(*layers)
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x: Any) -> Any:
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(Module):
    """See `mobilenet_v2`."""

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: float = 1.0,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        channels = _to_eights(32 * width)
        layers: list[Module] = [_conv(in_channels, channels, 3, stride=2)]
        for expansion, full, blocks, stride in STAGES:
            for i in range(blocks):
                out_channels = _to_eights(full * width)
                step = stride if i == 0 else 1
                layers.append(InvertedResidual(channels, out_channels, step, expansion))
                channels = out_channels
        features = _to_eights(1280 * max(1.0, width))
        self.features = Sequential(*layers, _conv(channels, features, 1))
        self.classifier = Sequential(Dropout(dropout), Linear(features, num_classes))
        self.apply(_start)

    def forward(self, x: Any) -> Any:
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


def _conv(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> Sequential:
    """Convolution that keeps the size (but for its stride), batch normalisation, ReLU6."""
    return Sequential(
        Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        BatchNorm2d(out_channels),
        ReLU6(),
    )


def _to_eights(channels: float) -> int:
    """The nearest multiple of 8 that takes away no more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def _start(layer: Module) -> None:
    """torchvision's initial values."""
    if isinstance(layer, Conv2d):
        init.kaiming_normal_(layer.weight, mode="fan_out")
    elif isinstance(layer, Linear) and layer.bias is not None:
        init.normal_(layer.weight, 0, 0.01)
        init.zeros_(layer.bias)


@network((3, 224, 224), "IMAGENET")
def mobilenet_v2(
    num_classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    dropout: float = 0.2,
    weights: PathLike | None = None,
) -> MobileNetV2:
    """MobileNet v2, as in torchvision; 3,504,872 parameters.

    ===================================  ===============  ==========
    layer                                output           parameters
    ===================================  ===============  ==========
    input                                (3, 224, 224)
    Conv2d 3x3 stride 2                  (32, 112, 112)          928
    InvertedResidual, expansion 1        (16, 112, 112)          896
    2 x InvertedResidual, stride 2       (24, 56, 56)         13,968
    3 x InvertedResidual, stride 2       (32, 28, 28)         39,696
    4 x InvertedResidual, stride 2       (64, 14, 14)        183,872
    3 x InvertedResidual                 (96, 14, 14)        303,168
    3 x InvertedResidual, stride 2       (160, 7, 7)         795,264
    InvertedResidual                     (320, 7, 7)         473,920
    Conv2d 1x1                           (1280, 7, 7)        412,160
    global average, Dropout, Linear      (1000,)           1,281,000
    ===================================  ===============  ==========

    Args:
        num_classes, in_channels: of the data.
        width: the share of channels kept, rounded to multiples of 8.
        dropout: in front of the last layer.
        weights: "imagenet", or a safetensors file with torchvision's names.
    """
    return MobileNetV2(num_classes, in_channels, width, dropout)
