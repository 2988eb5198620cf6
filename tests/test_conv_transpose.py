"""Transposed convolution and 1-D convolution, through the functional interface, with gradients."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import pytest

import fastconv as fc
from fastconv import functional as F
from tests import reference
from tests.reference import Pair
from tests.support import assert_close, uniform


@dataclass(frozen=True)
class Transposed:
    """x (N, IC, IH, IW), w (IC, OC/groups, KH, KW)."""

    x: tuple[int, int, int, int]
    w: tuple[int, int, int, int]
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    output_padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def geometry(self) -> tuple[Pair, Pair, Pair, Pair, int]:
        return (self.stride, self.padding, self.output_padding, self.dilation, self.groups)


CASES = [
    Transposed((1, 1, 1, 1), (1, 1, 1, 1)),
    Transposed((2, 3, 4, 5), (3, 4, 3, 3)),
    Transposed((16, 3, 4, 5), (3, 4, 4, 4), (2, 2), (1, 1)),
    Transposed((17, 6, 5, 3), (6, 5, 3, 2), (2, 3), (1, 0), (1, 2)),
    Transposed((5, 4, 4, 4), (4, 3, 3, 3), (1, 2), (2, 1), (0, 1), (2, 2)),
    Transposed((33, 6, 3, 3), (6, 4, 3, 3), (2, 2), (1, 1), (1, 1), (1, 1), 2),
    Transposed((17, 8, 4, 4), (8, 1, 3, 3), (2, 2), (1, 1), (0, 0), (1, 1), 8),
    Transposed((3, 70, 3, 4), (70, 33, 2, 2), (3, 3)),
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


@every_case
def test_forward(case: Transposed, isa: str, rng: np.random.Generator) -> None:
    x, w = uniform(rng, *case.x), uniform(rng, *case.w)
    b = uniform(rng, case.w[1] * case.groups)
    stride, padding, output_padding, dilation, groups = case.geometry
    K = case.w[0] // groups * prod(case.w[2:])
    for bias in (None, b):
        y = F.conv_transpose2d(x, w, bias, stride, padding, output_padding, groups, dilation)
        assert_close(y, reference.conv_transpose2d(x, w, bias, *case.geometry), K + 1)


@every_case
def test_backward(case: Transposed, isa: str, rng: np.random.Generator) -> None:
    """By input the convolution; by weight that of the convolution with x and dy swapped."""
    x = fc.Tensor(uniform(rng, *case.x), requires_grad=True)
    w = fc.Tensor(uniform(rng, *case.w), requires_grad=True)
    b = fc.Tensor(uniform(rng, case.w[1] * case.groups), requires_grad=True)
    stride, padding, output_padding, dilation, groups = case.geometry
    y = F.conv_transpose2d(x, w, b, stride, padding, output_padding, groups, dilation)
    dy = uniform(rng, *y.shape)
    y.backward(dy)
    shape = (stride, reference.symmetric(padding), dilation, groups)
    dx = reference.conv2d(dy, w.numpy(), None, *shape)[:, :, : case.x[2], : case.x[3]]
    assert_close(x.grad, dx, prod(case.w[1:]))
    dw = reference.conv2d_backward_weight(x.numpy(), dy, case.w, *shape)
    assert_close(w.grad, dw, case.x[0] * prod(case.x[2:]))
    assert_close(b.grad, reference.f64(dy).sum((0, 2, 3)), dy.size // dy.shape[1])


def test_is_the_transpose_of_conv2d(isa: str, rng: np.random.Generator) -> None:
    """<conv2d(x, w), y> = <x, conv_transpose2d(y, w)>."""
    x, w = uniform(rng, 17, 3, 9, 8), uniform(rng, 5, 3, 3, 2)
    y = F.conv2d(x, w, stride=(2, 3), padding=1)
    dy = uniform(rng, *y.shape)
    back = F.conv_transpose2d(dy, w, stride=(2, 3), padding=1, output_padding=(0, 2))
    assert back.shape == x.shape
    left = (reference.f64(y) * dy).sum()
    assert left == pytest.approx((reference.f64(x) * back).sum(), rel=1e-5)


@pytest.mark.parametrize("N", [1, 17])
def test_conv1d(N: int, isa: str, rng: np.random.Generator) -> None:
    x = fc.Tensor(uniform(rng, N, 6, 21), requires_grad=True)
    w = fc.Tensor(uniform(rng, 8, 3, 5), requires_grad=True)
    b = fc.Tensor(uniform(rng, 8), requires_grad=True)
    y = F.conv1d(x, w, b, stride=2, padding=3, dilation=2, groups=2)
    geometry = ((1, 2), (0, 0, 3, 3), (1, 2), 2)
    image, kernel = x.numpy()[:, :, None], w.numpy()[:, :, None]
    expected = reference.conv2d(image, kernel, b.numpy(), *geometry)
    assert_close(y.numpy(), expected[:, :, 0], 16)
    dy = uniform(rng, *y.shape)
    y.backward(dy)
    dx = reference.conv2d_backward_input(dy[:, :, None], kernel, image.shape, *geometry)
    assert_close(x.grad, dx[:, :, 0], 20)
    dw = reference.conv2d_backward_weight(dy[:, :, None], image, kernel.shape, *geometry)
    assert_close(w.grad, dw[:, :, 0], N * y.shape[2])
    assert_close(b.grad, reference.f64(dy).sum((0, 2)), N * y.shape[2])
