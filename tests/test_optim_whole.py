"""A step of an optimiser, and loading its state, happens wholly or not at all."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import _core, nn, optim
from tests.support import uniform

SHAPES = [(2, 3), (4,), (3, 1, 2, 2), (1,)]  # two groups of two
ALGORITHMS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "SGD momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1),
    "SGD nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01, centered=True, momentum=0.9),
    "Adam": lambda p: optim.Adam(p, lr=0.1),
    "amsgrad": lambda p: optim.Adam(p, lr=0.1, amsgrad=True, weight_decay=0.1),
    "AdamW": lambda p: optim.AdamW(p, lr=0.1),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.1, initial_accumulator_value=0.2),
}
every_algorithm = pytest.mark.parametrize("make", ALGORITHMS.values(), ids=list(ALGORITHMS))


def setting(
    make: Callable[[Any], optim.Optimizer], steps: int = 0
) -> tuple[list[nn.Parameter], optim.Optimizer]:
    """Four parameters in two groups, after some steps, with gradients for the next."""
    rng = np.random.default_rng(5)
    params = [nn.Parameter(uniform(rng, *shape)) for shape in SHAPES]
    optimizer = make([{"params": params[:2]}, {"params": params[2:], "lr": 0.02}])
    for _ in range(steps):
        give_gradients(params, rng)
        optimizer.step()
    give_gradients(params, rng)
    return params, optimizer


def give_gradients(params: list[nn.Parameter], rng: np.random.Generator) -> None:
    for p in params:
        p.grad = fc.Tensor(uniform(rng, *p.shape))


def snapshot(params: list[nn.Parameter], optimizer: optim.Optimizer) -> list[Any]:
    """Every number of them, in order, as comparable values."""
    state = optimizer.state_dict()
    slots = [
        (number, name, np.array(value).tolist())
        for number, entries in sorted(state["state"].items())
        for name, value in sorted(entries.items())
    ]
    return [[p.numpy().tolist() for p in params], slots, copy.deepcopy(state["param_groups"])]


def before_and_after(make: Callable[[Any], optim.Optimizer], steps: int) -> tuple[Any, Any]:
    params, optimizer = setting(make, steps)
    before = snapshot(params, optimizer)
    optimizer.step()
    return before, snapshot(params, optimizer)


def spoil_shape(p: nn.Parameter, group: dict[str, Any]) -> None:
    p.grad = fc.Tensor(np.ones(7, np.float32))


def spoil_dtype(p: nn.Parameter, group: dict[str, Any]) -> None:
    p.grad = fc.Tensor(np.ones(p.shape, np.int64))


def spoil_kind(p: nn.Parameter, group: dict[str, Any]) -> None:
    p.grad = np.ones(p.shape, np.float32)  # type: ignore[assignment]


def spoil_rate(p: nn.Parameter, group: dict[str, Any]) -> None:
    group["lr"] = None


def spoil_rate_nan(p: nn.Parameter, group: dict[str, Any]) -> None:
    group["lr"] = float("nan")


@every_algorithm
@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (spoil_shape, fc.ShapeError, r"grads\[1\] has shape \(7,\), its parameter \(1,\)"),
        (spoil_dtype, TypeError, "grads must be float32, got int64"),
        (spoil_kind, TypeError, r"shape \(1,\) in group 1 must be a Tensor, got ndarray"),
        (spoil_rate, ValueError, "lr must be a finite number, got None"),
        (spoil_rate_nan, ValueError, "lr must be a finite number, got nan"),
    ],
)
def test_a_refused_step_changes_nothing(
    make: Any, steps: int, spoil: Any, error: type[Exception], words: str
) -> None:
    before, after = before_and_after(make, steps)
    params, optimizer = setting(make, steps)
    good, rate = params[-1].grad, optimizer.param_groups[1]["lr"]
    spoil(params[-1], optimizer.param_groups[1])
    with pytest.raises(error, match=words):
        optimizer.step()
    params[-1].grad, optimizer.param_groups[1]["lr"] = good, rate
    assert snapshot(params, optimizer) == before
    optimizer.step()
    assert snapshot(params, optimizer) == after


@every_algorithm
@pytest.mark.parametrize("steps", [0, 2])
def test_no_memory_at_any_allocation(
    make: Any, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call of the core in turn fails, until none does."""
    before, after = before_and_after(make, steps)
    names = ["zeros", "full", "sgd_step", "rmsprop_step", "adam_step", "adagrad_step", "take_steps"]
    real = {name: getattr(_core, name) for name in names}
    for failing in range(100):
        params, optimizer = setting(make, steps)
        calls = 0

        def planted(name: str, *args: Any, failing: int = failing) -> Any:
            nonlocal calls
            calls += 1
            if calls == failing + 1:
                raise MemoryError(name)
            return real[name](*args)

        for name in names:
            monkeypatch.setattr(
                _core, name, lambda *args, name=name, planted=planted: planted(name, *args)
            )
        try:
            optimizer.step()
        except MemoryError:
            assert snapshot(params, optimizer) == before
        else:
            break
        finally:
            monkeypatch.undo()
        optimizer.step()
        assert snapshot(params, optimizer) == after
    assert failing >= 2 + 2 * (steps == 0 and bool(optimizer._required))


