"""LeNet-1 and LeNet-5, the networks that read handwritten digits.

Y. LeCun, B. Boser, J. Denker, D. Henderson, R. Howard, W. Hubbard, L. Jackel: "Handwritten digit
recognition with a back-propagation network", NIPS 1989 (LeNet-1).
Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: "Gradient-based learning applied to document
recognition", Proceedings of the IEEE 86(11), 1998 (LeNet-5).
"""

from ..nn import AvgPool2d, Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential, Tanh

__all__ = ["lenet1", "lenet5"]


def lenet1(num_classes: int = 10, in_channels: int = 1) -> Sequential:
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


def lenet5(num_classes: int = 10, in_channels: int = 1) -> Sequential:
    """LeNet-5 in its modern form: ReLU, max pooling and a plain output layer; 61,706 parameters.

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

    >>> sum(p.numel() for p in lenet5().parameters())
    61706
    """
    return Sequential(
        Conv2d(in_channels, 6, 5, padding=2),
        ReLU(),
        MaxPool2d(2),
        Conv2d(6, 16, 5),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(16 * 5 * 5, 120),
        ReLU(),
        Linear(120, 84),
        ReLU(),
        Linear(84, num_classes),
    )
