"""Chains of layers, networks, optimisers and batches of a loader, for their bits (bits.py).

A chain is run twice: as nn.Sequential, and as layers that are called one after the other.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastconv as fc
from fastconv import Tensor, data, models, nn, optim
from fastconv import functional as F
from fastconv.models.resnet import Bottleneck

from .bits_ways import BATCHES, SHORT_BATCHES, Arrays, Subject, seeded, uniform

Build = Callable[[], nn.Module]


def subjects() -> Iterator[Subject]:
    for name, layers in CHAINS.items():
        shape = (33,) if name.startswith("linear") else (6, 12, 12)
        for style, build in {
            "sequential": lambda layers=layers: nn.Sequential(*layers()),
            "layers": lambda layers=layers: OneByOne(layers()),
        }.items():
            yield from of_network(f"chain/{name}/{style}", build, shape, BATCHES)
    yield from of_network("chain/norm_add_relu", Residual, (6, 12, 12), BATCHES)
    yield from of_network("chain/shared_results", Shared, (6, 12, 12), SHORT_BATCHES)
    for name, (build, shape, batches) in NETWORKS.items():
        yield from of_network(f"network/{name}", build, shape, batches)
    yield from autoencoders()
    yield from optimizers()
    yield from verbs()
    yield from loaders()


# ------------------------------------------------------------------------------------------ chains
CHAINS: dict[str, Callable[[], list[nn.Module]]] = {
    "conv_relu": lambda: [nn.Conv2d(6, 9, 3), nn.ReLU()],
    "conv_relu_pool": lambda: [nn.Conv2d(6, 9, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)],
    "conv_pool_relu": lambda: [nn.Conv2d(6, 9, 3), nn.MaxPool2d(2), nn.ReLU()],
    "conv_pool": lambda: [nn.Conv2d(6, 9, 3, bias=False), nn.MaxPool2d(2)],
    "conv_relu_overlapping_pool": lambda: [
        nn.Conv2d(6, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ],
    "conv_relu_avg_pool": lambda: [nn.Conv2d(6, 9, 3), nn.ReLU(), nn.AvgPool2d(2)],
    "conv_relu6": lambda: [nn.Conv2d(6, 9, 3, stride=2, padding=1), nn.ReLU6()],
    "conv_leaky_relu": lambda: [nn.Conv2d(6, 9, 3), nn.LeakyReLU(0.1)],
    "conv_relu_conv_relu_pool": lambda: [
        *(nn.Conv2d(6, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 3, padding=1)),
        *(nn.ReLU(), nn.MaxPool2d(2)),
    ],
    "conv_relu_dropout": lambda: [nn.Conv2d(6, 9, 3), nn.ReLU(), nn.Dropout(0.4)],
    "conv_reflect_relu": lambda: [
        nn.Conv2d(6, 9, 3, padding=1, padding_mode="reflect"),
        nn.ReLU(),
    ],
    "conv_norm": lambda: [nn.Conv2d(6, 9, 3, padding=1, bias=False), nn.BatchNorm2d(9)],
    "conv_norm_relu": lambda: [nn.Conv2d(6, 9, 3), nn.BatchNorm2d(9), nn.ReLU()],
    "conv_norm_relu_pool": lambda: [
        nn.Conv2d(6, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ],
    "depthwise_norm_relu6": lambda: [
        *(nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), nn.BatchNorm2d(6), nn.ReLU6()),
        *(nn.Conv2d(6, 20, 1, bias=False), nn.BatchNorm2d(20), nn.ReLU6()),
    ],
    "norm_relu": lambda: [nn.BatchNorm2d(6), nn.ReLU()],
    "norm_relu6": lambda: [nn.BatchNorm2d(6), nn.ReLU6()],
    "relu_conv": lambda: [nn.ReLU(), nn.Conv2d(6, 9, 1)],
    "lrn_pool": lambda: [nn.Conv2d(6, 9, 3), nn.ReLU(), nn.LocalResponseNorm(5), nn.MaxPool2d(3)],
    "transposed_relu": lambda: [nn.ConvTranspose2d(6, 9, 4, 2, 1), nn.ReLU()],
    "conv_flatten_linear": lambda: [
        nn.Conv2d(6, 9, 3, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(225, 10),
    ],
    "upsample_conv": lambda: [nn.Upsample(scale_factor=2), nn.Conv2d(6, 4, 3), nn.Sigmoid()],
    "linear_relu": lambda: [nn.Linear(33, 20), nn.ReLU()],
    "linear_relu_linear": lambda: [nn.Linear(33, 128), nn.ReLU(), nn.Linear(128, 10)],
    "linear_norm_relu": lambda: [nn.Linear(33, 20), nn.BatchNorm1d(20), nn.ReLU()],
    "linear_relu_dropout": lambda: [nn.Linear(33, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, 4)],
    "linear_tanh": lambda: [nn.Linear(33, 20), nn.Tanh()],
}


class OneByOne(nn.Module):
    """Layers that know nothing of each other."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x


