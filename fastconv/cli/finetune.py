"""fastconv finetune MODEL: a trained network learns new classes; see train/finetuning.py."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..interrupt import Signals
from .arguments import set_machine
from .datasets import Dataset, announce, load_dataset
from .infer import Result, measure
from .keeping import Keeper, check_outputs, command, draw_curves, make_loggers, save_weights
from .resuming import check_data, fingerprint, given_fields, resumed_fields
from .weights import load_trained

if TYPE_CHECKING:
    from pathlib import Path

    from ..data import Preprocessing
    from ..nn import Module
    from ..train import Checkpoint
    from ..train.finetuning import Features, Tuning

__all__ = ["finetune"]

_CROP = (0.5, 1.0)  # the fraction of a picture's area that --augment keeps, from and to


def finetune(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    began = time.perf_counter()
    set_machine(args)
    tuning, resumed = _tuning(args)
    save_path = check_outputs(args)
    keeper = Keeper(args, save_path, _again(args))
    with Signals(linger=True):
        try:
            return _finetune(_Session(args, tuning, resumed), keeper, save_path, began)
        except (KeyboardInterrupt, SystemExit) as end:
            return keeper.interrupted(end)


def _again(args: argparse.Namespace) -> tuple[str, ...]:
    """The words of the command that resumes; the file has the rest."""
    return ("finetune", args.model, "--weights", args.weights, "--data", args.data)


def _tuning(args: argparse.Namespace) -> tuple[Tuning, Checkpoint | None]:
    """How to train, and the checkpoint to continue from, or None."""
    from ..models import ARCHITECTURES
    from ..train import Checkpoint
    from ..train.finetuning import Tuning

    if not ARCHITECTURES[args.model].classifies:
        raise ValueError(f"{args.model} knows no classes, and has no head to replace")
    for option in ("freeze", "unfreeze", "resume", "log", "curves") if args.frozen else ():
        if getattr(args, option):
            raise ValueError(f"--frozen trains the new layer alone, --{option} has no meaning")
    if not args.resume:
        return Tuning(**given_fields(Tuning, args)), None
    resumed = Checkpoint.load(args.resume)
    return resumed_fields(Tuning, resumed.extra.get("tuning"), args, "finetune"), resumed


def _finetune(session: _Session, keeper: Keeper, save_path: Path, began: float) -> int:
    args, dataset = session.args, session.dataset
    announce(dataset, f"Teaching {args.model} on")
    features = None if session.resumed else session.features()
    session.replace_head()
    if features is not None:
        _report("with frozen features", session.train_head(*features), began)
    if not args.frozen:
        keeper.extra = session.extra
        session.train_all(keeper)
        _report("after fine-tuning", measure(session.model, dataset), began)
        draw_curves(args, session.model.history)
    save_weights(session.model, save_path, dataset.classes)
    keeper.finished()
    weights = ("--weights", save_path)
    print("  " + command("evaluate", args.model, *weights, *dataset.flag))
    print("  " + command("predict", args.model, *weights, "IMAGE"))
    return 0


def _report(when: str, result: Result, began: float) -> None:
    print(
        f"Test accuracy {when}: {100 * result.accuracy:.2f} % (loss {result.loss:.4f}, "
        f"{result.count:,} images); {time.perf_counter() - began:.0f} s since the start.",
        flush=True,
    )


class _Session:
    """A pretrained network, data with new classes, and the two ways of training on them."""

    extra: dict[str, Any]

    def __init__(
        self, args: argparse.Namespace, tuning: Tuning, resumed: Checkpoint | None
    ) -> None:
        self.args, self.tuning, self.resumed = args, tuning, resumed
        self.model: Module = load_trained(args.model, args.weights, tuning.width).to(args.device)
        self.dataset: Dataset = load_dataset(args.data, self._wanted)
        self.dataset.check_classes()

    def _wanted(self) -> Preprocessing:
        """The preprocessing of its pictures."""
        from .fitting import wanted

        return self.model.preprocessing or wanted(self.tuning.model)

    def features(self) -> list[Features]:
        """The features of the training and the test set; each picture is computed once."""
        from .. import models
        from .fitting import make_loader

        began = time.perf_counter()
        self._set_preprocessing()
        made: list[Features] = [
            models.extract_features(
                self.model,
                make_loader(self.dataset, split, self.model),
                self.args.cache,
                with_targets=True,
            )
            for split in ("train", "test")
        ]
        x, seconds = made[0][0], time.perf_counter() - began
        count = sum(len(part) for part, _ in made)
        print(f"Features of {count:,} images, {x.shape[1]:,} numbers each: {seconds:.1f} s.")
        return made

    def _set_preprocessing(self) -> None:
        """Sets the preprocessing of pictures where the weights do not record it."""
        if self.model.preprocessing is None and self.dataset.kind != "digits":
            self.model.preprocessing = self._wanted()

    def replace_head(self) -> None:
        """A new last layer; sets which layers train, and how fast."""
        from ..random import manual_seed
        from ..train.finetuning import compile_for_tuning, replace_head
        from ..train.trained import describe

        dataset, model, tuning = self.dataset, self.model, self.tuning
        self._set_preprocessing()
        manual_seed(tuning.seed)  # after the features, so that a cache does not change the result
        self._head = replace_head(model, dataset.num_classes, dataset.classes)
        self._optimizer = compile_for_tuning(model, self._head, tuning)
        data = fingerprint(dataset)
        self.extra = {"tuning": asdict(tuning), "data": data, **describe(model)}
        check_data(self.resumed, data)

    def train_head(self, train: Features, test: Features) -> Result:
        """Trains the new layer on features of the training set; measures it on the test set."""
        from ..train.finetuning import HEAD_EPOCHS, fit_head

        head, accuracy = fit_head(self._head, train, self.dataset.num_classes)
        print(f"New layer: {HEAD_EPOCHS} epochs, training accuracy {100 * accuracy:.2f} %.")
        loss, accuracy = head.evaluate(*test)
        return Result(loss, accuracy, len(test[0]))

    def train_all(self, keeper: Keeper) -> None:
        """Trains everything that is not frozen, with exact resumption."""
        from ..random import manual_seed
        from ..train.recipes import make_schedules
        from .fitting import make_loader

        tuning = self.tuning
        manual_seed(tuning.seed)
        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        total = sum(p.numel() for p in self.model.parameters())
        print(f"Fine-tuning {trained:,} of {total:,} parameters:", flush=True)
        loader = make_loader(
            self.dataset,
            "train",
            self.model,
            tuning.batch_size,
            shuffle=True,
            augment=tuning.augment,
            crop=_CROP,
        )
        schedules = make_schedules(tuning.epochs, self._optimizer, len(loader))
        callbacks = [*schedules, *make_loggers(self.args), keeper]
        if self.resumed is not None:
            print(f"Going on {self.resumed.where}.", flush=True)
        watched = self.args.log or self.args.curves
        self.model.fit(
            loader,
            epochs=tuning.epochs,
            validation_data=make_loader(self.dataset, "test", self.model) if watched else None,
            callbacks=callbacks,
            resume=self.resumed,
        )
