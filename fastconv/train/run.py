"""fit, evaluate and predict: the loops behind Keras's three verbs, on any Module."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data.loader import Loader
from ..errors import TrainingDiverged
from ..grad_mode import no_grad
from .callbacks import CallbackList
from .inputs import check_lengths, split_off
from .interrupt import DeferredInterrupt
from .network import Network, modes_kept, takes_signals
from .objectives import Metric, Objective, make_metrics, make_objective, make_optimizer
from .progress import Progress, format_logs

if TYPE_CHECKING:
    from ..data.transforms import Transform
    from ..nn import Module
    from ..optim import Optimizer
    from ..tensor import Tensor

__all__ = ["Compiled", "History", "Run", "compile", "evaluate", "fit", "predict"]

EVALUATION_BATCH = 256  # the default where no gradient is computed; results do not depend on it


@dataclass
class Compiled:
    """What `compile` made of its arguments."""

    optimizer: Optimizer
    objective: Objective
    metrics: dict[str, Metric]


@dataclass
class History:
    """What `fit` returns: `history["loss"]`, `["accuracy"]`, `["val_loss"]`: one value an epoch."""

    history: dict[str, list[float]] = field(default_factory=dict)
    epoch: list[int] = field(default_factory=list)  # counting from 0

    def append(self, epoch: int, logs: dict[str, float]) -> None:
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)


@dataclass
class Run:
    """One call of `fit` in progress, as callbacks see it."""

    model: Module
    compiled: Compiled
    epochs: int
    history: History
    steps_per_epoch: int
    callbacks: Sequence[Any] = ()
    epoch: int = 0  # the epoch under way, from 0
    step: int = 0  # optimiser steps taken, over all epochs
    stopping: bool = False

    @property
    def optimizer(self) -> Optimizer:
        return self.compiled.optimizer

    def stop(self) -> None:
        """Ends training after the current step, as if it were the last of the last epoch."""
        self.stopping = True


class _Means:
    """Running means of loss and metrics over the samples seen."""

    def __init__(self, compiled: Compiled) -> None:
        self._objective, self._metrics = compiled.objective, compiled.metrics
        self._samples = 0
        self._sums = dict.fromkeys(("loss", *compiled.metrics), 0.0)

    def add(self, loss: float, outputs: Tensor, targets: NDArray[Any]) -> None:
        samples = len(targets)
        self._samples += samples
        self._sums["loss"] += self._objective.mean(loss, samples) * samples
        for name, metric in self._metrics.items():
            self._sums[name] += metric(outputs, targets)

    def logs(self, prefix: str = "") -> dict[str, float]:
        return {prefix + name: total / self._samples for name, total in self._sums.items()}


def compile(
    model: Module,
    optimizer: Any = "rmsprop",
    loss: Any = "sparse_categorical_crossentropy",
    metrics: Sequence[Any] | None = None,
) -> None:
    """Chooses how `fit` will train a model.

    Args:
        model: Any Module.
        optimizer: "rmsprop", "sgd", "adam", "adamw" or "adagrad" with Keras's defaults; or one of
            `fastconv.optim`, made of this model's parameters; or its class.
        loss: "sparse_categorical_crossentropy" (integer labels), "categorical_crossentropy"
            (one-hot rows), "binary_crossentropy", "mse"; an `nn` loss; or any function
            `loss(outputs, targets)`. The cross-entropies take logits; a final `nn.Softmax` (or
            `nn.Sigmoid`) is recognised and passed over, with the same result.
        metrics: Of "accuracy", "mae", "mse", and functions of NumPy arrays
            `metric(predictions, targets)` that return the mean over a batch.

    Raises:
        ValueError: An unknown name.
        TypeError: Something that is none of these.

    Example:
        >>> from fastconv import models
        >>> model = models.keras_mlp()
        >>> model.compile("rmsprop", "sparse_categorical_crossentropy", metrics=["accuracy"])
    """
    objective = make_objective(loss)
    model._compiled = Compiled(
        make_optimizer(optimizer, model), objective, make_metrics(metrics or (), objective)
    )


def fit(
    model: Module,
    x: Any,
    y: Any = None,
    epochs: int = 1,
    batch_size: int = 32,
    validation_data: tuple[Any, Any] | Loader | None = None,
    validation_split: float = 0.0,
    shuffle: bool = True,
    verbose: int = 1,
    callbacks: Sequence[Any] | None = None,
    initial_epoch: int = 0,
    transform: Transform | Sequence[Transform] | None = None,
) -> History:
    """Trains a compiled model, and returns the `History`.

    Args:
        model: Any Module on which `compile` was called.
        x: Images (N, H, W) or (N, C, H, W), or features (N, F): uint8 (scaled by 1/255), float32 or
            float64. (N, H, W) gets a channel axis, unless the model begins with a Conv1d. Or a
            `data.Loader`, which then decides about y, batch_size, shuffle and transform.
        y: Labels (N,) of any integer type, or what else the loss takes.
        epochs: Passes over the data; with initial_epoch, the number of the last one.
        batch_size: Samples a step. The last batch may be smaller; means are over samples.
        validation_data: (x, y) or a Loader: measured after every epoch as val_loss, val_accuracy.
        validation_split: Instead: keep this share, the last of the samples, for validation.
        shuffle: A new order in every epoch, from the generator of `fastconv.manual_seed`.
        verbose: 0 says nothing, 1 shows a bar where there is a terminal, 2 a line an epoch.
        callbacks: See `fastconv.train.Callback`; plain functions (epoch, logs) will do.
        initial_epoch: Epochs done before, when a run is resumed.
        transform: Random changes to each batch, such as `data.RandomShift(2)`.

    Raises:
        ValueError: Labels or targets do not fit; names the first offender.
        ShapeError: x does not fit the model.
        TrainingDiverged: The loss became NaN or infinite.
        KeyboardInterrupt: Ctrl-C, raised between two steps; `model.history` holds what there is.

    Example:
        >>> import numpy as np, fastconv as fc
        >>> fc.manual_seed(0)
        >>> y = np.arange(200) % 2
        >>> x = np.eye(2, dtype=np.float32)[y]
        >>> model = fc.nn.Sequential(fc.nn.Linear(2, 2))
        >>> model.compile(fc.optim.SGD(model.parameters(), lr=0.5), metrics=["accuracy"])
        >>> history = model.fit(x, y, epochs=5, verbose=0)
        >>> len(history.history["loss"]), history.history["accuracy"][-1]
        (5, 1.0)
    """
    compiled = _compiled(model, "fit")
    if epochs < 1 or not 0 <= initial_epoch <= epochs:
        raise ValueError(
            f"[fit] expected epochs >= 1 and 0 <= initial_epoch <= epochs, got epochs={epochs}, "
            f"initial_epoch={initial_epoch}"
        )
    if validation_split:
        if validation_data is not None:
            raise ValueError("[fit] give validation_data or validation_split, not both")
        x, y = np.asarray(x), np.asarray(y)
        check_lengths("fit", x, y)
        (x, y), validation_data = split_off(x, y, validation_split)
    loader = _loader(model, "fit", x, y, batch_size, shuffle, transform)
    network = Network(model, compiled.objective.head, loader.sample())
    loader = _with_targets(loader, "fit", compiled, network)
    validation = None
    if validation_data is not None:
        op, batch = "fit: validation_data", max(batch_size, EVALUATION_BATCH)
        if isinstance(validation_data, Loader):
            validation = validation_data
        else:
            validation = _loader(model, op, *validation_data, batch_size=batch)
        validation = _with_targets(validation, op, compiled, network)

    callbacks = list(callbacks or ())
    steps = len(loader)
    run = Run(
        model, compiled, epochs, History(), steps, callbacks, initial_epoch, initial_epoch * steps
    )
    model.history = run.history
    unit = "images" if loader.x.ndim == 4 else "samples"
    progress = Progress(verbose, epochs, loader.samples, initial_epoch, unit)
    watchers = CallbackList(callbacks)
    with modes_kept(model), network, DeferredInterrupt() as interrupt:
        try:
            watchers.train_begin(run)
            for run.epoch in range(initial_epoch, epochs):
                progress.epoch_begin(run.epoch)
                watchers.epoch_begin(run.epoch)
                logs = _train_epoch(run, network, loader, watchers, progress, interrupt)
                progress.training_end()
                if validation is not None:
                    means = _evaluate(network, compiled, validation, interrupt.check)
                    logs |= means.logs("val_")
                run.history.append(run.epoch, logs)
                progress.epoch_end(logs, run.stopping)
                watchers.epoch_end(run.epoch, logs)
                interrupt.check()
                if run.stopping:
                    break
        finally:
            progress.close()
            watchers.train_end()
    return run.history


def _train_epoch(
    run: Run,
    network: Network,
    loader: Loader,
    watchers: CallbackList,
    progress: Progress,
    interrupt: DeferredInterrupt,
) -> dict[str, float]:
    objective, optimizer = run.compiled.objective, run.optimizer
    means = _Means(run.compiled)
    run.model.train()
    for images, targets in loader:
        optimizer.zero_grad()
        outputs = network(images)
        loss = objective.loss(outputs, targets)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingDiverged(_why_diverged(run, value, loader))
        loss.backward()
        optimizer.step()
        # A network with auxiliary heads returns a tuple in training, the main outputs first.
        means.add(value, outputs[0] if isinstance(outputs, tuple) else outputs, targets)
        logs = means.logs()
        progress.batch_end(len(targets), logs)
        watchers.batch_end(run.step, logs)
        run.step += 1
        interrupt.check()
        if run.stopping:
            break
    return means.logs()


def evaluate(
    model: Module, x: Any, y: Any = None, batch_size: int = EVALUATION_BATCH, verbose: int = 0
) -> Any:
    """Measures a compiled model; returns the loss, or (loss, metric, ...) when it has metrics.

    Args:
        model: Any Module on which `compile` was called.
        x, y: As for `fit`.
        batch_size: Samples at a time; no result depends on it but by rounding.
        verbose: 1 prints the numbers too.

    Example:
        >>> import numpy as np, fastconv as fc
        >>> model = fc.models.lenet5()
        >>> model.compile(metrics=["accuracy"])
        >>> loss, accuracy = model.evaluate(np.zeros((10, 28, 28), np.uint8), np.arange(10))
        >>> accuracy
        0.1
    """
    compiled = _compiled(model, "evaluate")
    loader = _loader(model, "evaluate", x, y, batch_size)
    network = Network(model, compiled.objective.head, loader.sample())
    loader = _with_targets(loader, "evaluate", compiled, network)
    with modes_kept(model), network:
        logs = _evaluate(network, compiled, loader).logs()
    if verbose:
        print(format_logs(logs))
    values = tuple(logs.values())
    return values[0] if len(values) == 1 else values


def predict(
    model: Module, x: Any, batch_size: int = EVALUATION_BATCH, verbose: int = 0
) -> NDArray[np.float32]:
    """The outputs of a model as NumPy: probabilities when its loss is a cross-entropy.

    Args:
        model: Any Module; one that was not compiled gives its outputs as they are.
        x: As for `fit`.
        batch_size: Samples at a time.
        verbose: Takes part for Keras's sake; nothing is shown.

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
    compiled: Compiled | None = getattr(model, "_compiled", None)
    objective = compiled.objective if compiled is not None else None
    loader = _loader(model, "predict", x, None, batch_size)
    network = Network(model, objective.head if objective else None, loader.sample())
    parts = []
    with modes_kept(model), network, no_grad():
        model.eval()
        for images, _ in loader:
            outputs = network(images)
            parts.append((objective.activate(outputs) if objective else outputs).numpy())
    return np.concatenate(parts)