class InterruptAt:
    """Ctrl-C at one bytecode of the optimiser's own code, wherever Python could see a signal."""

    def __init__(self, number: int) -> None:
        self._left = number

    def __call__(self, frame: FrameType, event: str, value: Any) -> Any:
        if "optim" not in frame.f_code.co_filename.replace("\\", "/").split("/"):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self._left -= 1
            if self._left == 0:
                raise KeyboardInterrupt
        return self


@pytest.mark.parametrize("name", ["SGD momentum", "amsgrad"])
@pytest.mark.parametrize("steps", [0, 2])
def test_control_c_at_any_moment(name: str, steps: int) -> None:
    make = ALGORITHMS[name]
    before, after = before_and_after(make, steps)
    seen = {"before": 0, "after": 0}
    number, done = 1, False
    while not done:
        params, optimizer = setting(make, steps)
        earlier = sys.gettrace()
        sys.settrace(InterruptAt(number))
        try:
            optimizer.step()
            done = True
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(earlier)
        came = snapshot(params, optimizer)
        assert came in (before, after), f"interrupted at bytecode {number}"
        seen["before" if came == before else "after"] += 1
        number += 7 if came == before and number < 400 else 1
    assert seen["before"] > 100 and seen["after"] > 1


def test_a_closure_that_raises_changes_nothing() -> None:
    before, after = before_and_after(ALGORITHMS["Adam"], 1)
    params, optimizer = setting(ALGORITHMS["Adam"], 1)

    def fail() -> None:
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError, match="no loss"):
        optimizer.step(fail)
    assert snapshot(params, optimizer) == before
    optimizer.step()
    assert snapshot(params, optimizer) == after


def test_momentum_that_comes_later_begins_with_the_gradient() -> None:
    """For each parameter by itself, also where others of the group have had a momentum before."""
    a, b = nn.Parameter([1.0]), nn.Parameter([1.0])
    optimizer = optim.SGD([a, b], lr=1.0, momentum=0.5)
    a.grad = fc.Tensor([1.0])
    optimizer.step()
    a.grad = b.grad = fc.Tensor([1.0])
    optimizer.step()
    np.testing.assert_array_equal([a.numpy()[0], b.numpy()[0]], [-1.5, 0.0])


def test_rmsprop_takes_a_momentum_that_comes_later() -> None:
    p = nn.Parameter([1.0])
    optimizer = optim.RMSprop([p], lr=0.5, alpha=0.0, eps=0.0)
    p.grad = fc.Tensor([2.0])
    optimizer.step()
    optimizer.param_groups[0]["momentum"] = 0.5
    optimizer.step()
    optimizer.step()
    np.testing.assert_allclose(p.numpy(), [1 - 0.5 - 0.5 - 0.75])


def test_amsgrad_is_what_the_group_says() -> None:
    """Not what the state of an earlier run happens to hold."""
    params, optimizer = setting(ALGORITHMS["amsgrad"], 2)
    plain = optim.Adam([{"params": params[:2]}, {"params": params[2:]}], lr=0.1, weight_decay=0.1)
    plain.load_state_dict(optimizer.state_dict())
    for group in plain.param_groups:
        group["amsgrad"] = False
    largest = [np.array(plain.state[p]["max_exp_avg_sq"]) for p in params]
    plain.step()
    for p, value in zip(params, largest, strict=True):
        np.testing.assert_array_equal(plain.state[p]["max_exp_avg_sq"], value)


# ------------------------------------------------------------------------------ load_state_dict
def nothing(state: Any) -> None:
    """As it is."""


def spoiled(path: str, value: Any) -> Callable[[Any], None]:
    """Sets one entry of a state."""

    def spoil(state: Any) -> None:
        *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in way:
            state = state[part]
        state[last] = value

    return spoil


def removed(path: str) -> Callable[[Any], None]:
    def spoil(state: Any) -> None:
        *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in way:
            state = state[part]
        del state[last]

    return spoil


