"""Losses and optimisers for `compile`, from names or objects.

An `Objective` knows the form of a loss's targets, the weight of each batch in a mean, what counts
as correct, and how `predict` turns outputs into predictions. The mean loss over a data set is the
weighted sum over its samples, divided by the sum of the weights: it does not depend on the batches.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core, nn, optim
from .. import functional as F
from ..autograd import Tensor, from_numpy, no_grad, wrap
from .network import activate
from .targets import (
    check_labels,
    class_labels,
    float_targets,
    pairs_all_with_all,
    probability_rows,
)

__all__ = ["Objective", "by_name", "make_objective", "make_optimizer"]


class Objective:
    """Any callable `loss(outputs, targets)`; subclasses know the losses of this package.

    Attributes:
        function: The loss, of outputs and targets, both Tensors.
        head: The activation that turns outputs into predictions: "softmax", "sigmoid" or None.
        known: Whether the loss is one of this package, so that `head` is known.
    """

    head: str | None = None
    known = True

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        self.function = loss
        self._sums = getattr(loss, "reduction", "mean") == "sum"
        if getattr(loss, "reduction", "mean") == "none":
            raise ValueError(
                '[compile] a loss needs reduction="mean" or "sum" to train on, got "none"'
            )

    def targets(self, op: str, y: NDArray[Any], outputs: tuple[int, ...]) -> NDArray[Any]:
        """y checked and in the type the loss takes; `outputs`: the shape of one sample's output."""
        raise NotImplementedError

    def prepared(self, targets: NDArray[Any]) -> NDArray[Any]:
        """Targets of a batch as the loss takes them; metrics get what `targets` returned."""
        return targets

    def loss(self, outputs: Tensor, targets: NDArray[Any]) -> Tensor:
        return self.function(outputs, wrap(from_numpy(self.prepared(targets))))

    def counted(self, targets: NDArray[Any]) -> NDArray[np.bool_] | None:
        """A mask of the labels that are not ignored; None: all count."""
        return None

    def weight(self, targets: NDArray[Any]) -> float:
        """The weight of a batch in a mean over batches; 0: nothing in it counts."""
        mask = self.counted(targets)
        return len(targets) if mask is None else int(np.count_nonzero(_by_sample(mask)))

    def total(self, loss: float, targets: NDArray[Any]) -> tuple[float, float]:
        """The sum over the batch that `loss` is the mean (or sum) of, and its weight."""
        weight = self.weight(targets)
        return (loss if self._sums else loss * weight), weight

    def correct(self, outputs: Tensor, targets: NDArray[Any]) -> tuple[float, float]:
        """How many samples of the batch are right, and how many count."""
        raise NotImplementedError

    def activate(self, outputs: Tensor) -> Tensor:
        """What predict returns."""
        return activate(self.head, outputs)

    def weighted(self, weights: NDArray[np.float32]) -> Objective:
        """The same loss with class weights (C,)."""
        raise ValueError(
            "[fit] class_weight goes with a cross-entropy of class labels; binary losses have "
            "nn.BCEWithLogitsLoss(pos_weight=...), and a loss of your own can weigh by itself"
        )


class OwnLoss(Objective):
    """A loss that is not one of this package."""

    known = False

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        super().__init__(loss)
        self._column: bool | None = None  # whether targets (N,) go with outputs (N, 1) as (N, 1)

    def targets(self, op: str, y: NDArray[Any], outputs: tuple[int, ...]) -> NDArray[Any]:
        y = y.astype(np.int64) if y.dtype.kind in "biu" else y.astype(np.float32, copy=False)
        if y.ndim != 1 or outputs != (1,):
            return y
        if self._column is None:
            example = np.resize(y, 3)
            with no_grad():
                self._column = pairs_all_with_all(
                    lambda x, t: self.function(Tensor(x), wrap(from_numpy(t))), example
                )
        return y[:, None] if self._column else y

    def correct(self, outputs: Tensor, targets: NDArray[Any]) -> tuple[float, float]:
        """By class for several outputs, at one half for one."""
        got = outputs.numpy()
        if got.ndim > 1 and got.shape[1] > 1:
            best = targets.argmax(axis=1) if targets.shape == got.shape else targets
            labels = got.argmax(axis=1)
            if best.shape != labels.shape:
                raise ValueError(
                    f"[accuracy] outputs {got.shape} need labels {labels.shape} or targets of "
                    f"their own shape, got {targets.shape}"
                )
            return float(np.count_nonzero(labels == best)) * len(got) / best.size, len(got)
        return _share_equal(got > 0.5, targets > 0.5)


