"""JAX: everything under jit, the whole training step in one compiled function, NHWC and NCHW."""

from __future__ import annotations

import importlib
import os
from itertools import cycle
from typing import Any

import numpy as np

from ..cases import (
    HYPER,
    RESIDENT,
    STEPS,
    Array,
    Conv,
    Network,
    Task,
    conv_operands,
    images,
    parameters,
    training_answer,
)
from ..networks import ImageNet
from . import Work
from .layouts import from_torch, to_torch

NAME = "jax"
STEPS_A_RUN = 4  # handed over without waiting, as a training loop does
jax: Any = None


def start(threads: int) -> dict[str, str]:
    global jax
    # XLA makes as many threads as the process may use CPUs, and has no other setting.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    jax = importlib.import_module("jax")
    return {"jax": jax.__version__, "jaxlib": importlib.import_module("jaxlib").__version__}


def configurations(task: Task, quick: bool) -> list[str]:
    if isinstance(task.subject, ImageNet):
        return []
    if task.subject.name == "mlp":
        return ["jit"]
    return ["jit nhwc"] if quick else ["jit nhwc", "jit nchw"]


def prepare(task: Task, configuration: str) -> Work:
    nhwc = "nhwc" in configuration
    if isinstance(task.subject, Conv):
        return _layer(task, task.subject, nhwc)
    assert isinstance(task.subject, Network)
    return (
        _training(task, task.subject, nhwc)
        if task.work == "train"
        else _inference(task, task.subject, nhwc)
    )


def _image(x: Array, nhwc: bool) -> Any:
    return jax.device_put(np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if nhwc else x)


def _weight(w: Array, nhwc: bool) -> Any:
    return jax.device_put(np.ascontiguousarray(w.transpose(2, 3, 1, 0)) if nhwc else w)


def _convolve(x: Any, w: Any, nhwc: bool, stride: int, padding: int, groups: int) -> Any:
    return jax.lax.conv_general_dilated(
        x,
        w,
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC") if nhwc else ("NCHW", "OIHW", "NCHW"),
        feature_group_count=groups,
    )


def _layer(task: Task, conv: Conv, nhwc: bool) -> Work:
    def forward(x: Any, w: Any) -> Any:
        return _convolve(x, w, nhwc, conv.stride, conv.padding, conv.groups)

    # A convolution is linear in each operand: the gradient by one needs the other only, and what is
    # not needed is compiled away.
    def backward_input(dy: Any, w: Any) -> Any:
        x = jax.numpy.zeros(_laid_out(conv.x_shape(task.batch), nhwc))
        return jax.vjp(lambda x: forward(x, w), x)[1](dy)[0]

    def backward_weight(dy: Any, x: Any) -> Any:
        OC, IC, KH, KW = conv.w_shape
        w = jax.numpy.zeros((KH, KW, IC, OC) if nhwc else conv.w_shape)
        return jax.vjp(lambda w: forward(x, w), w)[1](dy)[0]

    compiled = jax.jit(
        {"forward": forward, "backward_input": backward_input, "backward_weight": backward_weight}[
            task.work
        ]
    )
    first, second = conv_operands(task)
    left = _image(first, nhwc)
    right = _image(second, nhwc) if task.work == "backward_weight" else _weight(second, nhwc)

    def run() -> Any:
        return compiled(left, right).block_until_ready()

    def answer() -> dict[str, Array]:
        y = np.asarray(run())
        if nhwc:
            y = (
                y.transpose(3, 2, 0, 1)
                if task.work == "backward_weight"
                else y.transpose(0, 3, 1, 2)
            )
        return {"y": np.ascontiguousarray(y)}

    return Work(run, answer)


def _laid_out(shape: tuple[int, ...], nhwc: bool) -> tuple[int, ...]:
    return (shape[0], *shape[2:], shape[1]) if nhwc else shape


# ---------------------------------------------------------------------------------------- networks
def _forward(network: Network, nhwc: bool) -> Any:
    window = (1, 2, 2, 1) if nhwc else (1, 1, 2, 2)

    def forward(values: list[Any], x: Any) -> Any:
        values = list(values)
        for layer in network.layers:
            if layer.kind == "conv":
                w, b = values.pop(0), values.pop(0)
                x = _convolve(x, w, nhwc, 1, layer.sizes[3], 1) + (b if nhwc else b[:, None, None])
            elif layer.kind == "relu":
                x = jax.nn.relu(x)
            elif layer.kind == "pool":
                x = jax.lax.reduce_window(x, -np.inf, jax.lax.max, window, window, "VALID")
            elif layer.kind == "flatten":
                x = x.reshape(x.shape[0], -1)
            else:
                x = x @ values.pop(0) + values.pop(0)
        return x

    return forward


def _inference(task: Task, network: Network, nhwc: bool) -> Work:
    forward = jax.jit(_forward(network, nhwc))
    values = _on_device(from_torch(network, parameters(network), nhwc))
    x = _image(images(network, task.batch)[0], nhwc)

    def run() -> Array:
        return np.asarray(forward(values, x))

    return Work(run, lambda: {"logits": run()})


def _training(task: Task, network: Network, nhwc: bool) -> Work:
    forward = _forward(network, nhwc)

    def cross_entropy(values: list[Any], x: Any, labels: Any) -> Any:
        log_p = jax.nn.log_softmax(forward(values, x))
        return -jax.numpy.mean(jax.numpy.take_along_axis(log_p, labels[:, None], 1))

    hyper = HYPER[network.optimizer]

    def step(values: list[Any], state: list[Any], x: Any, labels: Any) -> Any:
        loss, grads = jax.value_and_grad(cross_entropy)(values, x, labels)
        if network.optimizer == "sgd":
            state = [hyper["momentum"] * v + g for v, g in zip(state, grads, strict=True)]
            moves = state
        else:
            state = [
                hyper["alpha"] * v + (1 - hyper["alpha"]) * g * g
                for v, g in zip(state, grads, strict=True)
            ]
            moves = [
                g / (jax.numpy.sqrt(v) + hyper["eps"]) for v, g in zip(state, grads, strict=True)
            ]
        return (
            [value - hyper["lr"] * move for value, move in zip(values, moves, strict=True)],
            state,
            loss,
        )

    compiled = jax.jit(step, donate_argnums=(0, 1))
    values = _on_device(from_torch(network, parameters(network), nhwc))
    state = [jax.numpy.zeros_like(value) for value in values]
    x, labels = images(network, task.batch * RESIDENT)
    xs = [_image(part, nhwc) for part in np.split(x, RESIDENT)]
    ys = _on_device(np.split(labels.astype(np.int32), RESIDENT))
    data = list(zip(xs, ys, strict=True))

    def answer() -> dict[str, Array]:
        nonlocal values, state
        losses = []
        for i in range(STEPS):
            values, state, loss = compiled(values, state, *data[i])
            losses.append(float(loss))
        ends = to_torch(network, [np.asarray(value) for value in values], nhwc)
        return training_answer(network, losses, ends)

    endless = cycle(data)

    def run() -> None:
        nonlocal values, state
        for _ in range(STEPS_A_RUN):
            values, state, loss = compiled(values, state, *next(endless))
        loss.block_until_ready()

    return Work(run, answer, STEPS_A_RUN)


def _on_device(values: list[Array]) -> list[Any]:
    return [jax.device_put(value) for value in values]
