"""The ResNets for CIFAR-10: narrow, and with shortcuts that have no parameters.

K. He, X. Zhang, S. Ren, J. Sun: "Deep residual learning for image recognition", CVPR 2016, section
4.2. Names as in Y. Idelbayev's implementation (akamaster/pytorch_resnet_cifar10), whose pretrained
weights load as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import functional as F
from ..nn import BatchNorm2d, Conv2d, Linear, Module, Sequential, init
from .catalogue import network

if TYPE_CHECKING:
    from ..io import PathLike

__all__ = [
    "CifarBlock",
    "CifarResNet",
    "cifar_resnet20",
    "cifar_resnet32",
    "cifar_resnet44",
    "cifar_resnet56",
    "cifar_resnet110",
]


class CifarBlock(Module):
    """relu(shortcut(x) + bn(conv3x3(relu(bn(conv3x3(x)))))).

    The shortcut is the paper's option A: every `stride`-th pixel, and zeros for the new channels,
    half of them before and half after the old ones.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(channels)
        self.stride, self.new_channels = stride, channels - in_channels

    def forward(self, x: Any) -> Any:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += self.shortcut(x)
        return F.relu(y)

    def shortcut(self, x: Any) -> Any:
        if self.stride > 1:
            x = F.avg_pool2d(x, 1, self.stride)  # windows of one pixel: x[:, :, ::stride, ::stride]
        if self.new_channels:
            before = self.new_channels // 2
            x = F.pad(x, (0, 0, 0, 0, before, self.new_channels - before))
        return x


class CifarResNet(Module):
    """A 3x3 convolution and three stages of n blocks: 6 n + 2 layers with weights.

    ============================  ============  =====================
    layer                         output        parameters (n = 3)
    ============================  ============  =====================
    input                         (3, 32, 32)
    Conv2d 3x3 pad 1, BN, ReLU    (16, 32, 32)                    464
    layer1: n blocks              (16, 32, 32)                 14,016
    layer2: n blocks, stride 2    (32, 16, 16)                 51,072
    layer3: n blocks, stride 2    (64, 8, 8)                  203,520
    global average, Linear        (10,)                           650
    ============================  ============  =====================

    Args:
        depth: 6 n + 2.
        num_classes, in_channels: of the data.
        width: channels of the first stage; twice and four times as many in the others.
    """

    def __init__(
        self, depth: int, num_classes: int = 10, in_channels: int = 3, width: int = 16
    ) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"[CifarResNet] depth must be 6 n + 2: 20, 32, 44, ...; got {depth}")
        n = depth // 6
        self.conv1 = Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.layer1 = _stage(width, width, n, stride=1)
        self.layer2 = _stage(width, 2 * width, n, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, n, stride=2)
        self.linear = Linear(4 * width, num_classes)
        self.apply(_start)

    def forward(self, x: Any) -> Any:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> Sequential:
    first = CifarBlock(in_channels, channels, stride)
    return Sequential(first, *(CifarBlock(channels, channels) for _ in range(blocks - 1)))


def _start(layer: Module) -> None:
    if isinstance(layer, (Conv2d, Linear)):
        init.kaiming_normal_(layer.weight)


@network((3, 32, 32), "CIFAR10")
def cifar_resnet20(
    num_classes: int = 10, in_channels: int = 3, width: int = 16, weights: PathLike | None = None
) -> CifarResNet:
    """ResNet-20 for CIFAR-10; 269,722 parameters; see `CifarResNet`."""
    return CifarResNet(20, num_classes, in_channels, width)


@network((3, 32, 32), "CIFAR10")
def cifar_resnet32(
    num_classes: int = 10, in_channels: int = 3, width: int = 16, weights: PathLike | None = None
) -> CifarResNet:
    """ResNet-32 for CIFAR-10; 464,154 parameters; see `CifarResNet`."""
    return CifarResNet(32, num_classes, in_channels, width)


@network((3, 32, 32), "CIFAR10")
def cifar_resnet44(
    num_classes: int = 10, in_channels: int = 3, width: int = 16, weights: PathLike | None = None
) -> CifarResNet:
    """ResNet-44 for CIFAR-10; 658,586 parameters; see `CifarResNet`."""
    return CifarResNet(44, num_classes, in_channels, width)


@network((3, 32, 32), "CIFAR10")
def cifar_resnet56(
    num_classes: int = 10, in_channels: int = 3, width: int = 16, weights: PathLike | None = None
) -> CifarResNet:
    """ResNet-56 for CIFAR-10; 853,018 parameters; see `CifarResNet`."""
    return CifarResNet(56, num_classes, in_channels, width)


@network((3, 32, 32), "CIFAR10")
def cifar_resnet110(
    num_classes: int = 10, in_channels: int = 3, width: int = 16, weights: PathLike | None = None
) -> CifarResNet:
    """ResNet-110 for CIFAR-10; 1,727,962 parameters; see `CifarResNet`."""
    return CifarResNet(110, num_classes, in_channels, width)
