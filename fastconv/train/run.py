"""fit: epochs of steps, on any Module."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.loader import Loader
from ..errors import TrainingDiverged
from ..interrupt import DeferredInterrupt
from ..nn.modes import own_modes
from ..random import generator
from .callbacks import CallbackList
from .checkpoint import Checkpoint
from .compiled import Compiled, compiled_of
from .feed import Batches, Feed, check_steps, make_feed
from .inputs import check_lengths, split_off
from .measure import EVALUATION_BATCH, Means, measure
from .network import Network
from .progress import Progress
from .step import train_step

if TYPE_CHECKING:
    from ..autograd import Tensor
    from ..data.transforms import Transform
    from ..nn import Module
    from ..optim import Optimizer

__all__ = ["History", "Run", "fit"]


@dataclass
class History:
    """What `fit` returns: `history["loss"]`, `["accuracy"]`, `["val_loss"]`: one value an epoch."""

    history: dict[str, list[float]] = field(default_factory=dict)
    epoch: list[int] = field(default_factory=list)  # counting from 0

    def append(self, epoch: int, logs: dict[str, float]) -> None:
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def __getstate__(self) -> dict[str, Any]:
        # Lists of its own: an epoch may end in another thread while these are copied.
        history = {name: list(values) for name, values in list(self.history.items())}
        return {"history": history, "epoch": list(self.epoch)}


@dataclass
class Run:
    """One call of `fit` in progress, as callbacks see it.

    Between two steps, which is where callbacks are called, it is all that a `Checkpoint` needs.
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
            one of these, which decide about y, batch_size, shuffle and transform: a `data.Loader`;
            a list of batches (x, y), or anything else that can be iterated over anew; a function
            that returns such a thing, as a generator function does; a generator.
        y: Labels (N,) of any integer type, or what else the loss takes.
        epochs: Passes over the data; with initial_epoch, the number of the last one.
        batch_size: Samples a step. The last batch may be smaller; means are over samples.
        validation_data: (x, y), or what else x may be: measured after every epoch as val_loss,
            val_accuracy.
        validation_split: Instead: keep this share, the last of the samples, for validation.
        shuffle: A new order in every epoch, from the generator of `fastconv.manual_seed`.
        verbose: 0 says nothing, 1 shows a bar where there is a terminal, 2 a line an epoch.
        callbacks: See `fastconv.train.Callback`; plain functions (epoch, logs) will do.
        initial_epoch: Epochs done before, when a run is taken up by hand.
        transform: Random changes to each batch, such as `data.RandomShift(2)`.
        class_weight: How much the samples of each class count in the loss: {label: weight}, all
            weights, or "balanced" to make up for rare classes. Validation does without.
        steps_per_epoch: Batches that make an epoch; needed where a generator does not end.
        validation_steps: The same for validation.
        drop_last: Leave out a last batch that is smaller, which batch norm may need: it cannot
            train on a single sample.
        resume: A file of `ModelCheckpoint(everything=True)`, or a `Checkpoint`: goes on with that
            run, in the middle of an epoch if need be, to the same bits as if it had never been
            stopped. Everything else must be given as it was then.

    Raises:
        ValueError: Labels or targets do not fit; names the first offender.
        ShapeError: x does not fit the model.
        CorruptFileError: resume is damaged, or no checkpoint.
        TrainingDiverged: The loss became NaN or infinite.
        KeyboardInterrupt: Ctrl-C, raised between two steps; `model.history` holds what there is.
        SystemExit: SIGTERM, or SIGHUP, likewise; with status 143, or 129.

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

        From a generator function, with a file to go on from after Ctrl-C::

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
    if checkpoint is not None:
        if initial_epoch:
            raise ValueError("[fit] resume knows how many epochs are done: leave out initial_epoch")
        initial_epoch = checkpoint.epoch
    if epochs < 1 or not 0 <= initial_epoch <= epochs:
        raise ValueError(
            f"[fit] expected epochs >= 1 and 0 <= initial_epoch <= epochs, got epochs={epochs}, "
            f"initial_epoch={initial_epoch}"
        )
    if validation_split:
        x, y, validation_data = _split(x, y, validation_split, validation_data)

    def make(op: str, data: tuple[Any, ...], **options: Any) -> Feed:
        return make_feed(model, op, *data, **options, passes=epochs - initial_epoch)

    feed = make(
        "fit",
        (x, y, batch_size, shuffle, transform),
        steps=steps_per_epoch,
        drop_last=drop_last,
        done=checkpoint.step - checkpoint.batches if checkpoint is not None else 0,
    )
    network = Network(model, compiled.objective.head, feed.sample(), "fit")
    outputs = network.output_shape()
    feed.check("fit", compiled.objective, outputs)
    if feed.last == 1:
        _check_norms(network, feed)
    validation = None
    if validation_data is not None:
        op = "fit: validation_data"
        validation = make(
            op,
            _pair(validation_data) or (validation_data,),
            batch_size=max(batch_size, EVALUATION_BATCH),
            steps=validation_steps,
            done=initial_epoch * (validation_steps or 0),
        )
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
        _train(run, network, feed, validation, checkpoint, progress)
    return run.history


