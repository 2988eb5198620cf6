"""Networks through torch.nn's names: one piece of code for PyTorch and for fastconv."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from ..cases import HYPER, RESIDENT, STEPS, Array, Network, images, parameters, training_answer
from ..networks import ImageNet, sample, starting_value
from . import Work

STEPS_A_RUN = 4


def sequential(nn: Any, network: Network) -> Any:
    def module(kind: str, sizes: tuple[int, ...]) -> Any:
        if kind == "conv":
            IC, OC, K, padding = sizes
            return nn.Conv2d(IC, OC, K, padding=padding)
        if kind == "linear":
            return nn.Linear(*sizes)
        return (
            {"relu": nn.ReLU, "flatten": nn.Flatten}[kind]() if kind != "pool" else nn.MaxPool2d(2)
        )

    return nn.Sequential(*(module(layer.kind, layer.sizes) for layer in network.layers))


def load_parameters(
    model: Any, network: Network | ImageNet, tensor: Callable[[Array], Any]
) -> None:
    state = model.state_dict()
    if isinstance(network, ImageNet):
        for name, entry in state.items():  # one at a time: these are large
            state[name] = tensor(starting_value(network, name, tuple(entry.shape)))
    else:
        values = map(tensor, parameters(network))
        state = dict(zip(state, values, strict=True))
    model.load_state_dict(state)


def optimizer(optim: Any, network: Network | ImageNet, model: Any, **how: Any) -> Any:
    kind = {"sgd": "SGD", "rmsprop": "RMSprop"}[network.optimizer]
    return getattr(optim, kind)(model.parameters(), **HYPER[network.optimizer], **how)


def batches(
    network: Network | ImageNet, N: int, tensor: Callable[[Array], Any]
) -> list[tuple[Any, Any]]:
    count = network.resident if isinstance(network, ImageNet) else RESIDENT
    x, labels = images(network, N * count)
    return [
        (tensor(x[i * N : (i + 1) * N]), tensor(labels[i * N : (i + 1) * N])) for i in range(count)
    ]


Backward = Callable[[Any, Any], Any]  # images and labels -> the loss; leaves gradients


def loss_function(cross_entropy: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Of outputs and labels. GoogLeNet: the auxiliary heads count for 0.3 each."""

    def loss(outputs: Any, labels: Any) -> Any:
        if not isinstance(outputs, tuple):
            return cross_entropy(outputs, labels)
        main, *others = (cross_entropy(logits, labels) for logits in outputs)
        return main + 0.3 * sum(others[1:], others[0])

    return loss


def backward(forward: Callable[[Any], Any], cross_entropy: Callable[[Any, Any], Any]) -> Backward:
    """`forward` is the model or a compiled form of it."""
    loss_of = loss_function(cross_entropy)

    def run(x: Any, labels: Any) -> Any:
        loss = loss_of(forward(x), labels)
        loss.backward()
        return loss

    return run


def training(
    network: Network,
    model: Any,
    backward: Backward,
    update: Any,
    data: Sequence[tuple[Any, Any]],
) -> Work:
    """`update` is the model's optimiser."""

    def step(x: Any, labels: Any) -> Any:
        update.zero_grad()
        loss = backward(x, labels)
        update.step()
        return loss

    def answer() -> dict[str, Array]:
        losses = [step(*data[i]).item() for i in range(STEPS)]
        ends = [parameter.detach().numpy() for parameter in model.parameters()]
        return training_answer(network, losses, ends)

    endless = cycle(data)

    def run() -> None:
        for _ in range(STEPS_A_RUN):
            x, labels = next(endless)
            step(x, labels)

    return Work(run, answer, STEPS_A_RUN)


def rotated(data: list[tuple[Any, Any]], work: str) -> list[tuple[Any, Any]]:
    """Batch n first for "gradientsn"."""
    first = int(work.removeprefix("gradients")) if work.startswith("gradients") else 0
    return data[first:] + data[:first]


def imagenet_training(
    model: Any,
    backward: Backward,
    update: Any,
    data: Sequence[tuple[Any, Any]],
    whole: bool,
) -> Work:
    """Like `training`, one step at a time; the answer is the first step's loss and gradients.

    whole: all gradients by their names, otherwise a sample of each in one array.
    """

    def answer() -> dict[str, Array]:
        update.zero_grad()
        losses = np.array([backward(*data[0]).item()], np.float32)
        named = {n: gradient(p) for n, p in model.named_parameters()}
        if whole:
            return {"losses": losses, **named}
        return {"losses": losses, "gradients": np.concatenate([sample(g) for g in named.values()])}

    endless = cycle(data)

    def run() -> None:
        update.zero_grad()
        backward(*next(endless))
        update.step()

    return Work(run, answer)


def gradient(parameter: Any) -> Array:
    """As NumPy sees it, in PyTorch's order of axes."""
    values: Array = np.ascontiguousarray(parameter.grad.numpy(), np.float32)
    return values
