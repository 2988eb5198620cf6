"""Schedules that go up and down, each a formula of the number of steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..checks import is_count, is_number
from ..optimizer import Optimizer
from .base import LRScheduler, one_each, products

__all__ = ["CosineAnnealingWarmRestarts", "CyclicLR", "OneCycleLR"]


class CosineAnnealingWarmRestarts(LRScheduler):
    """Half a cosine from the first rate down to eta_min, again and again.

    Loshchilov and Hutter, "SGDR", 2017.

    Args:
        optimizer: whose groups are changed.
        T_0: steps of the first half cosine.
        T_mult: how much longer each is than the one before.
        eta_min: the lowest rate.
        last_epoch: as for `LRScheduler`.

    Example:
        >>> import fastconv as fc
        >>> optimizer = fc.optim.SGD([fc.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = fc.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2)
        >>> rates = []
        >>> for _ in range(5):
        ...     rates += schedule.get_last_lr()
        ...     schedule.step()
        >>> [round(rate, 2) for rate in rates]
        [1.0, 0.5, 1.0, 0.5, 1.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        self.T_0, self.T_mult, self.eta_min = T_0, T_mult, eta_min
        self.T_i, self.T_cur = T_0, last_epoch  # length of the half cosine under way; steps in it
        super().__init__(optimizer, last_epoch)

    def _check(self) -> None:
        lengths = [self.T_0, self.T_mult, self.T_i]
        self._require(
            all(is_count(length) and length > 0 for length in lengths) and is_number(self.eta_min),
            f"T_0 > 0 and T_mult > 0, whole, and eta_min, got {self.T_0!r}, {self.T_mult!r}, "
            f"{self.eta_min!r}",
        )

    def get_lr(self) -> list[float]:
        share = (1.0 + math.cos(math.pi * self.T_cur / self.T_i)) / 2.0
        return [self.eta_min + (base - self.eta_min) * share for base in self.base_lrs]

    def step(self) -> None:
        if self.last_epoch < 0:
            self.T_cur, self.T_i = 0, self.T_0
            self._go_to(0)
            return
        self.T_cur += 1
        if self.T_cur >= self.T_i:
            self.T_cur %= self.T_i
            self.T_i *= self.T_mult
        super().step()


class _WithMomentum(LRScheduler):
    """Sets momentum, or the first of betas, along with the rate."""

    cycle_momentum: bool
    base_momenta: list[float]
    max_momenta: list[float]

    def _take_momenta(
        self, optimizer: Optimizer, base: float | Sequence[float], highest: float | Sequence[float]
    ) -> None:
        name, groups = f"[{type(self).__name__}]", optimizer.param_groups
        if not all("momentum" in group or "betas" in group for group in groups):
            raise ValueError(f"{name} the optimizer has no momentum: pass cycle_momentum=False")
        self.base_momenta = one_each(base, len(groups), f"{name} base_momentum")
        self.max_momenta = one_each(highest, len(groups), f"{name} max_momentum")

    def _check(self) -> None:
        momenta = [*vars(self).get("base_momenta", ()), *vars(self).get("max_momenta", ())]
        self._require(all(0 <= m < 1 for m in momenta), f"momenta from 0 to below 1, got {momenta}")

    def get_momenta(self) -> list[float]:
        """The momentum of each group after `last_epoch` steps."""
        raise NotImplementedError

    def _set(self, rates: Sequence[float]) -> None:
        momenta = self.get_momenta() if self.cycle_momentum else []
        super()._set(rates)
        for group, momentum in zip(self.optimizer.param_groups, momenta, strict=False):
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum


class OneCycleLR(_WithMomentum):
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
        last_epoch: as for `LRScheduler`.

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
        groups = optimizer.param_groups
        self.total_steps, self.anneal_strategy = total_steps, anneal_strategy
        self.pct_start, self.three_phase = pct_start, three_phase
        self.max_lrs = one_each(max_lr, len(groups), "[OneCycleLR] max_lr")
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        self.cycle_momentum = cycle_momentum
        self._check()
        if cycle_momentum:
            self._take_momenta(optimizer, base_momentum, max_momentum)
        if last_epoch == -1:
            for group, highest in zip(groups, self.max_lrs, strict=True):
                group["initial_lr"] = highest / div_factor
        super().__init__(optimizer, last_epoch)

    def _check(self) -> None:
        super()._check()
        steps, share = self.total_steps, self.pct_start
        self._require(
            is_count(steps) and steps >= 1 and is_number(share) and 0 <= share <= 1,
            f"total_steps >= 1 and 0 <= pct_start <= 1, got {steps!r} and {share!r}",
        )
        epoch = vars(self).get("last_epoch", 0)
        self._require(epoch <= steps, f"a cycle of {steps} steps, this is {epoch + 1}")
        self._require(
            self.anneal_strategy in ("cos", "linear"),
            f'anneal_strategy "cos" or "linear", got {self.anneal_strategy!r}',
        )
        self._require(
            all(is_number(f) and f > 0 for f in (self.div_factor, self.final_div_factor)),
            f"factors above 0, got {self.div_factor!r} and {self.final_div_factor!r}",
        )

    def get_lr(self) -> list[float]:
        if self.last_epoch > self.total_steps:
            raise ValueError(
                f"[OneCycleLR] the cycle has {self.total_steps} steps, this is "
                f"{self.last_epoch + 1}"
            )
        firsts = [highest / self.div_factor for highest in self.max_lrs]
        return [
            self._anneal(
                {"first": first, "highest": highest, "last": first / self.final_div_factor}
            )
            for first, highest in zip(firsts, self.max_lrs, strict=True)
        ]

    def get_momenta(self) -> list[float]:
        return [
            self._anneal({"first": high, "highest": low, "last": high})
            for high, low in zip(self.max_momenta, self.base_momenta, strict=True)
        ]

    def scale(self, factors: Sequence[float]) -> None:
        super().scale(factors)
        self.max_lrs = products(self.max_lrs, factors)

    def _anneal(self, levels: dict[str, float]) -> float:
        """The value of this step: between two of the levels, in the phase that it is in."""
        end = float(self.total_steps - 1)
        up = float(self.pct_start * self.total_steps) - 1.0
        down = float(2 * self.pct_start * self.total_steps) - 2.0
        phases = [(up, "first", "highest"), (end, "highest", "last")]
        if self.three_phase:
            phases[1:] = [(down, "highest", "first"), (end, "first", "last")]
        begins = [0.0, *(phase[0] for phase in phases[:-1])]
        in_time = (i for i, phase in enumerate(phases) if self.last_epoch <= phase[0])
        index = next(in_time, len(phases) - 1)
        begin, (last, start, stop) = begins[index], phases[index]
        share = (self.last_epoch - begin) / (last - begin) if last > begin else 1.0
        if self.anneal_strategy == "cos":
            share = (1.0 - math.cos(math.pi * share)) / 2.0
        return levels[start] + (levels[stop] - levels[start]) * share


class CyclicLR(_WithMomentum):
    """Between base_lr and max_lr, up and down in straight lines; momentum the other way round.

    Smith, "Cyclical learning rates for training neural networks", 2017. Step it after every batch.

    Args:
        optimizer: whose groups are changed.
        base_lr, max_lr: the lowest and the highest rate, one or one a group.
        step_size_up: steps from the lowest to the highest;
        step_size_down: and back, as many unless given.
        mode: "triangular"; "triangular2", each cycle half as high as the one before; or
            "exp_range", its height times gamma**step.
        gamma: see mode.
        scale_fn: a function in place of mode: the height times scale_fn of the number of the cycle,
            from 1,
        scale_mode: or, with "iterations" and not "cycle", of the step.
        cycle_momentum: change "momentum" (or the first of "betas") too,
        base_momentum, max_momentum: between these.
        last_epoch: as for `LRScheduler`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.8,
        max_momentum: float | Sequence[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        groups = optimizer.param_groups
        lowest = one_each(base_lr, len(groups), "[CyclicLR] base_lr")
        self.max_lrs = one_each(max_lr, len(groups), "[CyclicLR] max_lr")
        self.step_size_up = step_size_up
        self.step_size_down = step_size_up if step_size_down is None else step_size_down
        self.mode, self.gamma, self.scale_fn = mode, gamma, scale_fn
        self.scale_mode, self.cycle_momentum = scale_mode, cycle_momentum
        self._check()
        if cycle_momentum:
            self._take_momenta(optimizer, base_momentum, max_momentum)
        if last_epoch == -1:
            for group, rate in zip(groups, lowest, strict=True):
                group["lr"] = rate
        self.lowest = lowest
        super().__init__(optimizer, last_epoch)

    def _check(self) -> None:
        super()._check()
        sizes = (self.step_size_up, self.step_size_down)
        self._require(
            all(is_number(size) and size > 0 for size in sizes) and is_number(self.gamma),
            f"step sizes > 0 and gamma, got {sizes}, {self.gamma!r}",
        )
        self._require(
            self.scale_fn is not None or self.mode in ("triangular", "triangular2", "exp_range"),
            f'mode "triangular", "triangular2" or "exp_range", got {self.mode!r}',
        )
        self._require(
            self.scale_mode in ("cycle", "iterations"),
            f'scale_mode "cycle" or "iterations", got {self.scale_mode!r}',
        )

    def get_lr(self) -> list[float]:
        share = self._share()
        return [
            low + (high - low) * share for low, high in zip(self.lowest, self.max_lrs, strict=True)
        ]

    def get_momenta(self) -> list[float]:
        share = self._share()
        return [
            high - (high - low) * share
            for low, high in zip(self.base_momenta, self.max_momenta, strict=True)
        ]

    def scale(self, factors: Sequence[float]) -> None:
        super().scale(factors)
        self.lowest = products(self.lowest, factors)
        self.max_lrs = products(self.max_lrs, factors)

    def _share(self) -> float:
        """How far up it is, from 0 to 1, and less in later cycles as the mode has it."""
        size = float(self.step_size_up + self.step_size_down)
        rising = self.step_size_up / size
        cycle = math.floor(1.0 + self.last_epoch / size)
        x = 1.0 + self.last_epoch / size - cycle
        share = x / rising if x <= rising else (x - 1.0) / (rising - 1.0)
        if self.scale_fn is not None:
            return share * self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.mode == "triangular2":
            return share / 2.0 ** (cycle - 1)
        return share * self.gamma**self.last_epoch if self.mode == "exp_range" else share
