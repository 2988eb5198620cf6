"""Recordings see what the code of a network reads: lists, objects, globals, closures, classes."""

from __future__ import annotations

import random
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import Tensor, nn
from fastconv import functional as F
from fastconv.program import MOST_CHANGES

SCALE = 2.0
SETTINGS = {"scale": 1.0, "more": [1.0]}


class Options:
    factor = 1.0
    factors = [1.0]  # noqa: RUF012

    def __init__(self) -> None:
        self.value = 1.0
        self.unread = np.zeros(100_000)


OPTIONS = Options()


def scaled(x: Any) -> Any:
    return x * SCALE * SETTINGS["scale"] * SETTINGS["more"][0]


class Net(nn.Module):
    table = [1.0]  # noqa: RUF012

    def __init__(self, closure: Callable[[], float]) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)
        self.steps = [1.0]
        self.nested = {"deep": [{"k": 1.0}], "names": {"a"}}
        self.space = types.SimpleNamespace(k=1.0)
        self.options = Options()
        self.hidden = [nn.Linear(2, 2)]
        self.closure = closure

    def forward(self, x: Any) -> Any:
        return self.tail(scaled(self.fc(x)))

    def tail(self, x: Any) -> Any:
        x = x * self.steps[0] * self.first * self.space.k * self.options.value * self.table[0]
        x = x * OPTIONS.value * Options.factor * Options.factors[0] * self.closure()
        if "b" in self.nested["names"]:
            x = x + 1.0
        return self.hidden[0](x)

    @property
    def first(self) -> float:
        return self.nested["deep"][0]["k"]


def replace_hidden(net: Net) -> None:
    net.hidden[0] = nn.Linear(2, 2)


def replace_weights(net: Net) -> None:
    net.hidden[0].weight.data = fc.ones(2, 2)


def change_weights(net: Net) -> None:
    with fc.no_grad():
        net.hidden[0].weight.fill_(0.5)


CHANGES: dict[str, Callable[[Net], Any]] = {
    "list": lambda net: net.steps.__setitem__(0, 3.0),
    "nested dictionary": lambda net: net.nested["deep"][0].update(k=3.0),
    "set": lambda net: net.nested["names"].add("b"),
    "namespace": lambda net: setattr(net.space, "k", 3.0),
    "object": lambda net: setattr(net.options, "value", 3.0),
    "list of a class": lambda net: Net.table.__setitem__(0, Net.table[0] + 1),
    "global": lambda net: globals().update(SCALE=SCALE + 1),
    "global dictionary": lambda net: SETTINGS.update(scale=SETTINGS["scale"] + 1),
    "list in a global": lambda net: SETTINGS["more"].__setitem__(0, SETTINGS["more"][0] + 1),
    "object in a global": lambda net: setattr(OPTIONS, "value", OPTIONS.value + 1),
    "attribute of a class": lambda net: setattr(Options, "factor", Options.factor + 1),
    "list of another class": lambda net: Options.factors.__setitem__(0, Options.factors[0] + 1),
    "layer in a list": replace_hidden,
    "weights of a layer in a list": replace_weights,
    "values of weights": change_weights,
}


@pytest.mark.parametrize("n", [1, 7, 16, 17])
@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_seen(change: str, n: int) -> None:
    x = np.random.default_rng(0).standard_normal((n, 4)).astype(np.float32)
    net = Net(lambda: 1.0)
    recorded = fc.record(net)
    for _ in range(2):
        recorded(x)
    assert recorded.reason is None
    CHANGES[change](net)
    with fc.no_grad():
        right = net(Tensor(x)).numpy()
    for _ in range(3):
        np.testing.assert_allclose(recorded(x).numpy(), right, rtol=1e-5, atol=1e-6)
    assert recorded.reason is None


def test_closures() -> None:
    factor = 1.0
    kept = [1.0]
    net = Net(lambda: factor * kept[0])
    recorded = fc.record(net)
    x = np.ones((3, 4), np.float32)
    for value in (1.0, 2.0):
        factor = value
        kept[0] = value + 1
        for _ in range(2):
            np.testing.assert_allclose(recorded(x).numpy(), net(Tensor(x)).numpy(), rtol=1e-5)
    assert recorded.reason is None


@pytest.mark.parametrize("n", [1, 16])
def test_loss_functions(n: int) -> None:
    class Weighted:
        def __init__(self) -> None:
            self.weight = 1.0

        def __call__(self, outputs: Any, labels: Any) -> Any:
            return F.cross_entropy(outputs, labels) * self.weight

    model, loss_function = nn.Sequential(nn.Linear(4, 3)), Weighted()
    step = fc.record_step(model, loss_function)
    x, y = np.ones((n, 4), np.float32), np.arange(n) % 3
    first = [step(x, y)[0].item() for _ in range(2)]
    loss_function.weight = 2.0
    assert step.reason is None
    assert [step(x, y)[0].item() for _ in range(2)] == pytest.approx([2 * v for v in first])


def test_what_changes_in_every_call_is_not_recorded() -> None:
    net = Net(lambda: 1.0)
    recorded = fc.record(net)
    x = np.ones((3, 4), np.float32)
    for i in range(2 * MOST_CHANGES):
        net.steps[0] = float(i)
        np.testing.assert_allclose(recorded(x).numpy(), net(Tensor(x)).numpy(), rtol=1e-5)
    assert recorded.reason == "what its code reads changes from call to call"


def test_random_numbers_of_pythons_own_are_not_recorded() -> None:
    class Chance(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 2.0 if random.random() < 0.5 else x

    recorded = fc.record(Chance())
    results = {recorded(np.ones((1, 1), np.float32)).item() for _ in range(60)}
    assert results == {1.0, 2.0}
    assert "random" in str(recorded.reason)


def test_what_is_too_much_to_compare_is_not_recorded() -> None:
    class Large(nn.Module):
        def __init__(self, table: Any) -> None:
            super().__init__()
            self.table = table

        def forward(self, x: Any) -> Any:
            return x * float(self.table[0])

    for table in (np.ones(100_000), [1.0] * 100_000):
        net = Large(table)
        recorded = fc.record(net)
        x = np.ones((1, 1), np.float32)
        assert [recorded(x).item() for _ in range(2)] == [1, 1]
        assert "may change" in str(recorded.reason)
        net.table[0] = 3.0
        assert recorded(x).item() == 3


def test_networks_of_the_package_alone_cost_nothing() -> None:
    from fastconv.surroundings import Surroundings

    assert not Surroundings(fc.models.lenet5().modules(), [F.cross_entropy])
