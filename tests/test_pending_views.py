"""Memory that NumPy may write to while a module is called: what was read is what was there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import Tensor, nn
from fastconv import functional as F
from tests.support import assert_same_bits, uniform

C, SIZE = 4, 6

pytestmark = pytest.mark.usefixtures("nothing_waits")


def images(n: int) -> Tensor:
    return Tensor(uniform(np.random.default_rng(n), n, C, SIZE, SIZE))


class Net(nn.Module):
    """One layer, a change of its operands through NumPy, and what would join the layer."""

    def __init__(self, kind: str, change: Callable[[], None] | None = None) -> None:
        super().__init__()
        fc.manual_seed(3)
        self.kind, self.change = kind, change
        self.conv, self.norm = nn.Conv2d(C, C, 3, padding=1), nn.BatchNorm2d(C)
        self.linear = nn.Linear(C * SIZE * SIZE, C)

    def forward(self, x: Any) -> Any:
        if self.kind == "linear":
            y = self.linear(x.flatten(1))
        elif self.kind == "norm":
            y = self.norm(x)
        else:
            y = self.conv(x)
        if self.kind == "conv, norm":
            y = self.norm(y)
        if self.kind == "norm, add":
            y = self.norm(x * 1.0) + x
        if self.change is not None:
            self.change()
        return F.relu(y)


KINDS = ["conv", "linear", "norm", "norm, add", "conv, norm"]


@pytest.mark.parametrize("n", [1, 7, 15, 16, 17, 33])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grad", [False, True])
def test_the_input_is_written_through_a_view(kind: str, n: int, grad: bool) -> None:
    """A view that was taken before the call; without gradients in evaluation, else in training."""
    if grad and n == 1 and "norm" in kind:
        n = 2
    mode = fc.enable_grad if grad else fc.no_grad
    x = images(n)
    view = x.numpy()

    def change() -> None:
        view[...] = 0.0

    right, net = Net(kind).train(grad), Net(kind, change).train(grad)
    with mode():
        assert_same_bits(net(x).numpy(), right(images(n)).numpy())
    assert not view.any()


@pytest.mark.parametrize("n", [1, 7, 16])
@pytest.mark.parametrize("kind", ["conv", "linear", "conv, norm"])
def test_parameters_are_written_through_views(kind: str, n: int) -> None:
    right, net = Net(kind).eval(), Net(kind).eval()
    views = [t.numpy() for t in net.state_dict().values() if t.dtype == np.float32]

    def change() -> None:
        for view in views:
            view[...] = 1.0

    net.change = change
    with fc.no_grad():
        assert_same_bits(net(images(n)).numpy(), right(images(n)).numpy())
        assert not np.array_equal(net(images(n)).numpy(), right(images(n)).numpy())


@pytest.mark.parametrize("n", [1, 7, 16])
def test_an_array_of_the_user_is_written_to(n: int) -> None:
    """The network is called with a NumPy array, which it shares."""
    x = images(n).numpy().copy()
    right = nn.Conv2d(C, C, 3)

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = right

        def forward(self, x: Any) -> Any:
            y = self.conv(x)
            x[...] = 0.0
            return F.relu(y)

    with fc.no_grad():
        assert_same_bits(Own()(x).numpy(), F.relu(right(images(n))).numpy())


@pytest.mark.parametrize("n", [1, 7, 16])
def test_a_recording_of_an_array_of_the_user_is_fused(n: int) -> None:
    """It works on a copy, which nobody writes to."""

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(C, C, 3)

        def forward(self, x: Any) -> Any:
            y = self.conv(x)
            y = F.relu(y)
            return F.max_pool2d(y, 2)

    net = Plain().eval()
    recorded = fc.record(net)
    x = images(n).numpy().copy()
    first, again = recorded(x).numpy(), recorded(x).numpy()
    assert recorded.reason is None
    (program,) = recorded._programs.values()
    assert program is not None
    assert [line.split(" = ")[1].split("(")[0] for line in str(program.core).splitlines()[:-1]] == [
        "conv2d"
    ]
    with fc.no_grad():
        assert_same_bits(first, net(images(n)).numpy())
    assert_same_bits(again, first)
