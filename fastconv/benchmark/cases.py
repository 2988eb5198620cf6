"""What is measured: named layers, small networks, their data, and how far answers may differ.

Knows neither fastconv nor any peer: every worker, in whatever Python it runs, imports this file and
so sees the same shapes and the same numbers.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .networks import (
    ALLOWED,
    NETWORKS,
    SINGLE_IMAGE,
    TRAINED,
    TRAINING_BATCH,
    ImageNet,
    uniform,
)

Array = NDArray[Any]

PASSES = ("forward", "backward_input", "backward_weight")


# ------------------------------------------------------------------------------------------ layers
@dataclass(frozen=True)
class Conv:
    """A convolution layer: square kernel, the same stride and padding both ways, no bias."""

    name: str
    IC: int
    IH: int
    IW: int
    OC: int
    K: int
    stride: int = 1
    padding: int = 0
    groups: int = 1

    @property
    def OH(self) -> int:  # noqa: N802  (the field's name)
        return (self.IH + 2 * self.padding - self.K) // self.stride + 1

    @property
    def OW(self) -> int:  # noqa: N802
        return (self.IW + 2 * self.padding - self.K) // self.stride + 1

    def x_shape(self, N: int) -> tuple[int, int, int, int]:
        return (N, self.IC, self.IH, self.IW)

    def y_shape(self, N: int) -> tuple[int, int, int, int]:
        return (N, self.OC, self.OH, self.OW)

    @property
    def w_shape(self) -> tuple[int, int, int, int]:
        return (self.OC, self.IC // self.groups, self.K, self.K)

    def flop(self, N: int) -> int:
        """Of one pass: a multiplication and an addition a tap, padding counted as is the custom."""
        return 2 * math.prod(self.y_shape(N)) * math.prod(self.w_shape[1:])


# The layers and the batches they are measured at: by default the first, which is 16 or more, and
# for those in SINGLE also 1; all of them when a filter asks.
LAYERS: tuple[tuple[Conv, tuple[int, ...]], ...] = (
    (Conv("lenet.c1", 1, 28, 28, 6, 5, padding=2), (128, 1)),
    (Conv("lenet.c2", 6, 14, 14, 16, 5), (128, 1)),
    (Conv("keras.c1", 1, 28, 28, 32, 3), (128, 1)),
    (Conv("keras.c2", 32, 13, 13, 64, 3), (128, 1)),
    (Conv("keras.c3", 64, 5, 5, 128, 3), (128, 1)),
    (Conv("cifar.c1", 3, 32, 32, 32, 3, padding=1), (64, 1)),
    (Conv("alex.c1", 3, 224, 224, 64, 11, 4, 2), (16, 1)),
    (Conv("alex.c2", 64, 27, 27, 192, 5, padding=2), (16, 1)),
    (Conv("vgg.c1_1", 3, 224, 224, 64, 3, padding=1), (16, 4)),
    (Conv("vgg.c1_2", 64, 224, 224, 64, 3, padding=1), (16, 4)),
    (Conv("vgg.c3_2", 256, 56, 56, 256, 3, padding=1), (16, 4, 1)),
    (Conv("vgg.c5_1", 512, 14, 14, 512, 3, padding=1), (16, 4, 1)),
    (Conv("res.c1", 3, 224, 224, 64, 7, 2, 3), (16, 8, 1)),
    (Conv("res.2_1x1", 256, 56, 56, 64, 1), (16, 8, 1)),
    (Conv("res.3_3x3", 128, 28, 28, 128, 3, padding=1), (16, 8, 1)),
    (Conv("res.3_3x3s2", 128, 56, 56, 128, 3, 2, 1), (16, 8)),
    (Conv("res.4_1x1", 256, 14, 14, 1024, 1), (16, 8, 1)),
    (Conv("res.5_3x3", 512, 7, 7, 512, 3, padding=1), (16, 8, 1)),
    (Conv("mob.dw3", 128, 56, 56, 128, 3, padding=1, groups=128), (16, 8, 1)),
    (Conv("mob.dw6s2", 512, 14, 14, 512, 3, 2, 1, groups=512), (16, 8, 1)),
    (Conv("mob.pw6", 512, 14, 14, 512, 1), (16, 8, 1)),
)
SINGLE = ("lenet.c2", "res.3_3x3", "res.c1", "mob.dw3", "mob.pw6")


# ---------------------------------------------------------------------------------------- networks
@dataclass(frozen=True)
class Layer:
    """conv (IC, OC, K, padding), linear (I, O), pool (2x2 maximum), relu or flatten."""

    kind: str
    sizes: tuple[int, ...] = ()

    @property
    def parameter_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Weight and bias, PyTorch's order and layout."""
        if self.kind == "conv":
            IC, OC, K, _ = self.sizes
            return (OC, IC, K, K), (OC,)
        if self.kind == "linear":
            return self.sizes[::-1], self.sizes[1:]
        return ()


