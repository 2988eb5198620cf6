"""Results that wait for what follows them have the values and gradients of separate operations.

Inside the call of a module operations wait; `forward` called by itself is no such call, so that
each layer runs alone: the same code gives what to compare with.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import Tensor, _core, nn
from fastconv import functional as F
from tests.support import assert_close, assert_same_bits, uniform

BATCHES = [1, 7, 15, 16, 17]
C, SIZE = 6, 9
every_batch = pytest.mark.parametrize("n", BATCHES)


pytestmark = pytest.mark.usefixtures("nothing_waits")


def shortcut(x: Tensor, y: Tensor) -> Tensor:
    """Something of the shape of y that has a gradient."""
    return x * 0.5 if x.shape == y.shape else F.adaptive_avg_pool2d(x, y.shape[2:])


class Net(nn.Module):
    """A head and what follows it, written by hand."""

    def __init__(self, head: nn.Module, follows: tuple[str, ...]) -> None:
        super().__init__()
        self.head, self.relu, self.relu6 = head, nn.ReLU(), nn.ReLU6()
        self.norm = nn.BatchNorm1d(C) if isinstance(head, nn.Linear) else nn.BatchNorm2d(C)
        self.pool, self.follows = nn.MaxPool2d(3, 2, 1), follows

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x)
        for name in self.follows:
            if name == "add":
                y = y + shortcut(x, y)
            elif name == "add in place":
                y += shortcut(x, y)
            else:
                y = getattr(self, name)(y)
        return y


HEADS: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: nn.Conv2d(C, C, 3, padding=1),
    "depthwise": lambda: nn.Conv2d(C, C, 3, padding=1, groups=C, bias=False),
    "linear": lambda: nn.Linear(C, C),
    "norm": lambda: nn.BatchNorm2d(C),
}
NAMES = ("relu", "relu6", "pool", "add", "norm")
ORDERS = [order for length in (1, 2, 3) for order in permutations(NAMES, length)] + [
    ("add in place", "relu"),
    ("norm", "add in place", "relu"),
    ("norm", "add in place", "relu", "pool"),
    ("relu", "relu", "relu6"),
    ("pool", "pool", "relu"),
    ("norm", "norm", "relu"),
    ("add", "add", "relu"),
    ("relu", "pool", "relu6", "add"),
]


def images(n: int, seed: int = 0) -> np.ndarray:
    return 3 * uniform(np.random.default_rng((n, seed)), n, C, SIZE, SIZE)


def made(head: str, follows: tuple[str, ...], training: bool = True) -> Net:
    """With statistics and weights that are not the initial ones."""
    fc.manual_seed(0)
    net, rng = Net(HEADS[head](), follows), np.random.default_rng(1)
    for part in net.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            part.weight.numpy()[...] = rng.uniform(0.5, 3, C)
            part.bias.numpy()[...] = rng.uniform(-1, 1, C)
            part.running_mean.numpy()[...] = rng.uniform(-1, 1, C)
            part.running_var.numpy()[...] = rng.uniform(0.5, 2, C)
    return net.train(training)


def outcome(call: Callable[[Tensor], Tensor], net: nn.Module, x: np.ndarray) -> list[np.ndarray]:
    """The result, the gradients of x and of the parameters, and the buffers afterwards."""
    leaf = Tensor(x, requires_grad=True)
    y = call(leaf)
    y.backward(uniform(np.random.default_rng(5), *y.shape))
    found = [y.detach(), leaf.grad, *(p.grad for p in net.parameters()), *net.buffers()]
    return [np.array(t.numpy()) for t in found if t is not None]


def assert_agree(
    got: list[np.ndarray], expected: list[np.ndarray], net: nn.Module, exact: bool = True
) -> None:
    """The same bits, but for gradients that are summed up in another order where not exact."""
    assert len(got) == len(expected)
    buffers = len(list(net.buffers()))
    for i, (one, other) in enumerate(zip(got, expected, strict=True)):
        if exact or i == 0 or i >= len(got) - buffers:
            assert_same_bits(one, other)
        else:
            assert_close(one, other, len(got[0]) * SIZE * SIZE, scale=3)


def is_exact(n: int, *names: str) -> bool:
    """A convolution of many goes back block by block; two sums give x three gradients to add."""
    few = n < 15 or not {"conv", "depthwise"} & set(names)
    return few and names.count("add") < 2


def applicable(head: str, follows: tuple[str, ...]) -> bool:
    return head != "linear" or "pool" not in follows


def operand(head: str, n: int) -> np.ndarray:
    return images(n)[:, :, 0, 0].copy() if head == "linear" else images(n)


@pytest.mark.parametrize("head", HEADS)
@every_batch
def test_every_order_with_gradients(head: str, n: int) -> None:
    for training in (True, False):
        for follows in filter(lambda order: applicable(head, order), ORDERS):
            if training and head == "linear" and n == 1 and "norm" in follows:
                continue  # one value a channel
            together, apart = (made(head, follows, training) for _ in range(2))
            x = operand(head, n)
            got, expected = outcome(together, together, x), outcome(apart.forward, apart, x)
            assert_agree(got, expected, apart, is_exact(n, head, *follows))


@pytest.mark.parametrize("head", HEADS)
@every_batch
def test_every_order_without_gradients(head: str, n: int) -> None:
    for follows in filter(lambda order: applicable(head, order), ORDERS):
        net = made(head, follows, training=False)
        x = Tensor(operand(head, n))
        with fc.no_grad():
            got, expected = net(x).numpy(), net.forward(x).numpy()
            recorded = fc.record(net)
            again = [recorded(x).numpy() for _ in range(2)]
        assert recorded.reason is None
        if head != "norm" and "norm" in follows:  # its factors are multiplied into the weights
            assert_close(got, expected, 60, scale=8)
        else:
            assert_same_bits(got, expected)
        for one in again:
            assert_same_bits(one, got)


@pytest.mark.parametrize("n", [7, 17])
def test_sequences_are_what_is_written_by_hand(n: int) -> None:
    for head in ("conv", "norm"):
        for follows in filter(lambda order: "add" not in " ".join(order), ORDERS):
            net = made(head, follows)
            layers = nn.Sequential(net.head, *(copy.deepcopy(getattr(net, f)) for f in follows))
            written, x = made(head, follows), operand(head, n)
            if len(set(follows)) < len(follows) and "norm" in follows:
                continue  # a layer used twice is two layers here
            got = outcome(layers, layers, x)
            expected = outcome(written, written, x)
            for one, other in zip(got[:2], expected[:2], strict=True):
                assert_same_bits(one, other)


@pytest.mark.parametrize("head", ["conv", "norm"])
@every_batch
def test_recorded_steps(head: str, n: int) -> None:
    for follows in (
        ("relu",),
        ("norm", "add in place", "relu", "pool"),
        ("pool", "relu"),
        ("add",),
    ):
        together, apart = (made(head, follows) for _ in range(2))
        step = fc.record_step(together, lambda y, target: F.mse_loss(y, target))
        x = images(n)
        target = np.zeros(apart.forward(Tensor(x)).shape, np.float32)
        apart = made(head, follows)
        for _ in range(3):
            for net in (together, apart):
                net.zero_grad()
            loss, _ = step(x, target)
            expected = F.mse_loss(apart.forward(Tensor(x)), Tensor(target))
            expected.backward()
            assert_same_bits(loss.numpy(), expected.numpy())
            for one, other in zip(together.parameters(), apart.parameters(), strict=True):
                if other.grad is not None:
                    assert_same_bits(one.grad.numpy(), other.grad.numpy())
            for one, other in zip(together.buffers(), apart.buffers(), strict=True):
                assert_same_bits(one.numpy(), other.numpy())
        assert step.reason is None


# ------------------------------------------------------------------------- once, and in one pass
class Counted:
    """How often the core is asked for something."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count: dict[str, int] = {}
        names = "conv2d", "conv2d_normalised", "linear", "batch_norm_train", "batch_norm_eval"
        for name in (*names, "relu", "relu6", "max_pool2d", "add"):
            monkeypatch.setattr(_core, name, self._counting(name, getattr(_core, name)))

    def _counting(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.count[name] = self.count.get(name, 0) + 1
            return function(*arguments, **named)

        return counted


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


@pytest.mark.parametrize(
    ("head", "follows", "grad", "expected"),
    [
        ("conv", ("relu",), True, {"conv2d": 1}),
        ("conv", ("relu6", "pool"), True, {"conv2d": 1}),
        ("conv", ("pool", "relu"), True, {"conv2d": 1}),
        ("conv", ("add", "relu"), False, {"conv2d": 1, "add": 1, "relu": 1}),
        ("conv", ("norm", "add in place", "relu"), False, {"conv2d_normalised": 1}),
        ("conv", ("norm", "relu", "pool"), False, {"conv2d_normalised": 1, "max_pool2d": 1}),
        ("linear", ("relu",), True, {"linear": 1}),
        ("linear", ("relu6",), False, {"linear": 1}),
        ("norm", ("add", "relu"), False, {"batch_norm_eval": 1}),
    ],
)
def test_one_pass(
    head: str, follows: Any, grad: bool, expected: dict[str, int], counted: Counted
) -> None:
    net, x = made(head, follows, training=False), operand(head, 17)
    with fc.set_grad_enabled(grad):
        net(Tensor(x))
    assert counted.count == expected


def test_one_pass_of_training(counted: Counted) -> None:
    net = made("conv", ("norm", "add in place", "relu"))
    net(Tensor(images(17)))
    assert counted.count == {"conv2d": 1, "batch_norm_train": 1}


# ------------------------------------------------------------------ results that somebody holds
class Held(nn.Module):
    """Uses a result in between for something else as well."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.conv1, self.conv2 = nn.Conv2d(C, C, 3, padding=1), nn.Conv2d(2 * C, C, 1)
        self.norm = nn.BatchNorm2d(C)
        self.kept: list[Any] = []

    def forward(self, x: Tensor) -> Any:
        y = self.conv1(x)
        if self.way == "second output":
            return F.relu(y), y
        if self.way == "kept":
            self.kept.append(y)
            return F.max_pool2d(F.relu(y), 2)
        if self.way == "twice":
            return F.relu(y) + F.relu6(y)
        if self.way == "skip":  # U-Net
            down = F.max_pool2d(F.relu(y), 2)
            up = F.interpolate(down, size=(SIZE, SIZE))
            return F.relu(self.conv2(F.cat([up, y], 1)))
        if self.way == "dense":  # DenseNet
            features = [x, F.relu(self.norm(y))]
            return F.relu(self.conv2(F.cat(features, 1))) + features[1]
        if self.way == "own shortcut":
            z = self.norm(y)
            z += y
            return F.relu(z)
        if self.way == "doubled":
            return F.relu(y + y)
        if self.way == "alias in place":
            z = y
            y += x
            return F.relu(z)
        if self.way == "added into another":
            z = y * 1.0
            z += self.norm(x)
            return F.relu(z)
        if self.way == "looked at behind":
            z = F.relu(y)
            self.kept.append(y * 1.0)
            return z
        if self.way == "changed after":
            z = F.relu(y)
            y += x
            return z + y
        raise AssertionError(self.way)


WAYS = [
    *("second output", "kept", "twice", "skip", "dense", "own shortcut", "doubled"),
    *("alias in place", "changed after", "added into another", "looked at behind"),
]


def total(y: Any) -> Tensor:
    return y if isinstance(y, Tensor) else (y[0] * 0.5) + y[1]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("way", WAYS)
@every_batch
def test_held_results(way: str, n: int, training: bool, counted: Counted) -> None:
    nets = []
    for _ in range(2):
        fc.manual_seed(0)
        nets.append(Held(way).train(training))
    together, apart = nets
    x = images(n)
    counted.count.clear()
    got = outcome(lambda x: total(together(x)), together, x)
    once = counted.count["conv2d"]
    expected = outcome(lambda x: total(apart.forward(x)), apart, x)
    assert once == counted.count["conv2d"] - once == (2 if way in ("skip", "dense") else 1)
    assert_agree(got, expected, apart, is_exact(n, "conv"))
    for one, other in zip(together.kept, apart.kept, strict=True):
        assert_same_bits(one.numpy(), other.numpy())
    with fc.no_grad():
        values = [total(call(Tensor(x))).numpy() for call in (together, apart.forward)]
    assert_close(values[0], values[1], 60, scale=8)


@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("kept", "looked at behind")])
@every_batch
def test_held_results_in_recordings(way: str, n: int) -> None:
    fc.manual_seed(0)
    net = Held(way).eval()
    recorded, x = fc.record(net), Tensor(images(n))
    with fc.no_grad():
        expected = total(net.forward(x)).numpy()
        for _ in range(3):
            assert_close(total(recorded(x)).numpy(), expected, 60, scale=8)
    assert recorded.reason is None


@pytest.mark.parametrize("training", [True, False])
def test_hooks_see_values(training: bool) -> None:
    seen: list[Tensor] = []
    net = made("conv", ("norm", "relu", "pool"), training)
    apart = made("conv", ("norm", "relu", "pool"), training)
    for part in (net.head, net.norm):
        part.register_forward_hook(lambda module, inputs, y: seen.append(y))
    with fc.no_grad():
        y = net(Tensor(images(16)))
        conv = apart.head(Tensor(images(16)))
        norm = apart.norm(conv)
        assert_close(y.numpy(), F.max_pool2d(F.relu(norm), 3, 2, 1).numpy(), 60, scale=8)
    assert_same_bits(seen[0].numpy(), conv.numpy())
    assert_close(seen[1].numpy(), norm.numpy(), 60, scale=8)
