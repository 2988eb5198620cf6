"""The default training recipe of each network of `models`: optimiser, rates, schedule, epochs.

The commands `fastconv train` and `fastconv finetune` use it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .. import models, optim
from ..models import ARCHITECTURES
from ..optim.lr_scheduler import LambdaLR
from .callbacks import StepScheduler
from .objectives import make_optimizer as optimizer_by_name

if TYPE_CHECKING:
    from ..nn import Module
    from ..optim import Optimizer

__all__ = ["Recipe", "make_loss", "make_optimizer", "make_schedules", "one_cycle", "recipe_for"]

_FIRST = 0.04  # the rate at the beginning of a cycle, relative to the peak

# Peak rates of the one-cycle schedule.
_PEAK_RATES = {"adam": 8e-3, "adamw": 8e-3, "rmsprop": 2e-3, "sgd": 0.1, "adagrad": 0.03}
# Keras's rates, with which the book trains the keras_* networks.
_KERAS_RATES = {"adam": 1e-3, "adamw": 1e-3, "rmsprop": 1e-3, "sgd": 0.01, "adagrad": 1e-3}
# Deep networks need lower rates with adaptive optimisers, and with SGD if they lack batch norm.
_DEEP_RATES = {"adam": 2e-3, "adamw": 2e-3, "rmsprop": 1e-3, "sgd": 0.1, "adagrad": 0.01}
_DIGITS = ("lenet1", "lenet5", "keras_mlp", "keras_convnet", "keras_convnet_no_pool")


@dataclass
class Recipe:
    """Everything that decides the result of a training run, apart from the data."""

    model: str
    optimizer: str = "adam"
    lr: float = 8e-3  # at its peak when there is a schedule
    batch_size: int = 128
    epochs: int = 5
    cycle: float = 5  # epochs per cycle of the rate, each with half the peak; 0: a constant rate
    rise: float = 0.25  # the fraction of a cycle in which the rate rises
    beta2: float = 0.999  # of Adam and AdamW: the decay of the average of squared gradients
    seed: int = 0
    weight_decay: float = 0.0
    augment: bool = False
    width: float | None = None  # None: the network's own


def recipe_for(model: str, given: Mapping[str, Any], *, until: bool = False) -> Recipe:
    """The network's own recipe with some fields given.

    Args:
        model: a name of the catalogue.
        given: fields of `Recipe` by name; lr and cycle follow from the others unless given.
        until: the run stops at an accuracy, so the schedule aims to reach it early.
    """
    deep = model not in _DIGITS
    recipe = _deep_recipe(model) if deep else _digit_recipe(model, until)
    if until:
        recipe.epochs = 20
    recipe = replace(recipe, **given)
    if "lr" not in given:
        recipe.lr = _peak_rate(recipe)
    if recipe.cycle:
        recipe.cycle = min(recipe.cycle, recipe.epochs) if until else recipe.epochs
    return recipe


def _digit_recipe(model: str, until: bool) -> Recipe:
    if model.startswith("keras_"):
        return Recipe(model, optimizer="rmsprop", cycle=0)
    if until:
        # Most seeds reach 99 % within the first cycle, half of them in an epoch and a half.
        return Recipe(model, batch_size=64, cycle=1.6, rise=0.1, beta2=0.99)
    return Recipe(model)


def _deep_recipe(model: str) -> Recipe:
    recipe = Recipe(model, epochs=10, cycle=10)
    if model != "tiny_vgg" and ARCHITECTURES[model].classifies:
        recipe.optimizer, recipe.weight_decay, recipe.augment = "sgd", 1e-4, True
        if not model.startswith("cifar_"):
            recipe.batch_size = 32  # at 224 x 224 pixels
    return recipe


def _peak_rate(recipe: Recipe) -> float:
    model = recipe.model
    if model.startswith("keras_"):
        return _KERAS_RATES[recipe.optimizer]
    if model in _DIGITS:
        return _PEAK_RATES[recipe.optimizer]
    rate = _DEEP_RATES[recipe.optimizer]
    if recipe.optimizer == "sgd":
        rate *= recipe.batch_size / 128
        if model == "alexnet" or (model.startswith("vgg") and "_bn" not in model):
            rate *= 0.4  # no batch norm
    return rate


def make_loss(model: str) -> Any:
    """The loss for `compile`."""
    if model == "googlenet":
        return models.GoogLeNetLoss()
    return "sparse_categorical_crossentropy" if ARCHITECTURES[model].classifies else "mse"


def make_optimizer(recipe: Recipe, model: Module) -> Optimizer:
    """The optimiser: Keras's defaults with the recipe's rate; scheduled SGD also has momentum."""
    if recipe.optimizer == "sgd" and recipe.cycle:
        return optim.SGD(
            model.parameters(),
            lr=recipe.lr,
            momentum=0.9,
            nesterov=True,
            weight_decay=recipe.weight_decay,
        )
    optimizer = optimizer_by_name(recipe.optimizer, model)
    for group in optimizer.param_groups:
        group["lr"] = recipe.lr
        if "betas" in group:
            group["betas"] = (group["betas"][0], recipe.beta2)
    return optimizer


def make_schedules(
    cycle: float, optimizer: Optimizer, steps_per_epoch: int, rise: float = Recipe.rise
) -> list[Any]:
    """The callback that changes the rate in cycles of so many epochs; none for a constant rate."""
    if not cycle:
        return []
    steps = max(1, round(cycle * steps_per_epoch))

    def factor(step: int) -> float:
        number, step = divmod(step, steps)
        return 0.5**number * one_cycle(step / steps, rise)

    return [StepScheduler(LambdaLR(optimizer, factor))]


def one_cycle(share: float, rise: float) -> float:
    """The rate relative to its peak, at a fraction of the cycle: up until `rise`, then down.

    Smith and Topin, "Super-convergence", 2018, with half cosines.
    """
    if share < rise:
        return _FIRST + (1 - _FIRST) * (1 - math.cos(math.pi * share / rise)) / 2
    return (1 + math.cos(math.pi * (share - rise) / (1 - rise))) / 2
