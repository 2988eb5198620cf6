"""Optimizer: parameter groups, state, and the step that every algorithm shares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from ..convert import from_numpy
from ..grad_mode import enable_grad
from ..tensor import Tensor, wrap

if TYPE_CHECKING:
    from .._core import Array

__all__ = ["Optimizer"]

Group = dict[str, Any]
Params = Iterable[Tensor] | Iterable[Mapping[str, Any]] | Iterable[tuple[str, Tensor]]


class Optimizer:
    """The base of all optimisers; `torch.optim.Optimizer`.

    Args:
        params: tensors, or groups {"params": tensors, "lr": ...} with options of their own.
        defaults: the options of groups that do not give them.

    Attributes:
        param_groups: a list of dicts, "params" and the options. Schedules change "lr" there.
        state: for each parameter that has been stepped, what the algorithm remembers of it.
    """

    def __init__(self, params: Params, defaults: Mapping[str, Any]) -> None:
        self.defaults = dict(defaults)
        self.param_groups: list[Group] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        if isinstance(params, (Tensor, Mapping)):
            raise TypeError(
                "[optim] params must be several tensors or groups, not one: use [param]"
            )
        entries: list[Any] = list(params)
        if not entries:
            raise ValueError("[optim] there are no parameters to optimise")
        groups = entries if isinstance(entries[0], Mapping) else [{"params": entries}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Adds parameters, with options of their own, as when layers are unfrozen."""
        given = param_group["params"]
        params = [given] if isinstance(given, Tensor) else list(given)
        params = [p[1] if isinstance(p, tuple) else p for p in params]  # from named_parameters()
        known = {id(p) for group in self.param_groups for p in group["params"]}
        for p in params:
            if not isinstance(p, Tensor) or not p.is_leaf:
                raise TypeError(f"[optim] expected parameters, got {type(p).__name__}")
            if id(p) in known:
                raise ValueError(f"[optim] a parameter of shape {p.shape} is given twice")
            known.add(id(p))
        options = {k: v for k, v in param_group.items() if k != "params"}
        unknown = set(options) - set(self.defaults) - {"initial_lr"}
        if unknown:
            raise ValueError(
                f"[optim] unknown options {sorted(unknown)}; known: {', '.join(self.defaults)}"
            )
        self.param_groups.append({"params": params, **self.defaults, **options})

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients, or overwrites them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                elif p.grad is not None:
                    p.grad.zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Changes every parameter that has a gradient.

        Args:
            closure: computes the loss and its gradients again; its result is returned.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            # Parameters that were skipped before are at another step: one call for each step.
            by_step: dict[int, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state.get(p)
                    if state is None:
                        state = self.state[p] = {"step": 0, **self._new_state(p, group)}
                    state["step"] += 1
                    by_step.setdefault(state["step"], []).append(p)
            for step, params in by_step.items():
                arrays = [p._array for p in params]
                grads = [p.grad._array.to_plain() for p in params]  # type: ignore[union-attr]
                self._update(group, step, params, arrays, grads)
        return loss

    def _new_state(self, p: Tensor, group: Group) -> dict[str, Any]:
        """What the algorithm remembers of a parameter, before its first step."""
        raise NotImplementedError

    def _update(
        self, group: Group, step: int, params: list[Tensor], arrays: list[Array], grads: list[Array]
    ) -> None:
        """One call of the core, which changes `arrays` in place. `step` counts from 1."""
        raise NotImplementedError

    def _remembered(self, name: str, params: list[Tensor]) -> list[Array]:
        """The arrays of that name in the state of `params`; none where the algorithm has none."""
        if name not in self.state[params[0]]:
            return []
        return [self.state[p][name]._array for p in params]

    # ---- state
    def state_dict(self) -> dict[str, Any]:
        """Options and state, with parameters numbered in order; the form of PyTorch's."""
        numbers = {p: i for i, p in enumerate(self._all_params())}
        groups = [
            {
                **{k: v for k, v in g.items() if k != "params"},
                "params": [numbers[p] for p in g["params"]],
            }
            for g in self.param_groups
        ]
        state = {numbers[p]: dict(entries) for p, entries in self.state.items()}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over the state of an optimiser of the same kind for the same parameters.

        Raises:
            ValueError: groups or shapes that differ; nothing is changed then.
        """
        groups = state_dict["param_groups"]
        sizes, own_sizes = (
            [len(g["params"]) for g in some] for some in (groups, self.param_groups)
        )
        if sizes != own_sizes:
            raise ValueError(
                f"[optim] the state has groups of {sizes} parameters, this optimiser {own_sizes}"
            )
        order = [number for g in groups for number in g["params"]]
        loaded: dict[Tensor, dict[str, Any]] = {}
        for number, p in zip(order, self._all_params(), strict=True):
            entries = state_dict["state"].get(number)
            if entries is None:
                continue
            loaded[p] = {"step": 0}
            loaded[p].update((name, _copied(name, value, p)) for name, value in entries.items())
        self.state = loaded
        for own, group in zip(self.param_groups, groups, strict=True):
            own.update({k: v for k, v in group.items() if k != "params"})

    def __getstate__(self) -> dict[str, Any]:
        # Dicts of its own: a step in another thread may add to these while they are copied.
        state = {p: dict(entries) for p, entries in list(self.state.items())}
        return {**self.__dict__, "state": state}

    def _all_params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {k}: {group[k]}" for k in sorted(group) if k != "params"]
        return "\n".join([*lines, ")"])


def _copied(name: str, value: Any, p: Tensor) -> Any:
    if name == "step":
        return int(value)
    array = np.array(value, np.float32)
    if array.shape != p.shape:
        raise ValueError(f"[optim] {name} has shape {array.shape}, the parameter {p.shape}")
    return wrap(from_numpy(array))


def zeros_like(p: Tensor) -> Tensor:
    """A buffer for the state."""
    return wrap(_core.zeros(p.shape))


def check_options(name: str, **options: float) -> None:
    """Refuses negative (or NaN) numbers, which every option of every algorithm excludes."""
    for option, value in options.items():
        if not value >= 0:
            raise ValueError(f"[{name}] {option} must not be negative, got {value}")
