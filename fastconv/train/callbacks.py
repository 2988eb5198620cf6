"""What may happen beside training: stop early, keep the best weights, write a log, change the rate.

A callback is any object with some of these methods, or a plain function, which is called as
`on_epoch_end`:

    on_train_begin(run)                 run: the `Run` in progress: model, optimizer, stop(), ...
    on_epoch_begin(epoch)               epochs count from 0
    on_batch_end(step, logs)            steps count from 0 over all epochs; logs: means so far
    on_epoch_end(epoch, logs)           logs: loss, accuracy, val_loss, val_accuracy
    on_train_end()                      also after an interruption or an error

They are called in the order in which they are given, but for those that say `last = True`: what
saves the state of the others comes after them. A callback with `state_dict()` and
`load_state_dict(state)` has its state, of numbers, texts and arrays in dicts and lists, kept in
checkpoints.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .run import Run

__all__ = [
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
    "StepScheduler",
]

Logs = Mapping[str, float]


class Callback:
    """Knows the run it takes part in. Subclasses define the events they need."""

    run: Run
    last = False  # whether to be called after the others

    def on_train_begin(self, run: Run) -> None:
        self.run = run


class CallbackList:
    """Calls every callback that has the method, in order."""

    def __init__(self, callbacks: Sequence[Any]) -> None:
        self._callbacks = sorted(callbacks, key=lambda callback: getattr(callback, "last", False))
        self._on_batch_end = self._methods("on_batch_end")
        self._begun: list[Any] = []

    def train_begin(self, run: Run) -> None:
        for callback in self._callbacks:
            self._begun.append(callback)
            if hasattr(callback, "on_train_begin"):
                callback.on_train_begin(run)

    def epoch_begin(self, epoch: int) -> None:
        for method in self._methods("on_epoch_begin"):
            method(epoch)

    def batch_end(self, step: int, logs: Logs) -> None:
        for method in self._on_batch_end:
            method(step, logs)

    def epoch_end(self, epoch: int, logs: Logs) -> None:
        for callback in self._callbacks:
            method = getattr(callback, "on_epoch_end", callback)
            if callable(method):
                method(epoch, logs)

    def train_end(self) -> None:
        for callback in self._begun:
            if hasattr(callback, "on_train_end"):
                callback.on_train_end()

    def _methods(self, name: str) -> list[Any]:
        methods = [getattr(callback, name, None) for callback in self._callbacks]
        return [method for method in methods if method is not None]


class _Watcher(Callback):
    """Compares one number from epoch to epoch."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if mode not in ("auto", "min", "max"):
            raise ValueError(f'[callbacks] mode must be "auto", "min" or "max", got {mode!r}')
        self.monitor = monitor
        self._sign = 1.0 if mode == "max" or (mode == "auto" and "acc" in monitor) else -1.0
        self._min_delta = abs(min_delta)
        self.best = -math.inf * self._sign

    def improved(self, logs: Logs) -> bool:
        if self.monitor not in logs:
            raise ValueError(
                f"[callbacks] {type(self).__name__} watches {self.monitor!r}, this run has only "
                f"{', '.join(logs)}; val_... needs validation_data"
            )
        value = logs[self.monitor]
        better = (value - self.best) * self._sign > self._min_delta
        if better:
            self.best = value
        return better

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class EarlyStopping(_Watcher):
    """Stops when `monitor` has not improved for `patience` epochs.

    Args:
        monitor: A name in the logs.
        patience: Epochs in a row without improvement that end the run; 0 is as 1.
        min_delta: What counts as an improvement.
        mode: "min" (losses), "max" (accuracies), or "auto": max for names with "acc".
        restore_best_weights: Go back to the weights of the best epoch when stopping.

    Example::

        stop = train.EarlyStopping("val_accuracy", patience=5, restore_best_weights=True)
        model.fit(x, y, epochs=100, validation_split=0.1, callbacks=[stop])
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 0,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best_weights: bool = False,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self._restore = patience, restore_best_weights
        self._waited = 0
        self._weights: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_waited": self._waited, "_weights": self._weights}

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self.improved(logs):
            self._waited = 0
            if self._restore:
                state = self.run.model.state_dict()
                self._weights = {name: np.array(tensor) for name, tensor in state.items()}
            return
        self._waited += 1
        if self._waited >= self.patience:
            self.run.stop()
            if self._weights is not None:
                self.run.model.load_state_dict(self._weights)


class ReduceLROnPlateau(_Watcher):
    """Lowers the learning rate when `monitor` has not improved for `patience` epochs.

    Beside a `StepScheduler` the rates stay lowered: its schedule goes on from them.

    Args:
        monitor, min_delta, mode: As for `EarlyStopping`.
        factor: What the rate of every group of parameters is multiplied by.
        patience: Epochs in a row without improvement that lower it; 0 is as 1.
        cooldown: Epochs after a change in which none is counted.
        min_lr: No rate goes below.

    Example::

        model.fit(x, y, epochs=30, callbacks=[train.ReduceLROnPlateau("loss", patience=3)])
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        mode: str = "auto",
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        if not 0 <= factor < 1:
            raise ValueError(f"[callbacks] factor must be from 0 to below 1, got {factor}")
        self.factor, self.patience, self.cooldown, self.min_lr = factor, patience, cooldown, min_lr
        self._waited = self._resting = 0

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_waited": self._waited, "_resting": self._resting}

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        better = self.improved(logs)
        if self._resting:
            self._resting -= 1
            self._waited = 0
        elif better:
            self._waited = 0
        else:
            self._waited += 1
            if self._waited >= self.patience:
                self._reduce()
                self._waited, self._resting = 0, self.cooldown

    def _reduce(self) -> None:
        groups = self.run.optimizer.param_groups
        before = [group["lr"] for group in groups]
        for group, rate in zip(groups, before, strict=True):
            group["lr"] = min(rate, max(rate * self.factor, self.min_lr))
        factors = [
            group["lr"] / rate if rate else 1.0 for group, rate in zip(groups, before, strict=True)
        ]
        for callback in self.run.callbacks:
            if isinstance(callback, StepScheduler) and hasattr(callback.schedule, "scale"):
                callback.schedule.scale(factors)


