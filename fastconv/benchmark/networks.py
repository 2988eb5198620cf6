"""The networks of ImageNet as things to measure: their work, their data, how far they may differ.

Knows neither fastconv nor any peer, like cases.py. The networks themselves are the files of
fastconv/models: fastconv runs them as they are, PyTorch through peers/torch_models.py.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SAMPLE = 4096  # numbers of each gradient that contestants compare before they are timed


@dataclass(frozen=True)
class ImageNet:
    """A network for 224 x 224 pixels and 1,000 classes.

    Dropout is off: its random numbers differ between libraries, and answers are compared.
    """

    name: str  # of the function in fastconv.models
    file: str  # of fastconv/models that has it
    macs: int  # multiply-adds of one image, forward, in evaluation
    first: int  # those of the first layer, whose gradient by input nobody needs
    auxiliary: int = 0  # more of them in training
    arguments: Mapping[str, float] = field(default_factory=dict, hash=False)
    input_shape: tuple[int, int, int] = (3, 224, 224)
    classes: int = 1000

    optimizer = "sgd"
    resident = 3  # batches of training data
    steps = 1  # before answers are compared

    def flop(self, N: int, training: bool) -> int:
        """A multiplication and an addition a tap; training has two gradients more."""
        if not training:
            return 2 * N * self.macs
        return 2 * N * (3 * (self.macs + self.auxiliary) - self.first)


_P = {"dropout": 0.0}
_VGG, _RES = 86_704_128, 118_013_952
_ALL = (
    ImageNet("alexnet", "alexnet", 714_188_480, 70_276_800, arguments=_P),
    ImageNet("vgg11", "vgg", 7_609_090_048, _VGG, arguments=_P),
    ImageNet("vgg11_bn", "vgg", 7_609_090_048, _VGG, arguments=_P),
    ImageNet("vgg13", "vgg", 11_308_466_176, _VGG, arguments=_P),
    ImageNet("vgg13_bn", "vgg", 11_308_466_176, _VGG, arguments=_P),
    ImageNet("vgg16", "vgg", 15_470_264_320, _VGG, arguments=_P),
    ImageNet("vgg16_bn", "vgg", 15_470_264_320, _VGG, arguments=_P),
    ImageNet("vgg19", "vgg", 19_632_062_464, _VGG, arguments=_P),
    ImageNet("vgg19_bn", "vgg", 19_632_062_464, _VGG, arguments=_P),
    ImageNet(
        *("googlenet", "googlenet", 1_498_376_192, _RES, 8_372_224),
        arguments={"dropout": 0.0, "dropout_aux": 0.0},
    ),
    ImageNet("resnet18", "resnet", 1_814_073_344, _RES),
    ImageNet("resnet34", "resnet", 3_663_761_408, _RES),
    ImageNet("resnet50", "resnet", 4_089_184_256, _RES),
    ImageNet("resnet101", "resnet", 7_801_405_440, _RES),
    ImageNet("resnet152", "resnet", 11_513_626_624, _RES),
    ImageNet("mobilenet_v1", "mobilenet_v1", 568_740_352, 10_838_016, arguments=_P),
    ImageNet("mobilenet_v2", "mobilenet_v2", 300_774_272, 10_838_016, arguments=_P),
)
NETWORKS = {network.name: network for network in _ALL}

# What `fastconv bench networks` measures: training steps, and one image through.
TRAINED = ("vgg16", "resnet18", "resnet50", "mobilenet_v2", "googlenet", "alexnet")
TRAINING_BATCH = 16
SINGLE_IMAGE = ("resnet18", "vgg16", "mobilenet_v2")

# 2-norm of the difference over that of the answer. Tens of layers of ReLU and maxima choose sides
# by the last bits of their inputs, and batch normalisation spreads the choice over the batch; what
# is right within that, bench/network_step.py judges by float64.
ALLOWED = {"losses": 1e-3, "logits": 1e-3, "gradients": 0.15}


def uniform(shape: tuple[int, ...], name: str, deviation: float, mean: float = 0.0) -> Array:
    """Random numbers that depend on `name` and `shape` alone."""
    # RandomState's stream is frozen for ever, whatever NumPy a worker has.
    state = np.random.RandomState(zlib.crc32(f"{name} {shape}".encode()))
    values = np.empty(math.prod(shape), np.float32)
    for begin in range(0, len(values), 1 << 22):  # in doubles at first: a part at a time
        part = values[begin : begin + (1 << 22)]
        part[:] = state.random_sample(len(part))
    values -= np.float32(0.5)
    values *= np.float32(deviation * math.sqrt(12))
    if mean:
        values += np.float32(mean)
    return values.reshape(shape)


def starting_value(network: ImageNet, name: str, shape: tuple[int, ...]) -> Array:
    """Of one entry of the state_dict: keeps the size of activations, and nothing is zero or one."""
    what = f"{network.name} {name}"
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("running_mean"):
        return np.zeros(shape, np.float32)
    if name.endswith("running_var"):
        return np.ones(shape, np.float32)
    if len(shape) > 1:
        return uniform(shape, what, math.sqrt(2 / math.prod(shape[1:])))
    return uniform(shape, what, 0.1, mean=1.0 if name.endswith("weight") else 0.0)


def sample(values: Array) -> Array:
    """At most SAMPLE of the numbers, evenly spread."""
    flat = np.ravel(values)
    return flat[:: -(-flat.size // SAMPLE)]
