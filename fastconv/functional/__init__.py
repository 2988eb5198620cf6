"""Operations as functions, with the signatures and the meaning of `torch.nn.functional`.

Given Tensors they return Tensors, and record themselves for differentiation where a gradient is
required. Given NumPy arrays they return NumPy arrays; the explicit `*_backward` functions are for
networks written that way.

* conv.py           conv1d, conv2d; conv2d_backward
* conv_transpose.py conv_transpose2d
* linear.py         linear; linear_backward
* pooling.py        max_pool2d, avg_pool2d, adaptive_avg_pool2d; max_pool2d_backward, ...
* activation.py     relu, relu6, leaky_relu, sigmoid, tanh, softmax, log_softmax
* normalization.py  batch_norm, local_response_norm, dropout
* movement.py       pad, flatten, cat, interpolate
* loss.py           cross_entropy, nll_loss, mse_loss, l1_loss, binary_cross_entropy, ...
"""

from .activation import leaky_relu, log_softmax, relu, relu6, sigmoid, softmax, tanh
from .conv import conv1d, conv2d, conv2d_backward
from .conv_transpose import conv_transpose2d
from .linear import linear, linear_backward
from .loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    l1_loss,
    mse_loss,
    nll_loss,
)
from .movement import cat, flatten, interpolate, pad
from .normalization import batch_norm, dropout, local_response_norm
from .pooling import (
    adaptive_avg_pool2d,
    avg_pool2d,
    avg_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
)

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cat",
    "conv1d",
    "conv2d",
    "conv2d_backward",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "flatten",
    "interpolate",
    "l1_loss",
    "leaky_relu",
    "linear",
    "linear_backward",
    "local_response_norm",
    "log_softmax",
    "max_pool2d",
    "max_pool2d_backward",
    "mse_loss",
    "nll_loss",
    "pad",
    "relu",
    "relu6",
    "sigmoid",
    "softmax",
    "tanh",
]
