"""LeNet-1 and LeNet-5, the networks that read handwritten digits.

Y. LeCun, B. Boser, J. Denker, D. Henderson, R. Howard, W. Hubbard, L. Jackel: "Handwritten digit
recognition with a back-propagation network", NIPS 1989 (LeNet-1).
Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: "Gradient-based learning applied to document
recognition", Proceedings of the IEEE 86(11), 1998 (LeNet-5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..nn import AvgPool2d, Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential, Tanh
from .catalogue import network

if TYPE_CHECKING:
    from ..io import PathLike

__all__ = ["lenet1", "lenet5"]


@network((1, 28, 28))
def lenet1(
    num_classes: int = 10, in_channels: int = 1, weights: PathLike | None = None
) -> Sequential:
    """LeNet-1 as in the 1989 paper: tanh and average pooling; 3,246 parameters.

    Every map of the second convolution sees all four maps of the first (the paper connects some),
    and pooling has no coefficients of its own.

    ======================  ==============  ==========
    layer                   output          parameters
    ======================  ==============  ==========
    input                   (1, 28, 28)
    Conv2d 5x5, Tanh        (4, 24, 24)            104
    AvgPool2d 2             (4, 12, 12)
    Conv2d 5x5, Tanh        (12, 8, 8)           1,212
    AvgPool2d 2             (12, 4, 4)
    Flatten, Linear         (10,)                1,930
    ======================  ==============  ==========

    >>> sum(p.numel() for p in lenet1().parameters())
    3246
    """
    return Sequential(
        Conv2d(in_channels, 4, 5),
        Tanh(),
        AvgPool2d(2),
        Conv2d(4, 12, 5),
        Tanh(),
        AvgPool2d(2),
        Flatten(),
        Linear(12 * 4 * 4, num_classes),
    )


@network((1, 28, 28))
def lenet5(
    num_classes: int = 10,
    in_channels: int = 1,
    variant: str = "modern",
    weights: PathLike | None = None,
) -> Sequential:
    """LeNet-5, modern or as in 1998; 61,706 parameters.

    ======================  ==============  ==========
    layer                   output          parameters
    ======================  ==============  ==========
    input                   (1, 28, 28)
    Conv2d 5x5 pad 2, ReLU  (6, 28, 28)            156
    MaxPool2d 2             (6, 14, 14)
    Conv2d 5x5, ReLU        (16, 10, 10)         2,416
    MaxPool2d 2             (16, 5, 5)
    Flatten                 (400,)
    Linear, ReLU            (120,)              48,120
    Linear, ReLU            (84,)               10,164
    Linear                  (10,)                  850
    ======================  ==============  ==========

    Args:
        num_classes, in_channels: of the data.
        variant: "modern", as in the table; or "classic", with the paper's tanh and average pooling
            instead, and as many parameters. (In the paper some of the second convolution's
            connections are missing, pooling has coefficients, and the last layer measures
            distances to drawn digits: together 60,000 parameters.)
        weights: a safetensors file.

    >>> sum(p.numel() for p in lenet5().parameters())
    61706
    >>> sum(p.numel() for p in lenet5(variant="classic").parameters())
    61706
    """
    if variant not in ("modern", "classic"):
        raise ValueError(f'[lenet5] variant must be "modern" or "classic", got {variant!r}')
    modern = variant == "modern"
    activation, pool = (ReLU, MaxPool2d) if modern else (Tanh, AvgPool2d)
    return Sequential(
        Conv2d(in_channels, 6, 5, padding=2),
        activation(),
        pool(2),
        Conv2d(6, 16, 5),
        activation(),
        pool(2),
        Flatten(),
        Linear(16 * 5 * 5, 120),
        activation(),
        Linear(120, 84),
        activation(),
        Linear(84, num_classes),
    )
