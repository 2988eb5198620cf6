"""What compile() was told, made ready for use: losses, metrics and optimisers by name or by object.

An `Objective` knows how the targets of a loss are written, the mean loss of a batch, what counts as
correct, and what `predict` makes of the network's outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core, nn, optim
from .. import functional as F
from ..convert import from_numpy
from ..tensor import Tensor, wrap
from .inputs import check_labels, class_labels, float_targets

__all__ = ["Metric", "Objective", "make_metrics", "make_objective", "make_optimizer"]

Metric = Callable[
    [Tensor, NDArray[Any]], float
]  # outputs and targets of a batch -> sum over samples


class Objective:
    """A loss of the user's own: any callable `loss(outputs, targets)`, PyTorch's order."""

    head: type[nn.Module] | None = None  # the final layer that the loss takes the place of

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        self.function = loss  # of outputs and targets, both Tensors
        self._sums = getattr(loss, "reduction", "mean") == "sum"
        if getattr(loss, "reduction", "mean") == "none":
            raise ValueError(
                '[compile] a loss needs reduction="mean" or "sum" to train on, got "none"'
            )

    def targets(self, op: str, y: NDArray[Any], outputs: tuple[int, ...]) -> NDArray[Any]:
        """y checked and in the type the loss takes; `outputs`: the shape of one sample's output."""
        return y.astype(np.int64) if y.dtype.kind in "biu" else y.astype(np.float32, copy=False)

    def loss(self, outputs: Tensor, targets: NDArray[Any]) -> Tensor:
        return self.function(outputs, wrap(from_numpy(targets)))

    def mean(self, loss: float, samples: int) -> float:
        """The loss a sample, from the loss of a batch."""
        return loss / samples if self._sums else loss

    def correct(self, outputs: Tensor, targets: NDArray[Any]) -> float:
        """How many of the batch are right: by class for several outputs, at one half for one."""
        got = outputs.numpy()
        if got.ndim == 2 and got.shape[1] > 1:
            best = targets.argmax(axis=1) if targets.ndim == 2 else targets
            return float(np.count_nonzero(got.argmax(axis=1) == best))
        return _share_equal(got > 0.5, targets > 0.5)

    def activate(self, outputs: Tensor) -> Tensor:
        """What predict returns."""
        return outputs

    def weighted(self, weights: NDArray[np.float32]) -> Objective:
        """The same, with classes (C,) that count differently in the loss."""
        raise ValueError(
            "[fit] class_weight goes with a cross-entropy of class labels; binary losses have "
            "nn.BCEWithLogitsLoss(pos_weight=...), and a loss of your own can weigh by itself"
        )


class CrossEntropy(Objective):
    """Softmax and the negative logarithm of the right class, in one stable step, on logits.

    Args:
        loss: An `nn.CrossEntropyLoss`, or None for the plain one.
        categorical: Targets are rows of probabilities (one-hot as a rule), not labels.
    """

    head = nn.Softmax

    def __init__(self, loss: nn.CrossEntropyLoss | None = None, categorical: bool = False) -> None:
        super().__init__(loss or F.cross_entropy)
        self._module = loss
        self._categorical = categorical
        self._ignore = getattr(loss, "ignore_index", None)

    def targets(self, op: str, y: NDArray[Any], outputs: tuple[int, ...]) -> NDArray[Any]:
        if len(outputs) != 1:
            raise ValueError(
                f"[{op}] cross-entropy needs outputs (N, classes), this network gives "
                f"(N, {', '.join(map(str, outputs))}); end it in Flatten and Linear"
            )
        if not self._categorical:
            labels = class_labels(op, y, self._ignore)
            check_labels(op, labels, outputs[0], self._ignore)
            return labels
        if y.ndim != 2:
            raise ValueError(
                f"[{op}] categorical_crossentropy needs {outputs[0]} probabilities a sample, "
                f'got y {y.shape}; for integer labels use loss="sparse_categorical_crossentropy"'
            )
        rows = float_targets(op, y, outputs)
        wrong = (rows < 0).any(axis=1) | (np.abs(rows.sum(axis=1) - 1) > 1e-3)
        if wrong.any():
            first = int(np.argmax(wrong))
            raise ValueError(
                f"[{op}] rows of y must be probabilities adding up to 1: y[{first}] is {y[first]}"
            )
        one_hot = bool((np.count_nonzero(rows, axis=1) == 1).all())
        return rows.argmax(axis=1) if one_hot else rows

    def correct(self, outputs: Tensor, targets: NDArray[Any]) -> float:
        labels = targets if targets.dtype == np.int64 else targets.argmax(axis=1)
        return _core.count_correct(outputs._array, from_numpy(labels))

    def activate(self, outputs: Tensor) -> Tensor:
        return F.softmax(outputs, dim=1)

    def weighted(self, weights: NDArray[np.float32]) -> Objective:
        """Keras's rule: each sample's loss times its weight, and the plain mean of those."""
        sums = copy.copy(self._module or nn.CrossEntropyLoss())
        if sums.weight is not None:
            raise ValueError("[fit] the loss has weights of its own: leave out class_weight")
        sums.weight, sums.reduction = Tensor(weights), "sum"
        made = copy.copy(self)
        made.function = sums if self._sums else lambda outputs, y: sums(outputs, y) / len(y)
        return made


