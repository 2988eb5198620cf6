"""One training step: the only place where a batch changes a network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ..nn.utils import clip_grad_norm_

if TYPE_CHECKING:
    from ..autograd import Tensor
    from .compiled import Compiled
    from .network import Network

__all__ = ["train_step"]


def train_step(
    network: Network, compiled: Compiled, images: Tensor, targets: NDArray[Any]
) -> tuple[float, Tensor]:
    """Forward, backward, update; returns the loss before it, and the outputs.

    A loss that is not finite changes no parameter.
    """
    optimizer, clip_norm = compiled.optimizer, compiled.clip_norm
    optimizer.zero_grad()
    loss, outputs = network.step(compiled.objective, images, targets)
    value = loss.item()
    if math.isfinite(value):
        if clip_norm is not None:
            clip_grad_norm_((p for g in optimizer.param_groups for p in g["params"]), clip_norm)
        optimizer.step()
    # A network with auxiliary heads returns a tuple in training, the main outputs first.
    return value, outputs[0] if isinstance(outputs, tuple) else outputs
