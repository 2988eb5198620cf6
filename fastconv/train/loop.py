"""The training loop: epochs of steps, with validation, callbacks, progress and interruptions."""

from __future__ import annotations

import math
import warnings
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from ..errors import TrainingDiverged
from ..interrupt import DeferredInterrupt
from ..random import generator
from .callbacks import CallbackList
from .compiled import compiled_of
from .measure import Means, measure
from .step import train_step

if TYPE_CHECKING:
    from ..autograd import Tensor
    from .checkpoint import Checkpoint
    from .feed import Batches, Feed
    from .network import Network
    from .progress import Progress
    from .run import Run

__all__ = ["Loop"]


class Loop:
    """What `fit` does once everything is set up.

    Args:
        run: the state of training, which the loop updates.
        network: the model, as training sees it.
        feed, validation: the batches to train on, and those to measure after every epoch.
        progress: the progress display.
    """

    def __init__(
        self, run: Run, network: Network, feed: Feed, validation: Feed | None, progress: Progress
    ) -> None:
        self._run, self._network = run, network
        self._feed, self._validation = feed, validation
        self._progress = progress
        self._callbacks = CallbackList(run.callbacks)
        self._interrupt = DeferredInterrupt()

    def train(self, checkpoint: Checkpoint | None) -> None:
        """All epochs, from where the run is or the checkpoint was taken."""
        run = self._run
        # Checked before a callback begins: a logger would already cut its file.
        restoration = None if checkpoint is None else checkpoint.prepare(run)
        with self._interrupt:
            try:
                self._callbacks.train_begin(run)
                if checkpoint is not None and restoration is not None:
                    if checkpoint.batches:  # its epoch had begun; apply() restores the rest
                        self._callbacks.epoch_begin(checkpoint.epoch)
                    restoration.apply()
                    if run.stopping:
                        warnings.warn(
                            f"[fit] the run to resume was stopped by a callback {checkpoint.where}:"
                            " it is over",
                            stacklevel=3,
                        )
                self._epochs()
                run.completed = True
            except (KeyboardInterrupt, SystemExit):
                run.interrupted = self._interrupt.between_steps
                raise
            finally:
                self._progress.close()
                self._callbacks.train_end()

    def _epochs(self) -> None:
        """The remaining epochs, each with its validation."""
        run, progress, callbacks = self._run, self._progress, self._callbacks
        compiled = compiled_of(run.model, "fit")  # validation does without class weights
        for epoch in range(run.epochs_done, run.epochs):
            run.epoch = epoch
            if not run.batches_done:
                if run.stopping:
                    break
                callbacks.epoch_begin(run.epoch)
            logs = self._epoch()
            if not logs:
                break
            progress.training_end()
            if self._validation is not None:
                op, check = "fit: validation_data", self._interrupt.check
                measured = measure(self._network, compiled, self._validation, op, check)
                logs |= measured.logs("val_")
            run.history.append(run.epoch, logs)
            run.epochs_done, run.batches_done = run.epoch + 1, 0
            progress.epoch_end(logs, run.stopping)
            callbacks.epoch_end(run.epoch, logs)
            self._interrupt.check()

    def _epoch(self) -> dict[str, float]:
        """One epoch, or the rest of it; returns the means, empty if there was no batch."""
        run, objective = self._run, self._run.compiled.objective
        run.model.train()
        batches = self._begin_epoch()
        means = run.means
        self._progress.epoch_begin(run.epoch, means.samples)
        with closing(batches):
            while not run.stopping and (batch := next(batches, None)) is not None:
                images, targets = batch
                if objective.weight(targets) > 0:
                    value, outputs = train_step(self._network, run.compiled, images, targets)
                    if not math.isfinite(value):
                        raise TrainingDiverged(self._why_diverged(value, images))
                    means.add(value, outputs, targets)
                else:
                    means.pass_over(len(targets))
                run.step += 1
                run.batches_done += 1
                logs = means.logs()
                self._progress.batch_end(len(targets), logs)
                self._callbacks.batch_end(run.step - 1, logs)
                self._interrupt.check()
        self._warn_of_missing_batches()
        if not means.samples:
            return {}
        means.check("fit")
        return means.logs()

    def _begin_epoch(self) -> Batches:
        """The batches of an epoch; a resumed epoch keeps the order it began with."""
        run = self._run
        bits = generator().bit_generator
        if not run.batches_done:
            run.epoch_random = dict(bits.state)
            run.means = Means(run.compiled)
            return self._feed.batches()
        here = bits.state
        bits.state = run.epoch_random
        batches = self._feed.batches(run.batches_done)
        bits.state = here
        return batches

    def _warn_of_missing_batches(self) -> None:
        """Warns where the data ended within an epoch; a used-up generator also ends training."""
        run, feed = self._run, self._feed
        if feed.steps is None or run.batches_done >= feed.steps or run.stopping:
            return
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
            stacklevel=6,
        )

    def _why_diverged(self, loss: float, images: Tensor) -> str:
        run = self._run
        rate = run.optimizer.param_groups[0]["lr"]
        where = f"[fit] the loss became {loss} in step {run.step} (epoch {run.epoch + 1})"
        first = self._feed.first_not_finite()
        if first is not None:
            return f"{where}: x[{first}] holds NaN or infinity"
        if not np.isfinite(images.numpy()).all():
            return f"{where}: x of this batch holds NaN or infinity"
        for name, parameter in run.model.named_parameters():
            if not np.isfinite(parameter.numpy()).all():
                return (
                    f"{where}: {name} is no longer finite; lower the learning rate (now {rate:g})"
                )
        return f"{where}: the outputs overflowed; lower the learning rate (now {rate:g})"
