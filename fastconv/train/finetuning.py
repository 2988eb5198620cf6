"""Fine-tuning: a trained network learns new classes.

First only a new last layer is trained: the frozen network computes the features of every picture
once, and the layer trains on them within a second. Then the whole network trains, the old layers at
a tenth of the new layer's rate. Batch norms stay frozen: their statistics are better than those of
a small data set.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .. import models, nn, optim
from .recipes import make_loss, make_schedules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ..nn import Module

__all__ = ["HEAD_EPOCHS", "Features", "Tuning", "compile_for_tuning", "fit_head", "replace_head"]

Features: TypeAlias = "tuple[NDArray[Any], NDArray[Any]]"  # (N, F) float32, (N,) labels

HEAD_EPOCHS = 40
_HEAD_BATCH, _HEAD_RATE = 64, 3e-3
_BODY = 0.1  # the rate of the old layers, relative to the new layer's


@dataclass
class Tuning:
    """What decides the result, apart from weights and data."""

    model: str
    epochs: int = 3
    batch_size: int = 32
    lr: float = 1e-3  # of the new layer, at its peak
    seed: int = 0
    augment: bool = True
    width: float | None = None
    freeze: list[str] = field(default_factory=list)
    unfreeze: list[str] = field(default_factory=list)  # empty: everything


def replace_head(model: Module, num_classes: int, classes: Sequence[str] | None) -> Module:
    """Replaces the network's last layer and returns the new one."""
    models.replace_head(model, num_classes, classes)
    return model.get_submodule(models.head_name(model))


def compile_for_tuning(model: Module, head: Module, tuning: Tuning) -> optim.Optimizer:
    """Freezes parts as `tuning` says, and compiles with separate rates for the head and the rest.

    Raises:
        ValueError: a name in `freeze` or `unfreeze` fits nothing.
    """
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    if tuning.unfreeze:
        model.freeze().unfreeze(*tuning.unfreeze, head)
    if norms or tuning.freeze:
        model.freeze(*norms, *tuning.freeze)
    of_head = set(map(id, head.parameters()))
    trained = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if id(p) not in of_head], "lr": _BODY * tuning.lr},
        {"params": [p for p in trained if id(p) in of_head], "lr": tuning.lr},
    ]
    optimizer = optim.Adam([group for group in groups if group["params"]])
    model.compile(optimizer, make_loss(tuning.model), metrics=["accuracy"])
    return optimizer


def fit_head(head: Module, train: Features, num_classes: int) -> tuple[Module, float]:
    """Trains a last layer on features of the training set.

    Returns:
        the same layer as a compiled network, to be measured on features; its training accuracy.
    """
    x, y = train
    alone = nn.Sequential(nn.Linear(x.shape[1], num_classes))
    adam = optim.AdamW(alone.parameters(), lr=_HEAD_RATE, weight_decay=1e-2)
    alone.compile(adam, metrics=["accuracy"])
    schedule = make_schedules(HEAD_EPOCHS, adam, -(-len(x) // _HEAD_BATCH))
    history = alone.fit(
        x, y, epochs=HEAD_EPOCHS, batch_size=_HEAD_BATCH, verbose=0, callbacks=schedule
    )
    own = head.state_dict()
    head.load_state_dict(
        {n: np.asarray(v).reshape(own[n].shape) for n, v in alone[0].state_dict().items()}
    )
    return alone, history.history["accuracy"][-1]
