"""AlexNet, which began deep learning on photographs.

A. Krizhevsky, I. Sutskever, G. Hinton: "ImageNet classification with deep convolutional neural
networks", NIPS 2012; in the form of A. Krizhevsky: "One weird trick for parallelizing convolutional
neural networks", arXiv:1404.5997, 2014: one column, no local response normalisation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..nn import AdaptiveAvgPool2d, Conv2d, Dropout, Linear, MaxPool2d, Module, ReLU, Sequential
from .catalogue import network

if TYPE_CHECKING:
    from ..io import PathLike

__all__ = ["AlexNet", "alexnet"]


class AlexNet(Module):
    """See `alexnet`."""

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = Sequential(
            Conv2d(in_channels, 64, 11, stride=4, padding=2),
            ReLU(),
            MaxPool2d(3, stride=2),
            Conv2d(64, 192, 5, padding=2),
            ReLU(),
            MaxPool2d(3, stride=2),
            Conv2d(192, 384, 3, padding=1),
            ReLU(),
            Conv2d(384, 256, 3, padding=1),
            ReLU(),
            Conv2d(256, 256, 3, padding=1),
            ReLU(),
            MaxPool2d(3, stride=2),
        )
        self.avgpool = AdaptiveAvgPool2d(6)
        self.classifier = Sequential(
            Dropout(dropout),
            Linear(256 * 6 * 6, 4096),
            ReLU(),
            Dropout(dropout),
            Linear(4096, 4096),
            ReLU(),
            Linear(4096, num_classes),
        )

    def forward(self, x: Any) -> Any:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@network((3, 224, 224), "IMAGENET")
def alexnet(
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.5,
    weights: PathLike | None = None,
) -> AlexNet:
    """AlexNet, as in torchvision; 61,100,840 parameters, nearly all of them in two dense layers.

    ================================  ==============  ==========
    layer                             output          parameters
    ================================  ==============  ==========
    input                             (3, 224, 224)
    Conv2d 11x11 stride 4 pad 2       (64, 55, 55)        23,296
    MaxPool2d 3 stride 2              (64, 27, 27)
    Conv2d 5x5 pad 2                  (192, 27, 27)      307,392
    MaxPool2d 3 stride 2              (192, 13, 13)
    Conv2d 3x3 pad 1                  (384, 13, 13)      663,936
    Conv2d 3x3 pad 1                  (256, 13, 13)      884,992
    Conv2d 3x3 pad 1                  (256, 13, 13)      590,080
    MaxPool2d 3 stride 2              (256, 6, 6)
    Flatten, Dropout, Linear          (4096,)         37,752,832
    Dropout, Linear                   (4096,)         16,781,312
    Linear                            (1000,)          4,097,000
    ================================  ==============  ==========

    ReLU follows every layer with parameters but the last. Images from 63 x 63 pixels.

    Args:
        num_classes, in_channels: of the data.
        dropout: in front of the first two dense layers.
        weights: "imagenet", or a safetensors file with torchvision's names.
    """
    return AlexNet(num_classes, in_channels, dropout)
