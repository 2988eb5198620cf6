"""VGG: depth from 3x3 convolutions alone.

K. Simonyan, A. Zisserman: "Very deep convolutional networks for large-scale image recognition",
ICLR 2015, configurations A, B, D and E; batch normalisation came later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..nn import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
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
    "VGG",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
]

CHANNELS = (64, 128, 256, 512, 512)  # of the five stages, each ended by a pooling layer
DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGG(Module):
    """Five stages of 3x3 convolutions and three dense layers, as in torchvision.

    VGG-16, 138,357,544 parameters:

    ================================  ===============  ===========
    layer                             output            parameters
    ================================  ===============  ===========
    input                             (3, 224, 224)
    2 x Conv2d 3x3 pad 1              (64, 224, 224)        38,720
    MaxPool2d, 2 x Conv2d 3x3 pad 1   (128, 112, 112)      221,440
    MaxPool2d, 3 x Conv2d 3x3 pad 1   (256, 56, 56)      1,475,328
    MaxPool2d, 3 x Conv2d 3x3 pad 1   (512, 28, 28)      5,899,776
    MaxPool2d, 3 x Conv2d 3x3 pad 1   (512, 14, 14)      7,079,424
    MaxPool2d, Flatten                (25088,)
    Linear                            (4096,)          102,764,544
    Linear                            (4096,)           16,781,312
    Linear                            (1000,)            4,097,000
    ================================  ===============  ===========

    ReLU follows every layer with parameters but the last, dropout the first two dense layers.
    Images from 32 x 32 pixels.

    Args:
        depth: 11, 13, 16 or 19, the number of layers with weights.
        batch_norm: whether batch normalisation follows each convolution.
        num_classes, in_channels: of the data.
        dropout: after the first two dense layers.
    """

    def __init__(
        self,
        depth: int,
        batch_norm: bool = False,
        num_classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ValueError(f"[VGG] depth must be 11, 13, 16 or 19, got {depth}")
        layers: list[Module] = []
        for convolutions, channels in zip(DEPTHS[depth], CHANNELS, strict=True):
            for _ in range(convolutions):
                layers.append(Conv2d(in_channels, channels, 3, padding=1))
                layers += [BatchNorm2d(channels), ReLU()] if batch_norm else [ReLU()]
                in_channels = channels
            layers.append(MaxPool2d(2))
        self.features = Sequential(*layers)
        self.avgpool = AdaptiveAvgPool2d(7)
        self.classifier = Sequential(
            Linear(512 * 7 * 7, 4096),
            ReLU(),
            Dropout(dropout),
            Linear(4096, 4096),
            ReLU(),
            Dropout(dropout),
            Linear(4096, num_classes),
        )
        self.apply(_start)

    def forward(self, x: Any) -> Any:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def _start(layer: Module) -> None:
    """torchvision's initial values."""
    if isinstance(layer, Conv2d) and layer.bias is not None:
        init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        init.zeros_(layer.bias)
    elif isinstance(layer, Linear) and layer.bias is not None:
        init.normal_(layer.weight, 0, 0.01)
        init.zeros_(layer.bias)


@network((3, 224, 224), "IMAGENET")
def vgg11(
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.5,
    weights: PathLike | None = None,
) -> VGG:
    """VGG-11 (A of the paper); 132,863,336 parameters; see `VGG`."""
    return VGG(11, False, num_classes, in_channels, dropout)


@network((3, 224, 224), "IMAGENET")
def vgg11_bn(
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.5,
    weights: PathLike | None = None,
) -> VGG:
    """VGG-11 with batch normalisation (A of the paper); 132,868,840 parameters; see `VGG`."""
    return VGG(11, True, num_classes, in_channels, dropout)


@network((3, 224, 224), "IMAGENET")
def vgg13(
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.5,
    weights: PathLike | None = None,
) -> VGG:
    """VGG-13 (B of the paper); 133,047,848 parameters; see `VGG`."""
    return VGG(13, False, num_classes, in_channels, dropout)


@network((3, 224, 224), "IMAGENET")
def vgg13_bn(
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.5,
    weights: PathLike | None = None,
) -> VGG:
    """VGG-13 with batch normalisation (B of the paper); 133,053,736 parameters; see `VGG`."""
    return VGG(13, True, num_classes, in_channels, dropout)


@network((3, 224, 224), "IMAGENET")
def vgg16(
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.5,
    weights: PathLike | None = None,
) -> VGG:
    """VGG-16 (D of the paper); 138,357,544 parameters; see `VGG`."""
    return VGG(16, False, num_classes, in_channels, dropout)


@network((3, 224, 224), "IMAGENET")
def vgg16_bn(
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.5,
    weights: PathLike | None = None,
) -> VGG:
    """VGG-16 with batch normalisation (D of the paper); 138,365,992 parameters; see `VGG`."""
    return VGG(16, True, num_classes, in_channels, dropout)


@network((3, 224, 224), "IMAGENET")
def vgg19(
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.5,
    weights: PathLike | None = None,
) -> VGG:
    """VGG-19 (E of the paper); 143,667,240 parameters; see `VGG`."""
    return VGG(19, False, num_classes, in_channels, dropout)


@network((3, 224, 224), "IMAGENET")
def vgg19_bn(
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.5,
    weights: PathLike | None = None,
) -> VGG:
    """VGG-19 with batch normalisation (E of the paper); 143,678,248 parameters; see `VGG`."""
    return VGG(19, True, num_classes, in_channels, dropout)
