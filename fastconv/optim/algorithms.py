"""The optimisers, with PyTorch's formulas. Each step is one pass over all parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from .. import _core
from ..autograd import Tensor, wrap
from .optimizer import Group, Optimizer, Params, Slots

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._core import Array, OptimStep

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "RMSprop"]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if wanted; `torch.optim.SGD`.

    v = momentum * v + (1 - dampening) * g (v = g at first); p -= lr * v, or with nesterov
    p -= lr * (g + momentum * v). weight_decay adds weight_decay * p to g.

    Args:
        params: tensors or groups.
        lr: the learning rate.
        momentum, dampening, weight_decay, nesterov: see above.
        maximize: go up instead of down.

    Example:
        >>> import fastconv as fc
        >>> p = fc.nn.Parameter([1.0])
        >>> (p * p).sum().backward()
        >>> fc.optim.SGD([p], lr=0.25).step()
        >>> p
        Parameter([0.5], requires_grad=True)
    """

    _optional: ClassVar[Mapping[str, str]] = {"momentum_buffer": "momentum"}

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
            },
        )

    def _plan(
        self,
        group: Group,
        step: int,
        first: bool,
        params: list[Array],
        grads: list[Array],
        slots: Slots,
    ) -> OptimStep:
        return _core.sgd_step(
            params,
            grads,
            slots.get("momentum_buffer", []),
            group["lr"],
            group["momentum"],
            group["dampening"],
            group["weight_decay"],
            group["nesterov"],
            first,
            group["maximize"],
        )


class RMSprop(Optimizer):
    """Divides the gradient by a running root mean square of itself; `torch.optim.RMSprop`.

    s = alpha * s + (1 - alpha) * g^2; p -= lr * g / (sqrt(s) + eps). centered subtracts the square
    of the running mean of g from s; momentum accumulates the steps (Tieleman and Hinton, 2012).

    Args:
        params: tensors or groups.
        lr, alpha, eps, weight_decay, momentum, centered: see above.
        eps_inside_sqrt: sqrt(s + eps) instead, as Keras has it.

    Example:
        >>> import fastconv as fc
        >>> p = fc.nn.Parameter([1.0])
        >>> (p * p).sum().backward()
        >>> fc.optim.RMSprop([p], lr=0.25, alpha=0, eps=0).step()
        >>> p
        Parameter([0.75], requires_grad=True)
    """

    _required = ("square_avg",)
    _optional: ClassVar[Mapping[str, str]] = {"momentum_buffer": "momentum", "grad_avg": "centered"}

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        eps_inside_sqrt: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "alpha": alpha,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "centered": centered,
                "eps_inside_sqrt": eps_inside_sqrt,
            },
        )

    def _plan(
        self,
        group: Group,
        step: int,
        first: bool,
        params: list[Array],
        grads: list[Array],
        slots: Slots,
    ) -> OptimStep:
        return _core.rmsprop_step(
            params,
            grads,
            slots["square_avg"],
            slots.get("momentum_buffer", []),
            slots.get("grad_avg", []),
            group["lr"],
            group["alpha"],
            group["eps"],
            group["weight_decay"],
            group["momentum"],
            group["eps_inside_sqrt"],
        )


class Adam(Optimizer):
    """Running mean and root mean square of the gradient; `torch.optim.Adam`.

    m = beta1 m + (1 - beta1) g; s = beta2 s + (1 - beta2) g^2; with their bias corrected,
    p -= lr * m / (sqrt(s) + eps) (Kingma and Ba, "Adam", 2015).

    Args:
        params: tensors or groups.
        lr, betas, eps: see above.
        weight_decay: adds weight_decay * p to g; in AdamW, p -= lr * weight_decay * p instead.
        amsgrad: use the largest s so far (Reddi et al., 2018).
        maximize: go up instead of down.

    Example:
        >>> import fastconv as fc
        >>> p = fc.nn.Parameter([1.0])
        >>> (p * p).sum().backward()
        >>> fc.optim.Adam([p], lr=0.25, eps=0).step()
        >>> p
        Parameter([0.75], requires_grad=True)
    """

    _required = ("exp_avg", "exp_avg_sq")
    _optional: ClassVar[Mapping[str, str]] = {"max_exp_avg_sq": "amsgrad"}
    _decoupled = False

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
            },
        )

    def _plan(
        self,
        group: Group,
        step: int,
        first: bool,
        params: list[Array],
        grads: list[Array],
        slots: Slots,
    ) -> OptimStep:
        beta1, beta2 = group["betas"]
        return _core.adam_step(
            params,
            grads,
            slots["exp_avg"],
            slots["exp_avg_sq"],
            slots.get("max_exp_avg_sq", []),
            step,
            group["lr"],
            beta1,
            beta2,
            group["eps"],
            group["weight_decay"],
            self._decoupled,
            group["maximize"],
        )


class AdamW(Adam):
    """Adam whose weight decay does not pass through the averages; `torch.optim.AdamW`.

    Loshchilov and Hutter, "Decoupled weight decay regularization", 2019. Arguments: see `Adam`.
    """

    _decoupled = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)


class Adagrad(Optimizer):
    """Divides the gradient by the root of the sum of all its squares; `torch.optim.Adagrad`.

    s += g^2; p -= lr / (1 + (step - 1) * lr_decay) * g / (sqrt(s) + eps) (Duchi et al., 2011).

    Args:
        params: tensors or groups.
        lr, lr_decay, eps: see above.
        weight_decay: adds weight_decay * p to g.
        initial_accumulator_value: where s begins.

    Example:
        >>> import fastconv as fc
        >>> p = fc.nn.Parameter([1.0])
        >>> (p * p).sum().backward()
        >>> fc.optim.Adagrad([p], lr=0.25, eps=0).step()
        >>> p
        Parameter([0.75], requires_grad=True)
    """

    _required = ("sum",)

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "eps": eps,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
            },
        )

    def _new_slot(self, name: str, p: Tensor, group: Group) -> Tensor:
        return wrap(_core.full(p.shape, group["initial_accumulator_value"]))

    def _plan(
        self,
        group: Group,
        step: int,
        first: bool,
        params: list[Array],
        grads: list[Array],
        slots: Slots,
    ) -> OptimStep:
        return _core.adagrad_step(
            params,
            grads,
            slots["sum"],
            group["lr"] / (1.0 + (step - 1) * group["lr_decay"]),
            group["weight_decay"],
            group["eps"],
        )
