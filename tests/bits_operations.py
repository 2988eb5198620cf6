"""What stands between layers, at each batch where layouts change (bits.py)."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

import fastconv as fc
from fastconv import Tensor
from fastconv import functional as F

from .bits_ways import (
    BATCHES,
    SHORT_BATCHES,
    Arrays,
    Case,
    Subject,
    in_all_ways,
    planes,
    seeded,
    uniform,
)


def subjects() -> Iterator[Subject]:
    for cases in (
        *(activations(), softmaxes(), borders(), movement(), arithmetic(), reductions(), losses()),
    ):
        for case in cases:
            yield from in_all_ways(case)
    yield from changes_in_place()
    yield from creation()


# ------------------------------------------------------------------------------------- elementwise
def activations() -> Iterator[Case]:
    for N in BATCHES:
        for shape in ((N, 5, 7, 6), (N, 37), (N, 3, 11)):
            x = uniform("activation", *shape, low=-8, high=8)
            x.reshape(-1)[:4] = 0.0, -0.0, math.nan, math.inf
            for name, call in {
                "relu": F.relu,
                "relu6": F.relu6,
                "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
                "sigmoid": F.sigmoid,
                "tanh": F.tanh,
            }.items():
                yield Case(f"{name}/{len(shape)}d/n{N}", call, {"x": x})


def softmaxes() -> Iterator[Case]:
    for N in BATCHES:
        for shape, dim in (((N, 10), 1), ((N, 37), 0), ((N, 6, 5, 4), 1), ((N, 6, 5, 4), 3)):
            x = uniform("softmax", *shape, low=-20, high=20)
            for name, function in {"softmax": F.softmax, "log_softmax": F.log_softmax}.items():
                yield Case(
                    f"{name}/{len(shape)}d_{dim}/n{N}",
                    lambda x, f=function, d=dim: f(x, d),
                    {"x": x},
                )


def borders() -> Iterator[Case]:
    for N in SHORT_BATCHES:
        x = planes("pad", N, 3, 7, 6)
        for mode in ("constant", "reflect", "replicate", "circular"):
            yield Case(f"pad/{mode}/n{N}", lambda x, m=mode: F.pad(x, (1, 3, 2, 0), m), {"x": x})
        for name, widths in {"crop": (-1, 2, 3, -2), "channels": (0, 1, 0, 0, 2, 1)}.items():
            yield Case(f"pad/{name}/n{N}", lambda x, w=widths: F.pad(x, w, value=0.5), {"x": x})
        for name, options in {
            "nearest_size": {"size": (11, 4)},
            "nearest_factor": {"scale_factor": 2.5},
            "nearest_twice": {"scale_factor": 2},
            "bilinear": {"size": (12, 5), "mode": "bilinear"},
            "bilinear_corners": {"size": (3, 9), "mode": "bilinear", "align_corners": True},
        }.items():
            call: Any = functools.partial(resized, options)
            yield Case(f"interpolate/{name}/n{N}", call, {"x": x})


def resized(options: dict[str, Any], x: Tensor) -> Any:
    return F.interpolate(x, **options)


def movement() -> Iterator[Case]:
    for N in SHORT_BATCHES:
        x, y = planes("move x", N, 5, 7, 6), planes("move y", N, 3, 7, 6)
        for name, call in {
            "reshape": lambda x: x.reshape(-1, 42),
            "permute": lambda x: x.permute(0, 2, 3, 1),
            "transpose": lambda x: x.transpose(1, 3),
            "slice_channels": lambda x: x[:, 1:4],
            "slice_rows": lambda x: x[:, :, 2:6:2],
            "slice_batch": lambda x: x[: max(1, len(x) // 2)],
            "slice_back": lambda x: x[:, :, ::-1, 1:],
            "index": lambda x: x[0],
            "index_list": lambda x: x[:, [0, 2, 2]],
            "squeeze": lambda x: x[:, :1].squeeze(1),
        }.items():
            yield Case(f"movement/{name}/n{N}", call, {"x": x})
        for dim in (0, 1, 2):
            yield Case(f"flatten/{dim}/n{N}", lambda x, d=dim: F.flatten(x, d), {"x": x})
            other = y if dim == 1 else x * 2
            yield Case(
                f"cat/{dim}/n{N}", lambda x, y, d=dim: F.cat([x, y, x], d), {"x": x, "y": other}
            )


def arithmetic() -> Iterator[Case]:
    for N in SHORT_BATCHES:
        x, y = planes("left", N), planes("right", N)
        row, channel = uniform("row", 11, low=0.5), uniform("channel", 5, 1, 1, low=0.5)
        for name, call in {
            "add": lambda a, b: a + b,
            "sub": lambda a, b: a - b,
            "mul": lambda a, b: a * b,
            "div": lambda a, b: a / b,
        }.items():
            for kind, other in {"same": y, "row": row, "channel": channel}.items():
                yield Case(f"arithmetic/{name}_{kind}/n{N}", call, {"x": x, "y": other})
        for name, one in {
            "numbers": lambda a: 2.0 - (3.0 * a + 1.0) / 0.7,
            "reciprocal": lambda a: 1.5 / a,
            "negative": lambda a: -a,
            "square": lambda a: a**2,
            "cube": lambda a: a**3,
            "twice": lambda a: a * a + a,
            "exp": lambda a: a.exp(),
            "abs": lambda a: a.abs(),
            "clamp": lambda a: a.clamp(-0.3, 0.4),
        }.items():
            yield Case(f"arithmetic/{name}/n{N}", one, {"x": x})
        positive = np.abs(x) + np.float32(0.1)
        for name, one in {
            "log": lambda a: a.log(),
            "sqrt": lambda a: a.sqrt(),
            "power": lambda a: a**0.3,
            "base": lambda a: 2.0**a,
        }.items():
            yield Case(f"arithmetic/{name}/n{N}", one, {"x": positive})
        yield Case(
            f"arithmetic/matmul/n{N}",
            lambda a, b: a @ b,
            {"x": uniform("matmul", N, 9), "y": uniform("matmul y", 9, 4)},
        )


def reductions() -> Iterator[Case]:
    axes: dict[str, Any] = {"all": None, "batch": 0, "channels": 1, "images": (0, 2, 3)}
    for N in SHORT_BATCHES:
        x = planes("reduce", N)
        for name in ("sum", "mean", "var", "std", "norm", "max", "min"):
            for where, dim in axes.items():
                if name == "norm" and where == "images":
                    continue
                call = functools.partial(reduced, name, dim)
                yield Case(f"reduction/{name}_{where}/n{N}", call, {"x": x})
        yield Case(f"reduction/prod/n{N}", lambda x: x.prod(1), {"x": x})
        yield Case(f"reduction/argmax/n{N}", lambda x: (x.sum(1), x.argmax(1)), {"x": x})


def reduced(name: str, dim: Any, x: Tensor) -> Any:
    if name in ("max", "min") and isinstance(dim, int):
        return getattr(x, name)(dim)
    if name == "norm":
        return x.norm() if dim is None else x.norm(dim=dim)
    if name in ("var", "std") and dim == 0 and x.shape[0] == 1:
        return getattr(x, name)(1)  # one value has no variance
    return getattr(x, name)() if dim is None else getattr(x, name)(axis=dim)


# ------------------------------------------------------------------------------------------ losses
def losses() -> Iterator[Case]:
    for N in BATCHES:
        x, image = uniform("logits", N, 10), uniform("logits of images", N, 4, 5, 3)
        labels = np.arange(N) * 7 % 10
        pixels = np.arange(N * 15).reshape(N, 5, 3) * 7 % 4
        soft = uniform("soft", N, 10, low=0.01)
        weight = uniform("class weight", 10, low=0.1)
        p, t = uniform("p", N, 10, low=0.01, high=0.99), uniform("t", N, 10, low=0)
        for reduction in ("mean", "sum", "none"):
            where = f"{reduction}/n{N}"
            cross: Any = functools.partial(F.cross_entropy, reduction=reduction)
            yield Case(f"cross_entropy/{where}", cross, {"x": x}, {"labels": labels})
            yield Case(f"cross_entropy/pixels_{where}", cross, {"x": image}, {"labels": pixels})
            yield Case(f"cross_entropy/soft_{where}", cross, {"x": x}, {"t": soft})
            yield Case(
                f"cross_entropy/weight_{where}",
                functools.partial(cross, ignore_index=7, label_smoothing=0.1),
                {"x": x},
                {"labels": labels, "weight": weight},
            )
            nll: Any = functools.partial(F.nll_loss, reduction=reduction)
            yield Case(f"nll_loss/{where}", nll, {"x": x}, {"labels": labels})
            for name, function, first in (
                ("mse_loss", F.mse_loss, x),
                ("l1_loss", F.l1_loss, x),
                ("binary_cross_entropy", F.binary_cross_entropy, p),
                ("binary_cross_entropy_with_logits", F.binary_cross_entropy_with_logits, x),
            ):
                call: Any = functools.partial(function, reduction=reduction)
                yield Case(f"{name}/{where}", call, {"x": first}, {"t": t})


# ------------------------------------------------------------------------------ without cases
def changes_in_place() -> Iterator[Subject]:
    for N in SHORT_BATCHES:
        for name in ("add", "mul", "item", "copy", "relu"):
            yield f"in_place/{name}/n{N}", functools.partial(in_place, name, N)


def in_place(name: str, N: int) -> Arrays:
    x = Tensor(planes("in place", N), requires_grad=True)
    other = planes("other", N)
    y = F.avg_pool2d(x, 1)
    if name == "add":
        y += Tensor(other)
    elif name == "mul":
        y *= 0.3
    elif name == "item":
        y[:, 1:3] = Tensor(other)[:, 2:4]
    elif name == "copy":
        with fc.no_grad():
            x.copy_(Tensor(other) * 2.0)
        y = F.avg_pool2d(x, 1)
    else:
        y = F.relu(y, inplace=True)
    (y * y).sum().backward()
    return {"y": y, "dx": x.grad if x.grad is not None else "none"}


def creation() -> Iterator[Subject]:
    yield (
        "creation",
        functools.partial(
            seeded, lambda: {"rand": fc.rand(3, 4), "randn": fc.randn(17, 2), "zeros": fc.zeros(2)}
        ),
    )
