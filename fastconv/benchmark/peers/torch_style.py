"""Networks through torch.nn's names: one piece of code for PyTorch and for fastconv."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

from ..cases import HYPER, RESIDENT, STEPS, Array, Network, images, parameters, training_answer
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


def load_parameters(model: Any, network: Network, tensor: Callable[[Array], Any]) -> None:
    names = model.state_dict().keys()
    model.load_state_dict(
        {name: tensor(value) for name, value in zip(names, parameters(network), strict=True)}
    )


def optimizer(optim: Any, network: Network, model: Any, **how: Any) -> Any:
    kind = {"sgd": "SGD", "rmsprop": "RMSprop"}[network.optimizer]
    return getattr(optim, kind)(model.parameters(), **HYPER[network.optimizer], **how)


def batches(network: Network, N: int, tensor: Callable[[Array], Any]) -> list[tuple[Any, Any]]:
    x, labels = images(network, N * RESIDENT)
    return [
        (tensor(x[i * N : (i + 1) * N]), tensor(labels[i * N : (i + 1) * N]))
        for i in range(RESIDENT)
    ]


def training(
    network: Network,
    model: Any,
    forward: Callable[[Any], Any],
    update: Any,
    cross_entropy: Callable[[Any, Any], Any],
    data: Sequence[tuple[Any, Any]],
) -> Work:
    """`forward` is the model or a compiled form of it; `update` its optimiser."""

    def step(x: Any, labels: Any) -> Any:
        update.zero_grad()
        loss = cross_entropy(forward(x), labels)
        loss.backward()
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
