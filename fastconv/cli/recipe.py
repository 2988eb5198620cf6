"""How each network is trained when nothing is said, and what the command line changes about it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import CorruptFileError

if TYPE_CHECKING:
    from ..nn import Module
    from ..optim import Optimizer

_FIRST = 0.04  # where the rate begins in a cycle, as a part of the peak

__all__ = [
    "Recipe",
    "is_autoencoder",
    "make_loss",
    "make_optimizer",
    "make_schedules",
    "recipe_for",
    "resumed_recipe",
    "saved_fields",
]

# Peak rates for one cycle.
_PEAK_RATES = {"adam": 8e-3, "adamw": 8e-3, "rmsprop": 2e-3, "sgd": 0.1, "adagrad": 0.03}
# Keras's rates, with which the book trains the keras_* networks.
_KERAS_RATES = {"adam": 1e-3, "adamw": 1e-3, "rmsprop": 1e-3, "sgd": 0.01, "adagrad": 1e-3}
# Deep networks want the rates of Adam and its kin lower, and SGD's too without batch norm.
_DEEP_RATES = {"adam": 2e-3, "adamw": 2e-3, "rmsprop": 1e-3, "sgd": 0.1, "adagrad": 0.01}
_DIGITS = ("lenet1", "lenet5", "keras_mlp", "keras_convnet", "keras_convnet_no_pool")


# The types of saved values, by the type of what a field has when nothing was said.
_ALIKE: dict[type, tuple[type, ...]] = {
    float: (float, int),
    type(None): (float, int, type(None)),
}
T = TypeVar("T")


@dataclass
class Recipe:
    """Everything that decides the result of a training run, apart from the data."""

    model: str
    optimizer: str = "adam"
    lr: float = 8e-3  # at its peak when there is a schedule
    batch_size: int = 128
    epochs: int = 5
    cycle: float = 5  # epochs in which the rate goes up and down, each half as high; 0: it stays
    rise: float = 0.25  # the share of a cycle in which it goes up
    beta2: float = 0.999  # of Adam and AdamW: the higher, the longer squared gradients count
    seed: int = 0
    weight_decay: float = 0.0
    augment: bool = False
    width: float | None = None  # None: the network's own


def recipe_for(args: argparse.Namespace) -> Recipe:
    """The network's own recipe, with what was said on the command line put in."""
    recipe, rates = Recipe(args.model), _PEAK_RATES
    if args.model.startswith("keras_"):
        recipe.optimizer, recipe.cycle, rates = "rmsprop", 0, _KERAS_RATES
    elif args.model not in _DIGITS:
        rates = _DEEP_RATES
        recipe.epochs = recipe.cycle = 10
        if args.model != "tiny_vgg" and not is_autoencoder(args.model):
            recipe.optimizer, recipe.weight_decay, recipe.augment = "sgd", 1e-4, True
            if not args.model.startswith("cifar_"):
                recipe.batch_size = 32  # at 224 x 224 pixels
    elif args.until:
        # Most seeds reach 99 % within the first cycle, half of them in an epoch and a half.
        recipe.batch_size, recipe.cycle, recipe.rise, recipe.beta2 = 64, 1.6, 0.1, 0.99
    if args.until:
        recipe.epochs = 20
    recipe.optimizer = args.optimizer or recipe.optimizer
    recipe.batch_size = args.batch_size or recipe.batch_size
    recipe.lr = args.lr or rates[recipe.optimizer]
    if not args.lr and recipe.optimizer == "sgd" and rates is _DEEP_RATES:
        recipe.lr *= recipe.batch_size / 128
        if args.model == "alexnet" or (args.model.startswith("vgg") and "_bn" not in args.model):
            recipe.lr *= 0.4
    recipe.epochs = args.epochs or recipe.epochs
    if recipe.cycle:
        recipe.cycle = min(recipe.cycle, recipe.epochs) if args.until else recipe.epochs
    recipe.seed = recipe.seed if args.seed is None else args.seed
    recipe.augment = recipe.augment if args.augment is None else args.augment
    recipe.width = args.width
    return recipe


