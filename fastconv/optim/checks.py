"""What may stand in an optimiser's groups and in its state, wherever it comes from."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd import Tensor, from_numpy, wrap

if TYPE_CHECKING:
    from .optimizer import Optimizer

__all__ = ["check_group", "is_count", "is_number", "loaded_state"]

_SWITCHES = {"amsgrad", "centered", "eps_inside_sqrt", "maximize", "nesterov"}
_ANY_SIGN = {"dampening"}
_MOST_STEPS = 2**53  # counted exactly in double, in which the corrections of Adam are computed


def is_number(value: Any) -> bool:
    """A finite number, of Python or NumPy; True and False are none."""
    if type(value) is float:
        return math.isfinite(value)
    if not isinstance(value, numbers.Real) or isinstance(value, (bool, np.bool_)):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def is_count(value: Any) -> bool:
    """A whole number from 0, of Python or NumPy."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return whole and int(value) >= 0


def check_group(optimizer: Optimizer, options: Mapping[str, Any], signs: bool = True) -> None:
    """Refuses options that the algorithm does not know or cannot use.

    Args:
        optimizer: whose `defaults` are the options known.
        options: some of them.
        signs: refuse negative numbers too, which schedules may bring.

    Raises:
        ValueError: names the option.
    """
    name = type(optimizer).__name__
    unknown = options.keys() - optimizer.defaults.keys() - {"initial_lr"}
    if unknown:
        raise ValueError(
            f"[{name}] unknown options {sorted(map(str, unknown))}; "
            f"known: {', '.join(optimizer.defaults)}"
        )
    for option, value in options.items():
        wanted = _misfit(option, value, signs)
        if wanted:
            raise ValueError(f"[{name}] {option} must be {wanted}, got {value!r}")
    if options.get("nesterov") and signs:
        both = {**optimizer.defaults, **options}
        if both["momentum"] <= 0 or both["dampening"] != 0:
            raise ValueError(f"[{name}] nesterov needs a momentum, and no dampening")


def _misfit(option: str, value: Any, signs: bool) -> str:
    """What an option must be; empty if it is that."""
    if option in _SWITCHES:
        return "" if isinstance(value, (bool, np.bool_)) else "True or False"
    if option == "betas":
        pair = isinstance(value, (tuple, list)) and len(value) == 2
        fine = pair and all(is_number(beta) and 0 <= beta < 1 for beta in value)
        return "" if fine else "two numbers from 0 to below 1"
    if not is_number(value):
        return "a finite number"
    return "not negative" if signs and option not in _ANY_SIGN and value < 0 else ""


# ------------------------------------------------------------------------------ load_state_dict
def loaded_state(
    optimizer: Optimizer, state_dict: Mapping[str, Any]
) -> tuple[dict[Tensor, dict[str, Any]], list[dict[str, Any]]]:
    """The state and the options of each group in a state_dict, checked and copied.

    Raises:
        ValueError: it does not fit this optimiser.
    """
    name = type(optimizer).__name__
    groups, state = (
        state_dict.get(part) if isinstance(state_dict, Mapping) else None
        for part in ("param_groups", "state")
    )
    if not isinstance(state, Mapping) or not isinstance(groups, (list, tuple)):
        raise ValueError(f'[{name}] a state is a dict with "state" and "param_groups"')
    order: list[int] = []
    sizes = []
    for group in groups:
        numbers_of = group.get("params") if isinstance(group, Mapping) else None
        if not isinstance(numbers_of, (list, tuple)) or not all(map(is_count, numbers_of)):
            raise ValueError(f'[{name}] "params" of each group must be numbers of parameters')
        order += numbers_of
        sizes.append(len(numbers_of))
    own_sizes = [len(group["params"]) for group in optimizer.param_groups]
    if sizes != own_sizes:
        raise ValueError(
            f"[{name}] the state has groups of {sizes} parameters, this optimiser {own_sizes}"
        )
    if len(set(order)) != len(order) or not set(state) <= set(order):
        raise ValueError(f"[{name}] the numbers of the parameters in the state do not agree")
    options = [dict(_options(optimizer, group)) for group in groups]
    params = [p for group in optimizer.param_groups for p in group["params"]]
    loaded = {
        p: dict(_entries(optimizer, number, state[number], p))
        for number, p in zip(order, params, strict=True)
        if number in state
    }
    return loaded, options


def _options(optimizer: Optimizer, group: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    options = {k: v for k, v in group.items() if k != "params"}
    check_group(optimizer, options, signs=False)
    for option, value in options.items():
        yield option, tuple(value) if isinstance(value, list) else value


def _entries(
    optimizer: Optimizer, number: int, entries: Any, p: Tensor
) -> Iterator[tuple[str, Any]]:
    """The step and the arrays of one parameter."""
    name = f"[{type(optimizer).__name__}]"
    known = (*optimizer._required, *optimizer._optional)
    if not isinstance(entries, Mapping) or not set(entries) <= {"step", *known}:
        came = list(entries) if isinstance(entries, Mapping) else type(entries).__name__
        raise ValueError(
            f"{name} the state of parameter {number} may have step, {', '.join(known)}; got {came}"
        )
    step = np.asarray(entries.get("step", 0))
    if step.size != 1 or step.dtype.kind not in "iuf" or not 0 <= step.item() < _MOST_STEPS:
        raise ValueError(f"{name} step of parameter {number} must be a number from 0, got {step}")
    if step.item() != int(step.item()):
        raise ValueError(f"{name} step of parameter {number} must be whole, got {step}")
    yield "step", int(step.item())
    for slot, value in entries.items():
        if slot != "step":
            array = np.asarray(value)
            if array.dtype.kind not in "fiu" or array.shape != p.shape:
                raise ValueError(
                    f"{name} {slot} of parameter {number} must be numbers of shape {p.shape}, got "
                    f"{array.dtype} of shape {array.shape}"
                )
            yield slot, wrap(from_numpy(np.array(array, np.float32)))
    missing = [slot for slot in optimizer._required if slot not in entries]
    if missing and step.item():
        raise ValueError(f"{name} the state of parameter {number} lacks {', '.join(missing)}")
