"""Checks of a state that comes from a file: known names only, each with a value of its kind."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["Kind", "checked", "is_arrays", "is_count", "is_number", "is_text", "optional"]

Kind = Callable[[Any], bool]

_LARGEST_COUNT = 2**53  # rates are computed in float64, which is exact for counts up to this


def is_number(value: Any) -> bool:
    """A number of Python or NumPy, including NaN and infinities, but not a boolean."""
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))


def is_count(value: Any) -> bool:
    """An integer from 0."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, (bool, np.bool_))
    return whole and 0 <= int(value) <= _LARGEST_COUNT


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_arrays(value: Any) -> bool:
    """A mapping of names to arrays of numbers."""
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(array, np.ndarray) and array.dtype.kind in "fiu"
        for name, array in value.items()
    )


def optional(kind: Kind) -> Kind:
    """A check that also accepts None."""
    return lambda value: value is None or kind(value)


def checked(owner: str, state: Any, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """The state, if it has exactly the names in `kinds` and each value is of its kind.

    Raises:
        ValueError: names the first that is not.

    Example:
        >>> checked("EarlyStopping", {"best": 0.25, "path": ".profile"}, {"best": is_number})
        Traceback (most recent call last):
        ValueError: [EarlyStopping] the state holds 'path'; known are best
    """
    if not isinstance(state, Mapping):
        raise ValueError(f"[{owner}] the state must be a dict, got {type(state).__name__}")
    for name in state:
        if name not in kinds:
            raise ValueError(f"[{owner}] the state holds {name!r}; known are {', '.join(kinds)}")
    for name, kind in kinds.items():
        if name not in state:
            raise ValueError(f"[{owner}] the state lacks {name!r}")
        if not kind(state[name]):
            raise ValueError(f"[{owner}] the state has a wrong {name}: {_shown(state[name])}")
    return dict(state)


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
