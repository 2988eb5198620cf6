"""The optimisers, with PyTorch's formulas. Each step is one pass over all parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _core
from ..tensor import Tensor, wrap
from .optimizer import Group, Optimizer, Params, check_options, zeros_like

if TYPE_CHECKING:
    from .._core import Array

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
        check_options("SGD", lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("[SGD] nesterov needs a momentum, and no dampening")
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

    def _new_state(self, p: Tensor, group: Group) -> dict[str, Any]:
        return {}

    def _update(
        self, group: Group, step: int, params: list[Tensor], arrays: list[Array], grads: list[Array]
    ) -> None:
        # Not at step 1: a schedule may bring the momentum later.
        first = bool(group["momentum"]) and "momentum_buffer" not in self.state[params[0]]
        if first:
            for p in params:
                self.state[p]["momentum_buffer"] = zeros_like(p)
        _core.sgd_step(
            arrays,
            grads,
            self._remembered("momentum_buffer", params) if group["momentum"] else [],
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
        check_options(
            "RMSprop", lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum
        )
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

    def _new_state(self, p: Tensor, group: Group) -> dict[str, Any]:
        state = {"square_avg": zeros_like(p)}
        if group["momentum"]:
            state["momentum_buffer"] = zeros_like(p)
        if group["centered"]:
            state["grad_avg"] = zeros_like(p)
        return state

    def _update(
        self, group: Group, step: int, params: list[Tensor], arrays: list[Array], grads: list[Array]
    ) -> None:
        _core.rmsprop_step(
            arrays,
            grads,
            self._remembered("square_avg", params),
            self._remembered("momentum_buffer", params),
            self._remembered("grad_avg", params),
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
        name = type(self).__name__
        check_options(name, lr=lr, eps=eps, weight_decay=weight_decay)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"[{name}] betas must be from 0 to below 1, got {betas}")
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

    def _new_state(self, p: Tensor, group: Group) -> dict[str, Any]:
        state = {"exp_avg": zeros_like(p), "exp_avg_sq": zeros_like(p)}
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = zeros_like(p)
        return state

    def _update(
        self, group: Group, step: int, params: list[Tensor], arrays: list[Array], grads: list[Array]
    ) -> None:
        beta1, beta2 = group["betas"]
        _core.adam_step(
            arrays,
            grads,
            self._remembered("exp_avg", params),
            self._remembered("exp_avg_sq", params),
            self._remembered("max_exp_avg_sq", params),
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

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        check_options(
            "Adagrad",
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
        )
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

    def _new_state(self, p: Tensor, group: Group) -> dict[str, Any]:
        return {"sum": wrap(_core.full(p.shape, group["initial_accumulator_value"]))}

    def _update(
        self, group: Group, step: int, params: list[Tensor], arrays: list[Array], grads: list[Array]
    ) -> None:
        _core.adagrad_step(
            arrays,
            grads,
            self._remembered("sum", params),
            group["lr"] / (1.0 + (step - 1) * group["lr_decay"]),
            group["weight_decay"],
            group["eps"],
        )
