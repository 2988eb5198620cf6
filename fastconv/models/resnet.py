"""ResNet: blocks that add to what comes in, so that a hundred layers can be trained.

K. He, X. Zhang, S. Ren, J. Sun: "Deep residual learning for image recognition", CVPR 2016. The
bottleneck has its stride in the 3x3 convolution, as in torchvision ("version 1.5"), not in the
first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..nn import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
    init,
)
from .catalogue import network

if TYPE_CHECKING:
    from ..io import PathLike

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "ResNet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
]


class BasicBlock(Module):
    """relu(x + bn(conv3x3(relu(bn(conv3x3(x)))))).

    Args:
        in_channels: IC.
        channels: of both convolutions, and the output.
        stride: of the first convolution.
    """

    expansion = 1  # output channels / channels

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.relu = ReLU()
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(channels)
        self.downsample = _projection(in_channels, channels, stride)

    def forward(self, x: Any) -> Any:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += shortcut
        return self.relu(y)


class Bottleneck(Module):
    """1x1 convolution to fewer channels, 3x3, 1x1 to four times as many; the input is added.

    Args:
        in_channels: IC.
        channels: of the 3x3 convolution; the output has 4 channels for each.
        stride: of the 3x3 convolution.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = 4 * channels
        self.conv1 = Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.conv2 = Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = BatchNorm2d(channels)
        self.conv3 = Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = BatchNorm2d(out_channels)
        self.relu = ReLU()
        self.downsample = _projection(in_channels, out_channels, stride)

    def forward(self, x: Any) -> Any:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += shortcut
        return self.relu(y)


def _projection(in_channels: int, out_channels: int, stride: int) -> Sequential | None:
    """What brings x to the shape of the block's output, where it has another."""
    if stride == 1 and in_channels == out_channels:
        return None
    return Sequential(
        Conv2d(in_channels, out_channels, 1, stride, bias=False), BatchNorm2d(out_channels)
    )


class ResNet(Module):
    """A 7x7 convolution, four stages of blocks, global pooling, one dense layer; as in torchvision.

    ==========================  ==============  ==============  ===============
    layer                       ResNet-18, 34   ResNet-50 ...   size at 224 px
    ==========================  ==============  ==============  ===============
    Conv2d 7x7 stride 2, BN     64              64              112 x 112
    MaxPool2d 3 stride 2        64              64              56 x 56
    layer1                      64              256             56 x 56
    layer2, stride 2            128             512             28 x 28
    layer3, stride 2            256             1024            14 x 14
    layer4, stride 2            512             2048            7 x 7
    global average, Linear      1000            1000
    ==========================  ==============  ==============  ===============

    Args:
        block: `BasicBlock` or `Bottleneck`.
        depths: how many blocks in each stage.
        num_classes, in_channels: of the data.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        num_classes: int = 1000,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.conv1 = Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = BatchNorm2d(64)
        self.relu = ReLU()
        self.maxpool = MaxPool2d(3, stride=2, padding=1)
        e = block.expansion
        self.layer1 = _stage(block, 64, 64, depths[0], stride=1)
        self.layer2 = _stage(block, 64 * e, 128, depths[1], stride=2)
        self.layer3 = _stage(block, 128 * e, 256, depths[2], stride=2)
        self.layer4 = _stage(block, 256 * e, 512, depths[3], stride=2)
        self.avgpool = AdaptiveAvgPool2d(1)
        self.fc = Linear(512 * e, num_classes)
        self.apply(_start)

    def forward(self, x: Any) -> Any:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def _stage(
    block: type[BasicBlock] | type[Bottleneck],
    in_channels: int,
    channels: int,
    depth: int,
    stride: int,
) -> Sequential:
    first = block(in_channels, channels, stride)
    return Sequential(
        first, *(block(channels * block.expansion, channels) for _ in range(depth - 1))
    )


def _start(layer: Module) -> None:
    """torchvision's initial values."""
    if isinstance(layer, Conv2d):
        init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


@network((3, 224, 224), "IMAGENET")
def resnet18(
    num_classes: int = 1000, in_channels: int = 3, weights: PathLike | None = None
) -> ResNet:
    """ResNet-18; 11,689,512 parameters; see `ResNet`."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, in_channels)


@network((3, 224, 224), "IMAGENET")
def resnet34(
    num_classes: int = 1000, in_channels: int = 3, weights: PathLike | None = None
) -> ResNet:
    """ResNet-34; 21,797,672 parameters; see `ResNet`."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, in_channels)


@network((3, 224, 224), "IMAGENET")
def resnet50(
    num_classes: int = 1000, in_channels: int = 3, weights: PathLike | None = None
) -> ResNet:
    """ResNet-50; 25,557,032 parameters; see `ResNet`."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels)


@network((3, 224, 224), "IMAGENET")
def resnet101(
    num_classes: int = 1000, in_channels: int = 3, weights: PathLike | None = None
) -> ResNet:
    """ResNet-101; 44,549,160 parameters; see `ResNet`."""
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, in_channels)


@network((3, 224, 224), "IMAGENET")
def resnet152(
    num_classes: int = 1000, in_channels: int = 3, weights: PathLike | None = None
) -> ResNet:
    """ResNet-152; 60,192,808 parameters; see `ResNet`."""
    return ResNet(Bottleneck, (3, 8, 36, 3), num_classes, in_channels)
