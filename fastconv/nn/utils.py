"""Helpers for training loops; `torch.nn.utils`."""

from __future__ import annotations

from collections.abc import Iterable

from .. import _core
from ..autograd import Tensor

__all__ = ["clip_grad_norm_"]


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float) -> float:
    """Scales all gradients so that their common 2-norm is at most `max_norm`.

    Returns: the norm before.

    Example:
        >>> import fastconv as fc
        >>> x = fc.Tensor([3.0, 4.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> fc.nn.utils.clip_grad_norm_([x], 5.0)
        10.0
        >>> x.grad
        Tensor([3., 4.])
    """
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    grads = [p.grad._array for p in parameters if p.grad is not None]
    if not grads:
        return 0.0
    norm = _core.grad_norm(grads)
    if norm > max_norm:
        _core.scale_all(grads, max_norm / norm)
    return norm
