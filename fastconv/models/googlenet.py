"""GoogLeNet: blocks of parallel convolutions, and auxiliary heads that help to train the depth.

C. Szegedy, W. Liu, Y. Jia, P. Sermanet, S. Reed, D. Anguelov, D. Erhan, V. Vanhoucke,
A. Rabinovich: "Going deeper with convolutions", CVPR 2015. As in torchvision: batch normalisation
instead of local response normalisation, and 3x3 convolutions where the paper has 5x5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from .. import functional as F
from ..autograd import Tensor
from ..nn import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    CrossEntropyLoss,
    Dropout,
    Linear,
    MaxPool2d,
    Module,
    Sequential,
    init,
)
from .catalogue import network

if TYPE_CHECKING:
    from ..io import PathLike
    from ..nn.loading import LoadResult

__all__ = ["GoogLeNet", "GoogLeNetLoss", "GoogLeNetOutputs", "Inception", "googlenet"]


class GoogLeNetOutputs(NamedTuple):
    """Logits (N, classes) of the three heads, in training."""

    logits: Tensor
    aux_logits2: Tensor
    aux_logits1: Tensor

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        raise TypeError(
            "[googlenet] in training there are three outputs, with auxiliary heads: use "
            "models.GoogLeNetLoss() as the loss, or googlenet(aux_logits=False)"
        )


class GoogLeNetLoss(CrossEntropyLoss):
    """Cross-entropy of the main head, plus 0.3 times that of each auxiliary head if there are any.

    Example:
        >>> from fastconv import models
        >>> model = models.googlenet(num_classes=10)
        >>> model.compile("sgd", models.GoogLeNetLoss(), ["accuracy"])
    """

    def forward(self, input: Any, target: Any) -> Any:
        if not isinstance(input, tuple):
            return super().forward(input, target)
        main, aux2, aux1 = (super(GoogLeNetLoss, self).forward(x, target) for x in input)
        return main + 0.3 * (aux2 + aux1)


class BasicConv2d(Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, **options: Any) -> None:
        super().__init__()
        self.conv = Conv2d(in_channels, out_channels, bias=False, **options)
        self.bn = BatchNorm2d(out_channels, eps=1e-3)

    def forward(self, x: Any) -> Any:
        return F.relu(self.bn(self.conv(x)))


class Inception(Module):
    """Four branches side by side, their channels joined; the paper's table 1 has the numbers.

    Args:
        in_channels: IC.
        c1: channels of the 1x1 convolution.
        c2: of the 1x1 and the 3x3 convolution of the second branch.
        c3: the same for the third branch.
        c4: of the 1x1 convolution after the pooling of the fourth.
    """

    def __init__(
        self, in_channels: int, c1: int, c2: tuple[int, int], c3: tuple[int, int], c4: int
    ) -> None:
        super().__init__()
        self.branch1 = BasicConv2d(in_channels, c1, kernel_size=1)
        self.branch2 = Sequential(
            BasicConv2d(in_channels, c2[0], kernel_size=1),
            BasicConv2d(c2[0], c2[1], kernel_size=3, padding=1),
        )
        self.branch3 = Sequential(
            BasicConv2d(in_channels, c3[0], kernel_size=1),
            BasicConv2d(c3[0], c3[1], kernel_size=3, padding=1),
        )
        self.branch4 = Sequential(
            MaxPool2d(3, stride=1, padding=1, ceil_mode=True),
            BasicConv2d(in_channels, c4, kernel_size=1),
        )

    def forward(self, x: Any) -> Any:
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return F.cat([branch(x) for branch in branches], dim=1)


class InceptionAux(Module):
    """A classifier on the features of a middle layer."""

    def __init__(self, in_channels: int, num_classes: int, dropout: float = 0.7) -> None:
        super().__init__()
        self.conv = BasicConv2d(in_channels, 128, kernel_size=1)
        self.fc1 = Linear(128 * 4 * 4, 1024)
        self.fc2 = Linear(1024, num_classes)
        self.dropout = Dropout(dropout)

    def forward(self, x: Any) -> Any:
        x = self.conv(F.adaptive_avg_pool2d(x, 4))
        return self.fc2(self.dropout(F.relu(self.fc1(x.flatten(1)))))


class GoogLeNet(Module):
    """See `googlenet`."""

    head_names = ("fc", "aux1.fc2", "aux2.fc2")
    aux1: InceptionAux | None
    aux2: InceptionAux | None

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        aux_logits: bool = True,
        transform_input: bool = False,
        dropout: float = 0.2,
        dropout_aux: float = 0.7,
    ) -> None:
        super().__init__()
        self.transform_input = transform_input
        self.conv1 = BasicConv2d(in_channels, 64, kernel_size=7, stride=2, padding=3)
        self.maxpool1 = MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = BasicConv2d(64, 64, kernel_size=1)
        self.conv3 = BasicConv2d(64, 192, kernel_size=3, padding=1)
        self.maxpool2 = MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception3a = Inception(192, 64, (96, 128), (16, 32), 32)
        self.inception3b = Inception(256, 128, (128, 192), (32, 96), 64)
        self.maxpool3 = MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception4a = Inception(480, 192, (96, 208), (16, 48), 64)
        self.inception4b = Inception(512, 160, (112, 224), (24, 64), 64)
        self.inception4c = Inception(512, 128, (128, 256), (24, 64), 64)
        self.inception4d = Inception(512, 112, (144, 288), (32, 64), 64)
        self.inception4e = Inception(528, 256, (160, 320), (32, 128), 128)
        self.maxpool4 = MaxPool2d(2, stride=2, ceil_mode=True)
        self.inception5a = Inception(832, 256, (160, 320), (32, 128), 128)
        self.inception5b = Inception(832, 384, (192, 384), (48, 128), 128)
        self.aux1 = InceptionAux(512, num_classes, dropout_aux) if aux_logits else None
        self.aux2 = InceptionAux(528, num_classes, dropout_aux) if aux_logits else None
        self.avgpool = AdaptiveAvgPool2d(1)
        self.dropout = Dropout(dropout)
        self.fc = Linear(1024, num_classes)
        self.apply(_start)

    def forward(self, x: Any) -> Any:
        if self.transform_input:
            x = x * _SCALE + _SHIFT
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        early = self.inception4a(x)
        late = self.inception4d(self.inception4c(self.inception4b(early)))
        x = self.maxpool4(self.inception4e(late))
        x = self.inception5b(self.inception5a(x))
        logits = self.fc(self.dropout(self.avgpool(x).flatten(1)))
        if self.training and self.aux1 is not None and self.aux2 is not None:
            return GoogLeNetOutputs(logits, self.aux2(late), self.aux1(early))
        return logits

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Without auxiliary heads, those of the file are left out."""
        if self.aux1 is None:
            kept = state_dict.items()
            state_dict = {n: t for n, t in kept if not n.startswith(("aux1.", "aux2."))}
        return super().load_state_dict(state_dict, strict)