class CrossEntropy(Objective):
    """Softmax and the negative logarithm of the right class, in one stable step, on logits.

    Args:
        loss: An `nn.CrossEntropyLoss` or `nn.NLLLoss`, which takes logarithms in place of logits.
        categorical: Targets are rows of probabilities (one-hot as a rule), not labels.
        ignores: Whether the label `loss.ignore_index` may occur.
    """

    def __init__(
        self,
        loss: nn.CrossEntropyLoss | nn.NLLLoss,
        categorical: bool = False,
        ignores: bool = True,
    ) -> None:
        super().__init__(loss)
        self.head = "softmax" if isinstance(loss, nn.CrossEntropyLoss) else None
        self._module, self._categorical = loss, categorical
        self._ignore = loss.ignore_index if ignores else None

    def targets(self, op: str, y: NDArray[Any], outputs: tuple[int, ...]) -> NDArray[Any]:
        if self._categorical:
            return probability_rows(op, y, outputs)
        labels = class_labels(op, y, outputs[1:], self._ignore)
        check_labels(op, labels, outputs[0], self._ignore)
        return labels

    def prepared(self, targets: NDArray[Any]) -> NDArray[Any]:
        if not self._categorical:
            return targets
        one_hot = bool((np.count_nonzero(targets, axis=1) == 1).all())
        return targets.argmax(axis=1) if one_hot else targets

    def counted(self, targets: NDArray[Any]) -> NDArray[np.bool_] | None:
        if self._ignore is None or self._categorical:
            return None
        mask: NDArray[np.bool_] = targets != self._ignore
        return None if mask.all() else mask

    def weight(self, targets: NDArray[Any]) -> float:
        if self._sums or self._categorical:
            return super().weight(targets)
        mask = self.counted(targets)
        weights = self._module.weight
        if weights is None:
            return targets.size if mask is None else int(np.count_nonzero(mask))
        kept = targets if mask is None else targets[mask]
        return float(weights.numpy()[kept].sum(dtype=np.float64))

    def correct(self, outputs: Tensor, targets: NDArray[Any]) -> tuple[float, float]:
        labels = targets.argmax(axis=1) if self._categorical else targets
        mask = self.counted(targets)
        if mask is None and labels.ndim == 1:
            return _core.count_correct(outputs._array, from_numpy(labels)), len(labels)
        right: NDArray[np.bool_] = np.asarray(outputs.numpy().argmax(axis=1) == labels)
        if mask is not None:
            return float(np.count_nonzero(right & mask)), float(np.count_nonzero(mask))
        return float(np.count_nonzero(right)), right.size

    def weighted(self, weights: NDArray[np.float32]) -> Objective:
        """Keras's rule: each sample's loss times its weight, and the plain mean of those."""
        if self._module.weight is not None:
            raise ValueError("[fit] the loss has weights of its own: leave out class_weight")
        made = copy.copy(self)
        made.function = _KerasWeighted(self._module, weights, self._ignore, self._sums)
        return made


class _KerasWeighted:
    """A cross-entropy in which the loss of each label counts with the weight of its class."""

    def __init__(
        self,
        loss: nn.CrossEntropyLoss | nn.NLLLoss,
        weights: NDArray[np.float32],
        ignore: int | None,
        sums: bool,
    ) -> None:
        self._weights, self._ignore, self._sum_only = weights, ignore, sums
        self._smooth = getattr(loss, "label_smoothing", 0.0) > 0
        self._loss = copy.copy(loss)
        self._loss.reduction = "none"
        self._sum = copy.copy(loss)
        self._sum.weight, self._sum.reduction = Tensor(weights), "sum"

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        rows = y.ndim == outputs.ndim  # of probabilities: the largest says which class
        if rows or self._smooth:
            # The weights of a loss would weigh what smoothing gives the other classes by theirs.
            labels = y.numpy().argmax(axis=1) if rows else y.numpy()
            inside = np.clip(labels, 0, len(self._weights) - 1)  # ignored ones have loss 0
            total: Tensor = (self._loss(outputs, y) * Tensor(self._weights[inside])).sum()
        else:
            total = self._sum(outputs, y)
        if self._sum_only:
            return total
        count = outputs.numel() // outputs.shape[1]
        if self._ignore is not None and not rows:
            count = int(np.count_nonzero(y.numpy() != self._ignore))
        return total / float(count)


class BinaryCrossEntropy(Objective):
    """Binary outputs, each with a target between 0 and 1.

    Args:
        loss: An `nn.BCEWithLogitsLoss` or `nn.BCELoss`.
    """

    def __init__(self, loss: nn.BCEWithLogitsLoss | nn.BCELoss) -> None:
        super().__init__(loss)
        self.head = "sigmoid" if isinstance(loss, nn.BCEWithLogitsLoss) else None

    def targets(self, op: str, y: NDArray[Any], outputs: tuple[int, ...]) -> NDArray[Any]:
        targets = float_targets(op, y, outputs)
        outside = ((targets < 0) | (targets > 1)).reshape(len(targets), -1).any(axis=1)
        if outside.any():
            first = int(np.argmax(outside))
            raise ValueError(f"[{op}] targets must be between 0 and 1: y[{first}] is {y[first]}")
        return targets

    def correct(self, outputs: Tensor, targets: NDArray[Any]) -> tuple[float, float]:
        threshold = 0.0 if self.head else 0.5
        return _share_equal(outputs.numpy() > threshold, targets > 0.5)


