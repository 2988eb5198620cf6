"""Checks of labels, targets and class weights, before anything is computed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ..autograd import Tensor

__all__ = [
    "check_labels",
    "check_lengths",
    "class_labels",
    "class_weights",
    "float_targets",
    "pairs_all_with_all",
    "probability_rows",
    "split_off",
]


def check_lengths(op: str, x: NDArray[Any] | Tensor, y: NDArray[Any]) -> None:
    if y.ndim == 0 or len(x) != len(y):
        raise ValueError(
            f"[{op}] x has {len(x):,} samples, y has "
            f"{len(y) if y.ndim else 'no dimension at all'}: x {x.shape}, y {y.shape}"
        )


def class_labels(
    op: str, y: NDArray[Any], positions: tuple[int, ...] = (), ignore: int | None = None
) -> NDArray[np.int64]:
    """Class labels (N,) or (N, 1) of any integer type, as (N,) int64.

    `positions`: where a network gives classes for every pixel, (H, W), labels are (N, H, W).
    """
    shape = ", ".join(["N", *map(str, positions)])
    if y.ndim == 2 + len(positions) and y.shape[1] == 1:
        y = y[:, 0]
    if positions and y.shape[1:] != positions:
        raise ValueError(
            f"[{op}] the network gives classes for each of (N, C, {shape[3:]}), so labels must be "
            f"integers ({shape}), got y {y.shape}; for one label a sample end it in Flatten and "
            "Linear"
        )
    if y.ndim == 2 and not positions:
        raise ValueError(
            f"[{op}] labels must be integers (N,), got one row of {y.shape[1]} values a sample: y "
            f'{y.shape}; for one-hot rows use loss="categorical_crossentropy" or y.argmax(axis=1)'
        )
    if y.ndim != 1 + len(positions):
        raise ValueError(f"[{op}] labels must be integers (N,), got y {y.shape}")
    if y.dtype.kind not in "iu":
        raise ValueError(
            f"[{op}] labels must be integers, got {y.dtype}: {_first_offender(y)}; use "
            "y.astype(int) if they are whole numbers"
        )
    labels = y.astype(np.int64)
    negative = (labels < 0) & (labels != ignore)
    if negative.any():
        raise ValueError(f"[{op}] labels must be 0 or more: {_first(negative, y)}")
    return labels


def check_labels(
    op: str, labels: NDArray[np.int64], classes: int, ignore: int | None = None
) -> None:
    """Every label must be one of the network's outputs."""
    beyond = (labels >= classes) & (labels != ignore)
    if beyond.any():
        raise ValueError(
            f"[{op}] the network has {classes} outputs, so labels go from 0 to {classes - 1}: "
            f"{_first(beyond, labels)}"
        )


def probability_rows(op: str, y: NDArray[Any], outputs: tuple[int, ...]) -> NDArray[np.float32]:
    """Rows of probabilities (N, C), usually one-hot."""
    if len(outputs) != 1:
        raise ValueError(
            f"[{op}] categorical_crossentropy needs outputs (N, classes), this network gives "
            f"(N, {', '.join(map(str, outputs))}); end it in Flatten and Linear"
        )
    if y.ndim != 2:
        raise ValueError(
            f"[{op}] categorical_crossentropy needs {outputs[0]} probabilities a sample, "
            f'got y {y.shape}; for integer labels use loss="sparse_categorical_crossentropy"'
        )
    rows = float_targets(op, y, outputs)
    wrong = (rows < 0).any(axis=1) | (np.abs(rows.sum(axis=1) - 1) > 1e-3)
    if wrong.any():
        raise ValueError(
            f"[{op}] rows of y must be probabilities adding up to 1: {_first(wrong, y)}"
        )
    return rows