class ModelCheckpoint(_Watcher):
    """Saves the weights after every epoch, or after those that were the best so far.

    The file is always complete: a new one replaces it in one move. `models.load` builds a network
    of `models` from it, `load_state_dict(fc.load(path))` puts it into any network.

    Args:
        path: A .safetensors file; `{epoch}` (from 1), `{step}` and the names in the logs may stand
            in it, as in "lenet5-{epoch:02d}-{val_accuracy:.4f}.safetensors".
        save_best_only: Save only when `monitor` improved.
        everything: Also the optimiser, the random numbers, the other callbacks and the place in the
            epoch, for `fit(resume=path)`. Ctrl-C and SIGTERM then save as well: nothing is lost.
        on_error: "raise", or "warn" to train on when the disk refuses.
        save_freq: "epoch", or a number of steps after which to save, instead.
        extra: With everything: what else to keep, as JSON has it; `Checkpoint.extra`.

    Example::

        best = train.ModelCheckpoint("best.safetensors", "val_accuracy", save_best_only=True)
        keep = train.ModelCheckpoint("run.safetensors", everything=True, save_freq=1000)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        mode: str = "auto",
        save_best_only: bool = False,
        everything: bool = False,
        on_error: str = "raise",
        save_freq: int | str = "epoch",
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        if on_error not in ("raise", "warn"):
            raise ValueError(f'[callbacks] on_error must be "raise" or "warn", got {on_error!r}')
        if save_freq != "epoch" and (not isinstance(save_freq, int) or save_freq < 1):
            raise ValueError(
                f'[callbacks] save_freq must be "epoch" or a number of steps, got {save_freq!r}'
            )
        self.path, self.last = os.fspath(path), everything
        self._best_only, self._everything, self._on_error = save_best_only, everything, on_error
        self._every = None if save_freq == "epoch" else int(save_freq)
        self._extra = extra

    def on_batch_end(self, step: int, logs: Logs) -> None:
        if self._every and (step + 1) % self._every == 0:
            self._consider(logs)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if not self._every:
            self._consider(logs)

    def on_train_end(self) -> None:
        if self._everything and not self._best_only and self.run.interrupted:
            self._save(self.run.means.logs() if self.run.batches_done else {})

    def _consider(self, logs: Logs) -> None:
        if not self._best_only or self.improved(logs):
            self._save(logs)

    def _save(self, logs: Logs) -> None:
        from .. import io, models
        from .checkpoint import Checkpoint

        model = self.run.model
        names = {"epoch": self.run.epoch + 1, "step": self.run.step, **logs}
        try:
            path = self.path.format(**names)
        except KeyError as error:
            raise ValueError(
                f"[ModelCheckpoint] {self.path} asks for {error}, there is only {', '.join(names)}"
                " here; val_... is known at the end of an epoch"
            ) from None
        try:
            if self._everything:
                Checkpoint.of(self.run, self._extra).save(path)
            elif model.architecture is not None:
                models.save(model, path)
            else:
                io.save(model.state_dict(), path)
        except OSError as error:
            if self._on_error == "raise":
                raise
            warnings.warn(f"[ModelCheckpoint] {path} was not written: {error}", stacklevel=2)


class LearningRateScheduler(Callback):
    """Sets the learning rate before every epoch to `schedule(epoch, rate)`."""

    def __init__(self, schedule: Callable[[int, float], float]) -> None:
        self._schedule = schedule

    def on_epoch_begin(self, epoch: int) -> None:
        for group in self.run.optimizer.param_groups:
            group["lr"] = float(self._schedule(epoch, group["lr"]))


class StepScheduler(Callback):
    """Steps one of `optim.lr_scheduler`'s schedules after every batch (or every epoch).

    >>> import fastconv as fc
    >>> from fastconv import models, optim, train
    >>> model = models.lenet5()
    >>> adam = optim.Adam(model.parameters())
    >>> model.compile(adam)
    >>> schedule = train.StepScheduler(optim.lr_scheduler.OneCycleLR(adam, 5e-3, total_steps=2814))
    """

    def __init__(self, schedule: Any, every: str = "batch") -> None:
        if every not in ("batch", "epoch"):
            raise ValueError(f'[callbacks] every must be "batch" or "epoch", got {every!r}')
        self.schedule, self._every = schedule, every

    def on_batch_end(self, step: int, logs: Logs) -> None:
        if self._every == "batch":
            self.schedule.step()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self._every == "epoch":
            self.schedule.step()

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        state: dict[str, Any] = self.schedule.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.schedule.load_state_dict(state)
