"""Schedules that multiply the rate at each step; and LambdaLR, which multiplies the first one."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

from ..checks import is_number
from ..optimizer import Optimizer
from .base import LRScheduler

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "PolynomialLR",
    "StepLR",
]

Factor = Callable[[int], float]


def _functions(
    given: Factor | Sequence[Factor], optimizer: Optimizer, schedule: str
) -> list[Factor]:
    """One for each group."""
    groups = len(optimizer.param_groups)
    functions = [given] * groups if callable(given) else list(given)
    if len(functions) != groups or not all(map(callable, functions)):
        raise ValueError(f"[{schedule}] expected {groups} functions, got {given!r}")
    return functions


class LambdaLR(LRScheduler):
    """The first rate times lr_lambda(step); one function, or one a group.

    Example:
        >>> import fastconv as fc
        >>> optimizer = fc.optim.SGD([fc.nn.Parameter([1.0])], lr=0.5)
        >>> schedule = fc.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch))
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [0.25]
    """

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Factor | Sequence[Factor], last_epoch: int = -1
    ) -> None:
        self.lr_lambdas = _functions(lr_lambda, optimizer, "LambdaLR")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [
            base * factor(self.last_epoch)
            for base, factor in zip(self.base_lrs, self.lr_lambdas, strict=False)
        ]


class _Multiplying(LRScheduler):
    """Multiplies every rate by a number that depends on the step alone."""

    def _factor(self) -> float:
        raise NotImplementedError

    def get_lr(self) -> list[float]:
        factor = self._factor()
        return [rate * factor for rate in self._rates()]

    def _first_factor(self) -> float:
        """Of the first rate at step 0."""
        return 1.0

    def _first_lr(self) -> list[float]:
        return [base * self._first_factor() for base in self.base_lrs]


class MultiplicativeLR(LRScheduler):
    """The rate times lr_lambda(step), from the first step on; one function, or one a group.

    Example:
        >>> import fastconv as fc
        >>> optimizer = fc.optim.SGD([fc.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = fc.optim.lr_scheduler.MultiplicativeLR(optimizer, lambda epoch: 1 / epoch)
        >>> for _ in range(3):
        ...     schedule.step()
        >>> round(schedule.get_last_lr()[0], 4)
        0.1667
    """

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Factor | Sequence[Factor], last_epoch: int = -1
    ) -> None:
        self.lr_lambdas = _functions(lr_lambda, optimizer, "MultiplicativeLR")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self._is_initial:
            return self._rates()
        return [
            rate * factor(self.last_epoch)
            for rate, factor in zip(self._rates(), self.lr_lambdas, strict=False)
        ]


class StepLR(_Multiplying):
    """The rate times gamma every `step_size` steps.

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

    def _check(self) -> None:
        fine = is_number(self.step_size) and self.step_size > 0 and is_number(self.gamma)
        self._require(fine, f"step_size > 0 and a gamma, got {self.step_size!r}, {self.gamma!r}")

    def _factor(self) -> float:
        return 1.0 if self.last_epoch == 0 or self.last_epoch % self.step_size else self.gamma


class MultiStepLR(_Multiplying):
    """The rate times gamma at each of `milestones`, twice at one that is given twice."""

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def _check(self) -> None:
        fine = all(map(is_number, self.milestones)) and is_number(self.gamma)
        self._require(fine, f"milestones and a gamma, got {self.milestones}, {self.gamma!r}")

    def _factor(self) -> float:
        return float(self.gamma ** self.milestones.count(self.last_epoch))

    def _first_factor(self) -> float:
        return float(self.gamma ** bisect_right(self.milestones, 0))


class ExponentialLR(_Multiplying):
    """The rate times gamma at every step."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _check(self) -> None:
        self._require(is_number(self.gamma), f"a number for gamma, got {self.gamma!r}")

    def _factor(self) -> float:
        return 1.0 if self._is_initial else self.gamma


class ConstantLR(_Multiplying):
    """The rate times `factor` for the first `total_iters` steps."""

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def _check(self) -> None:
        fine = is_number(self.factor) and 0 < self.factor <= 1 and is_number(self.total_iters)
        self._require(
            fine, f"0 < factor <= 1 and total_iters, got {self.factor!r}, {self.total_iters!r}"
        )

    def _factor(self) -> float:
        if self.last_epoch == 0:
            return self.factor
        return 1.0 / self.factor if self.last_epoch == self.total_iters else 1.0

    def _first_factor(self) -> float:
        return self.factor + (self.total_iters <= 0) * (1.0 - self.factor)


class LinearLR(_Multiplying):
    """The rate times what goes from start_factor to end_factor within `total_iters` steps.

    As a warm-up before another schedule, in a SequentialLR:

    Example:
        >>> import fastconv as fc
        >>> from fastconv.optim import lr_scheduler
        >>> optimizer = fc.optim.SGD([fc.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = lr_scheduler.SequentialLR(
        ...     optimizer,
        ...     [
        ...         lr_scheduler.LinearLR(optimizer, start_factor=0.25, total_iters=3),
        ...         lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5),
        ...     ],
        ...     milestones=[3],
        ... )
        >>> rates = []
        >>> for _ in range(7):
        ...     rates += schedule.get_last_lr()
        ...     schedule.step()
        >>> rates
        [0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def _check(self) -> None:
        start, end = self.start_factor, self.end_factor
        fine = is_number(start) and 0 < start <= 1 and is_number(end) and 0 <= end <= 1
        self._require(
            fine and is_number(self.total_iters) and self.total_iters > 0,
            "0 < start_factor <= 1, 0 <= end_factor <= 1 and total_iters > 0, got "
            f"{start!r}, {end!r}, {self.total_iters!r}",
        )

    def _factor(self) -> float:
        if self.last_epoch == 0:
            return self.start_factor
        if self._is_initial or self.last_epoch > self.total_iters:
            return 1.0
        rise = self.end_factor - self.start_factor
        return 1.0 + rise / (self.total_iters * self.start_factor + (self.last_epoch - 1) * rise)

    def _first_factor(self) -> float:
        return self.start_factor


class PolynomialLR(_Multiplying):
    """The first rate times (1 - step / total_iters) ** power: 0 after `total_iters` steps."""

    def __init__(
        self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def _check(self) -> None:
        fine = is_number(self.total_iters) and self.total_iters > 0 and is_number(self.power)
        self._require(
            fine, f"total_iters > 0 and a power, got {self.total_iters!r}, {self.power!r}"
        )

    def _factor(self) -> float:
        if self._is_initial or self.last_epoch > self.total_iters:
            return 1.0
        here = 1.0 - self.last_epoch / self.total_iters
        before = 1.0 - (self.last_epoch - 1) / self.total_iters
        return float((here / before) ** self.power)


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from the rate down to eta_min in T_max steps, then up again.

    Loshchilov and Hutter, "SGDR", 2017, without the restarts.
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def _check(self) -> None:
        fine = is_number(self.T_max) and self.T_max > 0 and is_number(self.eta_min)
        self._require(fine, f"T_max > 0 and eta_min, got {self.T_max!r}, {self.eta_min!r}")

    def get_lr(self) -> list[float]:
        epoch, period, least = self.last_epoch, self.T_max, self.eta_min
        if self._is_initial:
            return self._rates()
        if (epoch - 1 - period) % (
            2 * period
        ) == 0:  # the rate was least: there is nothing to scale
            rise = (1.0 - math.cos(math.pi / period)) / 2.0
            return [
                rate + (base - least) * rise
                for rate, base in zip(self._rates(), self.base_lrs, strict=False)
            ]
        ratio = (1.0 + math.cos(math.pi * epoch / period)) / (
            1.0 + math.cos(math.pi * (epoch - 1) / period)
        )
        return [ratio * (rate - least) + least for rate in self._rates()]

    def _first_lr(self) -> list[float]:
        return list(self.base_lrs)
