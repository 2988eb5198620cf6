"""Loading values into a module: all of them, or an error that names each that does not fit."""

from __future__ import annotations

import itertools
import operator
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..untrusted import printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..autograd import Tensor

__all__ = ["LoadResult", "load_state", "matched"]

Shape = tuple[int, ...]


class LoadResult(NamedTuple):
    """What `load_state_dict(strict=False)` left out."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load_state(
    own: Mapping[str, Tensor], state_dict: Mapping[str, Any], strict: bool, network: str
) -> LoadResult:
    """Copies the values of `state_dict` into the tensors of `own`; see `Module.load_state_dict`."""
    values, result = matched(own, state_dict, strict, network)
    targets = [own[name].numpy() for name in values]
    # float64 to float32, int32 to int64; with no bytecode in between, where Ctrl-C would come.
    put: Callable[..., None] = operator.setitem
    deque(map(put, targets, itertools.repeat(...), values.values()), maxlen=0)
    return result


def matched(
    own: Mapping[str, Tensor], state_dict: Mapping[str, Any], strict: bool, network: str
) -> tuple[dict[str, NDArray[Any]], LoadResult]:
    """The values that fit the tensors of `own`, and what is left over; nothing is changed.

    Raises:
        ValueError: lists what does not fit.
    """
    given = dict(state_dict)
    if given and all(n.startswith("module.") for n in given) and not set(given) & set(own):
        given = {name.removeprefix("module."): value for name, value in given.items()}
    # Files from before PyTorch counted batches lack that number, and can do without.
    missing = [n for n in own if n not in given and not n.endswith("num_batches_tracked")]
    unexpected = [name for name in given if name not in own]
    values = {name: np.asarray(given[name]) for name in own if name in given}
    problems = []
    for name, value in values.items():
        if value.shape != own[name].shape:
            problems.append(f"wrong shape   {name}: expected {own[name].shape}, got {value.shape}")
        elif why := _no_values_for(value, own[name]):
            problems.append(f"wrong values  {name}: {why}")
    if strict:
        problems += [f"missing       {name} {own[name].shape}" for name in missing]
        problems += [f"unexpected    {printable(n)} {np.shape(given[n])}" for n in unexpected]
    if problems:
        lines = "\n  ".join(problems)
        hint = _hint(
            {name: tensor.shape for name, tensor in own.items()},
            {name: np.shape(value) for name, value in given.items()},
        )
        raise ValueError(
            f"[load_state_dict] {len(problems)} entries do not fit {network}; nothing was "
            f"loaded:\n  {lines}{hint and chr(10)}{printable(hint)}"
        )
    return values, LoadResult(missing, unexpected)


def _no_values_for(value: NDArray[Any], own: Tensor) -> str:
    """Why these are no values for a tensor; empty if they are."""
    if value.dtype.kind not in "fiub":
        return f"numbers are expected, got {value.dtype}"
    if own.dtype != np.float32 and value.dtype.kind == "f" and not np.isfinite(value).all():
        return f"{own.dtype} has neither NaN nor infinity"
    return ""


# ------------------------------------------------------------------------------ what to do about it


def _hint(own: Mapping[str, Shape], given: Mapping[str, Shape]) -> str:
    """The usual reasons, each with its remedy; empty where none is recognised."""
    if any("/" in name for name in given):
        return "The names are Keras's: convert them with models.from_keras(state)."
    if not given:
        return "There is nothing in it."
    if prefix := _prefix_that_helps(own, given):
        return (
            f'The names begin with "{prefix}", which this network\'s do not: load '
            f'{{name.removeprefix("{prefix}"): t for name, t in state.items()}}.'
        )
    for part in dict.fromkeys(name.partition(".")[0] for name in own):
        if all(own.get(f"{part}.{name}") == shape for name, shape in given.items()):
            return f"These are the values of a part of this network: load them into model.{part}."
    wrong = [name for name in own if name in given and own[name] != given[name]]
    if not set(own) & set(given):
        return "No name fits: these are the weights of another network."
    heads = {name.rpartition(".")[0] for name in wrong}
    if (
        wrong
        and len(heads) <= 3
        and all(own[n] and given[n] and own[n][1:] == given[n][1:] for n in wrong)
    ):
        ours, theirs = own[wrong[0]][0], given[wrong[0]][0]
        if all((own[n][0], given[n][0]) == (ours, theirs) for n in wrong):
            return (
                f"Only {' and '.join(sorted(heads))} differs: the weights are for {theirs} "
                f"outputs, this network has {ours}. Build it with num_classes={theirs}, load, then "
                f"models.replace_head(model, {ours})."
            )
    if any(_keras_layout(given[name]) == own[name] for name in wrong):
        return (
            "The shapes are those of Keras's layouts, (KH, KW, IC, OC) and (in, out): transpose "
            "them, as models.from_keras does for Keras's names."
        )
    if 2 * len(wrong) > len(own):
        return "Most shapes differ: these are the weights of another network, or of another width."
    return ""


def _prefix_that_helps(own: Iterable[str], given: Iterable[str]) -> str:
    """The beginning that all names of `given` share and without which most are among `own`'s."""
    own, names = set(own), list(given)
    if not names or 2 * len(own & set(names)) >= len(names):
        return ""
    prefix = ""
    while all("." in name for name in names) and len({name.split(".")[0] for name in names}) == 1:
        first = names[0].split(".")[0] + "."
        prefix, names = prefix + first, [name.removeprefix(first) for name in names]
        if 2 * len(own & set(names)) > len(names):
            return prefix
    return ""


def _keras_layout(shape: Shape) -> Shape:
    """What a kernel in Keras's layout would be here."""
    if len(shape) == 4:
        return (shape[3], shape[2], shape[0], shape[1])
    return shape[::-1]