BAD = {
    "another option": spoiled("param_groups.1.path", "elsewhere"),
    "lr is a text": spoiled("param_groups.1.lr", "0.1"),
    "lr is NaN": spoiled("param_groups.1.lr", float("nan")),
    "lr is huge": spoiled("param_groups.1.lr", 10**400),
    "lr is True": spoiled("param_groups.1.lr", True),
    "three betas": spoiled("param_groups.1.betas", [0.9, 0.9, 0.9]),
    "beta of 1": spoiled("param_groups.1.betas", [0.9, 1.0]),
    "a switch is a number": spoiled("param_groups.1.amsgrad", 2),
    "initial_lr is a list": spoiled("param_groups.1.initial_lr", [1.0]),
    "another slot": spoiled("state.3.__class__", np.ones(1, np.float32)),
    "a slot of another algorithm": spoiled("state.3.momentum_buffer", np.ones(1, np.float32)),
    "a slot of another shape": spoiled("state.3.exp_avg", np.ones(2, np.float32)),
    "a slot of texts": spoiled("state.3.exp_avg", np.array(["a"])),
    "a slot is missing": removed("state.3.exp_avg"),
    "half a step": spoiled("state.3.step", 1.5),
    "step below 0": spoiled("state.3.step", -1),
    "step is huge": spoiled("state.3.step", 2**70),
    "step is a text": spoiled("state.3.step", "2"),
    "entries are a list": spoiled("state.3", []),
    "a parameter too many": spoiled("state.9", {"step": 1}),
    "the same number twice": spoiled("param_groups.1.params", [2, 2]),
    "too few parameters": spoiled("param_groups.1.params", [2]),
    "params are texts": spoiled("param_groups.1.params", ["2", "3"]),
    "no params": removed("param_groups.1.params"),
    "a group is a list": spoiled("param_groups.1", []),
    "no groups": removed("param_groups"),
    "groups are a text": spoiled("param_groups", "no"),
    "no state": removed("state"),
}


@pytest.mark.parametrize("spoil", BAD.values(), ids=list(BAD))
def test_a_state_that_does_not_fit_changes_nothing(spoil: Callable[[Any], None]) -> None:
    _, source = setting(ALGORITHMS["Adam"], 3)
    state = source.state_dict()
    params, optimizer = setting(ALGORITHMS["Adam"], 1)
    before = snapshot(params, optimizer)
    spoil(state)
    with pytest.raises(ValueError, match=r"^\[Adam\] "):
        optimizer.load_state_dict(state)
    assert snapshot(params, optimizer) == before


@every_algorithm
def test_a_loaded_state_goes_on_to_the_same_bits(make: Any) -> None:
    _, source = setting(make, 3)
    params, whole = setting(make, 3)
    whole.step()
    expected = snapshot(params, whole)
    fresh, optimizer = setting(make, 0)
    for p, value in zip(fresh, setting(make, 3)[0], strict=True):
        p.data = value.data
        p.grad = value.grad
    optimizer.load_state_dict(source.state_dict())
    optimizer.step()
    assert snapshot(fresh, optimizer) == expected


def test_what_others_put_into_a_group_is_not_saved() -> None:
    _, optimizer = setting(ALGORITHMS["SGD"], 1)
    optimizer.param_groups[0]["name"] = "body"
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.param_groups[0]["name"] == "body"


@pytest.mark.parametrize(
    ("group", "error"),
    [
        ({"lr": 0.1}, TypeError),
        ([], TypeError),
        ({"params": [nn.Parameter([1.0])], "lr": -0.1}, ValueError),
        ({"params": [nn.Parameter([1.0])], "rate": 0.1}, ValueError),
        ({"params": [nn.Parameter([1.0])], "nesterov": True}, ValueError),
        ({"params": [fc.Tensor(np.ones(2, np.int64))]}, TypeError),
        ({"params": [nn.Parameter([1.0]), np.ones(2)]}, TypeError),
    ],
)
def test_a_refused_group_is_not_added(group: Mapping[str, Any], error: type[Exception]) -> None:
    params, optimizer = setting(ALGORITHMS["SGD"], 1)
    before = snapshot(params, optimizer)
    with pytest.raises(error):
        optimizer.add_param_group(group)
    assert snapshot(params, optimizer) == before


@pytest.mark.parametrize(
    "options",
    [{"lr": -1}, {"lr": "0.1"}, {"momentum": float("nan")}, {"nesterov": True}, {"maximize": 1}],
)
def test_options_are_checked_at_construction(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^\[SGD\] "):
        optim.SGD([nn.Parameter([1.0])], **options)
