"""evaluate, predict and report: running a model on data without training it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..autograd import no_grad
from ..nn.modes import own_modes
from .compiled import Compiled, compiled_of
from .confusion import Report, classification_report
from .feed import Batching, Feed, Passes, check_steps, make_feed
from .network import Network, activate
from .objectives import BinaryCrossEntropy, CrossEntropy
from .progress import format_logs

if TYPE_CHECKING:
    from ..autograd import Tensor
    from ..nn import Module

__all__ = ["EVALUATION_BATCH", "Means", "evaluate", "measure", "predict", "report"]

EVALUATION_BATCH = 256  # the default where no gradient is computed; results do not depend on it


class Means:
    """Running weighted means of the loss and the metrics.

    It keeps sums and weights apart, so the final means do not depend on the batches.
    """

    def __init__(self, compiled: Compiled) -> None:
        self._objective, self._metrics = compiled.objective, compiled.metrics
        self.samples = 0
        self._sums = dict.fromkeys(("loss", *compiled.metrics), 0.0)
        self._weights = dict.fromkeys(self._sums, 0.0)

    def add(self, loss: float, outputs: Tensor, targets: NDArray[Any]) -> None:
        """Adds a batch; its loss is ignored if none of its labels counts."""
        self.samples += len(targets)
        total, weight = self._objective.total(loss, targets)
        if weight:
            self._add("loss", total, weight)
        for name, metric in self._metrics.items():
            self._add(name, *metric(outputs, targets))

    def _add(self, name: str, total: float, weight: float) -> None:
        self._sums[name] += total
        self._weights[name] += weight

    def pass_over(self, samples: int) -> None:
        """Counts the samples of a batch in which no label counts."""
        self.samples += samples

    def logs(self, prefix: str = "") -> dict[str, float]:
        """The means so far, 0 where nothing has counted yet."""
        return {
            prefix + name: total / (self._weights[name] or 1.0)
            for name, total in self._sums.items()
        }

    def check(self, op: str) -> None:
        """Raises ValueError if nothing has counted."""
        if not self.samples:
            raise ValueError(f"[{op}] the data ended before the first batch")
        if not self._weights["loss"]:
            raise ValueError(
                f"[{op}] no label counts: all are ignored by the loss, or of classes of weight 0"
            )

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {
            "samples": self.samples,
            "sums": dict(self._sums),
            "weights": dict(self._weights),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores saved means; raises ValueError and changes nothing if the names differ."""
        if state["sums"].keys() != self._sums.keys():
            raise ValueError(
                f"[checkpoint] metrics: saved with {', '.join(state['sums'])}, this run has "
                f"{', '.join(self._sums)}"
            )
        # Files from before weights were kept are of losses in which each sample counts as one.
        weights = state.get("weights", dict.fromkeys(self._sums, float(state["samples"])))
        if weights.keys() != self._sums.keys() or not all(w >= 0 for w in weights.values()):
            raise ValueError(f"[checkpoint] means have weights of 0 or more, got {weights}")
        self.samples, self._sums = state["samples"], dict(state["sums"])
        self._weights = dict(weights)


def evaluate(
    model: Module,
    x: Any,
    y: Any = None,
    batch_size: int = EVALUATION_BATCH,
    verbose: int = 0,
    steps: int | None = None,
) -> Any:
    """Measures a compiled model; returns the loss, or (loss, metric, ...) when it has metrics.

    Args:
        model: Any Module on which `compile` was called.
        x, y: As for `fit`.
        batch_size: Samples at a time; it changes results only by rounding: means are taken over
            all samples.
        verbose: 1 prints the numbers too.
        steps: Only so many batches, as of a generator without end.

    Example:
        >>> import numpy as np, fastconv as fc
        >>> model = fc.models.lenet5()
        >>> model.compile(metrics=["accuracy"])
        >>> loss, accuracy = model.evaluate(np.zeros((10, 28, 28), np.uint8), np.arange(10))
        >>> accuracy
        0.1
    """
    compiled = compiled_of(model, "evaluate")
    check_steps("evaluate", steps=steps)
    feed = make_feed(model, "evaluate", x, y, Batching(batch_size), Passes(steps))
    network = Network(model, compiled.objective.head, feed.sample(), "evaluate")
    feed.check("evaluate", compiled.objective, network.output_shape())
    logs = measure(network, compiled, feed, "evaluate").logs()
    if verbose:
        print(format_logs(logs))
    values = tuple(logs.values())
    return values[0] if len(values) == 1 else values


def predict(
    model: Module,
    x: Any,
    batch_size: int = EVALUATION_BATCH,
    verbose: int = 0,
    steps: int | None = None,
) -> NDArray[np.float32]:
    """The outputs of a model as NumPy: probabilities when its loss is a cross-entropy.

    For a model that was not compiled, `output_activation` decides, which comes with the weights of
    classifiers; without it the outputs stay as they are. Any number of threads may predict with one
    model.

    Args:
        model: Any Module; it stays as it is, training or evaluation mode included.
        x: As for `fit`; the batches of a generator may be x alone, and targets are ignored. A
            Loader that shuffles yields its samples in order here.
        batch_size: Samples at a time.
        verbose: Accepted as Keras has it; nothing is shown.
        steps: Only so many batches, as of a generator without end.

    Returns:
        (N, ...) float32.

    Example:
        >>> import numpy as np, fastconv as fc
        >>> model = fc.models.lenet5()
        >>> model.compile()
        >>> probabilities = model.predict(np.zeros((3, 28, 28), np.uint8))
        >>> probabilities.shape, probabilities.sum(axis=1).round(4).tolist()
        ((3, 10), [1.0, 1.0, 1.0])
    """
    check_steps("predict", steps=steps)
    compiled: Compiled | None = getattr(model, "_compiled", None)
    head = model.output_activation if compiled is None else compiled.objective.head
    passes = Passes(steps)
    feed = make_feed(model, "predict", x, None, Batching(batch_size), passes, labelled=False)
    network = Network(model, head, feed.sample(), None if compiled is None else "predict")
    return np.concatenate(_predictions(network, head, feed)[0])