def _conv(IC: int, OC: int, K: int, padding: int = 0) -> Layer:
    return Layer("conv", (IC, OC, K, padding))


def _linear(inputs: int, outputs: int) -> Layer:
    return Layer("linear", (inputs, outputs))


_RELU, _POOL, _FLATTEN = Layer("relu"), Layer("pool"), Layer("flatten")


@dataclass(frozen=True)
class Network:
    """A chain of layers that ends in logits, and how it is trained."""

    name: str
    layers: tuple[Layer, ...]
    optimizer: str  # "sgd" or "rmsprop", see HYPER
    input_shape: tuple[int, int, int] = (1, 28, 28)
    classes: int = 10

    @cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """What each layer puts out, for one sample."""
        shape: tuple[int, ...] = self.input_shape
        shapes = []
        for layer in self.layers:
            if layer.kind == "conv":
                _, OC, K, padding = layer.sizes
                shape = (OC, shape[1] + 2 * padding - K + 1, shape[2] + 2 * padding - K + 1)
            elif layer.kind == "pool":
                shape = (shape[0], shape[1] // 2, shape[2] // 2)
            elif layer.kind == "flatten":
                shape = (math.prod(shape),)
            elif layer.kind == "linear":
                shape = layer.sizes[1:]
            shapes.append(shape)
        return tuple(shapes)

    def flop(self, N: int, training: bool) -> int:
        """Of the products alone; training has two gradients more, but no dx of the first layer."""
        products = [
            2 * N * math.prod(layer.parameter_shapes[0]) * math.prod(shape[1:])
            for layer, shape in zip(self.layers, self.shapes, strict=True)
            if layer.parameter_shapes
        ]
        return 3 * sum(products) - products[0] if training else sum(products)


LENET5 = Network(
    "lenet5",
    (
        *(_conv(1, 6, 5, padding=2), _RELU, _POOL, _conv(6, 16, 5), _RELU, _POOL, _FLATTEN),
        *(_linear(400, 120), _RELU, _linear(120, 84), _RELU, _linear(84, 10)),
    ),
    "sgd",
)
KERAS_CONVNET = Network(
    "keras_convnet",
    (
        *(_conv(1, 32, 3), _RELU, _POOL, _conv(32, 64, 3), _RELU, _POOL),
        *(_conv(64, 128, 3), _RELU, _FLATTEN, _linear(1152, 10)),
    ),
    "rmsprop",
)
MLP = Network("mlp", (_FLATTEN, _linear(784, 512), _RELU, _linear(512, 10)), "sgd")

# The same rules for everybody. RMSprop divides by sqrt(v) + eps; Keras has sqrt(v + eps), and gets
# eps squared.
HYPER: dict[str, dict[str, float]] = {
    "sgd": {"lr": 0.01, "momentum": 0.9},
    "rmsprop": {"lr": 0.001, "alpha": 0.9, "eps": 1e-8},
}
STEPS = 3  # of training, from the same start, whose losses and parameters must agree
RESIDENT = 40  # batches of training data that every peer holds in memory and goes through in turn


# ------------------------------------------------------------------------------------------- tasks
@dataclass(frozen=True)
class Task:
    """One row of a table: a subject, a batch, and a pass, "train" or "infer".

    Of an ImageNet also "gradients0": whole gradients of the first batch are the answer; 1, 2, ...
    are those of the next batches. Not timed.
    """

    subject: Conv | Network | ImageNet
    batch: int
    work: str

    @property
    def id(self) -> str:
        return f"{self.subject.name}@{self.batch}:{self.work}"

    @property
    def suite(self) -> str:
        if isinstance(self.subject, ImageNet):
            return "networks"
        return "layers" if self.work in PASSES else self.work

    @property
    def flop(self) -> int:
        if isinstance(self.subject, Conv):
            return self.subject.flop(self.batch)
        return self.subject.flop(self.batch, self.work != "infer")

    @property
    def reduction(self) -> int:
        """How many products one number of the answer adds up (for a layer)."""
        conv = self.subject
        assert isinstance(conv, Conv)
        if self.work == "forward":
            return conv.IC // conv.groups * conv.K**2
        if self.work == "backward_input":
            return conv.OC // conv.groups * conv.K**2
        return self.batch * conv.OH * conv.OW


def _layer_tasks() -> list[Task]:
    tasks = [Task(conv, batch, p) for conv, batches in LAYERS for batch in batches for p in PASSES]
    return sorted(
        tasks, key=lambda task: (task.batch == 1, task.batch < 16)
    )  # stable: 16 and more first


TASKS: tuple[Task, ...] = (
    *_layer_tasks(),
    *(Task(network, 128, "train") for network in (LENET5, KERAS_CONVNET, MLP)),
    *(Task(LENET5, batch, "infer") for batch in (1, 128)),
    *(Task(NETWORKS[name], TRAINING_BATCH, "train") for name in TRAINED),
    *(Task(NETWORKS[name], 1, "infer") for name in SINGLE_IMAGE),
)
SUITES = ("layers", "train", "infer", "networks")
SHORT = SUITES[:3]  # without the networks of ImageNet, which take seconds a step
_BY_ID = {task.id: task for task in TASKS}


def find(task_id: str) -> Task:
    """The task of that id; those of NETWORKS at any batch.

    Raises:
        KeyError: there is none.
    """
    if task_id in _BY_ID:
        return _BY_ID[task_id]
    name, batch, work = re.split("[@:]", task_id)
    return Task(NETWORKS[name], int(batch), work)


def choose(suites: tuple[str, ...], pattern: str | None) -> list[Task]:
    """The tasks of `suites` whose id matches the regular expression; without one, the default ones.

    >>> [task.id for task in choose(("layers",), "lenet.c1@128")]
    ['lenet.c1@128:forward', 'lenet.c1@128:backward_input', 'lenet.c1@128:backward_weight']
    """
    tasks = [task for task in TASKS if task.suite in suites]
    if pattern is not None:
        return [task for task in tasks if re.search(pattern, task.id)]
    return [
        task
        for task in tasks
        if task.suite != "layers"
        or task.batch >= 16
        or (task.batch == 1 and task.subject.name in SINGLE)
    ]


# -------------------------------------------------------------------------------------------- data
def conv_operands(task: Task) -> tuple[Array, Array]:
    """What the pass reads: (x, w), (dy, w) or (dy, x); float32, NCHW and OIHW."""
    conv = task.subject
    assert isinstance(conv, Conv)
    x = ("x", conv.x_shape(task.batch), 1.0)
    w = ("w", conv.w_shape, 1 / math.sqrt(math.prod(conv.w_shape[1:])))
    dy = ("dy", conv.y_shape(task.batch), 1.0)
    reads = {"forward": (x, w), "backward_input": (dy, w), "backward_weight": (dy, x)}[task.work]
    first, second = (uniform(s, f"{conv.name} {kind}", deviation) for kind, s, deviation in reads)
    return first, second


def parameters(network: Network) -> list[Array]:
    """Starting values: weight and bias of each layer, PyTorch's layouts and distribution."""
    values = []
    for index, layer in enumerate(network.layers):
        for shape in layer.parameter_shapes:
            inputs = math.prod(layer.parameter_shapes[0][1:])
            values.append(uniform(shape, f"{network.name} {index}", 1 / math.sqrt(3 * inputs)))
    return values


def images(network: Network | ImageNet, N: int) -> tuple[Array, Array]:
    """N random samples (N, C, H, W), mean 0, deviation 1, and their labels, int64 (N,)."""
    x = uniform((N, *network.input_shape), network.name, 1.0)
    return x, np.random.RandomState(N).randint(0, network.classes, N).astype(np.int64)


# ----------------------------------------------------------------------------------------- answers
def training_answer(network: Network, losses: list[float], ends: list[Array]) -> dict[str, Array]:
    """What STEPS steps led to: the losses, and the path of all parameters from start to end."""
    starts = parameters(network)
    path = [np.ravel(end - start) for end, start in zip(ends, starts, strict=True)]
    return {"losses": np.array(losses, np.float32), "path": np.concatenate(path)}


def error(task: Task, ours: dict[str, Array], theirs: dict[str, Array]) -> tuple[float, float]:
    """How far two answers are apart and how far they may be, for the worst part of the answer.

    A layer: the largest difference over the root mean square, against 32 eps sqrt(products added
    up). A float32 sum of n products of random signs is off by about eps sqrt(n) of its size, and
    Winograd's by a few times that.

    A network: the 2-norm of the difference over that of the answer, against 1e-4 for logits, 1e-3
    for losses, 1e-2 for the parameters' path (pooling and ReLU choose sides). With RMSprop the path
    gets 0.2: where a gradient is nearly nothing its sign alone makes a whole step, and Keras adds
    eps in another place. The networks of ImageNet compare gradients, see networks.py.
    """
    parts = [_part_error(task, part, value, theirs[part]) for part, value in ours.items()]
    return max(parts, key=lambda part: part[0] / part[1])


def _part_error(task: Task, part: str, ours: Array, theirs: Array) -> tuple[float, float]:
    if isinstance(task.subject, Conv):
        allowed = 32 * float(np.finfo(np.float32).eps) * math.sqrt(task.reduction)
    elif isinstance(task.subject, ImageNet):
        allowed = ALLOWED[part]
    elif part == "path":
        allowed = {"sgd": 1e-2, "rmsprop": 0.2}[task.subject.optimizer]
    else:
        allowed = {"logits": 1e-4, "losses": 1e-3}[part]
    if ours.shape != theirs.shape or not np.isfinite(ours).all():
        return math.inf, allowed
    difference = np.abs(ours - theirs)
    if task.suite == "layers":
        size = math.sqrt(float(np.mean(np.square(theirs), dtype=np.float64)))
        return float(difference.max()) / size, allowed
    return float(np.linalg.norm(difference.ravel()) / np.linalg.norm(theirs.ravel())), allowed
