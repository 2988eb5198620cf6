"""ReduceLROnPlateau: a lower rate where a measurement no longer improves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import SupportsFloat

from ..checks import is_number
from ..optimizer import Optimizer
from .base import LRScheduler, one_each

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(LRScheduler):
    """The rate times `factor` when a measurement has not improved for more than `patience` steps.

    `fit` has a callback for this: `train.ReduceLROnPlateau`.

    Args:
        optimizer: whose groups are changed.
        mode: "min" for losses, "max" for accuracies.
        factor: below 1.
        patience: steps without improvement that are borne.
        threshold: what counts as an improvement:
        threshold_mode: "rel", as a part of the best so far, or "abs".
        cooldown: steps after a change in which none is counted.
        min_lr: no rate goes below; one, or one a group.
        eps: a change smaller than this is not made.

    Example:
        >>> import fastconv as fc
        >>> optimizer = fc.optim.SGD([fc.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = fc.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
        >>> for loss in (1.0, 0.5, 0.5, 0.5):
        ...     schedule.step(loss)
        >>> schedule.get_last_lr()
        [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"[ReduceLROnPlateau] expected an Optimizer, got {type(optimizer).__name__}"
            )
        self.optimizer = optimizer
        self.mode, self.factor, self.patience = mode, factor, patience
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.cooldown, self.eps = cooldown, eps
        self.min_lrs = one_each(min_lr, len(optimizer.param_groups), "[ReduceLROnPlateau] min_lr")
        self._check()
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = self.num_bad_epochs = self.last_epoch = 0
        self._last_lr = self._rates()

    def _check(self) -> None:
        self._require(self.mode in ("min", "max"), f'mode "min" or "max", got {self.mode!r}')
        self._require(
            self.threshold_mode in ("rel", "abs"),
            f'threshold_mode "rel" or "abs", got {self.threshold_mode!r}',
        )
        self._require(
            is_number(self.factor) and 0 <= self.factor < 1, f"0 <= factor < 1, got {self.factor!r}"
        )
        for name in ("patience", "threshold", "cooldown", "eps"):
            value = getattr(self, name)
            self._require(is_number(value), f"a number for {name}, got {value!r}")

    def step(self, metrics: SupportsFloat) -> None:  # type: ignore[override]
        """Compares a measurement with the best so far.

        Args:
            metrics: a number, or what has one, as a loss.
        """
        current = float(metrics)
        self.last_epoch += 1
        if self._is_better(current):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, least in zip(self.optimizer.param_groups, self.min_lrs, strict=False):
                rate = max(group["lr"] * self.factor, least)
                if group["lr"] - rate > self.eps:
                    group["lr"] = rate
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self._rates()

    def _is_better(self, value: float) -> bool:
        sign = 1.0 if self.mode == "max" else -1.0
        if self.threshold_mode == "rel":
            return value * sign > self.best * (1.0 + sign * self.threshold) * sign
        return value * sign > (self.best + sign * self.threshold) * sign

    def scale(self, factors: Sequence[float]) -> None:
        """Nothing to do: it goes on from the rates that the groups have."""