class Regression(Objective):
    """Regression: `nn.MSELoss`, `nn.L1Loss`."""

    def targets(self, op: str, y: NDArray[Any], outputs: tuple[int, ...]) -> NDArray[Any]:
        return float_targets(op, y, outputs)

    def correct(self, outputs: Tensor, targets: NDArray[Any]) -> tuple[float, float]:
        """The largest of several, as of one-hot rows; at one half for one."""
        got = outputs.numpy()
        if got.ndim == 2 and got.shape[1] > 1:
            right = got.argmax(axis=1) == targets.argmax(axis=1)
            return float(np.count_nonzero(right)), len(got)
        return _share_equal(got > 0.5, targets > 0.5)


# Functions of this package stand for the losses of nn with the same arguments.
_LOSSES: dict[Any, type[nn.Module]] = {
    F.cross_entropy: nn.CrossEntropyLoss,
    F.nll_loss: nn.NLLLoss,
    F.mse_loss: nn.MSELoss,
    F.l1_loss: nn.L1Loss,
    F.binary_cross_entropy: nn.BCELoss,
    F.binary_cross_entropy_with_logits: nn.BCEWithLogitsLoss,
}


def make_objective(loss: Any, label_smoothing: float = 0.0) -> Objective:
    """The objective for a name, an nn loss, a function of `functional`, or any callable."""
    if label_smoothing and (not isinstance(loss, str) or "categorical_crossentropy" not in loss):
        raise ValueError(
            "[compile] label_smoothing goes with the categorical cross-entropies by name; "
            "otherwise use loss=nn.CrossEntropyLoss(label_smoothing=...)"
        )
    if isinstance(loss, str):
        smooth = nn.CrossEntropyLoss(label_smoothing=label_smoothing)
        named: dict[str, Callable[[], Objective]] = {
            "sparse_categorical_crossentropy": lambda: CrossEntropy(smooth, ignores=False),
            "categorical_crossentropy": lambda: CrossEntropy(smooth, categorical=True),
            "binary_crossentropy": lambda: BinaryCrossEntropy(nn.BCEWithLogitsLoss()),
            "mse": lambda: Regression(nn.MSELoss()),
            "mean_squared_error": lambda: Regression(nn.MSELoss()),
        }
        objective: Objective = by_name("loss", loss, named)()
        return objective
    if isinstance(loss, type):
        made = f"nn.{loss.__name__}()" if hasattr(nn, loss.__name__) else f"{loss.__name__}()"
        raise TypeError(f"[compile] loss is the class {loss.__name__}: make one, loss={made}")
    loss = _as_module(loss)
    if isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss)):
        return CrossEntropy(loss)
    if isinstance(loss, (nn.BCEWithLogitsLoss, nn.BCELoss)):
        return BinaryCrossEntropy(loss)
    if isinstance(loss, (nn.MSELoss, nn.L1Loss)):
        return Regression(loss)
    if callable(loss):
        return OwnLoss(loss)
    if loss is None:
        raise ValueError(
            "[compile] a loss is needed, for instance loss='sparse_categorical_crossentropy'"
        )
    raise TypeError(
        f"[compile] loss must be a name, an nn loss or a callable, got {type(loss).__name__}"
    )


def _as_module(loss: Any) -> Any:
    """A function of `functional`, perhaps with arguments bound to it, as the loss of `nn`."""
    bound: dict[str, Any] = {}
    function = loss
    if isinstance(loss, functools.partial) and not loss.args:
        function, bound = loss.func, loss.keywords
    known = _LOSSES.get(function) if callable(function) and _is_hashable(function) else None
    return loss if known is None else known(**bound)


def _is_hashable(function: Any) -> bool:
    return type(function).__hash__ is not None


def make_optimizer(optimizer: Any, model: nn.Module) -> optim.Optimizer:
    """The optimiser for a name (Keras's defaults) or a class of `optim`; or as it is."""
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
        optimizer = by_name("optimizer", optimizer.lower(), named)(model.parameters())
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


def by_name(what: str, name: str, named: dict[str, Any]) -> Any:
    if name not in named:
        raise ValueError(f"[compile] unknown {what} {name!r}; known: {', '.join(sorted(named))}")
    return named[name]


def _by_sample(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask of the samples with at least one label that counts."""
    return np.asarray(mask.reshape(len(mask), -1).any(axis=1))


def _share_equal(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> tuple[float, float]:
    """How many samples agree, and how many there are; of several outputs each counts in part."""
    if a.size != b.size:
        raise ValueError(
            f"[accuracy] outputs {a.shape} and targets {b.shape} do not go together: one target an "
            "output is needed"
        )
    b = b.reshape(a.shape)
    return float(np.count_nonzero(a == b)) * len(a) / max(a.size, 1), len(a)
