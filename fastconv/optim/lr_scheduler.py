"""Learning-rate schedules; `torch.optim.lr_scheduler`.

A schedule sets "lr" in the optimiser's groups at construction, and anew at each `step()`: once an
epoch, or once a batch for OneCycleLR. Each is a formula of the number of steps and of the rate at
the start.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .optimizer import Optimizer

__all__ = [
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "MultiStepLR",
    "OneCycleLR",
    "StepLR",
]


class LRScheduler:
    """The base of all schedules.

    Args:
        optimizer: whose groups are changed.
        last_epoch: the steps already taken, less one: -1 at the start. To resume, rather use
            `load_state_dict`.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            if last_epoch == -1:
                group["initial_lr"] = group["lr"]
            elif "initial_lr" not in group:
                raise ValueError(
                    "[lr_scheduler] last_epoch needs an optimizer that was scheduled before"
                )
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._last_lr: list[float] = []
        self.step()

    def lr_at(self, epoch: int, base_lr: float, group: int) -> float:
        """The rate of a group after `epoch` steps. Subclasses define it."""
        raise NotImplementedError

    def step(self) -> None:
        """Goes on to the next rate."""
        self.last_epoch += 1
        self._last_lr = [
            self.lr_at(self.last_epoch, base, i) for i, base in enumerate(self.base_lrs)
        ]
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=False):
            group["lr"] = lr

    def get_last_lr(self) -> list[float]:
        """The rate of each group now."""
        return self._last_lr

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes; functions are left out."""
        return {
            name: value
            for name, value in self.__dict__.items()
            if name != "optimizer" and not callable(value) and name != "lr_lambdas"
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where another schedule of the same kind was."""
        self.__dict__.update(state_dict)
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=False):
            group["lr"] = lr


class LambdaLR(LRScheduler):
    """lr times lr_lambda(epoch); one function, or one a group.

    Example:
        >>> import fastconv as fc
        >>> optimizer = fc.optim.SGD([fc.nn.Parameter([1.0])], lr=0.5)
        >>> schedule = fc.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch))
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [0.25]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise ValueError(f"[LambdaLR] expected {groups} functions, got {len(self.lr_lambdas)}")
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, base_lr: float, group: int) -> float:
        return base_lr * self.lr_lambdas[group](epoch)


class StepLR(LRScheduler):
    """lr times gamma every `step_size` steps.

    Example:
        >>> import fastconv as fc
        >>> optimizer = fc.optim.SGD([fc.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = fc.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
        >>> rates = []
        >>> for _ in range(5):
        ...     rates += schedule.get_last_lr()
        ...     schedule.step()
        >>> rates
        [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, base_lr: float, group: int) -> float:
        return base_lr * self.gamma ** (epoch // self.step_size)


class MultiStepLR(LRScheduler):
    """lr times gamma at each of `milestones`."""

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, base_lr: float, group: int) -> float:
        return base_lr * self.gamma ** bisect_right(self.milestones, epoch)


class ExponentialLR(LRScheduler):
    """lr times gamma at every step."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, base_lr: float, group: int) -> float:
        return base_lr * self.gamma**epoch


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from lr down to eta_min in T_max steps, then up again.

    Loshchilov and Hutter, "SGDR", 2017, without the restarts.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_max: int,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, base_lr: float, group: int) -> float:
        cosine = math.cos(math.pi * epoch / self.T_max)
        return self.eta_min + (base_lr - self.eta_min) * (1.0 + cosine) / 2.0


class OneCycleLR(LRScheduler):
    """Up to max_lr and down to almost nothing, in one cycle; momentum the other way round.

    Smith and Topin, "Super-convergence", 2018. Step it after every batch.

    Args:
        optimizer: whose groups are changed.
        max_lr: the highest rate, one or one a group.
        total_steps: the length of the cycle; or instead
        epochs, steps_per_epoch: their product.
        pct_start: the share of the cycle that goes up.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: change "momentum" (or the first of "betas") too,
        base_momentum, max_momentum: between these.
        div_factor: the first rate is max_lr / div_factor,
        final_div_factor: and the last is the first / final_div_factor.
        three_phase: go down to the first rate as steeply as up, and then on to the last.

    Raises:
        ValueError: stepped beyond the end of the cycle.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("[OneCycleLR] give total_steps, or epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        if total_steps < 1 or not 0 <= pct_start <= 1:
            raise ValueError(
                f"[OneCycleLR] expected steps >= 1 and 0 <= pct_start <= 1, got {total_steps} and "
                f"{pct_start}"
            )
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f'[OneCycleLR] anneal_strategy must be "cos" or "linear", got {anneal_strategy!r}'
            )
        groups = optimizer.param_groups
        self.total_steps, self.anneal_strategy = total_steps, anneal_strategy
        self.max_lrs = _one_each(max_lr, len(groups), "max_lr")
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        # Where each phase ends, and between which of the levels (first, highest, last) it goes.
        up = float(pct_start * total_steps) - 1
        if three_phase:
            self.ends = [up, float(2 * pct_start * total_steps) - 2, total_steps - 1]
            self.levels = [("first", "highest"), ("highest", "first"), ("first", "last")]
        else:
            self.ends = [up, total_steps - 1]
            self.levels = [("first", "highest"), ("highest", "last")]
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            if not all("momentum" in g or "betas" in g for g in groups):
                raise ValueError(
                    "[OneCycleLR] the optimizer has no momentum: pass cycle_momentum=False"
                )
            self.low_momenta = _one_each(base_momentum, len(groups), "base_momentum")
            self.high_momenta = _one_each(max_momentum, len(groups), "max_momentum")
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, base_lr: float, group: int) -> float:
        first = self.max_lrs[group] / self.div_factor
        levels = {
            "first": first,
            "highest": self.max_lrs[group],
            "last": first / self.final_div_factor,
        }
        return self._anneal(epoch, levels)

    def step(self) -> None:
        epoch = self.last_epoch + 1
        if epoch > self.total_steps:
            raise ValueError(
                f"[OneCycleLR] the cycle has {self.total_steps} steps, this is {epoch + 1}"
            )
        super().step()
        if not self.cycle_momentum:
            return
        for i, group in enumerate(self.optimizer.param_groups):
            high, low = self.high_momenta[i], self.low_momenta[i]
            momentum = self._anneal(epoch, {"first": high, "highest": low, "last": high})
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum

    def _anneal(self, epoch: int, levels: dict[str, float]) -> float:
        begin = 0.0
        for i, (end, (start, stop)) in enumerate(zip(self.ends, self.levels, strict=True)):
            if epoch <= end or i == len(self.ends) - 1:
                share = (epoch - begin) / (end - begin) if end > begin else 1.0
                if self.anneal_strategy == "cos":
                    share = (1.0 - math.cos(math.pi * share)) / 2.0
                return levels[start] + (levels[stop] - levels[start]) * share
            begin = end
        raise AssertionError("the last phase has no end")


def _one_each(value: float | Sequence[float], groups: int, name: str) -> list[float]:
    values = list(value) if isinstance(value, Sequence) else [value] * groups
    if len(values) != groups:
        raise ValueError(f"[OneCycleLR] {name} needs {groups} values, got {len(values)}")
    return values