class Residual(nn.Module):
    """conv, norm, ReLU, conv, norm, + x, ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(6, 9, 3, padding=1, bias=False), nn.BatchNorm2d(9)
        self.conv2, self.bn2 = nn.Conv2d(9, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)

    def forward(self, x: Any) -> Any:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + x)


class Shared(nn.Module):
    """What lies between a convolution, its ReLU and its pooling is used by others too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 9, 3, padding=1)

    def forward(self, x: Any) -> Any:
        y = self.conv(x)
        rectified = F.relu(y)
        pooled = F.max_pool2d(rectified, 2)
        return F.cat([(y * 0.5).flatten(1), rectified.flatten(1), F.relu(pooled).flatten(1)], 1)


# ---------------------------------------------------------------------------------------- networks
NETWORKS: dict[str, tuple[Build, tuple[int, ...], tuple[int, ...]]] = {
    "lenet5": (models.lenet5, (1, 28, 28), BATCHES),
    "lenet1": (models.lenet1, (1, 28, 28), SHORT_BATCHES),
    "keras_convnet": (models.keras_convnet, (1, 28, 28), BATCHES),
    "keras_mlp": (models.keras_mlp, (1, 28, 28), BATCHES),
    "tiny_vgg": (models.tiny_vgg, (3, 64, 64), (1, 7, 17)),
    "cifar_resnet20": (
        functools.partial(models.cifar_resnet20, width=8),
        (3, 32, 32),
        (1, 7, 12, 17),
    ),
    "resnet18": (functools.partial(models.resnet18, 10), (3, 32, 32), (1, 7, 17)),
    "bottlenecks": (
        functools.partial(models.ResNet, Bottleneck, (1, 1, 1, 1), 10),
        (3, 32, 32),
        (2, 12, 16),
    ),
    "mobilenet_v2": (
        functools.partial(models.mobilenet_v2, 10, width=0.5),
        (3, 32, 32),
        (1, 7, 12, 17),
    ),
    "mobilenet_v1": (
        functools.partial(models.mobilenet_v1, 10, width=0.25),
        (3, 32, 32),
        (1, 11, 17),
    ),
    "googlenet": (
        functools.partial(models.googlenet, 10, aux_logits=False),
        (3, 32, 32),
        (1, 16),
    ),
}


def with_values(build: Build) -> nn.Module:
    """The network, with weights that follow from their names alone."""
    model = build()
    state: dict[str, Any] = {}
    for name, old in model.state_dict().items():
        shape = old.shape
        if old.dtype != np.float32:
            state[name] = old
        elif name.endswith("running_var"):
            state[name] = uniform(name, *shape, low=0.5, high=1.5)
        elif len(shape) > 1:
            state[name] = uniform(name, *shape) * np.float32(math.sqrt(6 / math.prod(shape[1:])))
        else:
            state[name] = uniform(name, *shape, low=-0.2, high=0.2)
            state[name] += np.float32("weight" in name)
    model.load_state_dict(state)
    return model


def of_network(
    name: str, build: Build, shape: tuple[int, ...], batches: tuple[int, ...]
) -> Iterator[Subject]:
    for N in batches:
        x = uniform(name, N, *shape)
        for way, run in {"inference": inferred, "training": trained, "saliency": salient}.items():
            yield (
                f"{name}/n{N}/{way}",
                functools.partial(seeded, functools.partial(run, build, x)),
            )