def pairs_all_with_all(
    function: Callable[[NDArray[Any], NDArray[Any]], Any], example: NDArray[Any]
) -> bool:
    """Whether a function of outputs (N, 1) and targets (N,) broadcasts them to (N, N).

    Then it also accepts two outputs with three targets. `example`: three targets.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            function(np.full((2, 1), 0.5, np.float32), example)
        except Exception:  # a user's function may raise anything
            return False
    return True


def class_weights(
    op: str,
    weights: Mapping[int, float] | Sequence[float] | str,
    classes: int,
    labels: NDArray[Any] | None = None,
) -> NDArray[np.float32]:
    """Class weights (C,), from {label: weight} (1 for the others), from all of them, or "balanced".

    "balanced" gives every class that occurs the same total weight: samples / (classes *
    occurrences), counted in `labels` (N,).
    """
    table: NDArray[np.float64]
    if isinstance(weights, str):
        if weights != "balanced" or labels is None or labels.dtype.kind != "i":
            raise ValueError(
                f'[{op}] class_weight must be {{label: weight}}, {classes} weights, or "balanced" '
                f"for integer labels; got {weights!r}"
            )
        counts = np.bincount(labels, minlength=classes)
        table = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
    elif isinstance(weights, Mapping):
        table = np.ones(classes)
        for label, weight in weights.items():
            if label not in range(classes):
                raise ValueError(
                    f"[{op}] class_weight has the label {label!r}, the network's go from 0 to "
                    f"{classes - 1}"
                )
            table[int(label)] = weight
    else:
        table = np.asarray(weights, np.float64)
        if table.shape != (classes,):
            raise ValueError(
                f"[{op}] class_weight needs {classes} weights, one a class, got shape {table.shape}"
            )
    if not (np.isfinite(table) & (table >= 0)).all():
        raise ValueError(f"[{op}] class_weight must be numbers from 0, got {table.tolist()}")
    made: NDArray[np.float32] = table.astype(np.float32)
    return made


def float_targets(op: str, y: NDArray[Any], outputs: tuple[int, ...]) -> NDArray[np.float32]:
    """Targets with the shape of the outputs; (N,) goes with outputs (N, 1)."""
    if y.dtype.kind not in "biuf":
        raise ValueError(f"[{op}] targets must be numbers, got {y.dtype}")
    targets: NDArray[np.float32] = np.ascontiguousarray(y, dtype=np.float32)
    if targets.ndim == 1 and outputs == (1,):
        targets = targets[:, None]
    if targets.shape[1:] != outputs:
        raise ValueError(
            f"[{op}] targets must have the shape of the outputs, "
            f"(N, {', '.join(map(str, outputs))}): y {y.shape}"
        )
    finite = np.isfinite(targets).reshape(len(targets), -1).all(axis=1)
    if not finite.all():
        first = int(np.argmin(finite))
        raise ValueError(f"[{op}] targets must be finite: y[{first}] is {y[first]}")
    return targets


def split_off(
    x: NDArray[Any], y: NDArray[Any], share: float
) -> tuple[tuple[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]:
    """The last `share` of the samples, before any shuffling, for validation (Keras's rule)."""
    if not 0 < share < 1:
        raise ValueError(f"[fit] validation_split must be between 0 and 1, got {share}")
    cut = int(len(x) * (1 - share))
    if cut == 0 or cut == len(x):
        raise ValueError(
            f"[fit] validation_split={share} of {len(x)} samples leaves one side empty"
        )
    return (x[:cut], y[:cut]), (x[cut:], y[cut:])


def _first(wrong: NDArray[np.bool_], y: NDArray[Any]) -> str:
    """The first wrong target, with its index."""
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"y[{', '.join(map(str, place))}] is {y[place]}"


def _first_offender(y: NDArray[Any]) -> str:
    """The first value that is not an integer, or the first of all."""
    first = 0
    if y.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            first = int(np.argmax(y != np.floor(y)))  # NaN differs from itself
    return f"y[{first}] is {y.flat[first]}" if y.size else "y is empty"
