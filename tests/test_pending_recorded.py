"""Layers and what follows them in Sequential and in recorded programs: one instruction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import Tensor, nn
from fastconv import functional as F
from tests.support import assert_close

pytestmark = pytest.mark.usefixtures("nothing_waits")

WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu, pool": lambda y: F.max_pool2d(F.relu(y), 2),
    "pool, relu": lambda y: F.relu(F.max_pool2d(y, 2)),
}


class Written(nn.Module):
    """LeNet as it is written by hand."""

    def __init__(self, way: str = "relu, pool") -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2 = nn.Linear(400, 30), nn.Linear(30, 10)
        self._way = WAYS[way]

    def forward(self, x: Tensor) -> Tensor:
        x = self._way(self.conv1(x))
        x = self._way(self.conv2(x))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def images(n: int) -> Any:
    return np.random.default_rng(n).standard_normal((n, 1, 28, 28)).astype(np.float32)


def operations(recorded: Any) -> list[str]:
    (program,) = recorded._programs.values()
    lines = str(program.core).splitlines()[:-1]
    return [line.split(" = ")[1].partition("(")[0] for line in lines]


@pytest.mark.parametrize("n", [1, 16, 40])
@pytest.mark.parametrize("way", ["relu, pool", "pool, relu"])
def test_recordings_have_one_operation(way: str, n: int) -> None:
    net = Written(way).eval()
    forward = fc.record(net)
    with fc.no_grad():
        expected = net(Tensor(images(n))).numpy().astype(np.float64)
    for _ in range(2):
        assert_close(forward(images(n)).numpy(), expected, 400)
    assert forward.reason is None
    moving = ("to_lanes", "contiguous", "reshape")
    assert [op for op in operations(forward) if op not in moving] == [
        *("conv2d", "conv2d", "linear", "linear")
    ]


def test_recorded_steps_have_one_operation() -> None:
    fc.manual_seed(0)
    net, labels = Written(), np.arange(128) % 10
    F.cross_entropy(net(Tensor(images(128))), labels).backward()
    expected = [p.grad.numpy().astype(np.float64) for p in net.parameters() if p.grad is not None]
    step = fc.record_step(net, F.cross_entropy)
    for _ in range(2):
        net.zero_grad()
        step(images(128), labels)
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        assert parameter.grad is not None
        assert_close(parameter.grad.numpy(), gradient, 784, c=2.0)
    names = operations(step)
    assert names.count("conv2d") == names.count("conv2d_backward") == 2
    assert "relu" not in names
    assert "max_pool2d" not in names


def test_recordings_return_what_lies_between() -> None:
    class Both(Written):
        def forward(self, x: Tensor) -> Any:
            y = self.conv1(x)
            return y, F.max_pool2d(F.relu(y), 2)

    net = Both().eval()
    forward = fc.record(net)
    forward(images(20))
    between, pooled = (t.numpy() for t in forward(images(20)))
    with fc.no_grad():
        expected = [t.numpy() for t in net(Tensor(images(20)))]
    np.testing.assert_array_equal(between, expected[0])
    np.testing.assert_array_equal(pooled, expected[1])


CHANGES: dict[str, tuple[int, Any]] = {  # of an attribute: which layer has it, and its new value
    "return_indices": (2, True),
    "kernel_size": (2, 3),
    "ceil_mode": (2, True),
    "stride": (0, (2, 2)),
    "padding": (0, (0, 0)),
    "bias": (0, None),
    "padding_mode": (0, "reflect"),
}


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("n", [1, 7, 15, 16, 17])
@pytest.mark.parametrize("name", CHANGES)
def test_sequential_sees_changed_attributes(name: str, n: int, grad: bool) -> None:
    """Also of layers that it has run as one operation before."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    x = Tensor(np.random.default_rng(0).standard_normal((n, 2, 11, 11)).astype(np.float32))
    with fc.set_grad_enabled(grad):
        model(x)
        layer, value = CHANGES[name]
        setattr(model[layer], name, value)
        right: Any = x
        for module in model:
            right = module(right)
        got = model(x)
    assert type(got) is type(right)
    pairs = zip(got, right, strict=True) if isinstance(got, tuple) else [(got, right)]
    for a, b in pairs:
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", [1, 7, 15, 16, 17])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_borders_of_convolutions_with_a_norm(mode: str, n: int) -> None:
    fc.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, padding_mode=mode), nn.BatchNorm2d(4), nn.ReLU()
    ).eval()
    x = Tensor(np.random.default_rng(0).standard_normal((n, 2, 7, 9)).astype(np.float32))
    with fc.no_grad():
        right = x
        for module in model:
            right = module(right)
        np.testing.assert_allclose(model(x).numpy(), right.numpy(), rtol=1e-5, atol=1e-5)
        recorded = fc.record(model)
        for _ in range(2):
            np.testing.assert_allclose(recorded(x).numpy(), right.numpy(), rtol=1e-5, atol=1e-5)