class BinaryCrossEntropy(Objective):
    """Yes-or-no outputs, each against a target between 0 and 1.

    Args:
        loss: An `nn.BCEWithLogitsLoss` or `nn.BCELoss`, or None for the former.
    """

    def __init__(self, loss: nn.BCEWithLogitsLoss | nn.BCELoss | None = None) -> None:
        super().__init__(loss or F.binary_cross_entropy_with_logits)
        self._on_logits = not isinstance(loss, nn.BCELoss)
        self.head = nn.Sigmoid if self._on_logits else None

    def targets(self, op: str, y: NDArray[Any], outputs: tuple[int, ...]) -> NDArray[Any]:
        targets = float_targets(op, y, outputs)
        outside = ((targets < 0) | (targets > 1)).reshape(len(targets), -1).any(axis=1)
        if outside.any():
            first = int(np.argmax(outside))
            raise ValueError(f"[{op}] targets must be between 0 and 1: y[{first}] is {y[first]}")
        return targets

    def correct(self, outputs: Tensor, targets: NDArray[Any]) -> float:
        threshold = 0.0 if self._on_logits else 0.5
        return _share_equal(outputs.numpy() > threshold, targets > 0.5)

    def activate(self, outputs: Tensor) -> Tensor:
        return F.sigmoid(outputs) if self._on_logits else outputs


class MeanSquaredError(Objective):
    """Numbers against numbers."""

    def __init__(self, loss: nn.MSELoss | None = None) -> None:
        super().__init__(loss or F.mse_loss)

    def targets(self, op: str, y: NDArray[Any], outputs: tuple[int, ...]) -> NDArray[Any]:
        return float_targets(op, y, outputs)


def make_objective(loss: Any, label_smoothing: float = 0.0) -> Objective:
    """From a name, an nn loss, or any callable `loss(outputs, targets)`."""
    if label_smoothing:
        if not isinstance(loss, str) or "categorical_crossentropy" not in loss:
            raise ValueError(
                "[compile] label_smoothing goes with the categorical cross-entropies by name; "
                "otherwise use loss=nn.CrossEntropyLoss(label_smoothing=...)"
            )
        smooth = nn.CrossEntropyLoss(label_smoothing=label_smoothing)
    else:
        smooth = None
    if isinstance(loss, str):
        named: dict[str, Callable[[], Objective]] = {
            "sparse_categorical_crossentropy": lambda: CrossEntropy(smooth),
            "categorical_crossentropy": lambda: CrossEntropy(smooth, categorical=True),
            "binary_crossentropy": BinaryCrossEntropy,
            "mse": MeanSquaredError,
            "mean_squared_error": MeanSquaredError,
        }
        objective: Objective = _by_name("loss", loss, named)()
        return objective
    if isinstance(loss, nn.CrossEntropyLoss):
        return CrossEntropy(loss)
    if isinstance(loss, (nn.BCEWithLogitsLoss, nn.BCELoss)):
        return BinaryCrossEntropy(loss)
    if isinstance(loss, nn.MSELoss):
        return MeanSquaredError(loss)
    if callable(loss):
        return Objective(loss)
    if loss is None:
        raise ValueError(
            "[compile] a loss is needed, for instance loss='sparse_categorical_crossentropy'"
        )
    raise TypeError(
        f"[compile] loss must be a name, an nn loss or a callable, got {type(loss).__name__}"
    )


