"""fastconv finetune MODEL: a trained network learns new classes.

First the network is left as it is and its last layer is replaced: the features of every picture
are computed once, and the new layer is trained on them in a second. Then, unless --frozen, the
whole network (but for its batch norms, whose statistics are better than those of a small data set)
is trained on, the old layers at a tenth of the rate of the new one.
"""

from __future__ import annotations

import argparse
import time
import zlib
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .. import _core
from ..autograd import check_device
from ..interrupt import Signals
from .datasets import Dataset, announce, load_dataset
from .infer import Result, measure
from .keeping import Keeper, check_outputs, command, draw_curves, make_loggers, save_weights
from .recipe import is_autoencoder, make_loss, make_schedules, saved_fields
from .trained import description, load_trained

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ..nn import Module
    from ..train.checkpoint import Checkpoint

__all__ = ["finetune"]

Features: TypeAlias = "tuple[NDArray[Any], NDArray[Any]]"  # (N, F) float32, (N,) labels

_BODY = 0.1  # the rate of the old layers, as a part of the new one's
_CROP = (0.5, 1.0)  # share of a picture's area that --augment leaves
_HEAD_EPOCHS, _HEAD_BATCH, _HEAD_RATE = 40, 64, 3e-3


@dataclass
class Tuning:
    """What decides the result, apart from weights and data."""

    model: str
    epochs: int = 3
    batch_size: int = 32
    lr: float = 1e-3  # of the new layer, at its peak
    seed: int = 0
    augment: bool = True
    width: float | None = None
    freeze: list[str] = field(default_factory=list)
    unfreeze: list[str] = field(default_factory=list)  # empty: everything


