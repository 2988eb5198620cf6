"""Schedules beside PyTorch's: the same rates, alone and together, by hand, and resumed."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn, optim, train
from fastconv.optim import lr_scheduler

torch = pytest.importorskip("torch")
STEPS = 100
RATES = (0.1, 0.03)


def ours(kind: str = "SGD") -> optim.Optimizer:
    groups = [{"params": [nn.Parameter([1.0])], "lr": rate} for rate in RATES]
    return getattr(optim, kind)(groups, **({"momentum": 0.9} if kind == "SGD" else {}))


def theirs(kind: str = "SGD") -> Any:
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate} for rate in RATES]
    return getattr(torch.optim, kind)(groups, **({"momentum": 0.9} if kind == "SGD" else {}))


Make = Callable[[Any, Any], Any]  # (lr_scheduler of one of the two, optimiser) -> schedule
SCHEDULES: dict[str, Make] = {
    "LambdaLR": lambda S, o: S.LambdaLR(o, lambda e: min(1, (e + 1) / 7)),
    "LambdaLR each": lambda S, o: S.LambdaLR(o, [lambda e: 0.9**e, lambda e: 1 / (1 + e)]),
    "MultiplicativeLR": lambda S, o: S.MultiplicativeLR(o, lambda e: 1 - 1 / (3 + e)),
    "StepLR": lambda S, o: S.StepLR(o, 7, 0.5),
    "MultiStepLR": lambda S, o: S.MultiStepLR(o, [30, 3, 3, 60], 0.3),
    "ExponentialLR": lambda S, o: S.ExponentialLR(o, 0.97),
    "ConstantLR": lambda S, o: S.ConstantLR(o, 0.2, 12),
    "LinearLR": lambda S, o: S.LinearLR(o, 0.1, 0.8, 20),
    "PolynomialLR": lambda S, o: S.PolynomialLR(o, 60, 1.7),
    "CosineAnnealingLR": lambda S, o: S.CosineAnnealingLR(o, 15, 0.002),
    "CosineAnnealingWarmRestarts": lambda S, o: S.CosineAnnealingWarmRestarts(o, 6, 2, 0.001),
    "CosineAnnealingWarmRestarts alike": lambda S, o: S.CosineAnnealingWarmRestarts(o, 9),
    "OneCycleLR": lambda S, o: S.OneCycleLR(o, [0.5, 0.2], total_steps=STEPS),
    "OneCycleLR three": lambda S, o: S.OneCycleLR(
        o, 0.5, epochs=11, steps_per_epoch=10, three_phase=True, anneal_strategy="linear"
    ),
    "CyclicLR": lambda S, o: S.CyclicLR(o, 0.01, [0.1, 0.2], 7, 9),
    "CyclicLR two": lambda S, o: S.CyclicLR(o, 0.01, 0.1, 8, mode="triangular2"),
    "CyclicLR range": lambda S, o: S.CyclicLR(o, 0.01, 0.1, 8, mode="exp_range", gamma=0.98),
    "CyclicLR own": lambda S, o: S.CyclicLR(o, 0.01, 0.1, 8, scale_fn=lambda x: 1 / (1 + x)),
    "SequentialLR": lambda S, o: S.SequentialLR(
        o,
        [S.LinearLR(o, 0.1, total_iters=9), S.CosineAnnealingLR(o, 30), S.ExponentialLR(o, 0.9)],
        [10, 45],
    ),
    "SequentialLR of all": lambda S, o: S.SequentialLR(
        o,
        [
            S.ConstantLR(o, 0.5, 4),
            S.MultiStepLR(o, [0, 3], 0.5),
            S.StepLR(o, 2, 0.5),
            S.PolynomialLR(o, 9),
            S.LambdaLR(o, lambda e: 0.8**e),
            S.CosineAnnealingWarmRestarts(o, 5),
            S.LinearLR(o, 0.5),
            S.MultiplicativeLR(o, lambda e: 0.9),
        ],
        [8, 16, 24, 36, 48, 60, 72],
    ),
    "ChainedScheduler": lambda S, o: S.ChainedScheduler(
        [S.ConstantLR(o, 0.5, 4), S.ExponentialLR(o, 0.98), S.StepLR(o, 30, 0.5)], o
    ),
}
every_schedule = pytest.mark.parametrize("make", SCHEDULES.values(), ids=list(SCHEDULES))
PAIRS = [
    ("ExponentialLR", "MultiStepLR"),
    ("LambdaLR", "StepLR"),
    ("LinearLR", "CosineAnnealingLR"),
    ("CosineAnnealingLR", "ExponentialLR"),
    ("OneCycleLR", "StepLR"),
    ("MultiplicativeLR", "PolynomialLR"),
    ("StepLR", "StepLR"),
    ("SequentialLR", "ExponentialLR"),
    ("CosineAnnealingWarmRestarts", "ConstantLR"),
]


def numbers(optimizer: Any) -> list[float]:
    """Of all groups: the rate, and the momentum."""
    values = []
    for group in optimizer.param_groups:
        values += [group["lr"], group["betas"][0] if "betas" in group else group["momentum"]]
    return values


def followed(
    S: Any,
    optimizer: Any,
    makes: list[Make],
    change: Callable[[int, Any], None] | None = None,
) -> list[list[float]]:
    came = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PyTorch's, of steps without optimizer.step()
        schedules = [make(S, optimizer) for make in makes]
        for step in range(STEPS):
            if change is not None:
                change(step, optimizer)
            came.append(numbers(optimizer))
            for schedule in schedules:
                schedule.step()
        for group, rate in zip(optimizer.param_groups, schedules[-1].get_last_lr(), strict=True):
            assert group["lr"] == rate
    return came


def assert_alike(
    makes: list[Make], change: Callable[[int, Any], None] | None = None, kind: str = "SGD"
) -> None:
    mine = followed(lr_scheduler, ours(kind), makes, change)
    right = followed(torch.optim.lr_scheduler, theirs(kind), makes, change)
    np.testing.assert_allclose(mine, right, rtol=1e-12, atol=1e-15)


@every_schedule
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_alone(make: Make, kind: str) -> None:
    assert_alike([make], kind=kind)


@pytest.mark.parametrize("names", PAIRS, ids=str)
@pytest.mark.parametrize("turned", [False, True])
def test_two_on_one_optimizer(names: tuple[str, str], turned: bool) -> None:
    makes = [SCHEDULES[name] for name in names]
    assert_alike(makes[::-1] if turned else makes)


@every_schedule
def test_a_rate_changed_by_hand(make: Make) -> None:
    def change(step: int, optimizer: Any) -> None:
        if step in (5, 41):
            optimizer.param_groups[0]["lr"] *= 0.1
        if step == 20:
            optimizer.param_groups[1]["lr"] = 0.007

    assert_alike([make], change)


@pytest.mark.parametrize("name", [n for n in SCHEDULES if not n.startswith(("Seq", "Chained"))])
@pytest.mark.parametrize("last", [3, 13])
def test_last_epoch(name: str, last: int) -> None:
    """A new schedule for an optimiser that was scheduled before."""
    makes: dict[str, Callable[[Any, Any], Any]] = {
        "LambdaLR": lambda S, o: S.LambdaLR(o, lambda e: min(1, (e + 1) / 7), last_epoch=last),
        "LambdaLR each": lambda S, o: S.LambdaLR(
            o, [lambda e: 0.9**e, lambda e: 1 / (1 + e)], last_epoch=last
        ),
        "MultiplicativeLR": lambda S, o: S.MultiplicativeLR(
            o, lambda e: 1 - 1 / (3 + e), last_epoch=last
        ),
        "StepLR": lambda S, o: S.StepLR(o, 7, 0.5, last_epoch=last),
        "MultiStepLR": lambda S, o: S.MultiStepLR(o, [30, 3, 3, 60], 0.3, last_epoch=last),
        "ExponentialLR": lambda S, o: S.ExponentialLR(o, 0.97, last_epoch=last),
        "ConstantLR": lambda S, o: S.ConstantLR(o, 0.2, 14, last_epoch=last),
        "LinearLR": lambda S, o: S.LinearLR(o, 0.1, 0.8, 20, last_epoch=last),
        "PolynomialLR": lambda S, o: S.PolynomialLR(o, 60, 1.7, last_epoch=last),
        "CosineAnnealingLR": lambda S, o: S.CosineAnnealingLR(o, 15, 0.002, last_epoch=last),
        "CosineAnnealingWarmRestarts": lambda S, o: S.CosineAnnealingWarmRestarts(
            o, 6, 2, 0.001, last_epoch=last
        ),
        "CosineAnnealingWarmRestarts alike": lambda S, o: S.CosineAnnealingWarmRestarts(
            o, 9, last_epoch=last
        ),
        "CyclicLR": lambda S, o: S.CyclicLR(
            o, 0.01, [0.1, 0.2], 7, 9, cycle_momentum=False, last_epoch=last
        ),
    }
    if name not in makes:
        pytest.skip("PyTorch needs more in the groups than the rate where these begin")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        came = []
        for S, optimizer in ((lr_scheduler, ours()), (torch.optim.lr_scheduler, theirs())):
            first = SCHEDULES[name](S, optimizer)
            for _ in range(last):
                first.step()
            came.append(followed(S, optimizer, [makes[name]]))
    np.testing.assert_allclose(*came, rtol=1e-12, atol=1e-15)


def test_last_epoch_needs_a_scheduled_optimizer() -> None:
    with pytest.raises(ValueError, match=r"\[StepLR\] last_epoch=3 needs .*initial_lr"):
        lr_scheduler.StepLR(ours(), 3, last_epoch=3)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("cooldown", [0, 3])
def test_plateau(mode: str, threshold_mode: str, cooldown: int) -> None:
    values = np.random.default_rng(3).normal(size=STEPS).cumsum().tolist()
    values[50] = float("nan")
    rates = []
    for S, optimizer in ((lr_scheduler, ours()), (torch.optim.lr_scheduler, theirs())):
        schedule = S.ReduceLROnPlateau(
            optimizer, mode, 0.7, 4, 1e-2, threshold_mode, cooldown, [0.01, 0.001], 1e-3
        )
        other = S.ExponentialLR(optimizer, 0.999)
        came = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            for value in values:
                schedule.step(value)
                other.step()
                came.append(numbers(optimizer))
        rates.append(came)
    np.testing.assert_allclose(*rates, rtol=1e-12)
    assert rates[0][0] != rates[0][-1]


@every_schedule
@pytest.mark.parametrize("stop", [1, 10, 47])
def test_resumed_in_the_middle(make: Make, stop: int) -> None:
    """Through JSON, as in a checkpoint; into schedules made anew on an optimiser made anew."""

    def run(optimizer: Any, schedule: Any, steps: int) -> list[list[float]]:
        rates = []
        for _ in range(steps):
            schedule.step()
            rates.append(numbers(optimizer))
        return rates

    optimizer = ours()
    schedule = make(lr_scheduler, optimizer)
    run(optimizer, schedule, stop)
    for group in optimizer.param_groups:
        group["lr"] *= 0.5
    saved = json.loads(json.dumps(schedule.state_dict()))
    groups = copy.deepcopy(optimizer.state_dict())
    expected = run(optimizer, schedule, 40)

    optimizer = ours()
    schedule = make(lr_scheduler, optimizer)
    run(optimizer, schedule, 2)
    optimizer.load_state_dict(groups)
    schedule.load_state_dict(saved)
    assert run(optimizer, schedule, 40) == expected


# ------------------------------------------------------------------------- states of strangers
def spoiled(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def spoil(state: dict[str, Any]) -> None:
        state[name] = value

    return spoil


BAD: dict[str, tuple[str, Callable[[dict[str, Any]], None]]] = {
    "another attribute": ("StepLR", spoiled("path", "elsewhere")),
    "the optimizer": ("StepLR", spoiled("optimizer", 1)),
    "a method": ("StepLR", spoiled("step", 1)),
    "a text": ("StepLR", spoiled("gamma", "0.1")),
    "NaN": ("StepLR", spoiled("gamma", float("nan"))),
    "zero steps": ("StepLR", spoiled("step_size", 0)),
    "half a step": ("StepLR", spoiled("last_epoch", 1.5)),
    "too many rates": ("StepLR", spoiled("base_lrs", [1.0, 1.0, 1.0])),
    "rates of texts": ("StepLR", spoiled("base_lrs", ["a", "b"])),
    "rates in a dict": ("StepLR", spoiled("_last_lr", {"0": 1.0})),
    "something missing": ("StepLR", lambda state: state.pop("gamma")),
    "another strategy": ("OneCycleLR", spoiled("anneal_strategy", "__class__")),
    "a switch is a number": ("OneCycleLR", spoiled("cycle_momentum", 1)),
    "steps below 1": ("OneCycleLR", spoiled("total_steps", -1)),
    "another part": ("SequentialLR", lambda state: state["_schedulers"].append({})),
    "a part is spoiled": ("SequentialLR", lambda state: state["_schedulers"][2].update(x=1)),
    "milestones fall": ("SequentialLR", spoiled("milestones", [45, 10])),
    "no parts": ("ChainedScheduler", lambda state: state.pop("_schedulers")),
    "functions": ("LambdaLR", spoiled("lr_lambdas", [None, None])),
}


@pytest.mark.parametrize(("name", "spoil"), BAD.values(), ids=list(BAD))
def test_a_state_that_does_not_fit_changes_nothing(name: str, spoil: Any) -> None:
    source = SCHEDULES[name](lr_scheduler, ours())
    for _ in range(12):
        source.step()
    state = copy.deepcopy(source.state_dict())
    spoil(state)
    schedule = SCHEDULES[name](lr_scheduler, ours())
    before = copy.deepcopy(schedule.state_dict()), set(vars(schedule))
    with pytest.raises(ValueError, match=r"^\["):
        schedule.load_state_dict(state)
    assert (schedule.state_dict(), set(vars(schedule))) == before
    schedule.step()


@pytest.mark.parametrize("state", [None, [], "state", 3])
def test_a_state_is_a_dict(state: Any) -> None:
    for name in ("StepLR", "SequentialLR"):
        with pytest.raises(ValueError, match=r"^\["):
            SCHEDULES[name](lr_scheduler, ours()).load_state_dict(state)


@pytest.mark.parametrize(
    "make",
    [
        lambda o: lr_scheduler.StepLR(o, 0),
        lambda o: lr_scheduler.StepLR(o, 3, "0.1"),
        lambda o: lr_scheduler.LinearLR(o, 0.0),
        lambda o: lr_scheduler.ConstantLR(o, 2.0),
        lambda o: lr_scheduler.CosineAnnealingLR(o, 0),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 1.5),
        lambda o: lr_scheduler.OneCycleLR(o, 0.1),
        lambda o: lr_scheduler.OneCycleLR(o, [0.1], total_steps=3),
        lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=3, pct_start=2.0),
        lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.2, mode="square"),
        lambda o: lr_scheduler.LambdaLR(o, [abs]),
        lambda o: lr_scheduler.SequentialLR(o, [], []),
        lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 3)], [3]),
        lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(ours(), 3)], []),
        lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.ReduceLROnPlateau(o)]),
        lambda o: lr_scheduler.ReduceLROnPlateau(o, "lowest"),
        lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=1.0),
    ],
)
def test_nonsense_is_refused(make: Callable[[optim.Optimizer], Any]) -> None:
    with pytest.raises(ValueError, match=r"^\["):
        make(ours())


def test_a_step_that_fails_is_not_counted() -> None:
    def factor(epoch: int) -> float:
        if epoch == 2 and failing:
            raise RuntimeError("no factor")
        return 0.5**epoch

    failing = True
    optimizer = ours()
    schedule = lr_scheduler.LambdaLR(optimizer, factor)
    schedule.step()
    with pytest.raises(RuntimeError):
        schedule.step()
    failing = False
    schedule.step()
    assert (schedule.last_epoch, optimizer.param_groups[0]["lr"]) == (2, 0.025)


# --------------------------------------------------------------------------------- within fit
@pytest.mark.parametrize("name", ["StepLR", "LambdaLR", "OneCycleLR", "SequentialLR"])
@pytest.mark.parametrize("every", ["batch", "epoch"])
@pytest.mark.parametrize("plateau_first", [False, True])
def test_a_plateau_beside_a_schedule_stays(name: str, every: str, plateau_first: bool) -> None:
    """From the epoch of the reduction on, the rates are a tenth of what they are without it."""

    def rates(*callbacks: Any) -> list[float]:
        fc.manual_seed(0)
        x = np.random.default_rng(0).random((40, 3)).astype(np.float32)
        model = nn.Sequential(nn.Linear(3, 2))
        optimizer = optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        options = {
            "StepLR": lambda: lr_scheduler.StepLR(optimizer, 3, 0.5),
            "LambdaLR": lambda: lr_scheduler.LambdaLR(optimizer, lambda e: 1 / (1 + e)),
            "OneCycleLR": lambda: lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=40),
            "SequentialLR": lambda: lr_scheduler.SequentialLR(
                optimizer,
                [
                    lr_scheduler.LinearLR(optimizer, 0.5, total_iters=4),
                    lr_scheduler.LambdaLR(optimizer, lambda e: 0.9**e),
                ],
                [5],
            ),
        }
        came: list[float] = []
        scheduler = train.StepScheduler(options[name](), every)

        class Watch:
            def on_batch_end(self, step: int, logs: Any) -> None:
                came.append(optimizer.param_groups[0]["lr"])

        given = [*callbacks, scheduler] if plateau_first else [scheduler, *callbacks]
        model.compile(optimizer, metrics=["accuracy"])
        model.fit(x, np.arange(40) % 2, epochs=8, verbose=0, callbacks=[*given, Watch()])
        return came

    # The second epoch never improves by so much: the rate falls once, after the third.
    plateau = train.ReduceLROnPlateau("loss", 0.1, 2, min_delta=1e6, cooldown=100)
    plain, lowered = rates(), rates(plateau)
    assert len(plain) == 16
    first = next(i for i, (a, b) in enumerate(zip(plain, lowered, strict=True)) if a != b)
    assert first in (4, 6)
    np.testing.assert_allclose(lowered[first:], 0.1 * np.array(plain[first:]), rtol=1e-9)
