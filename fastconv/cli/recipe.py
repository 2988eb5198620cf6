"""How each network is trained when nothing is said, and what the command line changes about it."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..nn import Module
    from ..optim import Optimizer

__all__ = ["Recipe", "make_optimizer", "make_schedules", "recipe_for", "resumed_recipe"]

# Peak rates for one cycle. With Adam's LeNet-5 reaches 99.2 to 99.3 % on MNIST in six epochs.
_PEAK_RATES = {"adam": 5e-3, "adamw": 5e-3, "rmsprop": 2e-3, "sgd": 0.1, "adagrad": 0.03}
# Keras's rates, with which the book trains the keras_* networks.
_KERAS_RATES = {"adam": 1e-3, "adamw": 1e-3, "rmsprop": 1e-3, "sgd": 0.01, "adagrad": 1e-3}


@dataclass
class Recipe:
    """Everything that decides the result of a training run, apart from the data."""

    model: str
    optimizer: str = "adam"
    lr: float = 5e-3  # at its peak when there is a schedule
    schedule: str = "one-cycle"  # up and down once in the whole run, step by step; or "constant"
    batch_size: int = 128
    epochs: int = 6
    seed: int = 0


def recipe_for(args: argparse.Namespace) -> Recipe:
    """The network's own recipe, with what was said on the command line put in."""
    recipe = Recipe(args.model)
    if args.model.startswith("keras_"):
        recipe = Recipe(args.model, "rmsprop", schedule="constant", epochs=5)
    recipe.optimizer = args.optimizer or recipe.optimizer
    rates = _KERAS_RATES if recipe.schedule == "constant" else _PEAK_RATES
    recipe.lr = args.lr or rates[recipe.optimizer]
    recipe.batch_size = args.batch_size or recipe.batch_size
    recipe.epochs = args.epochs or recipe.epochs
    recipe.seed = recipe.seed if args.seed is None else args.seed
    return recipe


def resumed_recipe(saved: dict[str, Any], args: argparse.Namespace) -> Recipe:
    """The recipe of an interrupted run, which the command line may repeat but not change.

    Raises:
        ValueError: It says something else; names what.
    """
    recipe = Recipe(**saved)
    for name, value in asdict(recipe).items():
        given = getattr(args, name, None)
        if given is not None and given != value:
            flag = "MODEL" if name == "model" else "--" + name.replace("_", "-")
            raise ValueError(f"[resume] {flag}: the interrupted run has {value}, not {given}")
    return recipe


def make_optimizer(recipe: Recipe, model: Module) -> Optimizer:
    """The optimiser, at its Keras defaults but for the rate (and momentum for a scheduled SGD)."""
    from .. import optim
    from ..train.objectives import make_optimizer as by_name

    if recipe.optimizer == "sgd" and recipe.schedule == "one-cycle":
        return optim.SGD(model.parameters(), lr=recipe.lr, momentum=0.9, nesterov=True)
    optimizer = by_name(recipe.optimizer, model)
    for group in optimizer.param_groups:
        group["lr"] = recipe.lr
    return optimizer


def make_schedules(recipe: Recipe, optimizer: Optimizer, samples: int) -> list[Any]:
    """Callbacks that change the rate during the run."""
    if recipe.schedule == "constant":
        return []
    from ..optim.lr_scheduler import OneCycleLR
    from ..train import StepScheduler

    steps = recipe.epochs * -(-samples // recipe.batch_size)
    return [StepScheduler(OneCycleLR(optimizer, recipe.lr, steps, cycle_momentum=False))]
