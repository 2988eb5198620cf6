"""PyTorch: both memory formats, eager and compiled, fused optimisers, resident data."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ..cases import Array, Conv, Task, conv_operands, images
from ..networks import ImageNet
from . import Work, torch_models, torch_style

NAME = "torch"
torch: Any = None


def start(threads: int) -> dict[str, str]:
    global torch
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    return {"torch": torch.__version__}


def configurations(task: Task, quick: bool) -> list[str]:
    if task.work.startswith("gradients"):
        return ["eager nchw", "float64 nchw"]
    formats = ["nchw"] if task.subject.name == "mlp" else ["nchw", "channels_last"]
    if isinstance(task.subject, Conv):
        return formats
    ways = ["eager"] if quick else ["eager", "compile"]
    return [f"{way} {memory_format}" for way in ways for memory_format in formats]


def prepare(task: Task, configuration: str) -> Work:
    channels_last, double = "channels_last" in configuration, "float64" in configuration

    def tensor(value: Array) -> Any:
        result = torch.from_numpy(value)
        if double and value.dtype == np.float32:
            return result.double()
        if channels_last and value.ndim == 4:
            return result.contiguous(memory_format=torch.channels_last)
        return result

    if isinstance(task.subject, Conv):
        return _layer(task, task.subject, tensor)

    network = task.subject
    if isinstance(network, ImageNet):
        model = torch_models.build(torch, network)
        model = model.double() if double else model
    else:
        model = torch_style.sequential(torch.nn, network)
    torch_style.load_parameters(model, network, tensor)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    forward = model
    if "compile" in configuration:
        torch.compiler.reset()  # or graphs compiled for earlier tasks count against its limit
        forward = torch.compile(model)

    if task.work == "infer":
        model.eval()
        x = tensor(images(network, task.batch)[0])

        def run() -> Array:
            with torch.inference_mode():
                logits: Array = forward(x).numpy()
                return logits

        return Work(run, lambda: {"logits": run()})

    # Of these two, PyTorch has a fused form on the CPU for SGD only.
    how = {"fused": True} if network.optimizer == "sgd" else {"foreach": True}
    update = torch_style.optimizer(torch.optim, network, model, **how)
    data = torch_style.batches(network, task.batch, tensor)
    backward = torch_style.backward(forward, torch.nn.functional.cross_entropy)
    if isinstance(network, ImageNet):
        whole = task.work.startswith("gradients")
        data = torch_style.rotated(data, task.work)
        return torch_style.imagenet_training(model, backward, update, data, whole)
    return torch_style.training(network, model, backward, update, data)


def _layer(task: Task, conv: Conv, tensor: Any) -> Work:
    first, second = (tensor(operand) for operand in conv_operands(task))
    stride, padding, groups = [conv.stride] * 2, [conv.padding] * 2, conv.groups
    backward = torch.ops.aten.convolution_backward

    # The operand whose gradient is wanted is not read: only its shape and memory format are.
    def gradient(x: Any, w: Any, which: int) -> Any:
        wanted = [which == 0, which == 1, False]
        geometry = (stride, padding, [1, 1], False, [0, 0], groups)
        with torch.no_grad():
            return backward(first, x, w, None, *geometry, wanted)[which]

    if task.work == "forward":

        def run() -> Any:
            with torch.no_grad():
                return torch.conv2d(first, second, None, stride, padding, 1, groups)

    elif task.work == "backward_input":
        x = tensor(np.empty(conv.x_shape(task.batch), np.float32))

        def run() -> Any:
            return gradient(x, second, 0)

    else:
        w = tensor(np.empty(conv.w_shape, np.float32))

        def run() -> Any:
            return gradient(second, w, 1)

    return Work(run, lambda: {"y": run().contiguous().numpy()})
