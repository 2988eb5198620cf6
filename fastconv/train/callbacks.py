"""Callbacks: stop early, keep the best weights, change the learning rate.

A callback is any object with some of these methods, or a plain function, which is called as
`on_epoch_end`:

    on_train_begin(run)                 run: the `Run` in progress: model, optimizer, stop(), ...
    on_epoch_begin(epoch)               epochs count from 0
    on_batch_end(step, logs)            steps count from 0 over all epochs; logs: means so far
    on_epoch_end(epoch, logs)           logs: loss, accuracy, val_loss, val_accuracy
    on_train_end()                      also after an interruption or an error

They are called in the order given, except that those with `last = True`, which save the state of
the others, come last. Checkpoints keep the state of a callback that has `state_dict()` and
`load_state_dict(state)`: numbers, texts and arrays in dicts and lists. A checkpoint may come from
anyone, so `load_state_dict` must check what it is given and raise ValueError. An optional
`check_state_dict(state, model)` does so before anything is changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..nn.loading import matched
from ..nn.modes import stored_modes
from .state_checks import Kind, checked, is_arrays, is_count, is_number, optional

if TYPE_CHECKING:
    from ..nn import Module
    from .run import Run

__all__ = [
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "LearningRateScheduler",
    "ReduceLROnPlateau",
    "StepScheduler",
    "Watcher",
]

Logs = Mapping[str, float]


class Callback:
    """Knows the run it takes part in. Subclasses define the events they need."""

    run: Run
    last = False  # whether it is called after the others

    def on_train_begin(self, run: Run) -> None:
        self.run = run


class CallbackList:
    """Calls every callback that has the method, in order.

    Callbacks see the modes that modules store, not those in which `fit` runs them.
    """

    def __init__(self, callbacks: Sequence[Any]) -> None:
        self._callbacks = sorted(callbacks, key=lambda callback: getattr(callback, "last", False))
        self._on_batch_end = self._methods("on_batch_end")
        self._begun: list[Any] = []

    def train_begin(self, run: Run) -> None:
        with stored_modes():
            for callback in self._callbacks:
                self._begun.append(callback)
                if hasattr(callback, "on_train_begin"):
                    callback.on_train_begin(run)

    def epoch_begin(self, epoch: int) -> None:
        with stored_modes():
            for method in self._methods("on_epoch_begin"):
                method(epoch)

    def batch_end(self, step: int, logs: Logs) -> None:
        if self._on_batch_end:
            with stored_modes():
                for method in self._on_batch_end:
                    method(step, logs)

    def epoch_end(self, epoch: int, logs: Logs) -> None:
        with stored_modes():
            for callback in self._callbacks:
                method = getattr(callback, "on_epoch_end", callback)
                if callable(method):
                    method(epoch, logs)

    def train_end(self) -> None:
        with stored_modes():
            for callback in self._begun:
                if hasattr(callback, "on_train_end"):
                    callback.on_train_end()

    def _methods(self, name: str) -> list[Any]:
        methods = [getattr(callback, name, None) for callback in self._callbacks]
        return [method for method in methods if method is not None]


class Watcher(Callback):
    """Watches whether one number improves from epoch to epoch.

    Subclasses list the attributes that are their state in `_kinds`.
    """

    _kinds: ClassVar[Mapping[str, Kind]] = {"best": is_number}

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
        return {name: getattr(self, name) for name in self._kinds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned, and accepts nothing else: it may come from a file.

        Raises:
            ValueError: an unknown name, or a value of another kind; nothing is changed then.
        """
        for name, value in checked(type(self).__name__, state, self._kinds).items():
            setattr(self, name, value)

    def check_state_dict(self, state: Mapping[str, Any], model: Module) -> None:
        """Raises ValueError if `load_state_dict` cannot take this state for that model."""
        checked(type(self).__name__, state, self._kinds)


class EarlyStopping(Watcher):
    """Stops when `monitor` has not improved for `patience` epochs.

    Args:
        monitor: A name in the logs.
        patience: Epochs in a row without improvement that end the run; 0 counts as 1.
        min_delta: What counts as an improvement.
        mode: "min" (losses), "max" (accuracies), or "auto": max for names with "acc".
        restore_best_weights: Go back to the weights of the best epoch when training ends, whether
            this stopped it or the epochs ran out; not after an interruption or an error.

    Example::

        stop = train.EarlyStopping("val_accuracy", patience=5, restore_best_weights=True)
        model.fit(x, y, epochs=100, validation_split=0.1, callbacks=[stop])
    """

    _kinds: ClassVar[Mapping[str, Kind]] = {
        **Watcher._kinds,
        "_waited": is_count,
        "_weights": optional(is_arrays),
    }

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

    def check_state_dict(self, state: Mapping[str, Any], model: Module) -> None:
        super().check_state_dict(state, model)
        if state["_weights"] is not None:
            matched(model.state_dict(), state["_weights"], True, type(model).__name__)

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
            self._go_back()

    def on_train_end(self) -> None:
        if self.run.completed:
            self._go_back()

    def _go_back(self) -> None:
        if self._weights is not None:
            self.run.model.load_state_dict(self._weights)


class ReduceLROnPlateau(Watcher):
    """Lowers the learning rate when `monitor` has not improved for `patience` epochs.

    Together with a `StepScheduler` the rates stay lowered: its schedule continues from them.

    Args:
        monitor, min_delta, mode: As for `EarlyStopping`.
        factor: The factor for the rate of every parameter group.
        patience: Epochs in a row without improvement that lower it; 0 counts as 1.
        cooldown: Epochs after a change that do not count.
        min_lr: The lower bound of every rate.

    Example::

        model.fit(x, y, epochs=30, callbacks=[train.ReduceLROnPlateau("loss", patience=3)])
    """

    _kinds: ClassVar[Mapping[str, Kind]] = {
        **Watcher._kinds,
        "_waited": is_count,
        "_resting": is_count,
    }

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