def _start(layer: Module) -> None:
    """torchvision's initial values (which it cuts off at 200 standard deviations)."""
    if isinstance(layer, (Conv2d, Linear)):
        init.normal_(layer.weight, 0, 0.01)


# From pixels less ImageNet's mean, over its standard deviation, to pixels from -1 to 1.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SCALE = Tensor([[[[std / 0.5]] for std in _STD]])
_SHIFT = Tensor([[[[(mean - 0.5) / 0.5]] for mean in _MEAN]])


@network((3, 224, 224), "IMAGENET")
def googlenet(
    num_classes: int = 1000,
    in_channels: int = 3,
    aux_logits: bool = True,
    transform_input: bool = False,
    dropout: float = 0.2,
    dropout_aux: float = 0.7,
    weights: PathLike | None = None,
) -> GoogLeNet:
    """GoogLeNet, as in torchvision; 13,004,888 parameters, 6,624,904 without the auxiliary heads.

    ================================  ===============  ==========
    layer                             output           parameters
    ================================  ===============  ==========
    input                             (3, 224, 224)
    conv1 7x7 stride 2                (64, 112, 112)        9,536
    MaxPool2d 3 stride 2              (64, 56, 56)
    conv2 1x1, conv3 3x3              (192, 56, 56)       115,200
    MaxPool2d 3 stride 2              (192, 28, 28)
    inception3a, 3b                   (480, 28, 28)       496,096
    MaxPool2d 3 stride 2              (480, 14, 14)
    inception4a ... 4d                (528, 14, 14)     1,849,248
    inception4e                       (832, 14, 14)       803,840
    MaxPool2d 2                       (832, 7, 7)
    inception5a, 5b                   (1024, 7, 7)      2,325,984
    global average, Dropout, Linear   (1000,)           1,025,000
    ================================  ===============  ==========

    Args:
        num_classes, in_channels: of the data.
        aux_logits: auxiliary heads after inception4a and 4d. In training the network then gives
            `GoogLeNetOutputs` instead of logits; `GoogLeNetLoss` takes them.
        transform_input: for torchvision's pretrained weights, which come from TensorFlow: images
            with ImageNet's mean and deviation become images from -1 to 1.
        dropout, dropout_aux: in front of the last layer of the main and the auxiliary heads.
        weights: "imagenet", or a safetensors file with torchvision's names.
    """
    return GoogLeNet(num_classes, in_channels, aux_logits, transform_input, dropout, dropout_aux)
