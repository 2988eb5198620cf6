"""Optimiser steps of the core against float64, and the classes and schedules above them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import _core, optim
from tests import reference_optim
from tests.support import array, assert_close, uniform

SHAPES = [(1,), (7,), (16, 3), (33, 5, 3, 3)]


def check_class(
    make: Any, oracle: Any, rng: np.random.Generator, steps: int = 6, **options: Any
) -> None:
    """`steps` updates of several parameters at once follow the oracle's."""
    start = [uniform(rng, *shape) for shape in SHAPES]
    parameters = [fc.Tensor(p.copy(), requires_grad=True) for p in start]
    optimiser = make(parameters)
    expected: list[Any] = list(start)
    states: list[dict[str, Any]] = [{} for _ in start]
    for _ in range(steps):
        gradients = [uniform(rng, *shape) for shape in SHAPES]
        optimiser.zero_grad()
        for parameter, gradient in zip(parameters, gradients, strict=True):
            (parameter * fc.Tensor(gradient)).sum().backward()
        optimiser.step()
        for i, gradient in enumerate(gradients):
            expected[i] = oracle(expected[i], gradient, states[i], **options)
    for parameter, right in zip(parameters, expected, strict=True):
        assert_close(parameter.numpy(), right, steps, c=32)


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.1},
        {"lr": 0.1, "weight_decay": 0.05},
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.3},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        {"lr": 0.1, "momentum": 0.5, "maximize": True},
    ],
    ids=str,
)
def test_sgd(options: dict[str, Any], isa: str, rng: np.random.Generator) -> None:
    check_class(lambda p: optim.SGD(p, **options), reference_optim.sgd, rng, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.01},
        {"lr": 0.01, "alpha": 0.9, "eps": 1e-7, "weight_decay": 0.02},
        {"lr": 0.01, "momentum": 0.9},
        {"lr": 0.01, "centered": True, "eps": 1e-3},
        {"lr": 0.01, "centered": True, "momentum": 0.5, "eps": 1e-3},
    ],
    ids=str,
)
def test_rmsprop(options: dict[str, Any], isa: str, rng: np.random.Generator) -> None:
    check_class(lambda p: optim.RMSprop(p, **options), reference_optim.rmsprop, rng, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.01},
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1},
        {"lr": 0.01, "amsgrad": True},
        {"lr": 0.01, "maximize": True},
    ],
    ids=str,
)
def test_adam(options: dict[str, Any], isa: str, rng: np.random.Generator) -> None:
    check_class(lambda p: optim.Adam(p, **options), reference_optim.adam, rng, **options)


def test_adamw(isa: str, rng: np.random.Generator) -> None:
    check_class(
        lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.3),
        reference_optim.adam,
        rng,
        lr=0.01,
        weight_decay=0.3,
        decoupled=True,
    )


@pytest.mark.parametrize(
    "options", [{"lr": 0.1}, {"lr": 0.1, "lr_decay": 0.2, "weight_decay": 0.1}], ids=str
)
def test_adagrad(options: dict[str, Any], isa: str, rng: np.random.Generator) -> None:
    check_class(lambda p: optim.Adagrad(p, **options), reference_optim.adagrad, rng, **options)


def test_rmsprop_with_epsilon_inside_the_root(isa: str, rng: np.random.Generator) -> None:
    """Keras's rule, which compile("rmsprop") uses."""
    p, state, expected = uniform(rng, 37), {}, None
    parameter, square = array(p), _core.zeros((37,))
    expected = p
    for _ in range(3):
        g = uniform(rng, 37)
        step = _core.rmsprop_step(
            [parameter], [array(g)], [square], [], [], 1e-3, 0.9, 1e-7, 0.0, 0.0, True
        )
        _core.take_steps([step])
        expected = reference_optim.rmsprop(
            expected, g, state, 1e-3, 0.9, 1e-7, eps_inside_sqrt=True
        )
    assert_close(parameter.numpy(), expected, 3, c=4)


def test_defaults_are_pytorchs() -> None:
    p = [fc.Tensor(np.zeros(1, np.float32), requires_grad=True)]
    for make, rate in (
        (optim.SGD, 1e-3),
        (optim.RMSprop, 1e-2),
        (optim.Adam, 1e-3),
        (optim.AdamW, 1e-3),
        (optim.Adagrad, 1e-2),
    ):
        assert make(p).param_groups[0]["lr"] == rate, make.__name__


def test_grad_norm_and_scale(isa: str, rng: np.random.Generator) -> None:
    gradients = [uniform(rng, *shape) for shape in SHAPES]
    arrays = [array(g) for g in gradients]
    norm = math.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients))
    assert _core.grad_norm(arrays) == pytest.approx(norm, rel=1e-6)
    _core.scale_all(arrays, 0.5)
    for a, g in zip(arrays, gradients, strict=True):
        np.testing.assert_array_equal(a.numpy(), g * np.float32(0.5))


def schedule(make: Any, steps: int) -> list[float]:
    optimiser = optim.SGD([fc.Tensor(np.zeros(1, np.float32), requires_grad=True)], lr=1.0)
    scheduler, rates = make(optimiser), []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        scheduler.step()
    return rates


def test_step_lr() -> None:
    rates = schedule(lambda o: optim.lr_scheduler.StepLR(o, step_size=3, gamma=0.1), 8)
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_cosine_annealing_lr() -> None:
    rates = schedule(lambda o: optim.lr_scheduler.CosineAnnealingLR(o, T_max=10, eta_min=0.2), 11)
    expected = [0.2 + 0.8 * (1 + math.cos(math.pi * t / 10)) / 2 for t in range(11)]
    assert rates == pytest.approx(expected)


def test_one_cycle_lr() -> None:
    """From max_lr / 25 to max_lr within 30 % of the steps, then to a 10,000th of the start."""
    rates = schedule(lambda o: optim.lr_scheduler.OneCycleLR(o, max_lr=2.0, total_steps=100), 100)
    assert rates[0] == pytest.approx(2 / 25)
    assert max(rates) == pytest.approx(2.0) and rates.index(max(rates)) == 29
    assert rates[-1] == pytest.approx(2 / 25 / 1e4)
