"""Optimizer: parameter groups, state, and the step that every algorithm shares.

A step, like everything else that changes an optimiser, happens wholly or not at all. First it is
prepared: all checks are made, and all memory that it needs is taken. Then `_at_once` brings the
changes into force, which can neither fail nor be interrupted.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from .. import _core
from ..autograd import Tensor, enable_grad, wrap
from ..autograd.pending import settle_here
from .checks import check_group, loaded_state

if TYPE_CHECKING:
    from .._core import Array, OptimStep

__all__ = ["Optimizer"]

Group = dict[str, Any]
Params = Iterable[Tensor] | Iterable[Mapping[str, Any]] | Iterable[tuple[str, Tensor]]
Slots = dict[str, list["Array"]]  # by name, one array for each parameter
_NOTHING = {"step": 0}  # what is remembered of a parameter before its first step


class Optimizer:
    """The base of all optimisers; `torch.optim.Optimizer`.

    Args:
        params: tensors, or groups {"params": tensors, "lr": ...} with options of their own.
        defaults: the options of groups that do not give them.

    Attributes:
        param_groups: a list of dicts, "params" and the options. Schedules change "lr" there.
        state: for each parameter that has been stepped, what the algorithm remembers of it. Every
            step leaves a dict of its own.
    """

    # The arrays that the algorithm remembers of each parameter; others, and the option of each.
    _required: ClassVar[tuple[str, ...]] = ()
    _optional: ClassVar[Mapping[str, str]] = {}

    def __init__(self, params: Params, defaults: Mapping[str, Any]) -> None:
        self.defaults = dict(defaults)
        check_group(self, self.defaults)
        self.param_groups: list[Group] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        self._checked: dict[int, list[Any]] = {}  # options of each group that have been checked
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
        """Adds parameters, with options of their own, as when layers are unfrozen.

        Args:
            param_group: {"params": tensors, "lr": ...}; options left out are the optimiser's.

        Raises:
            TypeError: something is no parameter of float32.
            ValueError: a parameter is given twice; an option is unknown or of a wrong kind.
        """
        if not isinstance(param_group, Mapping) or "params" not in param_group:
            raise TypeError(
                f'[optim] a group is a dict with "params", got {type(param_group).__name__}'
            )
        given = param_group["params"]
        params = [given] if isinstance(given, Tensor) else list(given)
        params = [p[1] if isinstance(p, tuple) else p for p in params]  # from named_parameters()
        known = {id(p) for group in self.param_groups for p in group["params"]}
        for p in params:
            if not isinstance(p, Tensor) or not p.is_leaf:
                raise TypeError(f"[optim] expected parameters, got {type(p).__name__}")
            if p.dtype != "float32":
                raise TypeError(f"[optim] parameters must be float32, got {p.dtype}")
            if id(p) in known:
                raise ValueError(f"[optim] a parameter of shape {p.shape} is given twice")
            known.add(id(p))
        options = {k: v for k, v in param_group.items() if k != "params"}
        check_group(self, options)
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
        """Changes every parameter that has a gradient: all of them, or none if it raises.

        Args:
            closure: computes the loss and its gradients again; its result is returned.

        Raises:
            ShapeError: a gradient has not the shape of its parameter.
            TypeError: a gradient is no Tensor of float32.
            ValueError: an option of a group is not what the algorithm can use.
        """
        settle_here()
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        state = dict(self.state)
        steps: list[OptimStep] = []
        for index, group in enumerate(self.param_groups):
            options = [group[option] for option in self.defaults]
            if self._checked.get(index) != options:
                check_group(self, dict(zip(self.defaults, options, strict=True)), signs=False)
                self._checked[index] = options
            steps += self._planned(index, group, state)
        _at_once(
            functools.partial(_core.take_steps, steps),
            functools.partial(setattr, self, "state", state),
        )
        return loss

    def _planned(
        self, index: int, group: Group, state: dict[Tensor, dict[str, Any]]
    ) -> list[OptimStep]:
        """The step of one group; `state` gets what its parameters remember after it."""
        names = [*self._required, *(n for n, option in self._optional.items() if group[option])]
        # Parameters that were skipped before are at another step: one call of the core for each.
        alike: dict[tuple[int, bool], tuple[list[Array], list[Array], list[dict[str, Any]]]] = {}
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if not isinstance(grad, Tensor):
                raise TypeError(
                    f"[{type(self).__name__}] the gradient of a parameter of shape {p.shape} in "
                    f"group {index} must be a Tensor, got {type(grad).__name__}: use fc.Tensor(...)"
                )
            remembered = state[p] = dict(state.get(p, _NOTHING))
            first = False
            for name in names:
                if name not in remembered:
                    first = True
                    remembered[name] = self._new_slot(name, p, group)
            remembered["step"] += 1
            key = remembered["step"], first
            if key not in alike:
                alike[key] = [], [], []
            arrays, grads, slots = alike[key]
            arrays.append(p._array)
            grads.append(grad._array.contiguous())
            slots.append(remembered)
        return [
            self._plan(
                group,
                step,
                first,
                arrays,
                grads,
                {name: [remembered[name]._array for remembered in slots] for name in names},
            )
            for (step, first), (arrays, grads, slots) in alike.items()
        ]

    def _new_slot(self, name: str, p: Tensor, group: Group) -> Tensor:
        """Such an array before the first step that needs it."""
        return wrap(_core.zeros(p.shape))

    def _plan(
        self,
        group: Group,
        step: int,
        first: bool,
        params: list[Array],
        grads: list[Array],
        slots: Slots,
    ) -> OptimStep:
        """A step of the core for parameters that are alike.

        Args:
            group: the options.
            step: how many steps of these parameters it makes, from 1.
            first: whether one of `slots` is used for the first time.
            params, grads, slots: changed in place once the step is taken.
        """
        raise NotImplementedError

    # ---- state
    def state_dict(self) -> dict[str, Any]:
        """Options and state, with parameters numbered in order; the form of PyTorch's.

        What else somebody put into a group is left out.
        """
        numbers = {p: i for i, p in enumerate(self._all_params())}
        groups = [
            {
                **{k: v for k, v in g.items() if k in (*self.defaults, "initial_lr")},
                "params": [numbers[p] for p in g["params"]],
            }
            for g in self.param_groups
        ]
        state = {numbers[p]: dict(entries) for p, entries in self.state.items()}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over the state of an optimiser of the same kind for the same parameters.

        Args:
            state_dict: what `state_dict()` gave. It may come from a file of somebody else: only
                the options and arrays that this algorithm knows are taken.

        Raises:
            ValueError: groups, shapes, names or kinds of values that do not fit; nothing is changed
                then.
        """
        state, options = loaded_state(self, state_dict)
        _at_once(
            functools.partial(setattr, self, "state", state),
            *(
                functools.partial(own.update, new)
                for own, new in zip(self.param_groups, options, strict=True)
            ),
        )

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


def _at_once(*changes: functools.partial[Any]) -> None:
    """Calls all of them with no bytecode in between, which is where Python handles Ctrl-C."""
    deque(map(functools.partial.__call__, changes), maxlen=0)
