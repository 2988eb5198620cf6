"""ReLU and max pooling behind a convolution, written as operations of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastconv.functional._neighbours import recent

import fastconv as fc
from fastconv import Tensor, nn
from fastconv import functional as F
from tests.support import assert_close

Behind = Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor]

# What is behind the convolution; `apart` goes between two neighbours.
WAYS: dict[str, Behind] = {
    "relu": lambda y, apart: F.relu(apart(y)),
    "pool": lambda y, apart: F.max_pool2d(apart(y), 2),
    "relu, pool": lambda y, apart: F.max_pool2d(apart(F.relu(apart(y))), 2),
    "pool, relu": lambda y, apart: F.relu(apart(F.max_pool2d(apart(y), 2))),
    "overlapping": lambda y, apart: F.max_pool2d(apart(F.relu(apart(y))), 3, 2, 1),
    "relu twice": lambda y, apart: F.relu(apart(F.relu(apart(y)))),
    "pool twice": lambda y, apart: F.max_pool2d(apart(F.max_pool2d(apart(y), 2)), 2),
    "layers": lambda y, apart: nn.MaxPool2d(2)(apart(nn.ReLU()(apart(y)))),
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def together(y: Tensor) -> Tensor:
    return y


def apart(y: Tensor) -> Tensor:
    """The same values, of which nobody knows how they were made."""
    return y * 1.0


def gradients(of: Callable[[Tensor, nn.Conv2d], Tensor], n: int) -> list[Any]:
    """The result, and the gradients of x, w and b."""
    random = np.random.default_rng(3)
    fc.manual_seed(1)
    conv = nn.Conv2d(5, 9, 5, padding=2)
    x = Tensor(random.standard_normal((n, 5, 12, 12)).astype(np.float32), requires_grad=True)
    y = of(x, conv)
    y.backward(random.standard_normal(y.shape).astype(np.float32))
    assert x.grad is not None
    assert conv.weight.grad is not None
    assert conv.bias is not None
    assert conv.bias.grad is not None
    return [t.numpy() for t in (y.detach(), x.grad, conv.weight.grad, conv.bias.grad)]


@every_way
@pytest.mark.parametrize("n", [3, 40])
def test_gradients_are_those_of_the_single_operations(way: Behind, n: int) -> None:
    one = gradients(lambda x, conv: way(conv(x), together), n)
    other = gradients(lambda x, conv: way(conv(x), apart), n)
    np.testing.assert_array_equal(one[0], other[0])
    for got, expected in zip(one[1:], other[1:], strict=True):
        assert_close(got, expected.astype(np.float64), n * 144)


def test_results_in_between_are_used_by_others_too() -> None:
    def of(between: Callable[[Tensor], Tensor]) -> Callable[[Tensor, nn.Conv2d], Tensor]:
        def of_both(x: Tensor, conv: nn.Conv2d) -> Tensor:
            y = conv(x)
            rectified = F.relu(between(y))
            pooled = F.max_pool2d(between(rectified), 2)
            return pooled.sum() + (rectified * rectified).sum() + (y * 0.5).sum()

        return of_both

    for got, expected in zip(gradients(of(together), 20), gradients(of(apart), 20), strict=True):
        assert_close(got, expected.astype(np.float64), 20 * 144, c=4.0)


def test_a_graph_that_was_freed_stays_so() -> None:
    conv = nn.Conv2d(1, 2, 3)
    y = conv(np.ones((1, 1, 6, 6), np.float32))
    y.sum().backward()
    for behind in (F.relu, nn.MaxPool2d(2)):
        with pytest.raises(RuntimeError, match="freed by an earlier backward"):
            behind(y).sum().backward()


def test_a_graph_is_gone_through_twice() -> None:
    conv = nn.Conv2d(1, 2, 3, bias=False)
    x = np.random.default_rng(0).standard_normal((2, 1, 6, 6)).astype(np.float32)
    y = F.max_pool2d(F.relu(conv(x)), 2).sum()
    y.backward(retain_graph=True)
    assert conv.weight.grad is not None
    once = conv.weight.grad.numpy().copy()
    y.backward()
    np.testing.assert_allclose(conv.weight.grad.numpy(), 2 * once, rtol=1e-6)


def test_inputs_are_let_go_where_weights_are_frozen() -> None:
    conv = nn.Conv2d(2, 4, 3)
    for parameter in conv.parameters():
        parameter.requires_grad_(False)
    x = Tensor(np.ones((16, 2, 6, 6), np.float32), requires_grad=True)
    y = F.max_pool2d(F.relu(conv(x)), 2)
    assert y._node is not None
    assert y._node.stage.x is None
    y.sum().backward()
    assert x.grad is not None


class Written(nn.Module):
    """LeNet as it is written by hand."""

    def __init__(self, way: Behind = WAYS["relu, pool"]) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2 = nn.Linear(400, 30), nn.Linear(30, 10)
        self._way = way

    def forward(self, x: Tensor) -> Tensor:
        x = self._way(self.conv1(x), together)
        x = self._way(self.conv2(x), together)
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
    net = Written(WAYS[way]).eval()
    forward = fc.record(net)
    with fc.no_grad():
        expected = net(Tensor(images(n))).numpy().astype(np.float64)
    for _ in range(2):
        assert_close(forward(images(n)).numpy(), expected, 400)
    assert forward.reason is None
    stages = ["conv2d"] * 2
    assert [
        op for op in operations(forward) if op not in ("to_lanes", "contiguous", "reshape")
    ] == [
        *stages,
        *["linear"] * 2,
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
    assert "max_pool2d_forward" not in names


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


def test_only_the_thread_that_records_fuses() -> None:
    conv = nn.Conv2d(1, 2, 3)
    x = Tensor(np.ones((1, 1, 6, 6), np.float32))
    started, done = threading.Event(), threading.Event()
    seen: list[bool] = []

    class Slow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = conv(x)
            assert recent.results is not None
            started.set()
            done.wait(10)
            return F.relu(y)

    def other() -> None:
        started.wait(10)
        seen.append(recent.results is None)
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    forward = fc.record(Slow())
    forward(x)
    thread.join()
    assert seen == [True]
    assert operations(forward) == ["conv2d"]


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
