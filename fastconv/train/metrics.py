"""Metrics of `compile`, by name or by function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .objectives import by_name
from .targets import pairs_all_with_all

if TYPE_CHECKING:
    from ..autograd import Tensor
    from .objectives import Objective

__all__ = ["Metric", "make_metrics"]

# Outputs and targets of a batch -> the weighted sum over the batch, and the sum of the weights.
Metric: TypeAlias = "Callable[[Tensor, NDArray[Any]], tuple[float, float]]"
ArrayMetric: TypeAlias = "Callable[[NDArray[Any], NDArray[Any]], float]"


def make_metrics(metrics: Sequence[Any], objective: Objective) -> dict[str, Metric]:
    """Functions of a batch by their names in the logs.

    Raises:
        ValueError: An unknown name.
        TypeError: Not a list, or an entry is neither a name nor a function.
    """
    if isinstance(metrics, str) or callable(metrics):
        name = repr(metrics) if isinstance(metrics, str) else _name_of(metrics)
        raise TypeError(f"[compile] metrics must be a list: metrics=[{name}]")
    made: dict[str, Metric] = {}
    for metric in metrics:
        if isinstance(metric, str):
            named: dict[str, tuple[str, Metric]] = {
                "accuracy": ("accuracy", objective.correct),
                "acc": ("accuracy", objective.correct),
                "mae": ("mae", _OfArrays(objective, _absolute_error)),
                "mse": ("mse", _OfArrays(objective, _squared_error)),
            }
            name, function = by_name("metric", metric, named)
            made[name] = function
        elif callable(metric):
            made[_name_of(metric)] = _OfArrays(objective, metric)
        else:
            raise TypeError(
                f"[compile] a metric must be a name or a callable, got {type(metric).__name__}"
            )
    return made


class _OfArrays:
    """A metric of arrays, a mean over predictions and targets, as a sum over the samples."""

    def __init__(self, objective: Objective, metric: ArrayMetric) -> None:
        self._objective, self._metric = objective, metric
        self._column: bool | None = None  # whether targets (N,) go with outputs (N, 1) as (N, 1)

    def __call__(self, outputs: Tensor, targets: NDArray[Any]) -> tuple[float, float]:
        predicted = self._objective.activate(outputs.detach()).numpy()
        mask = self._objective.counted(targets)
        if mask is not None:
            kept = mask.reshape(len(mask), -1).any(axis=1)
            predicted, targets = predicted[kept], targets[kept]
        samples = len(targets)
        if not samples:
            return 0.0, 0
        if targets.ndim == 1 and predicted.shape == (samples, 1):
            if self._column is None:
                self._column = pairs_all_with_all(self._metric, np.resize(targets, 3))
            targets = targets[:, None] if self._column else targets
        return float(self._metric(predicted, targets)) * samples, samples


def _name_of(metric: Any) -> str:
    return str(getattr(metric, "__name__", type(metric).__name__))


def _absolute_error(predicted: NDArray[Any], targets: NDArray[Any]) -> float:
    return float(np.abs(predicted - _like("mae", predicted, targets)).mean(dtype=np.float64))


def _squared_error(predicted: NDArray[Any], targets: NDArray[Any]) -> float:
    return float(np.square(predicted - _like("mse", predicted, targets)).mean(dtype=np.float64))


def _like(name: str, predicted: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
    if targets.size != predicted.size:
        raise ValueError(
            f"[{name}] compares numbers with numbers: the network gives {predicted.shape}, the "
            f'targets are {targets.shape}; for class labels use metrics=["accuracy"]'
        )
    return targets.reshape(predicted.shape)