def finetune(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    began = time.perf_counter()
    check_device(args.device)
    if args.threads:
        _core.set_num_threads(args.threads)
    session = _Session(args)
    save_path = check_outputs(args)
    keeper = Keeper(args, save_path, _again(args))
    with Signals(linger=True):
        try:
            return _finetune(args, session, keeper, save_path, began)
        except (KeyboardInterrupt, SystemExit) as end:
            return keeper.interrupted(end)


def _finetune(
    args: argparse.Namespace, session: _Session, keeper: Keeper, save_path: Path, began: float
) -> int:
    model = session.load_model()
    dataset = load_dataset(args.data, session.wanted)
    announce(dataset, f"Teaching {args.model} on")
    features = None if session.resumed else session.features(dataset)
    session.prepare(dataset)
    if features is not None:
        _report("with frozen features", session.train_head(*features), began)
    if not args.frozen:
        keeper.extra = session.extra
        session.train_all(keeper)
        _report("after fine-tuning", measure(model, dataset), began)
        draw_curves(args, model.history)
    save_weights(model, save_path, dataset.classes)
    keeper.finished()
    weights = ("--weights", save_path)
    print("  " + command("evaluate", args.model, *weights, *dataset.flag))
    print("  " + command("predict", args.model, *weights, "IMAGE"))
    return 0


def _again(args: argparse.Namespace) -> tuple[str, ...]:
    """The words of the command that goes on; the rest is in the file."""
    return ("finetune", args.model, "--weights", args.weights, "--data", args.data)


class _Session:
    """A pretrained network and the two ways of teaching it."""

    model: Module
    _dataset: Dataset
    extra: dict[str, Any]

    def __init__(self, args: argparse.Namespace) -> None:
        if is_autoencoder(args.model):
            raise ValueError(f"{args.model} knows no classes, and has no head to replace")
        for option in ("freeze", "unfreeze", "resume", "log", "curves") if args.frozen else ():
            if getattr(args, option):
                raise ValueError(f"--frozen trains the new layer alone, --{option} has no meaning")
        self._args = args
        self.resumed: Checkpoint | None = None
        given = {name: getattr(args, name) for name in asdict(Tuning(args.model))}
        given = {name: value for name, value in given.items() if value not in (None, [])}
        if args.resume:
            self._load_resumed(given)
        else:
            self.tuning = Tuning(**given)

    def _load_resumed(self, given: dict[str, Any]) -> None:
        from ..train.checkpoint import Checkpoint

        self.resumed = Checkpoint.load(self._args.resume)
        saved = self.resumed.extra.get("tuning")
        self.tuning = saved_fields(Tuning, saved, self._args, "finetune")
        for name, value in given.items():
            had = getattr(self.tuning, name)
            if had != value:
                flag = "MODEL" if name == "model" else "--" + name.replace("_", "-")
                raise ValueError(f"[resume] {flag}: the interrupted run has {had}, not {value}")

    def load_model(self) -> Module:
        """The network as it was trained before."""
        args = self._args
        self.model = load_trained(args.model, args.weights, self.tuning.width).to(args.device)
        return self.model

    def wanted(self) -> Any:
        """The preprocessing of its pictures."""
        from .inputs import wanted

        return self.model.preprocessing or wanted(self.tuning.model)

    def features(self, dataset: Dataset) -> list[Features]:
        """What the network, as it is, makes of the training and the test set; each picture once."""
        from .. import models
        from .inputs import make_loader

        began = time.perf_counter()
        self._recognise(dataset)
        made: list[Features] = [
            models.extract_features(
                self.model,
                make_loader(dataset, split, self.model),
                self._args.cache,
                with_targets=True,
            )
            for split in ("train", "test")
        ]
        x, seconds = made[0][0], time.perf_counter() - began
        count = sum(len(part) for part, _ in made)
        print(f"Features of {count:,} images, {x.shape[1]:,} numbers each: {seconds:.1f} s.")
        return made

    def _recognise(self, dataset: Dataset) -> None:
        if self.model.preprocessing is None and dataset.kind != "digits":
            self.model.preprocessing = self.wanted()

    def prepare(self, dataset: Dataset) -> None:
        """A new last layer; which layers learn, and how fast."""
        from .. import models, nn, optim
        from ..random import manual_seed

        self._dataset, model, tuning = dataset, self.model, self.tuning
        self._recognise(dataset)
        manual_seed(tuning.seed)  # behind the features: whether they are cached changes nothing
        models.replace_head(model, dataset.num_classes, dataset.classes)
        self._head = model.get_submodule(models.head_name(model))
        norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
        if tuning.unfreeze:
            model.freeze().unfreeze(*tuning.unfreeze, self._head)
        if norms or tuning.freeze:
            model.freeze(*norms, *tuning.freeze)
        head = set(map(id, self._head.parameters()))
        groups = [
            {"params": [p for p in model.parameters() if p.requires_grad and id(p) not in head]},
            {"params": [p for p in self._head.parameters() if p.requires_grad]},
        ]
        for group, rate in zip(groups, (_BODY * tuning.lr, tuning.lr), strict=True):
            group["lr"] = rate  # type: ignore[assignment]
        self._optimizer = optim.Adam([group for group in groups if group["params"]])
        model.compile(self._optimizer, make_loss(tuning.model), metrics=["accuracy"])
        labels = zlib.crc32(np.ascontiguousarray(dataset.labels("train")).tobytes())
        data = f"{dataset.name}, labels {labels:08x}"
        self.extra = {"tuning": asdict(tuning), "data": data, **description(model)}
        if self.resumed is not None and self.resumed.extra["data"] != data:
            raise ValueError(
                f"[resume] data: the interrupted run has {self.resumed.extra['data']}, "
                f"this is {data}"
            )

    def train_head(self, train: Features, test: Features) -> Result:
        """The new layer, on features of the training set; measured on those of the test set."""
        from .. import nn, optim

        x, y = train
        head = nn.Sequential(nn.Linear(x.shape[1], self._dataset.num_classes))
        adam = optim.AdamW(head.parameters(), lr=_HEAD_RATE, weight_decay=1e-2)
        head.compile(adam, metrics=["accuracy"])
        steps = -(-len(x) // _HEAD_BATCH)
        schedule = make_schedules(_HEAD_EPOCHS, adam, steps)
        history = head.fit(
            x, y, epochs=_HEAD_EPOCHS, batch_size=_HEAD_BATCH, verbose=0, callbacks=schedule
        )
        accuracy = history.history["accuracy"][-1]
        print(f"New layer: {_HEAD_EPOCHS} epochs, training accuracy {100 * accuracy:.2f} %.")
        own = self._head.state_dict()
        self._head.load_state_dict(
            {n: np.asarray(v).reshape(own[n].shape) for n, v in head[0].state_dict().items()}
        )
        loss, accuracy = head.evaluate(*test)
        return Result(loss, accuracy, len(test[0]))

    def train_all(self, keeper: Keeper) -> None:
        """Everything that is not frozen, with exact resumption."""
        from ..random import manual_seed
        from .inputs import make_loader

        tuning = self.tuning
        manual_seed(tuning.seed)
        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        total = sum(p.numel() for p in self.model.parameters())
        print(f"Fine-tuning {trained:,} of {total:,} parameters:", flush=True)
        loader = make_loader(
            self._dataset,
            "train",
            self.model,
            tuning.batch_size,
            shuffle=True,
            augment=tuning.augment,
            crop=_CROP,
        )
        schedules = make_schedules(tuning.epochs, self._optimizer, len(loader))
        callbacks = [*schedules, *make_loggers(self._args), keeper]
        if self.resumed is not None:
            print(f"Going on {self.resumed.where}.", flush=True)
        watched = self._args.log or self._args.curves
        self.model.fit(
            loader,
            epochs=tuning.epochs,
            validation_data=make_loader(self._dataset, "test", self.model) if watched else None,
            callbacks=callbacks,
            resume=self.resumed,
        )


def _report(when: str, result: Result, began: float) -> None:
    print(
        f"Test accuracy {when}: {100 * result.accuracy:.2f} % (loss {result.loss:.4f}, "
        f"{result.count:,} images); {time.perf_counter() - began:.0f} s since the start.",
        flush=True,
    )
