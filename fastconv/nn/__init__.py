"""Layers and networks, with the names, arguments, defaults and state_dict keys of `torch.nn`.

* module.py         Module and Parameter
* container.py      Sequential, ModuleList
* conv.py linear.py pooling.py activation.py normalization.py movement.py   the layers
* loss.py           losses
* init.py utils.py  initial values; gradient clipping
* modes.py          training or evaluation, as each thread sees it
* loading.py        values into a module        freezing.py   which parameters are trained
* training_methods.py   compile, fit, evaluate, ... on every Module, from `train`
* layer_calls.py    what a network does with a sample, layer by layer
* limit.py          how large a network may be that a file describes
"""

from . import init, utils
from .activation import LeakyReLU, LogSoftmax, ReLU, ReLU6, Sigmoid, Softmax, Tanh
from .container import ModuleList, Sequential
from .conv import Conv1d, Conv2d, ConvTranspose2d
from .linear import Identity, Linear
from .loss import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, L1Loss, MSELoss, NLLLoss
from .module import Module, Parameter
from .movement import Flatten, Upsample
from .normalization import BatchNorm1d, BatchNorm2d, Dropout, LocalResponseNorm
from .pooling import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d

__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Identity",
    "L1Loss",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "NLLLoss",
    "Parameter",
    "ReLU",
    "ReLU6",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "Upsample",
    "init",
    "utils",
]
