"""LRScheduler: steps, the rates they set, and the state that a checkpoint keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..checks import is_number
from ..optimizer import Optimizer

__all__ = ["LRScheduler", "one_each", "products"]

# Attributes that are one of a few words.
_WORDS = {
    "anneal_strategy": ("cos", "linear"),
    "mode": ("min", "max", "triangular", "triangular2", "exp_range"),
    "scale_mode": ("cycle", "iterations"),
    "threshold_mode": ("rel", "abs"),
}


class LRScheduler:
    """The base of all schedules. One of your own defines `get_lr()`.

    Args:
        optimizer: whose groups are changed.
        last_epoch: the steps already taken, less one: -1 at the start. Then the optimiser must have
            been scheduled before, or have got the state of one that was.

    Attributes:
        optimizer: see above.
        base_lrs: for each group the rate from which the first of its schedules began, which the
            group keeps as "initial_lr".
        last_epoch: steps taken.

    Example:
        >>> import fastconv as fc
        >>> class Halving(fc.optim.lr_scheduler.LRScheduler):
        ...     def get_lr(self):
        ...         return [base / 2**self.last_epoch for base in self.base_lrs]
        >>> optimizer = fc.optim.SGD([fc.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = Halving(optimizer)
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [0.5]
    """

    _is_initial = False  # within the step that construction takes

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        name = type(self).__name__
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"[{name}] expected an Optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise ValueError(
                    f"[{name}] last_epoch={last_epoch} needs an optimizer that was scheduled "
                    f'before: group {i} has no "initial_lr"; load the state of the optimizer first'
                )
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._last_lr: list[float] = []
        self._check()
        self._initial_step()

    def get_lr(self) -> list[float]:
        """The rate of each group after `last_epoch` steps, from those before the last of them."""
        raise NotImplementedError(f"[{type(self).__name__}] get_lr() is not defined")

    def step(self) -> None:
        """Goes on to the next rates."""
        self._go_to(self.last_epoch + 1)

    def get_last_lr(self) -> list[float]:
        """The rate of each group after the last step of this schedule."""
        return self._last_lr

    def scale(self, factors: Sequence[float]) -> None:
        """Multiplies the rates that the schedule begins from: one factor a group.

        Whoever lowers a group's "lr" beside a schedule that sets rates anew uses it, lest the next
        step undo that.
        """
        self.base_lrs = products(self.base_lrs, factors)

    # ---- how a schedule moves
    def _go_to(self, epoch: int) -> None:
        before, self.last_epoch = self.last_epoch, epoch
        try:
            rates = self.get_lr()
        except BaseException:
            self.last_epoch = before
            raise
        self._set(rates)

    def _set(self, rates: Sequence[float]) -> None:
        groups = self.optimizer.param_groups
        for group, rate in zip(groups, rates, strict=False):  # a group added later keeps its own
            group["lr"] = rate
        self._last_lr = self._rates()

    def _rates(self) -> list[float]:
        """As the groups have them."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def _initial_step(self) -> None:
        """What construction does to the rates."""
        self._is_initial = True
        try:
            self.step()
        finally:
            del self._is_initial

    def _undo_initial_step(self) -> None:
        """Counts as if it had not been taken: SequentialLR has put the rates back."""
        self.last_epoch -= 1

    def _first_lr(self) -> list[float]:
        """The rates at step 0 where a SequentialLR comes to this schedule."""
        return self.get_lr()

    def _begin(self) -> None:
        """Starts at step 0, as the next part of a SequentialLR."""
        before, self.last_epoch = self.last_epoch, 0
        try:
            self._set(self._first_lr())
        except BaseException:
            self.last_epoch = before
            raise

    # ---- state
    def state_dict(self) -> dict[str, Any]:
        """Where the schedule is, and its numbers; functions are left out.

        The rates themselves are in the state of the optimiser.
        """
        return self._own_state()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Goes on where another schedule of the same kind was.

        Load the state of the optimiser too, which has the rates.

        Args:
            state_dict: what `state_dict()` gave. It may come from a file of somebody else: only
                what this schedule itself has is taken, of the same kind.

        Raises:
            ValueError: it does not fit; nothing is changed then.
        """
        for schedule, values in self._loaded(state_dict):
            vars(schedule).update(values)

    def _own_state(self) -> dict[str, Any]:
        return {
            name: list(value) if isinstance(value, list) else value
            for name, value in vars(self).items()
            if isinstance(value, (bool, float, str)) or is_number(value) or _is_numbers(value)
        }

    def _loaded(self, state: Any) -> list[tuple[LRScheduler, dict[str, Any]]]:
        """The checked values of this schedule, and of those it is made of."""
        name, own = type(self).__name__, self._own_state()
        if not isinstance(state, Mapping) or set(state) != set(own):
            came = (
                ", ".join(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
            )
            raise ValueError(f"[{name}] a state has {', '.join(own)}; got {came}")
        for key, value in state.items():
            wanted = _misfit(key, value, own[key])
            if wanted:
                raise ValueError(f"[{name}] {key} must be {wanted}, got {value!r}")
        values = {k: list(v) if isinstance(v, (list, tuple)) else v for k, v in state.items()}
        trial = object.__new__(type(self))
        vars(trial).update({**vars(self), **values})
        trial._check()
        if vars(trial).get("last_epoch", 0) < -1:
            raise ValueError(f"[{name}] last_epoch must be -1 or more, got {trial.last_epoch}")
        return [(self, values)]

    def _check(self) -> None:
        """Refuses numbers that the schedule cannot be computed with."""

    def _require(self, fine: bool, what: str) -> None:
        if not fine:
            raise ValueError(f"[{type(self).__name__}] expected {what}")


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(is_number(number) for number in value)


def _misfit(name: str, value: Any, own: Any) -> str:
    """What a value of a state must be, to take the place of `own`; empty if it is that."""
    if isinstance(own, bool):
        return "" if isinstance(value, bool) else "True or False"
    if isinstance(own, str):
        words = _WORDS.get(name, (own,))
        return "" if value in words else f"one of {', '.join(words)}"
    if isinstance(own, list):
        fine = isinstance(value, (list, tuple)) and _is_numbers(list(value))
        if name == "milestones":
            return "" if fine else "numbers"
        return "" if fine and len(value) == len(own) else f"{len(own)} numbers"
    if name == "best":  # nothing has been measured yet: infinite
        return "" if is_number(value) or value in (math.inf, -math.inf) else "a number"
    if name in ("last_epoch", "cooldown_counter", "num_bad_epochs"):
        return "" if is_number(value) and value == int(value) else "a whole number"
    return "" if is_number(value) else "a finite number"


def products(values: Sequence[float], factors: Sequence[float]) -> list[float]:
    """One by one; values without a factor stay."""
    scaled = [value * factor for value, factor in zip(values, factors, strict=False)]
    return [*scaled, *values[len(scaled) :]]


def one_each(value: float | Sequence[float], groups: int, name: str) -> list[float]:
    """A number for each group."""
    values = list(value) if isinstance(value, Sequence) else [value] * groups
    if len(values) != groups or not _is_numbers(values):
        raise ValueError(f"{name} needs a number, or {groups} for the groups, got {value!r}")
    return values
