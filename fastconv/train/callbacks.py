"""What may happen beside training: stop early, keep the best weights, write a log, change the rate.

A callback is any object with some of these methods, or a plain function, which is called as
`on_epoch_end`:

    on_train_begin(run)                 run: the `Run` in progress: model, optimizer, stop(), ...
    on_epoch_begin(epoch)               epochs count from 0
    on_batch_end(step, logs)            steps count from 0 over all epochs; logs: means so far
    on_epoch_end(epoch, logs)           logs: loss, accuracy, val_loss, val_accuracy
    on_train_end()                      also after an interruption or an error
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .run import Run

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "JSONLogger",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "StepScheduler",
]

Logs = Mapping[str, float]


class Callback:
    """Knows the run it takes part in. Subclasses define the events they need."""

    run: Run

    def on_train_begin(self, run: Run) -> None:
        self.run = run


class CallbackList:
    """Calls every callback that has the method, in order."""

    def __init__(self, callbacks: Sequence[Any]) -> None:
        self._callbacks = list(callbacks)
        self._on_batch_end = self._methods("on_batch_end")

    def train_begin(self, run: Run) -> None:
        self._call("on_train_begin", run)

    def epoch_begin(self, epoch: int) -> None:
        self._call("on_epoch_begin", epoch)

    def batch_end(self, step: int, logs: Logs) -> None:
        for method in self._on_batch_end:
            method(step, logs)

    def epoch_end(self, epoch: int, logs: Logs) -> None:
        for callback in self._callbacks:
            method = getattr(callback, "on_epoch_end", callback)
            if callable(method):
                method(epoch, logs)

    def train_end(self) -> None:
        self._call("on_train_end")

    def _methods(self, name: str) -> list[Any]:
        methods = [getattr(callback, name, None) for callback in self._callbacks]
        return [method for method in methods if method is not None]

    def _call(self, name: str, *args: Any) -> None:
        for method in self._methods(name):
            method(*args)


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
        patience: Epochs without improvement that are let pass.
        min_delta: What counts as an improvement.
        mode: "min" (losses), "max" (accuracies), or "auto": max for names with "acc".
        restore_best_weights: Go back to the weights of the best epoch when stopping.
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
        return {**super().state_dict(), "_waited": self._waited}

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self.improved(logs):
            self._waited = 0
            if self._restore:
                state = self.run.model.state_dict()
                self._weights = {name: np.array(tensor) for name, tensor in state.items()}
            return
        self._waited += 1
        if self._waited > self.patience:
            self.run.stop()
            if self._weights is not None:
                self.run.model.load_state_dict(self._weights)


class ModelCheckpoint(_Watcher):
    """Saves the weights after every epoch, or after those that were the best so far.

    The file is always complete: a new one replaces it in one move.

    Args:
        path: A .safetensors file; `{epoch}` (from 1) and the names in the logs may stand in it, as
            in "lenet5-{epoch:02d}-{val_accuracy:.4f}.safetensors".
        save_best_only: Save only when `monitor` improved.
        everything: Also the optimiser, the random numbers and the epoch, to resume from exactly.
        on_error: "raise", or "warn" to train on when the disk refuses.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        mode: str = "auto",
        save_best_only: bool = False,
        everything: bool = False,
        on_error: str = "raise",
    ) -> None:
        super().__init__(monitor, mode)
        if on_error not in ("raise", "warn"):
            raise ValueError(f'[callbacks] on_error must be "raise" or "warn", got {on_error!r}')
        self.path = os.fspath(path)
        self._best_only, self._everything, self._on_error = save_best_only, everything, on_error

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self._best_only and not self.improved(logs):
            return
        from ..io import save
        from .checkpoint import save_checkpoint

        path = self.path.format(epoch=epoch + 1, **logs)
        try:
            if self._everything:
                save_checkpoint(path, self.run)
            else:
                save(self.run.model.state_dict(), path)
        except OSError as error:
            if self._on_error == "raise":
                raise
            import warnings

            warnings.warn(f"[ModelCheckpoint] {path} was not written: {error}", stacklevel=2)


class CSVLogger(Callback):
    """Writes one row an epoch, with a header row: epoch, loss, accuracy, ..."""

    def __init__(self, path: str | os.PathLike[str], append: bool = False) -> None:
        self.path, self._append = path, append
        self._file: IO[str] | None = None

    def on_train_begin(self, run: Run) -> None:
        super().on_train_begin(run)
        mode = "a" if self._append else "w"
        self._file = open(self.path, mode, newline="", encoding="utf-8")  # noqa: SIM115

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        assert self._file is not None
        writer = csv.writer(self._file)
        if self._file.tell() == 0:
            writer.writerow(["epoch", *logs])
        writer.writerow([epoch + 1, *logs.values()])
        self._file.flush()

    def on_train_end(self) -> None:
        if self._file is not None:
            self._file.close()


class JSONLogger(CSVLogger):
    """Writes one JSON object a line an epoch: {"epoch": 1, "loss": 0.25, "accuracy": 0.92}."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        assert self._file is not None
        # NaN is not JSON
        finite = {k: v if math.isfinite(v) else None for k, v in logs.items()}
        self._file.write(json.dumps({"epoch": epoch + 1, **finite}) + "\n")
        self._file.flush()


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