def _train(
    run: Run,
    network: Network,
    feed: Feed,
    validation: Feed | None,
    checkpoint: Checkpoint | None,
    progress: Progress,
) -> None:
    """All epochs, from where the run is or the checkpoint was taken."""
    watchers = CallbackList(run.callbacks)
    compiled = compiled_of(run.model, "fit")  # validation does without class weights
    # What does not fit is found before a callback begins, and cuts its log for instance.
    restoration = None if checkpoint is None else checkpoint.prepare(run)
    with DeferredInterrupt() as interrupt:
        try:
            watchers.train_begin(run)
            if checkpoint is not None and restoration is not None:
                if checkpoint.batches:  # its epoch had begun; what beginning it changes is put back
                    watchers.epoch_begin(checkpoint.epoch)
                restoration.apply()
                if run.stopping:
                    warnings.warn(
                        f"[fit] the run to resume was stopped by a callback {checkpoint.where}: "
                        "it is over",
                        stacklevel=4,
                    )
            for epoch in range(run.epochs_done, run.epochs):
                run.epoch = epoch
                if not run.batches_done:
                    if run.stopping:
                        break
                    watchers.epoch_begin(run.epoch)
                logs = _train_epoch(run, network, feed, watchers, progress, interrupt)
                if not logs:
                    break
                progress.training_end()
                if validation is not None:
                    op = "fit: validation_data"
                    measured = measure(network, compiled, validation, op, interrupt.check)
                    logs |= measured.logs("val_")
                run.history.append(run.epoch, logs)
                run.epochs_done, run.batches_done = run.epoch + 1, 0
                progress.epoch_end(logs, run.stopping)
                watchers.epoch_end(run.epoch, logs)
                interrupt.check()
            run.completed = True
        except (KeyboardInterrupt, SystemExit):
            run.interrupted = interrupt.between_steps
            raise
        finally:
            progress.close()
            watchers.train_end()


def _train_epoch(
    run: Run,
    network: Network,
    feed: Feed,
    watchers: CallbackList,
    progress: Progress,
    interrupt: DeferredInterrupt,
) -> dict[str, float]:
    """One epoch, or the rest of it; returns the means, nothing if there was no batch."""
    objective, optimizer, clip_norm = run.compiled.objective, run.optimizer, run.compiled.clip_norm
    run.model.train()
    batches = _begin_epoch(run, feed)
    means = run.means
    progress.epoch_begin(run.epoch, means.samples)
    with closing(batches):
        while not run.stopping and (batch := next(batches, None)) is not None:
            images, targets = batch
            if objective.weight(targets) > 0:
                value, outputs = train_step(
                    network, objective, optimizer, images, targets, clip_norm
                )
                if not math.isfinite(value):
                    raise TrainingDiverged(_why_diverged(run, value, images, feed))
                means.add(value, outputs, targets)
            else:
                means.pass_over(len(targets))
            run.step += 1
            run.batches_done += 1
            logs = means.logs()
            progress.batch_end(len(targets), logs)
            watchers.batch_end(run.step - 1, logs)
            interrupt.check()
    if feed.steps is not None and run.batches_done < feed.steps and not run.stopping:
        advice = ""
        if feed.once:
            run.stop()
            advice = (
                ", and training with them; to begin anew in each epoch, x must be a function that "
                "returns a generator, not the generator"
            )
        warnings.warn(
            f"[fit] the data ended after {run.batches_done} of {feed.steps} batches of epoch "
            f"{run.epoch + 1}{advice}",
            stacklevel=4,
        )
    if not means.samples:
        return {}
    means.check("fit")
    return means.logs()


def _begin_epoch(run: Run, feed: Feed) -> Batches:
    """The batches of an epoch; where it is taken up in the middle, the order it began with."""
    chance = generator().bit_generator
    if not run.batches_done:
        run.epoch_random = dict(chance.state)
        run.means = Means(run.compiled)
        return feed.batches()
    here = chance.state
    chance.state = run.epoch_random
    batches = feed.batches(run.batches_done)
    chance.state = here
    return batches


def _check_norms(network: Network, feed: Feed) -> None:
    """Batch norm cannot normalise a single value: told before anything is trained."""
    layer = network.norm_of_single_values()
    if layer is not None:
        raise ValueError(
            f"[fit] layer {layer} needs more than one value a channel in training, and the last "
            f"batch of {feed.samples:,} samples is a single one: leave it out with drop_last=True "
            "(of fit, or of your Loader), or take another batch_size"
        )


def _pair(data: Any) -> tuple[Any, Any] | None:
    """(x, y) of arrays, in a tuple or a list; None for whatever gives batches."""
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


def _why_diverged(run: Run, loss: float, images: Tensor, feed: Feed) -> str:
    rate = run.optimizer.param_groups[0]["lr"]
    where = f"[fit] the loss became {loss} in step {run.step} (epoch {run.epoch + 1})"
    first = feed.first_not_finite()
    if first is not None:
        return f"{where}: x[{first}] holds NaN or infinity"
    if not np.isfinite(images.numpy()).all():
        return f"{where}: x of this batch holds NaN or infinity"
    for name, parameter in run.model.named_parameters():
        if not np.isfinite(parameter.numpy()).all():
            return f"{where}: {name} is no longer finite; lower the learning rate (now {rate:g})"
    return f"{where}: the outputs overflowed; lower the learning rate (now {rate:g})"
