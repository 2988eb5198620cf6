"""fastconv train MODEL: trains a network, saves its weights, and prints the next commands."""

from __future__ import annotations

import argparse
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..interrupt import Signals
from .arguments import set_machine
from .datasets import Dataset, announce, load_dataset
from .keeping import Keeper, check_outputs, command, draw_curves, make_loggers, save_weights
from .resuming import check_data, fingerprint, given_fields, resumed_fields

if TYPE_CHECKING:
    from pathlib import Path

    from ..data import Preprocessing
    from ..nn import Module
    from ..train import Run
    from ..train.recipes import Recipe
    from .infer import Result

__all__ = ["train"]


def train(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    began = time.perf_counter()
    set_machine(args)
    save_path = check_outputs(args)
    keeper = Keeper(args, save_path, ("train", args.model))
    with Signals(linger=True):
        try:
            return _train(args, keeper, save_path, began)
        except (KeyboardInterrupt, SystemExit) as end:
            return keeper.interrupted(end)


def _train(args: argparse.Namespace, keeper: Keeper, save_path: Path, began: float) -> int:
    session = _load(args)
    dataset = session.dataset
    announce(dataset, "Training on")
    keeper.extra = session.extra
    keeper.again = ("train", args.model, *dataset.flag)
    session.fit(keeper)

    result = session.measure()
    seconds = time.perf_counter() - began
    print(
        f"{result.text(dataset.name)}, {result.count:,} images); {seconds:.1f} s "
        "from start to finish."
    )
    draw_curves(args, session.model.history)
    if dataset.reason:
        print("Mind: this network has seen the built-in digits only, not MNIST (see above).")
    save_weights(session.model, save_path, dataset.classes)
    keeper.finished()
    weights = ("--weights", save_path)
    print("  " + command("evaluate", args.model, *weights, *dataset.flag))
    if session.classifies:
        print("  " + command("predict", args.model, *weights, "IMAGE"))
    if args.until and 100 * result.accuracy < args.until:
        raise RuntimeError(
            f"{args.until:g} % was not reached in {session.recipe.epochs} epochs; allow more with "
            "--epochs N"
        )
    return 0


def _load(args: argparse.Namespace) -> _Session:
    """The network for the data, which a thread reads while this one imports modules."""
    imported = threading.Event()

    def wanted_pictures() -> Preprocessing:
        imported.wait()  # two threads importing the same modules would see them half done
        from .fitting import wanted

        return wanted(args.model)

    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load_dataset, args.data, wanted_pictures)
        try:
            recipe, resumed = _recipe(args)
        finally:
            imported.set()
        return _Session(args, recipe, resumed, loading.result())


def _recipe(args: argparse.Namespace) -> tuple[Recipe, Any]:
    """How to train, and the checkpoint to continue from, or None."""
    from ..models import ARCHITECTURES
    from ..random import manual_seed
    from ..train import Checkpoint
    from ..train.recipes import Recipe, recipe_for

    if args.until and not ARCHITECTURES[args.model].classifies:
        raise ValueError(f"--until: {args.model} knows no classes, so it has no accuracy")
    resumed = Checkpoint.load(args.resume) if args.resume else None
    if resumed is None:
        recipe = recipe_for(args.model, given_fields(Recipe, args), until=bool(args.until))
    else:
        recipe = resumed_fields(Recipe, resumed.extra.get("recipe"), args, "train")
    manual_seed(recipe.seed)
    return recipe, resumed


class _Session:
    """An untrained network for a data set, and one run of it."""

    model: Module

    def __init__(
        self, args: argparse.Namespace, recipe: Recipe, resumed: Any, dataset: Dataset
    ) -> None:
        from .. import models
        from ..train.recipes import make_loss, make_optimizer
        from ..train.trained import describe
        from .fitting import arguments_for, preprocessing_for

        self._args, self._resumed = args, resumed
        self.recipe, self.dataset = recipe, dataset
        name = recipe.model
        self.classifies = models.ARCHITECTURES[name].classifies
        if self.classifies:
            dataset.check_classes()
        arguments = arguments_for(name, dataset, recipe.width)
        self.model = models.build(name, **arguments).to(args.device)
        self.model.preprocessing = preprocessing_for(name, dataset)
        self.model.classes = dataset.classes
        self._optimizer = make_optimizer(recipe, self.model)
        metrics = ["accuracy"] if self.classifies else []
        self.model.compile(self._optimizer, make_loss(name), metrics=metrics)
        data = fingerprint(dataset)
        self.extra = {"recipe": asdict(recipe), "data": data, **describe(self.model)}
        check_data(resumed, data)

    def fit(self, keeper: Keeper) -> None:
        """Trains; exceptions of signals pass through, and `keeper` then has the exact step."""
        from ..train.recipes import make_schedules
        from .fitting import make_loader

        recipe = self.recipe
        loader = make_loader(
            self.dataset,
            "train",
            self.model,
            recipe.batch_size,
            shuffle=True,
            augment=recipe.augment,
        )
        callbacks: list[Any] = make_schedules(
            recipe.cycle, self._optimizer, len(loader), recipe.rise
        )
        if self._args.until is not None:
            callbacks.append(_Until(self._args.until, self.dataset))
        if self._resumed is not None:
            print(f"Going on {self._resumed.where}.", flush=True)
        watched = self._args.log or self._args.curves
        self.model.fit(
            loader,
            epochs=recipe.epochs,
            validation_data=make_loader(self.dataset, "test", self.model) if watched else None,
            callbacks=[*callbacks, *make_loggers(self._args), keeper],
            resume=self._resumed,
        )

    def measure(self) -> Result:
        """Measures on the test set."""
        from .infer import measure

        return measure(self.model, self.dataset)


class _Until:
    """Stops the run at an accuracy on the test set, which it measures several times per epoch.

    It measures only if the accuracy in training, and on a part of the test set, is near enough.
    """

    CHECKS = 8  # per epoch
    TRAINING_MARGIN = 2.0  # percentage points below the goal in training that rule it out
    PART, PART_MARGIN = 5, 0.4  # every fifth test image; points below the goal that rule it out

    def __init__(self, percent: float, dataset: Dataset) -> None:
        self._percent, self._dataset = percent, dataset

    def on_train_begin(self, run: Run) -> None:
        from .fitting import make_loader

        self._run = run
        self._every = max(1, (run.steps_per_epoch or 1) // self.CHECKS)
        self._part, self._whole = (
            make_loader(self._dataset, "test", run.model, part=part) for part in (self.PART, 1)
        )

    def on_batch_end(self, step: int, logs: Any) -> None:
        if (step + 1) % self._every or 100 * logs[
            "accuracy"
        ] < self._percent - self.TRAINING_MARGIN:
            return
        if self._accuracy(self._part) < self._percent - self.PART_MARGIN:
            return
        if self._accuracy(self._whole) >= self._percent:
            self._run.stop()

    def _accuracy(self, samples: Any) -> float:
        _, accuracy = self._run.model.evaluate(samples)
        return 100 * float(accuracy)
