"""The networks of F. Chollet, "Deep Learning with Python" (2nd edition, 2021), chapters 2 and 8.

They start from Keras's initial values, as their results depend on it: Glorot-uniform weights and
zero biases. The book's final softmax is left to the loss and to `predict`: models end in logits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..nn import Conv2d, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential, init
from .catalogue import network

if TYPE_CHECKING:
    from ..io import PathLike

__all__ = ["keras_convnet", "keras_convnet_no_pool", "keras_mlp"]


@network((1, 28, 28))
def keras_mlp(
    num_classes: int = 10, in_features: int = 28 * 28, weights: PathLike | None = None
) -> Sequential:
    """The first network of the book (section 2.1): one hidden layer; 407,050 parameters.

    ======================  ==============  ==========
    layer                   output          parameters
    ======================  ==============  ==========
    input                   (1, 28, 28)
    Flatten                 (784,)
    Linear, ReLU            (512,)             401,920
    Linear                  (10,)                5,130
    ======================  ==============  ==========

    >>> sum(p.numel() for p in keras_mlp().parameters())
    407050
    """
    return _as_keras_starts(
        Sequential(Flatten(), Linear(in_features, 512), ReLU(), Linear(512, num_classes))
    )


@network((1, 28, 28))
def keras_convnet(
    num_classes: int = 10, in_channels: int = 1, weights: PathLike | None = None
) -> Sequential:
    """The small convnet of section 8.1; 104,202 parameters.

    ======================  ==============  ==========
    layer                   output          parameters
    ======================  ==============  ==========
    input                   (1, 28, 28)
    Conv2d 3x3, ReLU        (32, 26, 26)           320
    MaxPool2d 2             (32, 13, 13)
    Conv2d 3x3, ReLU        (64, 11, 11)        18,496
    MaxPool2d 2             (64, 5, 5)
    Conv2d 3x3, ReLU        (128, 3, 3)         73,856
    Flatten                 (1152,)
    Linear                  (10,)               11,530
    ======================  ==============  ==========

    >>> sum(p.numel() for p in keras_convnet().parameters())
    104202
    """
    return _as_keras_starts(
        Sequential(
            Conv2d(in_channels, 32, 3),
            ReLU(),
            MaxPool2d(2),
            Conv2d(32, 64, 3),
            ReLU(),
            MaxPool2d(2),
            Conv2d(64, 128, 3),
            ReLU(),
            Flatten(),
            Linear(128 * 3 * 3, num_classes),
        )
    )


@network((1, 28, 28))
def keras_convnet_no_pool(
    num_classes: int = 10, in_channels: int = 1, weights: PathLike | None = None
) -> Sequential:
    """The same without pooling, which section 8.1.2 shows to be a mistake; 712,202 parameters.

    ======================  ==============  ==========
    layer                   output          parameters
    ======================  ==============  ==========
    input                   (1, 28, 28)
    Conv2d 3x3, ReLU        (32, 26, 26)           320
    Conv2d 3x3, ReLU        (64, 24, 24)        18,496
    Conv2d 3x3, ReLU        (128, 22, 22)       73,856
    Flatten                 (61952,)
    Linear                  (10,)              619,530
    ======================  ==============  ==========

    >>> sum(p.numel() for p in keras_convnet_no_pool().parameters())
    712202
    """
    return _as_keras_starts(
        Sequential(
            Conv2d(in_channels, 32, 3),
            ReLU(),
            Conv2d(32, 64, 3),
            ReLU(),
            Conv2d(64, 128, 3),
            ReLU(),
            Flatten(),
            Linear(128 * 22 * 22, num_classes),
        )
    )


def _as_keras_starts(network: Sequential) -> Sequential:
    def start(layer: Module) -> None:
        if isinstance(layer, (Conv2d, Linear)):
            init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                init.zeros_(layer.bias)

    network.apply(start)
    return network
