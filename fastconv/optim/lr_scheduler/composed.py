"""Schedules made of others: one after another, or all at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from ..checks import is_count
from ..optimizer import Optimizer
from .base import LRScheduler
from .plateau import ReduceLROnPlateau

__all__ = ["ChainedScheduler", "SequentialLR"]


class _Composed(LRScheduler):
    """Steps other schedules of one optimiser."""

    def _of(self, optimizer: Optimizer | None, schedulers: Sequence[LRScheduler]) -> None:
        name = type(self).__name__
        self._schedulers = list(schedulers)
        if not self._schedulers:
            raise ValueError(f"[{name}] there are no schedulers")
        for i, part in enumerate(self._schedulers):
            if not isinstance(part, LRScheduler):
                raise TypeError(f"[{name}] schedulers[{i}] is a {type(part).__name__}")
            if isinstance(part, ReduceLROnPlateau):
                raise ValueError(
                    f"[{name}] schedulers[{i}] is a ReduceLROnPlateau, whose step needs a "
                    "measurement: step it by itself"
                )
            optimizer = optimizer or part.optimizer
            if part.optimizer is not optimizer:
                raise ValueError(f"[{name}] schedulers[{i}] belongs to another optimizer")
        assert optimizer is not None
        self.optimizer = optimizer

    def scale(self, factors: Sequence[float]) -> None:
        for part in self._schedulers:
            part.scale(factors)

    def _undo_initial_step(self) -> None:
        for part in self._schedulers:
            part._undo_initial_step()

    def state_dict(self) -> dict[str, Any]:
        parts = [part.state_dict() for part in self._schedulers]
        return {**self._own_state(), "_schedulers": parts}

    def _loaded(self, state: Any) -> list[tuple[LRScheduler, dict[str, Any]]]:
        name = type(self).__name__
        parts = state.get("_schedulers") if isinstance(state, Mapping) else None
        if not isinstance(parts, (list, tuple)) or len(parts) != len(self._schedulers):
            raise ValueError(
                f'[{name}] a state has "_schedulers", {len(self._schedulers)} states of schedules'
            )
        own = {key: value for key, value in state.items() if key != "_schedulers"}
        loaded = super()._loaded(own)
        for part, values in zip(self._schedulers, parts, strict=True):
            loaded += part._loaded(values)
        return loaded


class SequentialLR(_Composed):
    """One schedule after another; `torch.optim.lr_scheduler.SequentialLR`.

    Args:
        optimizer: whose groups are changed.
        schedulers: of this optimizer, just made.
        milestones: the step at which each but the first begins, from its own step 0.
        last_epoch: as for `LRScheduler`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        self._of(optimizer, schedulers)
        self.milestones = list(milestones)
        self.last_epoch = last_epoch + 1
        self._check()
        # The schedules have each changed the rate already: that is undone, and the first begins.
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        self._undo_initial_step()
        first = self._schedulers[bisect_right(self.milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def _check(self) -> None:
        rising = all(map(is_count, self.milestones)) and self.milestones == sorted(self.milestones)
        self._require(
            rising and len(self.milestones) == len(self._schedulers) - 1,
            f"{len(self._schedulers) - 1} rising milestones for {len(self._schedulers)} "
            f"schedulers, got {self.milestones}",
        )

    def step(self) -> None:
        epoch = self.last_epoch + 1
        index = bisect_right(self.milestones, epoch)
        part = self._schedulers[index]
        if index > 0 and self.milestones[index - 1] == epoch:
            part._begin()
        else:
            part.step()
        self.last_epoch = epoch
        self._last_lr = part.get_last_lr()

    def _begin(self) -> None:
        self.last_epoch = 0
        first = self._schedulers[bisect_right(self.milestones, 0)]
        first._begin()
        self._last_lr = first.get_last_lr()


class ChainedScheduler(_Composed):
    """Several schedules, stepped together; `torch.optim.lr_scheduler.ChainedScheduler`.

    Args:
        schedulers: of one optimizer; their effects multiply.
        optimizer: that optimizer; may be left out.

    Example:
        >>> import fastconv as fc
        >>> from fastconv.optim import lr_scheduler
        >>> optimizer = fc.optim.SGD([fc.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = lr_scheduler.ChainedScheduler(
        ...     [
        ...         lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=2),
        ...         lr_scheduler.ExponentialLR(optimizer, gamma=0.5),
        ...     ]
        ... )
        >>> rates = []
        >>> for _ in range(4):
        ...     rates += schedule.get_last_lr()
        ...     schedule.step()
        >>> rates
        [0.5, 0.25, 0.25, 0.125]
    """

    def __init__(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None
    ) -> None:
        self._of(optimizer, schedulers)
        self._last_lr = self._rates()

    def step(self) -> None:
        for part in self._schedulers:
            part.step()
        self._last_lr = self._rates()

    def _begin(self) -> None:
        for part in self._schedulers:
            part._begin()
        self._last_lr = self._rates()
