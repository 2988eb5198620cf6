"""Losses as modules: their arguments at construction, then loss(input, target)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import functional as F
from ..autograd import Tensor, as_tensor
from .module import Module

if TYPE_CHECKING:
    from ..functional._arguments import Operand

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
]


class _Loss(Module):
    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(
                f'[{type(self).__name__}] reduction must be "mean", "sum" or "none", '
                f"got {reduction!r}"
            )
        self.reduction = reduction

    def _buffer(self, name: str, value: Operand | None) -> None:
        self.register_buffer(name, None if value is None else as_tensor(value))


class CrossEntropyLoss(_Loss):
    """-log softmax(logits)[label]; `torch.nn.CrossEntropyLoss`, see `functional.cross_entropy`.

    Args:
        weight: (C,), how much each class counts.
        ignore_index: a label that does not count.
        reduction: "mean", "sum" or "none".
        label_smoothing: the share of each label that is distributed evenly over all classes.
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Operand | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(
                f"[CrossEntropyLoss] label_smoothing must be from 0 to 1, got {label_smoothing}"
            )
        self._buffer("weight", weight)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input: Any, target: Any) -> Any:
        return F.cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(_Loss):
    """-log_probability[label]; `torch.nn.NLLLoss`, see `functional.nll_loss`."""

    weight: Tensor | None

    def __init__(
        self,
        weight: Operand | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self._buffer("weight", weight)
        self.ignore_index = ignore_index

    def forward(self, input: Any, target: Any) -> Any:
        return F.nll_loss(
            input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction
        )


class MSELoss(_Loss):
    """(x - target)^2; `torch.nn.MSELoss`, see `functional.mse_loss`."""

    def forward(self, input: Any, target: Any) -> Any:
        return F.mse_loss(input, target, self.reduction)


class L1Loss(_Loss):
    """|x - target|; `torch.nn.L1Loss`, see `functional.l1_loss`."""

    def forward(self, input: Any, target: Any) -> Any:
        return F.l1_loss(input, target, self.reduction)


class BCELoss(_Loss):
    """Cross-entropy of probabilities and 0 or 1; `torch.nn.BCELoss`.

    See `functional.binary_cross_entropy`.
    """

    weight: Tensor | None

    def __init__(self, weight: Operand | None = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self._buffer("weight", weight)

    def forward(self, input: Any, target: Any) -> Any:
        return F.binary_cross_entropy(input, target, self.weight, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """Cross-entropy of sigmoid(logits) and 0 or 1, stable; `torch.nn.BCEWithLogitsLoss`.

    See `functional.binary_cross_entropy_with_logits`.
    """

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self,
        weight: Operand | None = None,
        *,
        reduction: str = "mean",
        pos_weight: Operand | None = None,
    ) -> None:
        super().__init__(reduction)
        self._buffer("weight", weight)
        self._buffer("pos_weight", pos_weight)

    def forward(self, input: Any, target: Any) -> Any:
        return F.binary_cross_entropy_with_logits(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )
