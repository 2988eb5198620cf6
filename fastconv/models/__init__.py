"""Networks of the literature, one family a file. All end in logits: no final softmax.

* lenet.py         LeNet-1, LeNet-5                keras.py         the Keras book's networks
* tiny_vgg.py      CNN Explainer's                 autoencoder.py   dense and convolutional
* alexnet.py  vgg.py  googlenet.py  resnet.py  mobilenet_v2.py   torchvision's names and values
* cifar_resnet.py  the ResNets for CIFAR-10        mobilenet_v1.py  with Keras's names
* _weights.py      safetensors files into networks; Keras's layouts

`REGISTRY` names those that learn MNIST-shaped images, for the command line.
"""

from collections.abc import Callable

from ..nn import Module
from ._weights import from_keras
from .alexnet import AlexNet, alexnet
from .autoencoder import Autoencoder, conv_autoencoder, dense_autoencoder
from .cifar_resnet import (
    CifarResNet,
    cifar_resnet20,
    cifar_resnet32,
    cifar_resnet44,
    cifar_resnet56,
    cifar_resnet110,
)
from .googlenet import GoogLeNet, GoogLeNetLoss, GoogLeNetOutputs, googlenet
from .keras import keras_convnet, keras_convnet_no_pool, keras_mlp
from .lenet import lenet1, lenet5
from .mobilenet_v1 import mobilenet_v1
from .mobilenet_v2 import MobileNetV2, mobilenet_v2
from .resnet import ResNet, resnet18, resnet34, resnet50, resnet101, resnet152
from .tiny_vgg import tiny_vgg
from .vgg import VGG, vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn

__all__ = [
    "REGISTRY",
    "VGG",
    "AlexNet",
    "Autoencoder",
    "CifarResNet",
    "GoogLeNet",
    "GoogLeNetLoss",
    "GoogLeNetOutputs",
    "MobileNetV2",
    "ResNet",
    "alexnet",
    "cifar_resnet20",
    "cifar_resnet32",
    "cifar_resnet44",
    "cifar_resnet56",
    "cifar_resnet110",
    "conv_autoencoder",
    "dense_autoencoder",
    "from_keras",
    "googlenet",
    "keras_convnet",
    "keras_convnet_no_pool",
    "keras_mlp",
    "lenet1",
    "lenet5",
    "mobilenet_v1",
    "mobilenet_v2",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "tiny_vgg",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
]

REGISTRY: dict[str, Callable[[], Module]] = {
    "lenet5": lenet5,
    "lenet1": lenet1,
    "keras_mlp": keras_mlp,
    "keras_convnet": keras_convnet,
    "keras_convnet_no_pool": keras_convnet_no_pool,
}
