"""fit; the Run that callbacks see while it trains, and the History it returns."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.loader import Loader
from ..nn.modes import own_modes
from .checkpoint import Checkpoint
from .compiled import Compiled, compiled_of
from .feed import Batching, Feed, Passes, check_steps, make_feed
from .loop import Loop
from .measure import EVALUATION_BATCH, Means
from .network import Network
from .progress import Progress
from .targets import check_lengths, split_off

if TYPE_CHECKING:
    from ..data.transforms import Transform
    from ..nn import Module
    from ..optim import Optimizer

__all__ = ["History", "Run", "fit"]


@dataclass
class History:
    """What `fit` returns: `history["loss"]`, `["accuracy"]`, ...: one value per epoch."""

    history: dict[str, list[float]] = field(default_factory=dict)
    epoch: list[int] = field(default_factory=list)  # counting from 0

    def append(self, epoch: int, logs: dict[str, float]) -> None:
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def __getstate__(self) -> dict[str, Any]:
        # A copy of the lists: an epoch may end in another thread meanwhile.
        history = {name: list(values) for name, values in list(self.history.items())}
        return {"history": history, "epoch": list(self.epoch)}


@dataclass
class Run:
    """One call of `fit` in progress, as callbacks see it.

    Between two steps, when callbacks are called, it holds all that a `Checkpoint` needs.
    """

    model: Module
    compiled: Compiled
    epochs: int
    history: History
    steps_per_epoch: int | None  # None: batches come until there are no more
    callbacks: Sequence[Any]
    epochs_done: int
    means: Means  # of the epoch under way
    step: int = 0  # optimiser steps taken, over all epochs
    batches_done: int = 0  # of them in the epoch under way
    epoch: int = 0  # the epoch under way, from 0
    epoch_random: dict[str, Any] = field(default_factory=dict)  # random numbers as it began
    resumed: bool = False
    stopping: bool = False
    interrupted: bool = False  # by Ctrl-C or another signal, between two steps
    completed: bool = False  # all epochs are done, or a callback ended them

    @property
    def optimizer(self) -> Optimizer:
        return self.compiled.optimizer

    def stop(self) -> None:
        """Ends training after the current step, as if it were the last of the last epoch."""
        self.stopping = True


def fit(
    model: Module,
    x: Any,
    y: Any = None,
    epochs: int = 1,
    batch_size: int = 32,
    validation_data: Any = None,
    validation_split: float = 0.0,
    shuffle: bool = True,
    verbose: int = 1,
    callbacks: Sequence[Any] | None = None,
    initial_epoch: int = 0,
    transform: Transform | Sequence[Transform] | None = None,
    *,
    class_weight: Mapping[int, float] | Sequence[float] | str | None = None,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    drop_last: bool = False,
    resume: str | os.PathLike[str] | Checkpoint | None = None,
) -> History:
    """Trains a compiled model, and returns the `History`.

    Args:
        model: Any Module on which `compile` was called.
        x: Images (N, H, W) or (N, C, H, W), or features (N, F): uint8, float32 or float64. Bytes
            are scaled as `model.preprocessing` says, else by 1/255. (N, H, W) gets a channel axis,
            unless the model begins with a Conv1d. Or a `data.ImageFolder`, which has its own y. Or
            one of these, which bring their own y, batch_size, shuffle and transform: a
            `data.Loader`; a list of batches (x, y), or another iterable that can start again; a
            function that returns one, as a generator function does; a generator.
        y: Labels (N,) of any integer type, or other targets that the loss takes.
        epochs: Passes over the data; with initial_epoch, the number of the last one.
        batch_size: Samples per step. The last batch may be smaller; means are over samples.
        validation_data: (x, y), or anything else that x may be: measured after every epoch as
            val_loss, val_accuracy.
        validation_split: Instead: keep this fraction, the last of the samples, for validation.
        shuffle: A new order in every epoch, from the generator of `fastconv.manual_seed`.
        verbose: 0 is silent, 1 shows a bar on a terminal, 2 prints a line per epoch.
        callbacks: See `fastconv.train.Callback`; also plain functions (epoch, logs).
        initial_epoch: Epochs done before, when you continue a run by hand.
        transform: Random changes to each batch, such as `data.RandomShift(2)`.
        class_weight: How much the samples of each class count in the loss: {label: weight}, all
            weights, or "balanced" to make up for rare classes. Validation ignores it.
        steps_per_epoch: Batches per epoch; needed for a generator that does not end.
        validation_steps: The same for validation.
        drop_last: Leave out a smaller last batch, which batch norm may need: it cannot train on a
            single sample.
        resume: A file of `ModelCheckpoint(everything=True)`, or a `Checkpoint`: continues that run,
            also from the middle of an epoch, to the same bits as if it had never been stopped. Give
            everything else as it was then.

    Raises:
        ValueError: Labels or targets do not fit; names the first that does not.
        ShapeError: x does not fit the model.
        CorruptFileError: resume is damaged or not a checkpoint.
        TrainingDiverged: The loss became NaN or infinite.
        KeyboardInterrupt: Ctrl-C, raised between two steps; `model.history` has the epochs so far.
        SystemExit: SIGTERM or SIGHUP, likewise, with status 143 or 129.

    Example:
        >>> import numpy as np, fastconv as fc
        >>> fc.manual_seed(0)
        >>> y = np.arange(200) % 2
        >>> x = np.eye(2, dtype=np.float32)[y]
        >>> model = fc.nn.Sequential(fc.nn.Linear(2, 2))
        >>> model.compile(fc.optim.SGD(model.parameters(), lr=0.5), metrics=["accuracy"])
        >>> history = model.fit(x, y, epochs=5, verbose=0)
        >>> len(history.history["loss"]), history.history["accuracy"][-1]
        (5, 1.0)

        From a generator function, with a file to continue from after Ctrl-C::

            keep = train.ModelCheckpoint("run.safetensors", everything=True)
            model.fit(batches, epochs=10, callbacks=[keep])
            model.fit(batches, epochs=10, callbacks=[keep], resume="run.safetensors")
    """
    compiled = compiled_of(model, "fit")
    if callbacks is not None and not isinstance(callbacks, Iterable):
        kind = getattr(callbacks, "__name__", f"{type(callbacks).__name__}(...)")
        raise TypeError(f"[fit] callbacks must be a list: callbacks=[{kind}]")
    check_steps("fit", steps_per_epoch=steps_per_epoch, validation_steps=validation_steps)
    checkpoint = Checkpoint.load(resume) if isinstance(resume, (str, os.PathLike)) else resume
    initial_epoch = _first_epoch(epochs, initial_epoch, checkpoint)
    if validation_split:
        x, y, validation_data = _split(x, y, validation_split, validation_data)
    count = epochs - initial_epoch
    done = checkpoint.step - checkpoint.batches if checkpoint is not None else 0
    batching = Batching(batch_size, shuffle, transform, drop_last)
    feed = make_feed(model, "fit", x, y, batching, Passes(steps_per_epoch, count, done))
    network = Network(model, compiled.objective.head, feed.sample(), "fit")
    outputs = network.output_shape()
    feed.check("fit", compiled.objective, outputs)
    if feed.last == 1:
        _check_norms(network, feed)
    validation = None
    if validation_data is not None:
        op = "fit: validation_data"
        x, y = _pair(validation_data) or (validation_data, None)
        batching = Batching(max(batch_size, EVALUATION_BATCH))
        done = initial_epoch * (validation_steps or 0)
        validation = make_feed(model, op, x, y, batching, Passes(validation_steps, count, done))
        validation.check(op, compiled.objective, outputs)
    trained = compiled
    if class_weight is not None:
        trained = compiled.weighted(class_weight, feed, outputs)
    run = Run(
        model=model,
        compiled=trained,
        epochs=epochs,
        history=History(),
        steps_per_epoch=feed.steps,
        callbacks=list(callbacks or ()),
        epochs_done=initial_epoch,
        means=Means(trained),
        step=initial_epoch * (feed.steps or 0),
        epoch=initial_epoch,
        resumed=checkpoint is not None,
    )
    model.history = run.history
    unit = "images" if feed.sample().ndim == 4 else "samples"
    progress = Progress(verbose, epochs, feed.samples, initial_epoch, unit)
    with own_modes():
        Loop(run, network, feed, validation, progress).train(checkpoint)
    return run.history


def _first_epoch(epochs: int, initial_epoch: int, checkpoint: Checkpoint | None) -> int:
    """The number of epochs that are done, checked."""
    if checkpoint is not None:
        if initial_epoch:
            raise ValueError("[fit] resume knows how many epochs are done: leave out initial_epoch")
        initial_epoch = checkpoint.epoch
    if epochs < 1 or not 0 <= initial_epoch <= epochs:
        raise ValueError(
            f"[fit] expected epochs >= 1 and 0 <= initial_epoch <= epochs, got epochs={epochs}, "
            f"initial_epoch={initial_epoch}"
        )
    return initial_epoch


def _check_norms(network: Network, feed: Feed) -> None:
    """Raises ValueError where a batch norm would have to normalise a single value."""
    layer = network.norm_of_single_values()
    if layer is not None:
        raise ValueError(
            f"[fit] layer {layer} needs more than one value a channel in training, and the last "
            f"batch of {feed.samples:,} samples is a single one: leave it out with drop_last=True "
            "(of fit, or of your Loader), or take another batch_size"
        )


def _pair(data: Any) -> tuple[Any, Any] | None:
    """(x, y) of arrays, from a tuple or a list; None for a source of batches."""
    if not isinstance(data, (tuple, list)) or (data and isinstance(data[0], tuple)):
        return None
    if len(data) != 2:
        raise ValueError(
            f"[fit] validation_data must be (x, y), or batches of that; got {len(data)} things"
        )
    return data[0], data[1]


def _split(x: Any, y: Any, share: float, validation_data: Any) -> tuple[Any, Any, Any]:
    if validation_data is not None:
        raise ValueError("[fit] give validation_data or validation_split, not both")
    if y is None or isinstance(x, Loader):
        raise ValueError(
            "[fit] validation_split takes the last samples of arrays x and y: give validation_data "
            f"with a {type(x).__name__}"
        )
    x, y = np.asarray(x), np.asarray(y)
    check_lengths("fit", x, y)
    (x, y), validation_data = split_off(x, y, share)
    return x, y, validation_data
