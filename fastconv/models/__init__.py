"""Networks of the literature, one family a file. All end in logits: no final softmax.

* lenet.py         LeNet-1, LeNet-5                keras_book.py    the Keras book's networks
* tiny_vgg.py      CNN Explainer's                 autoencoder.py   dense and convolutional
* alexnet.py  vgg.py  googlenet.py  resnet.py  mobilenet_v2.py   torchvision's names and values
* cifar_resnet.py  the ResNets for CIFAR-10        mobilenet_v1.py  with Keras's names

And what is done with them:

* catalogue.py     all of them by name: `ARCHITECTURES`, `build`; `load`
* pretrained.py    published weights, listed in registry.json: `weights="imagenet"`
* weight_files.py  `save`                          keras_weights.py  weights from Keras
* cost.py          parameters and multiply-adds of a network that is not computed
* transfer.py      another head, features of a network that stays as it is

Every network takes `weights`: None, the name of published weights, or a file. With weights it is in
evaluation mode: `fit` trains it like any other, a training loop of one's own calls `train()` first.
"""

from .alexnet import AlexNet, alexnet
from .autoencoder import Autoencoder, conv_autoencoder, dense_autoencoder
from .catalogue import ARCHITECTURES, Architecture, build, load
from .cifar_resnet import (
    CifarResNet,
    cifar_resnet20,
    cifar_resnet32,
    cifar_resnet44,
    cifar_resnet56,
    cifar_resnet110,
)
from .googlenet import GoogLeNet, GoogLeNetLoss, GoogLeNetOutputs, googlenet
from .keras_book import keras_convnet, keras_convnet_no_pool, keras_mlp
from .keras_weights import from_keras
from .lenet import lenet1, lenet5
from .mobilenet_v1 import mobilenet_v1
from .mobilenet_v2 import MobileNetV2, mobilenet_v2
from .pretrained import Published, available
from .resnet import ResNet, resnet18, resnet34, resnet50, resnet101, resnet152
from .tiny_vgg import tiny_vgg
from .transfer import extract_features, head_name, replace_head
from .vgg import VGG, vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn
from .weight_files import save

__all__ = [
    "ARCHITECTURES",
    "VGG",
    "AlexNet",
    "Architecture",
    "Autoencoder",
    "CifarResNet",
    "GoogLeNet",
    "GoogLeNetLoss",
    "GoogLeNetOutputs",
    "MobileNetV2",
    "Published",
    "ResNet",
    "alexnet",
    "available",
    "build",
    "cifar_resnet20",
    "cifar_resnet32",
    "cifar_resnet44",
    "cifar_resnet56",
    "cifar_resnet110",
    "conv_autoencoder",
    "dense_autoencoder",
    "extract_features",
    "from_keras",
    "googlenet",
    "head_name",
    "keras_convnet",
    "keras_convnet_no_pool",
    "keras_mlp",
    "lenet1",
    "lenet5",
    "load",
    "mobilenet_v1",
    "mobilenet_v2",
    "replace_head",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "save",
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