def report(
    model: Module,
    x: Any,
    y: Any = None,
    batch_size: int = EVALUATION_BATCH,
    steps: int | None = None,
    classes: Sequence[str] | None = None,
) -> Report:
    """Confusion matrix, and precision and recall of every class; printed, a table.

    `plot.confusion` draws it.

    Args:
        model: A compiled Module with one output per class, or a single output for two classes.
        x, y, batch_size, steps: As for `evaluate`.
        classes: Names of the classes. None: `model.classes`, or those of an `ImageFolder` x, or
            numbers.

    Example:
        >>> import numpy as np, fastconv as fc
        >>> model = fc.nn.Sequential(fc.nn.Linear(2, 2))
        >>> _ = model.load_state_dict({"0.weight": np.eye(2), "0.bias": np.zeros(2)})
        >>> model.compile()
        >>> found = model.report(np.eye(2, dtype=np.float32)[[0, 0, 1]], [0, 1, 1])
        >>> found.confusion
        array([[1, 0],
               [1, 1]])
        >>> found.recall
        array([1. , 0.5])
    """
    compiled = compiled_of(model, "report")
    check_steps("report", steps=steps)
    feed = make_feed(model, "report", x, y, Batching(batch_size), Passes(steps))
    objective = compiled.objective
    network = Network(model, objective.head, feed.sample(), "report")
    shape = network.output_shape()
    if len(shape) != 1 or (isinstance(objective, BinaryCrossEntropy) and shape != (1,)):
        what = f"(N, {', '.join(map(str, shape))})"
        raise ValueError(
            f"[report] needs one number a class, (N, classes), or one for yes or no, (N, 1); this "
            f"network gives {what}"
            + (
                ", each a yes or no of its own: report the columns of predict(x) one by one with "
                "train.classification_report"
                if len(shape) == 1
                else ""
            )
        )
    feed.check("report", objective, shape)
    outputs, targets = _predictions(network, objective.head, feed)
    predicted, true = np.concatenate(outputs), np.concatenate(targets)
    counted = objective.counted(true)
    if counted is not None:
        predicted, true = predicted[counted], true[counted]
    count = max(2, shape[0])
    for owner in (model, x):
        known = getattr(owner, "classes", None)
        if classes is None and known is not None and len(known) == count:
            classes = known
    soft = isinstance(objective, (BinaryCrossEntropy, CrossEntropy))
    labels = _true_labels(true, soft)
    return classification_report(labels, _labels(predicted), classes, num_classes=count)


def measure(
    network: Network,
    compiled: Compiled,
    feed: Feed,
    op: str,
    after_batch: Callable[[], None] | None = None,
) -> Means:
    """Loss and metrics over one pass, in evaluation mode."""
    means, objective = Means(compiled), compiled.objective
    with own_modes(), no_grad(), closing(feed.batches()) as batches:
        network.model.eval()
        for images, targets in batches:
            outputs = network(images)
            counts = objective.weight(targets) > 0
            loss = objective.loss(outputs, targets).item() if counts else 0.0
            means.add(loss, outputs, targets)
            if after_batch is not None:
                after_batch()
    means.check(op)
    return means


def _predictions(
    network: Network, head: str | None, feed: Feed
) -> tuple[list[NDArray[np.float32]], list[NDArray[Any]]]:
    """Predictions and targets, batch by batch."""
    predicted, true = [], []
    with own_modes(), no_grad(), closing(feed.batches()) as batches:
        network.model.eval()
        for images, targets in batches:
            predicted.append(activate(head, network(images)).numpy())
            true.append(targets)
    return predicted, true


def _labels(values: NDArray[Any]) -> NDArray[Any]:
    """Class labels: the largest of each row, or whether a single number is above one half."""
    if values.ndim == 2 and values.shape[1] > 1:
        best: NDArray[Any] = values.argmax(axis=1)
        return best
    return (values.reshape(-1) > 0.5).astype(np.int64)


def _true_labels(targets: NDArray[Any], soft: bool) -> NDArray[Any]:
    """Class labels from targets; `soft`: they may be probabilities."""
    if targets.ndim == 1 and targets.dtype.kind == "i":
        return targets
    rows = targets.ndim == 2 and targets.shape[1] > 1
    definite = np.isin(targets, (0, 1)).all() and (not rows or (targets.sum(axis=1) == 1).all())
    if not (soft or definite):
        raise ValueError(
            "[report] needs a classifier: labels (N,), one-hot rows, or 0 and 1 for one output; "
            f"these targets {targets.shape} are other numbers, and `evaluate` measures how far off "
            "the network is"
        )
    return _labels(targets)
