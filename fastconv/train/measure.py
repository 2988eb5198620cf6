"""evaluate, predict and report: what a model makes of data, without training it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..grad_mode import no_grad
from .compiled import Compiled, compiled_of
from .feed import Feed, check_steps, make_feed
from .network import Network, modes_kept
from .progress import format_logs
from .report import Report, classification_report

if TYPE_CHECKING:
    from ..nn import Module
    from ..tensor import Tensor
    from .objectives import Objective

__all__ = ["EVALUATION_BATCH", "Means", "evaluate", "measure", "predict", "report"]

EVALUATION_BATCH = 256  # the default where no gradient is computed; results do not depend on it


class Means:
    """Running means of loss and metrics over the samples seen."""

    def __init__(self, compiled: Compiled) -> None:
        self._objective, self._metrics = compiled.objective, compiled.metrics
        self.samples = 0
        self._sums = dict.fromkeys(("loss", *compiled.metrics), 0.0)

    def add(self, loss: float, outputs: Tensor, targets: NDArray[Any]) -> None:
        samples = len(targets)
        self.samples += samples
        self._sums["loss"] += self._objective.mean(loss, samples) * samples
        for name, metric in self._metrics.items():
            self._sums[name] += metric(outputs, targets)

    def logs(self, prefix: str = "") -> dict[str, float]:
        return {prefix + name: total / self.samples for name, total in self._sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"samples": self.samples, "sums": dict(self._sums)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["sums"].keys() != self._sums.keys():
            raise ValueError(
                f"[checkpoint] metrics: saved with {', '.join(state['sums'])}, this run has "
                f"{', '.join(self._sums)}"
            )
        self.samples, self._sums = state["samples"], dict(state["sums"])


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
        batch_size: Samples at a time; no result depends on it but by rounding.
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
    feed = make_feed(model, "evaluate", x, y, batch_size, steps=steps)
    network = Network(model, compiled.objective.head, feed.sample())
    feed.check("evaluate", compiled.objective, network.output_shape())
    with modes_kept(model), network:
        logs = measure(network, compiled, feed).logs()
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

    Args:
        model: Any Module; one that was not compiled gives its outputs as they are.
        x: As for `fit`; the batches of a generator may be x alone, and targets are not looked at.
        batch_size: Samples at a time.
        verbose: Takes part for Keras's sake; nothing is shown.
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
    objective = compiled.objective if compiled is not None else None
    feed = make_feed(model, "predict", x, None, batch_size, steps=steps, labelled=False)
    network = Network(model, objective.head if objective else None, feed.sample())
    return np.concatenate([outputs for outputs, _ in _outputs(network, objective, feed)])


def report(
    model: Module,
    x: Any,
    y: Any = None,
    batch_size: int = EVALUATION_BATCH,
    steps: int | None = None,
    classes: Sequence[str] | None = None,
) -> Report:
    """Which classes a model tells apart, and which it takes for each other.

    Args:
        model: A compiled Module with one output a class, or one for yes or no.
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
    feed = make_feed(model, "report", x, y, batch_size, steps=steps)
    network = Network(model, compiled.objective.head, feed.sample())
    shape = network.output_shape()
    if len(shape) != 1:
        raise ValueError(
            f"[report] the network must give one number a class, (N, classes), not (N, "
            f"{', '.join(map(str, shape))})"
        )
    feed.check("report", compiled.objective, shape)
    pairs = list(_outputs(network, compiled.objective, feed))
    predicted = _labels(np.concatenate([outputs for outputs, _ in pairs]))
    labels = _labels(np.concatenate([targets for _, targets in pairs]))
    counted = labels >= 0  # a loss may ignore a negative label
    count = max(2, shape[0])
    for owner in (model, x):
        known = getattr(owner, "classes", None)
        if classes is None and known is not None and len(known) == count:
            classes = known
    return classification_report(labels[counted], predicted[counted], classes, num_classes=count)


def measure(
    network: Network,
    compiled: Compiled,
    feed: Feed,
    after_batch: Callable[[], None] | None = None,
) -> Means:
    """Loss and metrics over one pass, in evaluation mode."""
    means = Means(compiled)
    network.model.eval()
    with no_grad():
        for images, targets in feed.batches():
            outputs = network(images)
            means.add(compiled.objective.loss(outputs, targets).item(), outputs, targets)
            if after_batch is not None:
                after_batch()
    if not means.samples:
        raise ValueError("[evaluate] the data ended before the first batch")
    return means


def _outputs(
    network: Network, objective: Objective | None, feed: Feed
) -> Iterator[tuple[NDArray[np.float32], NDArray[Any]]]:
    """What predict returns, with the targets, batch by batch."""
    with modes_kept(network.model), network, no_grad():
        network.model.eval()
        for images, targets in feed.batches():
            outputs = network(images)
            yield (objective.activate(outputs) if objective else outputs).numpy(), targets


def _labels(values: NDArray[Any]) -> NDArray[Any]:
    """Class labels from rows of probabilities, one probability each, or labels."""
    if values.ndim == 2 and values.shape[1] > 1:
        values = values.argmax(axis=1)
    return values if values.dtype.kind in "iu" else (values.reshape(-1) > 0.5).astype(np.int64)
