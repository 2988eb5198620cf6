"""Tiny VGG, the network that CNN Explainer takes apart in the browser.

Z. J. Wang, R. Turko, O. Shaikh, H. Park, N. Das, F. Hohman, M. Kahng, D. H. Chau: "CNN Explainer:
learning convolutional neural networks with interactive visualization", IEEE TVCG 27(2), 2021.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..nn import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from .catalogue import network

if TYPE_CHECKING:
    from ..io import PathLike

__all__ = ["tiny_vgg"]


@network((3, 64, 64))
def tiny_vgg(
    num_classes: int = 10, in_channels: int = 3, width: int = 10, weights: PathLike | None = None
) -> Sequential:
    """Two stages of two convolutions; 19,920 parameters.

    ======================  ==============  ==========
    layer                   output          parameters
    ======================  ==============  ==========
    input                   (3, 64, 64)
    Conv2d 3x3, ReLU        (10, 62, 62)           280
    Conv2d 3x3, ReLU        (10, 60, 60)           910
    MaxPool2d 2             (10, 30, 30)
    Conv2d 3x3, ReLU        (10, 28, 28)           910
    Conv2d 3x3, ReLU        (10, 26, 26)           910
    MaxPool2d 2             (10, 13, 13)
    Flatten, Linear         (10,)               16,910
    ======================  ==============  ==========

    Args:
        num_classes, in_channels: of the data.
        width: channels of every convolution.
        weights: a safetensors file.

    >>> sum(p.numel() for p in tiny_vgg().parameters())
    19920
    """
    network = Sequential(
        Conv2d(in_channels, width, 3),
        ReLU(),
        Conv2d(width, width, 3),
        ReLU(),
        MaxPool2d(2),
        Conv2d(width, width, 3),
        ReLU(),
        Conv2d(width, width, 3),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(width * 13 * 13, num_classes),
    )
    return network
