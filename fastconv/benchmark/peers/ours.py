"""fastconv itself: layers as fastconv.nn calls them in the compiled core, networks by fastconv.nn,
as recorded programs.

A layer's images are resident in the layout that it meets inside a network: lanes, or plain for a
few samples.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from ..cases import Array, Conv, Task, conv_operands, images
from ..networks import ImageNet
from . import Work, torch_style

NAME = "fastconv"
fastconv: Any = None
core: Any = None


def start(threads: int) -> dict[str, str]:
    global fastconv, core
    fastconv = importlib.import_module("fastconv")
    core = importlib.import_module("fastconv._core")
    core.set_num_threads(threads)
    return {"fastconv": core.__version__}


def describe() -> dict[str, str]:
    """What the header of a table says about the build."""
    return {"isa": core.isa(), "folder": str(Path(core.__file__).parent), **core.build_config()}


def peak(seconds: float) -> float:
    """FLOP/s of nothing but fused multiply-adds in registers, on all threads."""
    return float(core.fma_peak(seconds))


def configurations(task: Task, quick: bool) -> list[str]:
    if not isinstance(task.subject, Conv):
        return ["recorded"]
    # The layout that the package gives such a batch, whichever build it is.
    conv = task.subject
    x = fastconv.zeros(conv.x_shape(task.batch), requires_grad=task.work != "forward")
    return [core.layout(fastconv.functional.conv2d(x, fastconv.zeros((1, conv.IC, 1, 1)))._array)]


def prepare(task: Task, configuration: str) -> Work:
    if isinstance(task.subject, Conv):
        return _layer(task, task.subject, configuration == "lanes")

    network = task.subject
    if isinstance(network, ImageNet):
        model = getattr(fastconv.models, network.name)(**network.arguments)
    else:
        model = torch_style.sequential(fastconv.nn, network)
    torch_style.load_parameters(model, network, fastconv.Tensor)
    if task.work == "infer":
        forward = fastconv.record(model.eval())
        x = fastconv.Tensor(images(network, task.batch)[0])

        def run() -> Array:
            logits: Array = forward(x).numpy()
            return logits

        return Work(run, lambda: {"logits": run()})

    update = torch_style.optimizer(fastconv.optim, network, model)
    data = torch_style.batches(network, task.batch, fastconv.Tensor)
    loss = torch_style.loss_function(fastconv.functional.cross_entropy)
    step = fastconv.record_step(model, loss)

    def backward(x: Any, labels: Any) -> Any:
        return step(x, labels)[0]

    if isinstance(network, ImageNet):
        whole = task.work.startswith("gradients")
        data = torch_style.rotated(data, task.work)
        return torch_style.imagenet_training(model, backward, update, data, whole)
    return torch_style.training(network, model, backward, update, data)


def _layer(task: Task, conv: Conv, lanes: bool) -> Work:
    def image(value: Array) -> Any:
        array = core.array(value)
        return core.to_lanes(array) if lanes else array

    first, second = conv_operands(task)
    left = image(first)
    right = image(second) if task.work == "backward_weight" else core.array(second)
    s, p = conv.stride, conv.padding
    geometry = core.Geometry((s, s), (p, p, p, p), (1, 1), conv.groups)

    if task.work == "forward":

        def run() -> Any:
            return core.conv2d(left, right, None, geometry)[0]

    elif task.work == "backward_input":
        x_shape = conv.x_shape(task.batch)

        def run() -> Any:
            return core.conv2d_backward_input(left, right, x_shape, geometry)

    else:

        def run() -> Any:
            return core.conv2d_backward_weight(left, right, conv.w_shape, geometry)

    return Work(run, lambda: {"y": run().numpy()})