def inferred(build: Build, x: Any) -> Arrays:
    model = with_values(build).eval()
    forward = fc.record(model)
    with fc.no_grad():
        eager = model(Tensor(x))
    return {
        "y": eager,
        "first": forward(x),
        "recorded": forward(x),
        "was_recorded": "yes" if forward.reason is None else "no",
    }


def squares(y: Any, target: Any) -> Any:
    """A loss for outputs of any shape."""
    return ((y - target) * (y - target)).mean()


def trained(build: Build, x: Any) -> Arrays:
    """Two steps whose gradients add up, eager and recorded."""
    if len(x) == 1:
        build = functools.partial(_normalised_by_constants, build)
    found: Arrays = {}
    with fc.no_grad():
        shape = with_values(build).eval()(Tensor(x)).shape
    target = Tensor(uniform("target", *shape))
    for way in ("eager", "recorded"):
        model = with_values(build)
        fc.manual_seed(2)
        run = fc.record_step(model, squares)
        for _ in range(2):
            if way == "recorded":
                loss, y = run(x, target)
            else:
                y = model(Tensor(x))
                loss = squares(y, target)
                loss.backward()
        found |= {f"{way}/y": y, f"{way}/loss": loss, f"{way}/grads": joined_gradients(model)}
        found[f"{way}/state"] = joined(t.numpy() for t in model.state_dict().values())
    found["was_recorded"] = "yes" if run.reason is None else "no"
    return found


def _normalised_by_constants(build: Build) -> nn.Module:
    """Dense batch normalisation of one sample has no variance: it keeps its statistics."""
    model = build()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.eval()
    return model


def salient(build: Build, x: Any) -> Arrays:
    """The gradient by the input, of a network that is free and of one that is frozen."""
    model = with_values(build).eval()
    found: Arrays = {}
    for kind in ("free", "frozen"):
        model.requires_grad_(kind == "free")
        image = Tensor(x, requires_grad=True)
        y = model(image)
        (y * Tensor(uniform("saliency", *y.shape))).sum().backward()
        found[kind] = image.grad
    return found


def joined(arrays: Any) -> Any:
    return np.concatenate([np.ravel(a).astype(np.float32) for a in arrays])


def joined_gradients(model: nn.Module) -> Any:
    return joined(p.grad.numpy() for p in model.parameters() if p.grad is not None)


def autoencoders() -> Iterator[Subject]:
    for name, build in {
        "dense": models.dense_autoencoder,
        "conv": functools.partial(models.conv_autoencoder, width=8),
    }.items():
        yield from of_network(f"network/{name}_autoencoder", build, (1, 28, 28), (1, 7, 17))


# -------------------------------------------------------------------------- optimisers, whole fits
OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda p: optim.SGD(p, 0.1),
    "sgd_momentum": lambda p: optim.SGD(p, 0.1, 0.9, weight_decay=0.01),
    "sgd_nesterov": lambda p: optim.SGD(p, 0.1, 0.9, nesterov=True),
    "sgd_dampening": lambda p: optim.SGD(p, 0.1, 0.9, 0.3, maximize=True),
    "rmsprop": lambda p: optim.RMSprop(p, 1e-3),
    "rmsprop_centered": lambda p: optim.RMSprop(p, 1e-3, 0.9, 1e-7, 0.01, 0.9, centered=True),
    "rmsprop_inside": lambda p: optim.RMSprop(p, 1e-3, eps_inside_sqrt=True),
    "adam": lambda p: optim.Adam(p),
    "adam_decay": lambda p: optim.Adam(p, 1e-2, weight_decay=0.1, amsgrad=True),
    "adamw": lambda p: optim.AdamW(p),
    "adagrad": lambda p: optim.Adagrad(p, lr_decay=0.1, initial_accumulator_value=0.1),
}


