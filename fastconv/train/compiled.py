"""compile: the optimiser, loss and metrics of a model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .metrics import Metric, make_metrics
from .objectives import Objective, make_objective, make_optimizer
from .targets import class_weights

if TYPE_CHECKING:
    from ..nn import Module
    from ..optim import Optimizer
    from .feed import Feed

__all__ = ["Compiled", "compile", "compiled_of"]


@dataclass(frozen=True)
class Compiled:
    """What `compile` made of its arguments."""

    optimizer: Optimizer
    objective: Objective
    metrics: dict[str, Metric]
    clip_norm: float | None = None

    def weighted(
        self,
        weights: Mapping[int, float] | Sequence[float] | str,
        feed: Feed,
        outputs: tuple[int, ...],
    ) -> Compiled:
        """The same with class weights in the loss, as `class_weight` of `fit` gives them."""
        labels = None
        if isinstance(weights, str):
            targets = feed.labels()
            mask = self.objective.counted(targets)
            labels = self.objective.prepared(targets if mask is None else targets[mask])
            labels = labels.reshape(-1) if labels.dtype.kind == "i" else labels
        table = class_weights("fit", weights, outputs[0], labels)
        return dataclasses.replace(self, objective=self.objective.weighted(table))


def compile(
    model: Module,
    optimizer: Any = "rmsprop",
    loss: Any = "sparse_categorical_crossentropy",
    metrics: Sequence[Any] | None = None,
    *,
    label_smoothing: float = 0.0,
    clip_norm: float | None = None,
) -> None:
    """Chooses how `fit` will train a model.

    Args:
        model: Any Module.
        optimizer: "rmsprop", "sgd", "adam", "adamw" or "adagrad" with Keras's defaults; or one of
            `fastconv.optim`, made of this model's parameters (in groups with rates of their own, if
            wanted); or its class.
        loss: "sparse_categorical_crossentropy" (integer labels), "categorical_crossentropy"
            (one-hot rows), "binary_crossentropy", "mse"; an `nn` loss, or the function of
            `functional`; or any function `loss(outputs, targets)` that returns the mean over a
            batch. The cross-entropies take logits; where a network returns the result of a softmax
            (or sigmoid), the loss uses its input, with the same result.
        metrics: Of "accuracy", "mae", "mse", and functions of NumPy arrays
            `metric(predictions, targets)` that return the mean over a batch.
        label_smoothing: The share of each label that is distributed evenly over all classes, for
            the first two losses by name; an `nn.CrossEntropyLoss` has its own.
        clip_norm: The largest common 2-norm of the gradients of a step; larger ones are scaled down
            (`nn.utils.clip_grad_norm_`).

    Raises:
        ValueError: An unknown name, or a number out of its range.
        TypeError: Something that is none of these.

    Example:
        >>> from fastconv import models
        >>> model = models.keras_mlp()
        >>> model.compile("rmsprop", "sparse_categorical_crossentropy", metrics=["accuracy"])
    """
    if clip_norm is not None and not 0 < clip_norm < math.inf:
        raise ValueError(f"[compile] clip_norm must be a number above 0, got {clip_norm}")
    objective = make_objective(loss, label_smoothing)
    model._compiled = Compiled(
        make_optimizer(optimizer, model),
        objective,
        make_metrics(metrics or (), objective),
        clip_norm,
    )


def compiled_of(model: Module, op: str) -> Compiled:
    """What `compile` left in the model."""
    compiled = getattr(model, "_compiled", None)
    if not isinstance(compiled, Compiled):
        raise RuntimeError(
            f"[{op}] call compile first, for instance model.compile(optimizer='rmsprop', "
            "loss='sparse_categorical_crossentropy', metrics=['accuracy'])"
        )
    return compiled