def resumed_recipe(saved: Any, args: argparse.Namespace) -> Recipe:
    """The recipe of an interrupted run, which the command line may repeat but not change.

    Raises:
        ValueError: It says something else, and the message names what; or the file has none.
        CorruptFileError: It is damaged.
    """
    recipe = saved_fields(Recipe, saved, args, "train")
    for name, value in asdict(recipe).items():
        given = getattr(args, name, None)
        if given is not None and given != value:
            flag = "MODEL" if name == "model" else "--" + name.replace("_", "-")
            raise ValueError(f"[resume] {flag}: the interrupted run has {value}, not {given}")
    return recipe


def saved_fields(kind: Callable[..., T], saved: Any, args: argparse.Namespace, command: str) -> T:
    """What a command wrote into the state of its run: a dataclass of plain values.

    Raises:
        ValueError: Another command wrote the file, or a callback.
        CorruptFileError: A value is of another type than those of the dataclass.
    """
    if not isinstance(saved, dict):
        raise ValueError(
            f"[resume] {args.resume} is not of `fastconv {command}`: a checkpoint of "
            "train.ModelCheckpoint goes on with model.fit(..., resume=FILE), and its weights alone "
            f"are read by `fastconv evaluate {args.model} --weights FILE`"
        )
    known = vars(kind(model=""))
    for name, value in saved.items():
        default = known.get(name, value)
        alike = type(value) in _ALIKE.get(type(default), (type(default),))
        texts = not isinstance(value, list) or all(isinstance(text, str) for text in value)
        if name not in known or not (alike and texts):
            raise CorruptFileError(f"[resume] {args.resume}: damaged, {name!a} is {value!a}")
    return kind(**{"model": args.model, **saved})


def is_autoencoder(model: str) -> bool:
    """Whether a network of that name draws its input again, and knows no classes."""
    return model.endswith("autoencoder")


def make_loss(model: str) -> Any:
    """What `compile` is told to minimise."""
    if model == "googlenet":
        from ..models import GoogLeNetLoss

        return GoogLeNetLoss()
    return "mse" if is_autoencoder(model) else "sparse_categorical_crossentropy"


def make_optimizer(recipe: Recipe, model: Module) -> Optimizer:
    """The optimiser, at its Keras defaults but for the rate (and momentum for a scheduled SGD)."""
    from .. import optim
    from ..train.objectives import make_optimizer as by_name

    if recipe.optimizer == "sgd" and recipe.cycle:
        return optim.SGD(
            model.parameters(),
            lr=recipe.lr,
            momentum=0.9,
            nesterov=True,
            weight_decay=recipe.weight_decay,
        )
    optimizer = by_name(recipe.optimizer, model)
    for group in optimizer.param_groups:
        group["lr"] = recipe.lr
        if "betas" in group:
            group["betas"] = (group["betas"][0], recipe.beta2)
    return optimizer


def make_schedules(
    cycle: float, optimizer: Optimizer, steps_per_epoch: int, rise: float = Recipe.rise
) -> list[Any]:
    """Callbacks that change the rate during the run: cycles of so many epochs, or none."""
    if not cycle:
        return []
    from ..optim.lr_scheduler import LambdaLR
    from ..train import StepScheduler

    steps = max(1, round(cycle * steps_per_epoch))

    def factor(step: int) -> float:
        number, step = divmod(step, steps)
        return 0.5**number * one_cycle(step / steps, rise)

    return [StepScheduler(LambdaLR(optimizer, factor))]


def one_cycle(share: float, rise: float) -> float:
    """The rate, as a part of its peak, at a share of the cycle: up until `rise`, then down.

    Smith and Topin, "Super-convergence", 2018, with half cosines.
    """
    if share < rise:
        return _FIRST + (1 - _FIRST) * (1 - math.cos(math.pi * share / rise)) / 2
    return (1 + math.cos(math.pi * (share - rise) / (1 - rise))) / 2