def make_metrics(metrics: Sequence[Any], objective: Objective) -> dict[str, Metric]:
    """Functions of a batch by their names in the logs; each returns the sum over the samples."""
    made: dict[str, Metric] = {}
    for metric in metrics:
        if isinstance(metric, str):
            named: dict[str, tuple[str, Metric]] = {
                "accuracy": ("accuracy", objective.correct),
                "acc": ("accuracy", objective.correct),
                "mae": ("mae", _of_arrays(objective, _absolute_error)),
                "mse": ("mse", _of_arrays(objective, _squared_error)),
            }
            name, function = _by_name("metric", metric, named)
            made[name] = function
        elif callable(metric):
            made[getattr(metric, "__name__", type(metric).__name__)] = _of_arrays(objective, metric)
        else:
            raise TypeError(
                f"[compile] a metric must be a name or a callable, got {type(metric).__name__}"
            )
    return made


def make_optimizer(optimizer: Any, model: nn.Module) -> optim.Optimizer:
    """From a name (with Keras's defaults), a class of `optim`, or an optimiser."""
    if isinstance(optimizer, str):
        named: dict[str, Callable[[Any], optim.Optimizer]] = {
            "sgd": lambda p: optim.SGD(p, lr=0.01),
            "rmsprop": lambda p: optim.RMSprop(
                p, lr=1e-3, alpha=0.9, eps=1e-7, eps_inside_sqrt=True
            ),
            "adam": lambda p: optim.Adam(p, lr=1e-3, eps=1e-7),
            "adamw": lambda p: optim.AdamW(p, lr=1e-3, eps=1e-7, weight_decay=0.004),
            "adagrad": lambda p: optim.Adagrad(p, lr=1e-3, initial_accumulator_value=0.1, eps=1e-7),
        }
        optimizer = _by_name("optimizer", optimizer.lower(), named)(model.parameters())
    elif isinstance(optimizer, type) and issubclass(optimizer, optim.Optimizer):
        optimizer = optimizer(model.parameters())  # type: ignore[call-arg]
    if isinstance(optimizer, optim.Optimizer):
        known = {id(p) for p in model.parameters()}
        if not any(id(p) in known for group in optimizer.param_groups for p in group["params"]):
            raise ValueError("[compile] this optimizer holds no parameter of this model")
        return optimizer
    raise TypeError(
        "[compile] optimizer must be a name or one of fastconv.optim, got "
        f"{type(optimizer).__name__}"
    )


def _by_name(what: str, name: str, named: dict[str, Any]) -> Any:
    if name not in named:
        raise ValueError(f"[compile] unknown {what} {name!r}; known: {', '.join(sorted(named))}")
    return named[name]


def _share_equal(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Samples that agree; with several outputs a sample, each counts for its share."""
    b = b.reshape(a.shape)
    return float(np.count_nonzero(a == b)) * len(a) / max(a.size, 1)


def _absolute_error(predicted: NDArray[Any], targets: NDArray[Any]) -> float:
    return float(np.abs(predicted - targets.reshape(predicted.shape)).mean(dtype=np.float64))


def _squared_error(predicted: NDArray[Any], targets: NDArray[Any]) -> float:
    return float(np.square(predicted - targets.reshape(predicted.shape)).mean(dtype=np.float64))


def _of_arrays(
    objective: Objective, metric: Callable[[NDArray[Any], NDArray[Any]], float]
) -> Metric:
    """A mean over what `predict` would return, as a sum over the samples."""

    def total(outputs: Tensor, targets: NDArray[Any]) -> float:
        predicted = objective.activate(outputs.detach()).numpy()
        return float(metric(predicted, targets)) * len(targets)

    return total
