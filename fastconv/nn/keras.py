"""Keras's methods, on every Module. fastconv.train does the work, imported at the first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import os

    import numpy as np
    from numpy.typing import NDArray

    from ..train import Checkpoint, History, Report
    from .module import Module

__all__ = ["KerasMethods"]


class KerasMethods:
    """compile, fit, evaluate, predict, report, summary."""

    history: History  # of the last fit

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = "sparse_categorical_crossentropy",
        metrics: Sequence[Any] | None = None,
        *,
        label_smoothing: float = 0.0,
        clip_norm: float | None = None,
    ) -> None:
        """Chooses what `fit` optimises, with what, and what it reports; see `train.compile`.

        Args:
            optimizer: "sgd", "rmsprop", "adam", "adamw" or "adagrad", with Keras's defaults; or
                one of `optim`.
            loss: "sparse_categorical_crossentropy", "categorical_crossentropy",
                "binary_crossentropy" or "mse"; a loss of `nn`; or a function (outputs, targets).
            metrics: for instance ["accuracy"].
            label_smoothing: the share of each label that is spread over all classes.
            clip_norm: the largest norm of the gradients of a step.
        """
        from .. import train

        train.compile(
            self._module(),
            optimizer,
            loss,
            metrics,
            label_smoothing=label_smoothing,
            clip_norm=clip_norm,
        )

    def fit(
        self,
        x: Any,
        y: Any = None,
        epochs: int = 1,
        batch_size: int = 32,
        validation_data: Any = None,
        validation_split: float = 0.0,
        shuffle: bool = True,
        verbose: int = 1,
        callbacks: Sequence[Any] | None = None,
        initial_epoch: int = 0,
        transform: Any = None,
        *,
        class_weight: Mapping[int, float] | Sequence[float] | str | None = None,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        drop_last: bool = False,
        resume: str | os.PathLike[str] | Checkpoint | None = None,
    ) -> History:
        """Trains on samples x and targets y; see `train.fit`.

        Args:
            x: (N, ...), uint8 (scaled by `preprocessing`, or 1/255) or float32; or a
                `data.ImageFolder`, a `data.Loader`, a generator of batches (x, y).
            y: labels or targets (N, ...).
            epochs, batch_size: how often over how many at once.
            validation_data: (x, y) to evaluate after every epoch; or validation_split, a share.
            shuffle: a new order for each epoch.
            verbose: 0 is silent.
            callbacks, initial_epoch, transform: see `train.fit`.
            class_weight: how much classes count: {label: weight}, all weights, or "balanced".
            steps_per_epoch, validation_steps: batches that make a pass.
            drop_last: leave out a last batch that is smaller.
            resume: a checkpoint to go on from, to the same bits.

        Returns:
            a History, whose `history["loss"]` and so on have one value an epoch.

        Raises:
            TrainingDiverged: the loss became NaN or infinite.
        """
        from .. import train

        return train.fit(
            self._module(),
            x,
            y,
            epochs=epochs,
            batch_size=batch_size,
            validation_data=validation_data,
            validation_split=validation_split,
            shuffle=shuffle,
            verbose=verbose,
            callbacks=callbacks,
            initial_epoch=initial_epoch,
            transform=transform,
            class_weight=class_weight,
            steps_per_epoch=steps_per_epoch,
            validation_steps=validation_steps,
            drop_last=drop_last,
            resume=resume,
        )

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 256,
        verbose: int = 0,
        steps: int | None = None,
    ) -> Any:
        """The loss on x and y, and with metrics (loss, metric, ...); see `train.evaluate`."""
        from .. import train

        return train.evaluate(self._module(), x, y, batch_size, verbose, steps)

    def predict(
        self, x: Any, batch_size: int = 256, verbose: int = 0, steps: int | None = None
    ) -> NDArray[np.float32]:
        """The outputs for x, probabilities of a classifier; see `train.predict`."""
        from .. import train

        return train.predict(self._module(), x, batch_size, verbose, steps)

    def report(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 256,
        steps: int | None = None,
        classes: Sequence[str] | None = None,
    ) -> Report:
        """Confusion matrix, and precision and recall of every class; see `train.report`.

        Printed, it is a table; `plot.confusion` draws it.
        """
        from .. import train

        return train.report(self._module(), x, y, batch_size, steps, classes)

    def summary(
        self,
        input_shape: Sequence[int] | None = None,
        explain: bool = False,
        print_fn: Callable[[str], Any] = print,
    ) -> None:
        """Prints layers, output shapes and parameters for one sample; see `train.summary`.

        Args:
            input_shape: of one sample, without the batch: (1, 28, 28).
            explain: also print how every number comes about.
            print_fn: called with every line.
        """
        from .. import train

        train.summary(self._module(), input_shape, explain, print_fn)

    def _module(self) -> Module:
        return cast("Module", self)