def _evaluate(
    network: Network,
    compiled: Compiled,
    loader: Loader,
    after_batch: Callable[[], None] | None = None,
) -> _Means:
    means = _Means(compiled)
    network.model.eval()
    with no_grad():
        for images, targets in loader:
            outputs = network(images)
            means.add(compiled.objective.loss(outputs, targets).item(), outputs, targets)
            if after_batch is not None:
                after_batch()
    return means


def _compiled(model: Module, op: str) -> Compiled:
    compiled = getattr(model, "_compiled", None)
    if not isinstance(compiled, Compiled):
        raise RuntimeError(
            f"[{op}] call compile first, for instance model.compile(optimizer='rmsprop', "
            "loss='sparse_categorical_crossentropy', metrics=['accuracy'])"
        )
    return compiled


def _loader(
    model: Module,
    op: str,
    x: Any,
    y: Any,
    batch_size: int,
    shuffle: bool = False,
    transform: Transform | Sequence[Transform] | None = None,
) -> Loader:
    if isinstance(x, Loader):
        if y is not None:
            raise ValueError(f"[{op}] a Loader brings its targets itself: y must be None")
        return x
    if y is None and op != "predict":
        raise ValueError(f"[{op}] y is missing: one target a sample")
    if y is not None:
        check_lengths(op, np.asarray(x), np.asarray(y))
    return Loader(
        x, y, batch_size, shuffle, transform=transform, channel_axis=not takes_signals(model)
    )


def _with_targets(loader: Loader, op: str, compiled: Compiled, network: Network) -> Loader:
    """The same loader with its targets checked and in the type the loss takes."""
    checked = copy.copy(loader)
    checked.y = compiled.objective.targets(op, loader.y, network.output_shape())
    return checked


def _why_diverged(run: Run, loss: float, loader: Loader) -> str:
    rate = run.optimizer.param_groups[0]["lr"]
    where = f"[fit] the loss became {loss} in step {run.step} (epoch {run.epoch + 1})"
    if loader.x.dtype != np.uint8 and not np.isfinite(loader.x).all():
        first = int(np.argmin(np.isfinite(loader.x).reshape(len(loader.x), -1).all(axis=1)))
        return f"{where}: x[{first}] holds NaN or infinity"
    for name, parameter in run.model.named_parameters():
        if not np.isfinite(parameter.numpy()).all():
            return f"{where}: {name} is no longer finite; lower the learning rate (now {rate:g})"
    return f"{where}: the outputs overflowed; lower the learning rate (now {rate:g})"
