"""Keras on TensorFlow: fit() with and without XLA; single layers by TensorFlow's operations."""

from __future__ import annotations

import importlib
import os
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

NAME = "keras"
tf: Any = None
keras: Any = None


def start(threads: int) -> dict[str, str]:
    global tf, keras
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    tf = importlib.import_module("tensorflow")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    keras = importlib.import_module("keras")
    return {"keras": keras.__version__, "tensorflow": tf.__version__}


def configurations(task: Task, quick: bool) -> list[str]:
    if isinstance(task.subject, ImageNet):
        return []
    if isinstance(task.subject, Conv):
        grouped = task.subject.groups > 1
        depthwise = task.subject.groups == task.subject.IC == task.subject.OC
        return (
            [] if grouped and not depthwise else ["function"]
        )  # its CPU kernels know no other groups
    if task.work == "infer":
        return ["function"] if quick else ["function", "function xla"]
    return ["fit"] if quick else ["fit", "fit xla"]


def prepare(task: Task, configuration: str) -> Work:
    if isinstance(task.subject, Conv):
        return _layer(task, task.subject)
    assert isinstance(task.subject, Network)
    xla = "xla" in configuration
    return (
        _training(task, task.subject, xla)
        if task.work == "train"
        else _inference(task, task.subject, xla)
    )


def _image(x: Array) -> Any:
    return tf.constant(np.ascontiguousarray(x.transpose(0, 2, 3, 1)))


def _layer(task: Task, conv: Conv) -> Work:
    OC, ICg, KH, KW = conv.w_shape
    N, p, ops = task.batch, conv.padding, tf.raw_ops
    x_shape = (N, conv.IH, conv.IW, conv.IC)
    # A depthwise filter is (H, W, C, 1), any other (H, W, I, O).
    depthwise = conv.groups > 1
    w_shape = (KH, KW, OC, 1) if depthwise else (KH, KW, ICg, OC)
    if depthwise:
        forward = ops.DepthwiseConv2dNative
        by_input, by_weight = (
            ops.DepthwiseConv2dNativeBackpropInput,
            ops.DepthwiseConv2dNativeBackpropFilter,
        )
    else:
        forward, by_input, by_weight = ops.Conv2D, ops.Conv2DBackpropInput, ops.Conv2DBackpropFilter
    how = {
        "strides": [1, conv.stride, conv.stride, 1],
        "padding": "EXPLICIT",
        "explicit_paddings": [0, 0, p, p, p, p, 0, 0],
    }

    def weight(w: Array) -> Any:
        order = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)
        return tf.constant(np.ascontiguousarray(w.transpose(order)))

    first, second = conv_operands(task)
    left = _image(first)
    right = _image(second) if task.work == "backward_weight" else weight(second)

    def compute(left: Any, right: Any) -> Any:
        if task.work == "forward":
            return forward(input=left, filter=right, **how)
        if task.work == "backward_input":
            return by_input(input_sizes=x_shape, filter=right, out_backprop=left, **how)
        return by_weight(input=right, filter_sizes=w_shape, out_backprop=left, **how)

    compiled = tf.function(compute, autograph=False)

    def run() -> Any:
        return compiled(left, right)  # eager tensors on the CPU are complete when they return

    def answer() -> dict[str, Array]:
        y = run().numpy()
        if task.work == "backward_weight":
            y = y.transpose(2, 3, 0, 1) if depthwise else y.transpose(3, 2, 0, 1)
        else:
            y = y.transpose(0, 3, 1, 2)
        return {"y": np.ascontiguousarray(y)}

    return Work(run, answer)


# ---------------------------------------------------------------------------------------- networks
def _model(network: Network) -> Any:
    C, H, W = network.input_shape
    make = keras.layers
    layers = [keras.Input((H, W, C))]
    for layer in network.layers:
        if layer.kind == "conv":
            _, OC, K, padding = layer.sizes
            if padding not in (0, (K - 1) // 2):
                raise ValueError(
                    f"[keras] padding {padding} of a {K}x{K} layer is neither valid nor same"
                )
            layers.append(make.Conv2D(OC, K, padding="same" if padding else "valid"))
        elif layer.kind == "linear":
            layers.append(make.Dense(layer.sizes[1]))
        else:
            layers.append(
                {"relu": make.ReLU, "pool": make.MaxPool2D, "flatten": make.Flatten}[layer.kind]()
            )
    model = keras.Sequential(layers)
    model.set_weights(from_torch(network, parameters(network), nhwc=True))
    return model


def _inference(task: Task, network: Network, xla: bool) -> Work:
    model = _model(network)
    compiled = tf.function(lambda x: model(x, training=False), autograph=False, jit_compile=xla)
    x = _image(images(network, task.batch)[0])

    def run() -> Array:
        logits: Array = compiled(x).numpy()
        return logits

    return Work(run, lambda: {"logits": run()})


def _training(task: Task, network: Network, xla: bool) -> Work:
    model = _model(network)
    hyper = HYPER[network.optimizer]
    if network.optimizer == "sgd":
        rule = keras.optimizers.SGD(hyper["lr"], momentum=hyper["momentum"])
    else:
        rule = keras.optimizers.RMSprop(hyper["lr"], rho=hyper["alpha"], epsilon=hyper["eps"] ** 2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=rule, loss=loss, jit_compile=xla)
    x, labels = images(network, task.batch * RESIDENT)
    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    data = tf.data.Dataset.from_tensor_slices((x, labels)).batch(task.batch).cache()

    def answer() -> dict[str, Array]:
        losses = []
        for i in range(STEPS):
            part = slice(i * task.batch, (i + 1) * task.batch)
            model.reset_metrics()  # or each answer is the mean over the batches so far
            losses.append(float(model.train_on_batch(x[part], labels[part])))
        ends = to_torch(network, model.get_weights(), nhwc=True)
        return training_answer(network, losses, ends)

    return Work(lambda: model.fit(data, epochs=1, verbose=0), answer, RESIDENT)
