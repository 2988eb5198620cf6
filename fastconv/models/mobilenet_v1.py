"""MobileNet: a convolution in two cheap halves, one over pixels and one over channels.

A. G. Howard, M. Zhu, B. Chen, D. Kalenichenko, W. Wang, T. Weyand, M. Andreetto, H. Adam:
"MobileNets: efficient convolutional neural networks for mobile vision applications",
arXiv:1704.04861, 2017. Names and details are those of Keras, so that its weights can be used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..nn import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Module,
    ReLU6,
    Sequential,
    init,
)
from .catalogue import network

if TYPE_CHECKING:
    from ..io import PathLike

__all__ = ["mobilenet_v1"]

# Output channels (at width 1) and stride of the thirteen blocks.
BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *5 * ((512, 1),),
    *((1024, 2), (1024, 1)),
)


@network((3, 224, 224), "TENSORFLOW")
def mobilenet_v1(
    num_classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    dropout: float = 1e-3,
    weights: PathLike | None = None,
) -> Sequential:
    """MobileNet v1, as in Keras; 4,231,976 parameters, 2,585,560 at width 0.75.

    ===================================  ===============  ==========
    layer                                output           parameters
    ===================================  ===============  ==========
    input                                (3, 224, 224)
    conv1 3x3 stride 2                   (32, 112, 112)          928
    conv_dw_1 3x3, conv_pw_1 1x1         (64, 112, 112)        2,528
    conv_dw_2 stride 2, conv_pw_2        (128, 56, 56)         9,152
    conv_dw_3, conv_pw_3                 (128, 56, 56)        18,048
    conv_dw_4 stride 2, conv_pw_4        (256, 28, 28)        34,688
    conv_dw_5, conv_pw_5                 (256, 28, 28)        68,864
    conv_dw_6 stride 2, conv_pw_6        (512, 14, 14)       134,912
    conv_dw, conv_pw 7 to 11             (512, 14, 14)     1,344,000
    conv_dw_12 stride 2, conv_pw_12      (1024, 7, 7)        531,968
    conv_dw_13, conv_pw_13               (1024, 7, 7)      1,061,888
    global average, conv_preds 1x1       (1000,)           1,025,000
    ===================================  ===============  ==========

    Batch normalisation (eps 1e-3) and ReLU6 follow every convolution but the last. A depthwise
    convolution has one 3x3 kernel for each channel. Padding is TensorFlow's "same": of an even
    size and stride 2, one row at the bottom and one column at the right. Images are x / 127.5 - 1.

    Args:
        num_classes, in_channels: of the data.
        width: 0.25, 0.5, 0.75 or 1: the share of channels kept.
        dropout: in front of the last layer.
        weights: "imagenet" (published for width 0.75 and 0.25: what is not said, the weights say),
            or a file with Keras's names and layouts, or with these.

    >>> sum(p.numel() for p in mobilenet_v1(width=0.25).parameters())
    470072
    """
    channels = int(32 * width)
    layers = _conv("conv1", in_channels, channels, 3, stride=2)
    for i, (full, stride) in enumerate(BLOCKS, 1):
        in_channels, channels = channels, int(full * width)
        layers |= _conv(f"conv_dw_{i}", in_channels, in_channels, 3, stride, groups=in_channels)
        layers |= _conv(f"conv_pw_{i}", in_channels, channels, 1)
    layers |= {
        "global_pool": AdaptiveAvgPool2d(1),
        "dropout": Dropout(dropout),
        "conv_preds": Conv2d(channels, num_classes, 1),
        "flatten": Flatten(),
    }
    return Sequential(layers).apply(_start)


def _conv(
    name: str, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> dict[str, Module]:
    """Convolution, batch normalisation and ReLU6, with Keras's names."""
    return {
        name: Conv2d(
            in_channels, out_channels, kernel, stride, padding="same", groups=groups, bias=False
        ),
        f"{name}_bn": BatchNorm2d(out_channels, eps=1e-3),
        f"{name}_relu": ReLU6(),
    }


def _start(layer: Module) -> None:
    if isinstance(layer, Conv2d):
        init.kaiming_normal_(layer.weight, mode="fan_out")
