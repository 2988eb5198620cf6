"""A classifier's results by class: confusion matrix, precision, recall, F1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Report", "classification_report", "confusion_matrix"]


@dataclass(frozen=True)
class Report:
    """A confusion matrix and the scores that follow from it; printed, a table.

    Attributes:
        confusion: (C, C) int64: samples of class i (row) that were predicted as class j (column).
        classes: C names.
    """

    confusion: NDArray[np.int64]
    classes: tuple[str, ...]

    @property
    def support(self) -> NDArray[np.int64]:
        """(C,): samples of each class."""
        total: NDArray[np.int64] = self.confusion.sum(axis=1)
        return total

    @property
    def precision(self) -> NDArray[np.float64]:
        """(C,): the fraction of predictions of a class that are right; 0 without predictions."""
        return _ratio(np.diagonal(self.confusion), self.confusion.sum(axis=0))

    @property
    def recall(self) -> NDArray[np.float64]:
        """(C,): the fraction of a class's samples that were found; 0 without samples."""
        return _ratio(np.diagonal(self.confusion), self.support)

    @property
    def f1(self) -> NDArray[np.float64]:
        """(C,): the harmonic mean of precision and recall."""
        right = np.diagonal(self.confusion)
        return _ratio(2 * right, self.confusion.sum(axis=0) + self.support)

    @property
    def accuracy(self) -> float:
        """The fraction of all samples that are right."""
        return float(_ratio(np.trace(self.confusion), self.confusion.sum()))

    def most_confused(self, count: int = 5) -> list[tuple[str, str, int]]:
        """The most frequent mistakes, as (class, predicted class, how often)."""
        wrong = self.confusion - np.diag(np.diagonal(self.confusion))
        order = np.argsort(-wrong, axis=None, kind="stable")[:count]
        pairs = [divmod(int(i), len(self.classes)) for i in order]
        return [
            (self.classes[i], self.classes[j], int(wrong[i, j])) for i, j in pairs if wrong[i, j]
        ]

    def __str__(self) -> str:
        columns = ("precision", "recall", "F1", "samples")
        scores = np.stack([self.precision, self.recall, self.f1], axis=1)
        support = self.support
        rows = [
            (name, *(f"{v:.4f}" for v in row), f"{n:,}")
            for name, row, n in zip(self.classes, scores, support, strict=True)
        ]
        total = int(support.sum())
        weighted = _ratio(scores.T @ support, total)
        means = [("mean of classes", scores.mean(axis=0)), ("mean of samples", weighted)]
        tail = [(name, *(f"{v:.4f}" for v in row), f"{total:,}") for name, row in means]
        lines = [("", *columns), *rows, *tail]
        widths = [max(len(line[i]) for line in lines) for i in range(len(columns) + 1)]
        text = [
            "  ".join([f"{line[0]:<{widths[0]}}", *map(str.rjust, line[1:], widths[1:])])
            for line in lines
        ]
        rule = "-" * len(text[0])
        right = int(np.trace(self.confusion))
        ending = f"accuracy {self.accuracy:.4f}: {right:,} of {total:,} right"
        return "\n".join([text[0], rule, *text[1:-2], rule, *text[-2:], ending])


def confusion_matrix(
    targets: Any, predicted: Any, num_classes: int | None = None
) -> NDArray[np.int64]:
    """How often each class was predicted as each class.

    Args:
        targets: (N,) true labels.
        predicted: (N,) labels, or (N, C) scores, of which the largest counts.
        num_classes: C; None: as many as occur.

    Returns:
        (C, C): samples of class i (row) that were predicted as class j (column).

    Raises:
        ValueError: Different lengths, or labels outside 0 .. C - 1.
        TypeError: Labels that are no integers.

    Example:
        >>> confusion_matrix([0, 0, 1, 2], [0, 1, 1, 2])
        array([[1, 1, 0],
               [0, 1, 0],
               [0, 0, 1]])
    """
    rows, columns = _labels("targets", targets), _labels("predicted", predicted)
    if len(rows) != len(columns):
        raise ValueError(f"[confusion_matrix] {len(rows)} targets, {len(columns)} predictions")
    largest = max(int(rows.max(initial=-1)), int(columns.max(initial=-1)))
    if num_classes is None:
        scores = np.shape(predicted)
        num_classes = max(largest + 1, scores[1] if len(scores) == 2 else 0)
    for name, labels in (("targets", rows), ("predicted", columns)):
        outside = (labels < 0) | (labels >= num_classes)
        if outside.any():
            first = int(np.argmax(outside))
            raise ValueError(
                f"[confusion_matrix] labels go from 0 to {num_classes - 1}: {name}[{first}] is "
                f"{labels[first]}"
            )
    counts = np.bincount(rows * num_classes + columns, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def classification_report(
    targets: Any,
    predicted: Any,
    classes: Sequence[str] | None = None,
    num_classes: int | None = None,
) -> Report:
    """Precision, recall and F1 of every class; arguments as of `confusion_matrix`.

    Args:
        targets, predicted, num_classes: See `confusion_matrix`.
        classes: Their names; numbers when None.

    Example:
        >>> print(classification_report([0, 0, 0, 1, 1], [0, 0, 1, 1, 1], ["cat", "dog"]))
                         precision  recall      F1  samples
        ---------------------------------------------------
        cat                 1.0000  0.6667  0.8000        3
        dog                 0.6667  1.0000  0.8000        2
        ---------------------------------------------------
        mean of classes     0.8333  0.8333  0.8000        5
        mean of samples     0.8667  0.8000  0.8000        5
        accuracy 0.8000: 4 of 5 right
    """
    if classes is not None and num_classes is None:
        num_classes = len(classes)
    counts = confusion_matrix(targets, predicted, num_classes)
    names = tuple(map(str, range(len(counts)) if classes is None else classes))
    if len(names) != len(counts):
        raise ValueError(
            f"[classification_report] {len(names)} names for {len(counts)} classes: {names}"
        )
    return Report(counts, names)


def _labels(name: str, values: Any) -> NDArray[np.int64]:
    labels = np.asarray(values)
    if labels.ndim == 2 and labels.shape[1] > 1:
        labels = labels.argmax(axis=1)
    labels = labels.reshape(-1) if labels.ndim == 2 else labels
    if labels.ndim != 1:
        raise ValueError(f"[confusion_matrix] {name} must be (N,) labels, got {labels.shape}")
    if labels.size and labels.dtype.kind not in "iub":
        raise TypeError(f"[confusion_matrix] {name} must be integers, got {labels.dtype}")
    return labels.astype(np.int64)


def _ratio(part: Any, whole: Any) -> NDArray[np.float64]:
    """part / whole, and 0 for 0 / 0."""
    quotient: NDArray[np.float64] = np.asarray(part) / np.maximum(whole, 1)
    return quotient