def optimizers() -> Iterator[Subject]:
    for name in OPTIMIZERS:
        for N in (7, 17):
            for way in ("eager", "recorded"):
                run = functools.partial(optimized, name, N, way)
                yield f"optimizer/{name}/n{N}/{way}", functools.partial(seeded, run)


def optimized(name: str, N: int, way: str) -> Arrays:
    """Four steps of LeNet-5, the gradients clipped in the last two."""
    model = with_values(models.lenet5)
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    step = fc.record_step(model, F.cross_entropy)
    x, labels = uniform("optimizer", N, 1, 28, 28), np.arange(N) % 10
    losses = []
    for number in range(4):
        optimizer.zero_grad()
        if way == "recorded":
            loss, _ = step(x, labels)
        else:
            loss = F.cross_entropy(model(Tensor(x)), labels)
            loss.backward()
        losses.append(loss.item())
        if number >= 2:
            losses.append(nn.utils.clip_grad_norm_(model.parameters(), 0.5))
        optimizer.step()
    states = optimizer.state_dict()["state"].values()
    slots = [v for slots in states for v in slots.values() if hasattr(v, "numpy")]
    return {
        "losses": np.array(losses),
        "parameters": joined(p.numpy() for p in model.parameters()),
        "slots": joined(v.numpy() for v in slots) if slots else "none",
    }


def verbs() -> Iterator[Subject]:
    for name in ("lenet5", "keras_mlp", "cifar_resnet20"):
        yield f"fit/{name}", functools.partial(seeded, functools.partial(fitted, name))


def fitted(name: str) -> Arrays:
    """compile, fit, evaluate, predict; the last batch is smaller."""
    build, shape, _ = NETWORKS[name]
    model = with_values(build)
    x = (uniform("fit", 75, *shape, low=0, high=255.9)).astype(np.uint8)
    y = np.arange(75) % 10
    model.compile(optim.Adam(model.parameters(), 1e-3), nn.CrossEntropyLoss(), metrics=["accuracy"])
    history: Any = model.fit(x, y, epochs=2, batch_size=16, verbose=0)
    values = history if isinstance(history, dict) else history.history
    return {
        "history": np.array([v for _, vs in sorted(values.items()) for v in np.ravel(vs)]),
        "evaluate": np.array(model.evaluate(x, y, batch_size=32, verbose=0)),
        "predict": model.predict(x[:19], batch_size=8),
        "state": joined(t.numpy() for t in model.state_dict().values()),
    }


# ----------------------------------------------------------------------------------------- loaders
def loaders() -> Iterator[Subject]:
    sources = {
        "uint8": (uniform("bytes", 80, 3, 9, 8, low=0, high=255.9)).astype(np.uint8),
        "float32": uniform("floats", 80, 3, 9, 8),
        "grey": (uniform("grey", 80, 28, 28, low=0, high=255.9)).astype(np.uint8),
        "features": uniform("features", 80, 37),
    }
    options: dict[str, dict[str, Any]] = {
        "plain": {},
        "shuffled": {"shuffle": True},
        "scaled": {"scale": 0.3, "shift": -0.7},
        "channels": {"scale": (0.1, 0.2, 0.3), "shift": (1.0, 0.0, -1.0), "drop_last": True},
        "moved": {"transform": data.RandomShift(2)},
    }
    for source, x in sources.items():
        for name, more in options.items():
            if (name == "channels" and source in ("grey", "features")) or (
                name == "moved" and source == "features"
            ):
                continue
            for size in (1, 7, 8, 12, 15, 16, 17, 33):
                run = functools.partial(loaded, x, size, more)
                yield f"loader/{source}_{name}/n{size}", functools.partial(seeded, run)


def loaded(x: Any, size: int, options: dict[str, Any]) -> Arrays:
    """All batches of a pass, and what they are in a first layer, with and without gradients."""
    loader = data.Loader(x[: 3 * size + 2], batch_size=size, **options)
    batches = [images for images, _ in loader]
    relu = [F.relu(b).numpy() for b in batches]
    with fc.no_grad():
        more = [images.numpy() for images, _ in loader]
    return {"x": joined(b.numpy() for b in batches), "relu": joined(relu), "no_grad": joined(more)}
