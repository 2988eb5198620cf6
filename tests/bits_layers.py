"""Convolutions, dense layers, pooling and normalisation, each at each named shape (bits.py)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
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
    uniform,
)
from .shapes import CONVS, CONVS_SHORT, NETWORKS, Conv

# Convolutions at every batch: what a layer of each kind does where layouts change.
AT_BATCHES = [c for c in CONVS if (c in CONVS_SHORT or c in NETWORKS) and math.prod(c.x[1:]) < 8000]
WINDOWS: dict[str, tuple[Any, ...]] = {  # kernel, stride, padding
    "2x2": (2, 2, 0),
    "3x3_s2_p1": (3, 2, 1),
    "3x3_s1": (3, 1, 0),
    "2x3_s2_1_p1_0": ((2, 3), (2, 1), (1, 0)),
    "5x5_s3_p2": (5, 3, 2),
    "1x1": (1, 1, 0),
}


def subjects() -> Iterator[Subject]:
    for cases in (convolutions(), single_dimension(), transposed(), dense(), pooling()):
        for case in cases:
            yield from in_all_ways(case)
    for case in normalization():
        yield from in_all_ways(case)
    yield from explicit_gradients()


# ------------------------------------------------------------------------------------ convolution
def conv_of(case: Conv) -> Callable[..., Any]:
    """F.conv2d of the case. Padding that no argument says is a layer of its own before it."""
    top, bottom, left, right = case.pads
    stride, dilation, groups = case.stride, case.dilation, case.groups
    if (top, left) == (bottom, right):
        return lambda x, w, *b: F.conv2d(x, w, *b or [None], stride, (top, left), dilation, groups)
    if case.pads == same_padding(case):
        return lambda x, w, *b: F.conv2d(x, w, *b or [None], stride, "same", dilation, groups)
    pads = (left, right, top, bottom)
    return lambda x, w, *b: F.conv2d(
        F.pad(x, pads), w, *b or [None], stride, 0, dilation=dilation, groups=groups
    )


def same_padding(case: Conv) -> tuple[int, ...]:
    pads: list[int] = []
    for size, step, kernel, hole in zip(
        case.x[2:], case.stride, case.kernel, case.dilation, strict=True
    ):
        total = max((-(-size // step) - 1) * step + hole * (kernel - 1) + 1 - size, 0)
        pads += [total // 2, total - total // 2]
    return tuple(pads)


def conv_case(case: Conv, N: int | None = None, op: str = "conv2d", bias: bool = True) -> Case:
    name = f"{op}/{case.name}" + ("" if N is None else f"/n{N}") + ("" if bias else "/no_bias")
    x_shape = case.x if N is None else (N, *case.x[1:])
    operands = {
        "x": uniform(f"{case.name} x", *x_shape),
        "w": uniform(f"{case.name} w", *case.w) / np.float32(math.sqrt(math.prod(case.w[1:]))),
        "b": uniform(f"{case.name} b", case.OC),
    }
    if not bias:
        del operands["b"]
    return Case(name, conv_of(case), operands)


def convolutions() -> Iterator[Case]:
    for case in CONVS:
        yield conv_case(case)
    for case in AT_BATCHES:
        for N in BATCHES:
            yield conv_case(case, N)
    for case in CONVS_SHORT:
        yield conv_case(case, bias=False)
    for case in NETWORKS:
        direct = conv_case(case, op="conv2d_direct")
        yield Case(direct.name, functools.partial(directly, direct.call), direct.operands)
    for value in (math.inf, math.nan):
        for N in (2, 17):
            found = conv_case(next(c for c in CONVS if c.name == "vgg"), N, f"conv2d_{value}")
            found.operands["x"][1, 3, 5, 6] = value
            yield found
    x = uniform("conv2d image", 3, 9, 8)
    yield Case("conv2d/no_batch", F.conv2d, {"x": x, "w": uniform("w", 4, 3, 3, 3)})
    yield Case("conv2d/empty", F.conv2d, {"x": x[None][:0], "w": uniform("w", 4, 3, 3, 3)})


def directly(call: Callable[..., Any], *tensors: Tensor) -> Any:
    with fc.set_algorithm("direct"):
        return call(*tensors)


def single_dimension() -> Iterator[Case]:
    for N in SHORT_BATCHES:
        for stride, padding, dilation, groups in ((1, 0, 1, 1), (2, 1, 1, 3), (1, 2, 2, 1)):
            yield Case(
                f"conv1d/s{stride}_p{padding}_d{dilation}_g{groups}/n{N}",
                lambda x, w, b, s=stride, p=padding, d=dilation, g=groups: F.conv1d(
                    x, w, b, s, p, d, g
                ),
                {
                    "x": uniform("conv1d x", N, 6, 29),
                    "w": uniform("conv1d w", 9, 6 // groups, 3),
                    "b": uniform("conv1d b", 9),
                },
            )


def transposed() -> Iterator[Case]:
    for N in SHORT_BATCHES:
        for name, stride, padding, more, groups, dilation, kernel in (
            ("plain", 1, 0, 0, 1, 1, 3),
            ("s2_p1_out1", 2, 1, 1, 1, 1, 3),
            ("s2_4x4", 2, 1, 0, 1, 1, 4),
            ("groups", (2, 1), (1, 0), 0, 2, 1, 3),
            ("dilated", 1, 2, 0, 1, 2, 3),
        ):
            arguments = (stride, padding, more, groups, dilation)
            for OC in (4, 34):
                yield Case(
                    f"conv_transpose2d/{name}_{OC}/n{N}",
                    lambda x, w, b, a=arguments: F.conv_transpose2d(x, w, b, *a),
                    {
                        "x": uniform("transposed x", N, 10, 7, 6),
                        "w": uniform("transposed w", 10, OC // groups, kernel, kernel),
                        "b": uniform("transposed b", OC),
                    },
                )


# ----------------------------------------------------------------------------- dense, pools, norms
def dense() -> Iterator[Case]:
    for inputs, outputs in ((1, 1), (7, 5), (400, 120), (784, 512), (65, 10), (1152, 33)):
        for N in (2, *BATCHES, 49):
            if N in SHORT_BATCHES or inputs * outputs < 50000:
                w = uniform(f"linear w {inputs}", outputs, inputs)
                yield Case(
                    f"linear/{inputs}_{outputs}/n{N}",
                    F.linear,
                    {
                        "x": uniform(f"linear x {inputs}", N, inputs),
                        "w": w / np.float32(math.sqrt(inputs)),
                        "b": uniform("linear b", outputs),
                    },
                )
    w = uniform("linear w", 5, 7)
    for name, shape in {"vector": (7,), "three": (17, 3, 7), "empty": (0, 7)}.items():
        yield Case(f"linear/{name}", F.linear, {"x": uniform("linear x", *shape), "w": w})


def pooling() -> Iterator[Case]:
    for N in BATCHES:
        x = planes("pool", N)
        for name, window in WINDOWS.items():
            for ceil in (False, True):
                where = f"{name}{'_ceil' if ceil else ''}/n{N}"
                yield Case(
                    f"max_pool2d/{where}",
                    lambda x, a=window, c=ceil: F.max_pool2d(x, *a, ceil_mode=c),
                    {"x": x},
                )
                yield Case(
                    f"avg_pool2d/{where}",
                    lambda x, a=window, c=ceil: F.avg_pool2d(
                        x, *a, ceil_mode=c, count_include_pad=not c
                    ),
                    {"x": x},
                )
        yield Case(
            f"max_pool2d/indices/n{N}",
            lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True),
            {"x": x},
        )
        yield Case(f"max_pool2d/dilated/n{N}", lambda x: F.max_pool2d(x, 2, 2, 0, 3), {"x": x})
        ties = np.round(3 * x)
        yield Case(f"max_pool2d/ties/n{N}", lambda x: F.max_pool2d(x, 3, 2, 1), {"x": ties})
        odd = x.copy()
        odd[0, 1, 4, 3], odd[0, 2], odd[-1, 0, 7] = math.nan, -math.inf, -0.0
        yield Case(f"max_pool2d/not_finite/n{N}", lambda x: F.max_pool2d(x, 3, 2, 1), {"x": odd})
        yield Case(
            f"avg_pool2d/divisor/n{N}",
            lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=5),
            {"x": x},
        )
        for size in (1, (3, 5), (None, 4), 13):
            yield Case(
                f"adaptive_avg_pool2d/{size}/n{N}",
                lambda x, s=size: F.adaptive_avg_pool2d(x, s),
                {"x": x},
            )
    x = uniform("pool image", 3, 9, 8)
    yield Case("max_pool2d/no_batch", lambda x: F.max_pool2d(x, 2), {"x": x})
    yield Case("avg_pool2d/no_batch", lambda x: F.avg_pool2d(x, 2), {"x": x})


def normalization() -> Iterator[Case]:
    for N in BATCHES:
        for kind, shape in {"planes": (N, 5, 7, 6), "wide": (N, 40, 3, 3), "2d": (N, 9)}.items():
            C = shape[1]
            x = uniform(f"norm {kind}", *shape)
            running = {"mean": uniform("mean", C), "var": uniform("var", C, low=0.2)}
            affine = {"w": uniform("norm w", C), "b": uniform("norm b", C)}
            for training in (False, True):
                name = f"batch_norm/{kind}_{'train' if training else 'eval'}"
                if training and N == 1 and kind == "2d":
                    continue  # one value a channel has no variance
                yield Case(
                    f"{name}/n{N}",
                    lambda x, w, b, m, v, t=training: F.batch_norm(x, m, v, w, b, t, 0.2, 1e-3),
                    {"x": x, **affine},
                    running,
                )
                yield Case(
                    f"{name}_plain/n{N}",
                    lambda x, m, v, t=training: F.batch_norm(x, m, v, training=t),
                    {"x": x},
                    running,
                )
        for size in (1, 4, 5):
            yield Case(
                f"local_response_norm/{size}/n{N}",
                lambda x, s=size: F.local_response_norm(x, s, 1e-2, 0.75, 2.0),
                {"x": uniform("lrn", N, 9, 5, 4)},
            )
        for shape in ((N, 5, 7, 6), (N, 37)):
            for p in (0.3, 1.0):
                yield Case(
                    f"dropout/{p}_{len(shape)}d/n{N}",
                    lambda x, p=p: F.dropout(x, p),
                    {"x": uniform("dropout", *shape)},
                )


# ------------------------------------------------------------------------------ explicit gradients
def explicit_gradients() -> Iterator[Subject]:
    for case in CONVS:
        top, bottom, left, right = case.pads
        if (top, left) != (bottom, right):
            continue
        options = (case.stride, (top, left), case.dilation, case.groups)
        for N in {case.x[0], 1, 7, 17} if case in AT_BATCHES else {case.x[0]}:
            found = conv_case(case, N).operands
            dy = uniform("conv2d dy", N, *case.y[1:])
            arrays = (dy, found["x"], found["w"])
            name = f"conv2d_backward/{case.name}/n{N}"
            yield name, functools.partial(named, "xwb", F.conv2d_backward, *arrays, *options)
    for N in BATCHES:
        x, w, dy = uniform("x", N, 65), uniform("w", 9, 65), uniform("dy", N, 9)
        run: Any = functools.partial(named, "xwb", F.linear_backward, dy, x, w)
        yield f"linear_backward/n{N}", run
        x = planes("pool", N)
        for name, window in WINDOWS.items():
            for op, backward, source in (
                ("max_pool2d", F.max_pool2d_backward, x),
                ("avg_pool2d", F.avg_pool2d_backward, x.shape),
            ):
                y = getattr(F, op)(x, *window)
                run = functools.partial(
                    named, "x", backward, uniform("pool dy", *y.shape), source, *window
                )
                yield f"{op}_backward/{name}/n{N}", run


def named(names: str, function: Callable[..., Any], *arguments: Any) -> Arrays:
    found = function(*arguments)
    parts: Sequence[Any] = found if isinstance(found, tuple) else (found,)
    return {f"d{name}": part for name, part in zip(names, parts, strict=True)}
