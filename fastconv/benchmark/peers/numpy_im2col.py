"""NumPy: convolution as im2col and a matrix product, the way a course assignment writes it."""

from __future__ import annotations

from collections.abc import Iterator
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

NAME = "numpy"
STEPS_A_RUN = 1
COLUMN_FLOATS = 1 << 24  # unfolded at a time: 64 MiB, however large the batch


def start(threads: int) -> dict[str, str]:
    # Its BLAS took the number from the environment, see remote.py.
    return {"numpy": np.__version__}


def configurations(task: Task, quick: bool) -> list[str]:
    if isinstance(task.subject, ImageNet):
        return []
    return ["im2col"]


def prepare(task: Task, configuration: str) -> Work:
    if isinstance(task.subject, Conv):
        return _layer(task, task.subject)
    assert isinstance(task.subject, Network)
    return _training(task, task.subject) if task.work == "train" else _inference(task, task.subject)


# ------------------------------------------------------------------------------------- convolution
def _columns(x: Array, conv: Conv) -> Array:
    """(n, groups, IC/groups * K * K, OH * OW): what each output pixel sees, as columns."""
    p = conv.padding
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (conv.K, conv.K), axis=(2, 3))
    windows = windows[:, :, :: conv.stride, :: conv.stride]
    shape = (len(x), conv.groups, conv.IC // conv.groups * conv.K**2, conv.OH * conv.OW)
    columns: Array = windows.transpose(0, 1, 4, 5, 2, 3).reshape(shape)
    return columns


def _fold(columns: Array, conv: Conv) -> Array:
    """The adjoint of _columns: adds every column back to the pixels it came from."""
    n, K, p, s = len(columns), conv.K, conv.padding, conv.stride
    columns = columns.reshape(n, conv.IC, K, K, conv.OH, conv.OW)
    x = np.zeros((n, conv.IC, conv.IH + 2 * p, conv.IW + 2 * p), np.float32)
    for kh in range(K):
        for kw in range(K):
            x[:, :, kh : kh + s * conv.OH : s, kw : kw + s * conv.OW : s] += columns[:, :, kh, kw]
    return x[:, :, p : p + conv.IH, p : p + conv.IW]


def _parts(conv: Conv, N: int) -> Iterator[slice]:
    n = max(1, COLUMN_FLOATS // (conv.IC * conv.K**2 * conv.OH * conv.OW))
    return (slice(i, i + n) for i in range(0, N, n))


def conv_forward(x: Array, w: Array, conv: Conv) -> Array:
    y = np.empty(conv.y_shape(len(x)), np.float32)
    rows = w.reshape(conv.groups, conv.OC // conv.groups, -1)
    for part in _parts(conv, len(x)):
        y[part] = (rows @ _columns(x[part], conv)).reshape(y[part].shape)
    return y


def conv_backward_input(dy: Array, w: Array, conv: Conv) -> Array:
    dx = np.empty(conv.x_shape(len(dy)), np.float32)
    rows = w.reshape(conv.groups, conv.OC // conv.groups, -1).transpose(0, 2, 1)
    for part in _parts(conv, len(dy)):
        by_group = dy[part].reshape(-1, conv.groups, conv.OC // conv.groups, conv.OH * conv.OW)
        dx[part] = _fold(rows @ by_group, conv)
    return dx


def conv_backward_weight(dy: Array, x: Array, conv: Conv) -> Array:
    dw = np.zeros(
        (conv.groups, conv.OC // conv.groups, conv.IC // conv.groups * conv.K**2), np.float32
    )
    for part in _parts(conv, len(dy)):
        by_group = dy[part].reshape(-1, conv.groups, conv.OC // conv.groups, conv.OH * conv.OW)
        dw += (by_group @ _columns(x[part], conv).transpose(0, 1, 3, 2)).sum(axis=0)
    return dw.reshape(conv.w_shape)


def _layer(task: Task, conv: Conv) -> Work:
    first, second = conv_operands(task)
    compute = {
        "forward": conv_forward,
        "backward_input": conv_backward_input,
        "backward_weight": conv_backward_weight,
    }[task.work]

    def run() -> Array:
        return compute(first, second, conv)

    return Work(run, lambda: {"y": run()})


# ---------------------------------------------------------------------------------------- networks
class _Chain:
    """A network by hand: forward keeps what backward needs."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.values = parameters(network)
        self._kept: list[tuple[Any, ...]] = []

    def forward(self, x: Array) -> Array:
        self._kept = []
        values = iter(self.values)
        for layer in self.network.layers:
            if layer.kind == "conv":
                w, b = next(values), next(values)
                IC, OC, K, padding = layer.sizes
                conv = Conv("", IC, x.shape[2], x.shape[3], OC, K, padding=padding)
                self._kept.append((conv, x, w))
                x = conv_forward(x, w, conv) + b[:, None, None]
            elif layer.kind == "linear":
                w, b = next(values), next(values)
                self._kept.append((x, w))
                x = x @ w.T + b
            elif layer.kind == "relu":
                x = np.maximum(x, 0)
                self._kept.append((x,))
            elif layer.kind == "pool":
                N, C, H, W = x.shape
                x = x[:, :, : H // 2 * 2, : W // 2 * 2].reshape(N, C, H // 2, 2, W // 2, 2)
                windows = x.transpose(0, 1, 2, 4, 3, 5).reshape(N, C, H // 2, W // 2, 4)
                chosen = windows.argmax(-1)[..., None]
                self._kept.append((chosen, (N, C, H, W)))
                x = np.take_along_axis(windows, chosen, -1)[..., 0]
            else:
                self._kept.append((x.shape,))
                x = x.reshape(len(x), -1)
        return x

    def backward(self, dy: Array) -> list[Array]:
        """Gradients of all parameters, in their order."""
        grads: list[Array] = []
        for i in reversed(range(len(self._kept))):
            kind, kept = self.network.layers[i].kind, self._kept[i]
            if kind == "conv":
                conv, x, w = kept
                grads += [dy.sum((0, 2, 3)), conv_backward_weight(dy, x, conv)]
                if i > 0:
                    dy = conv_backward_input(dy, w, conv)
            elif kind == "linear":
                x, w = kept
                grads += [dy.sum(0), dy.T @ x]
                dy = dy @ w
            elif kind == "relu":
                dy = dy * (kept[0] > 0)
            elif kind == "pool":
                chosen, (N, C, H, W) = kept
                windows = np.zeros((*dy.shape, 4), np.float32)
                np.put_along_axis(windows, chosen, dy[..., None], -1)
                windows = windows.reshape(N, C, H // 2, W // 2, 2, 2).transpose(0, 1, 2, 4, 3, 5)
                dx = np.zeros((N, C, H, W), np.float32)
                dx[:, :, : H // 2 * 2, : W // 2 * 2] = windows.reshape(N, C, H // 2 * 2, W // 2 * 2)
                dy = dx
            else:
                dy = dy.reshape(kept[0])
        return grads[::-1]


def _inference(task: Task, network: Network) -> Work:
    chain = _Chain(network)
    x = images(network, task.batch)[0]
    return Work(lambda: chain.forward(x), lambda: {"logits": chain.forward(x)})


def _training(task: Task, network: Network) -> Work:
    chain, hyper = _Chain(network), HYPER[network.optimizer]
    state = [np.zeros_like(value) for value in chain.values]
    x, labels = images(network, task.batch * RESIDENT)
    data = list(zip(np.split(x, RESIDENT), np.split(labels, RESIDENT), strict=True))

    def step(x: Array, labels: Array) -> float:
        logits = chain.forward(x)
        shifted = logits - logits.max(axis=1, keepdims=True)
        p = np.exp(shifted)
        p /= p.sum(axis=1, keepdims=True)
        rows = np.arange(len(x))
        loss = -float(np.log(p[rows, labels]).mean())
        p[rows, labels] -= 1
        grads = chain.backward(p / np.float32(len(x)))
        for value, v, g in zip(chain.values, state, grads, strict=True):
            if network.optimizer == "sgd":
                v *= hyper["momentum"]
                v += g
                value -= hyper["lr"] * v
            else:
                v *= hyper["alpha"]
                v += (1 - hyper["alpha"]) * g * g
                value -= hyper["lr"] * g / (np.sqrt(v) + hyper["eps"])
        return loss

    def answer() -> dict[str, Array]:
        losses = [step(*data[i]) for i in range(STEPS)]
        return training_answer(network, losses, chain.values)

    endless = cycle(data)

    def run() -> None:
        for _ in range(STEPS_A_RUN):
            step(*next(endless))

    return Work(run, answer, STEPS_A_RUN)
