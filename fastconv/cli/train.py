"""fastconv train MODEL: data in, one line an epoch, weights out, and what to type next."""

from __future__ import annotations

import argparse
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .. import _core
from ..autograd import check_device
from ..interrupt import Signals
from .datasets import Dataset, announce, load_dataset
from .keeping import Keeper, check_outputs, command, draw_curves, make_loggers, save_weights
from .recipe import (
    is_autoencoder,
    make_loss,
    make_optimizer,
    make_schedules,
    recipe_for,
    resumed_recipe,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ..data import Preprocessing
    from ..nn import Module
    from ..train.run import Run

__all__ = ["train"]


def train(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    began = time.perf_counter()
    check_device(args.device)
    if args.threads:
        _core.set_num_threads(args.threads)
    save_path = check_outputs(args)
    keeper = Keeper(args, save_path, ("train", args.model))
    with Signals(linger=True):
        try:
            return _train(args, keeper, save_path, began)
        except (KeyboardInterrupt, SystemExit) as end:
            return keeper.interrupted(end)


def _train(args: argparse.Namespace, keeper: Keeper, save_path: Path, began: float) -> int:
    imported = threading.Event()

    def wanted_pictures() -> Preprocessing:
        imported.wait()  # two threads that import the same modules see halves of them
        from .inputs import wanted

        return wanted(args.model)

    with ThreadPoolExecutor(1) as pool:
        labelled = not is_autoencoder(args.model)
        loading = pool.submit(load_dataset, args.data, wanted_pictures, labelled=labelled)
        try:
            session = _Session(args)  # imports meanwhile
        finally:
            imported.set()
        dataset = loading.result()
    session.build(dataset)
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
    if not is_autoencoder(args.model):
        print("  " + command("predict", args.model, *weights, "IMAGE"))
    if args.until and 100 * result.accuracy < args.until:
        raise RuntimeError(
            f"{args.until:g} % was not reached in {session.recipe.epochs} epochs; allow more with "
            "--epochs N"
        )
    return 0


class _Session:
    """A network with its recipe, and one run of it."""

    model: Module

    def __init__(self, args: argparse.Namespace) -> None:
        from .. import models, train  # noqa: F401  imported while the data are loaded
        from ..random import manual_seed
        from ..train.checkpoint import Checkpoint

        self._args = args
        if args.until and is_autoencoder(args.model):
            raise ValueError(f"--until: {args.model} knows no classes, so it has no accuracy")
        resumed = Checkpoint.load(args.resume) if args.resume else None
        if resumed is None:
            self.recipe = recipe_for(args)
        else:
            self.recipe = resumed_recipe(resumed.extra.get("recipe"), args)
        self._resumed = resumed
        manual_seed(self.recipe.seed)

    def build(self, dataset: Dataset) -> None:
        """The untrained network for these data."""
        from .. import models
        from .inputs import arguments_for, preprocessing_for
        from .trained import description

        name = self.recipe.model
        self._dataset = dataset
        arguments = arguments_for(name, dataset, self.recipe.width)
        self.model = models.build(name, **arguments).to(self._args.device)
        self.model.preprocessing = preprocessing_for(name, dataset)
        self.model.classes = dataset.classes
        metrics = [] if is_autoencoder(name) else ["accuracy"]
        self._optimizer = make_optimizer(self.recipe, self.model)
        self.model.compile(self._optimizer, make_loss(name), metrics=metrics)
        labels = zlib.crc32(dataset.labels("train").tobytes())
        data = f"{dataset.name}, labels {labels:08x}"
        self.extra = {"recipe": asdict(self.recipe), "data": data, **description(self.model)}
        if self._resumed is not None and self._resumed.extra.get("data") != data:
            raise ValueError(
                f"[resume] data: the interrupted run has {self._resumed.extra.get('data')}, "
                f"this is {data}"
            )

    def fit(self, keeper: Keeper) -> None:
        """Trains; what a signal raises comes through, and `keeper` has the exact step then."""
        from .inputs import make_loader

        recipe = self.recipe
        loader = make_loader(
            self._dataset,
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
            callbacks.append(_Until(self._args.until, self._dataset))
        if self._resumed is not None:
            print(f"Going on {self._resumed.where}.", flush=True)
        watched = self._args.log or self._args.curves
        self.model.fit(
            loader,
            epochs=recipe.epochs,
            validation_data=make_loader(self._dataset, "test", self.model) if watched else None,
            callbacks=[*callbacks, *make_loggers(self._args), keeper],
            resume=self._resumed,
        )

    def measure(self) -> Any:
        """On the test set."""
        from .infer import measure

        return measure(self.model, self._dataset)


class _Until:
    """Stops the run at an accuracy on the test set, looking for it several times an epoch.

    The accuracy in training, then that on a part of the test set, tell when it is worth measuring.
    """

    CHECKS = 8  # an epoch
    TRAINING_MARGIN = 2.0  # percentage points: further below in the epoch so far, do not look
    PART, PART_MARGIN = 5, 0.4  # every fifth image; further below on these, do not look at all

    def __init__(self, percent: float, dataset: Dataset) -> None:
        self._percent, self._dataset = percent, dataset

    def on_train_begin(self, run: Run) -> None:
        from .inputs import make_loader

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
