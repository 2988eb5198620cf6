"""Keras's methods, on every Module. fastconv.train does the work, imported at the first use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..data import Loader
    from ..train import History
    from .module import Module

__all__ = ["KerasMethods"]


class KerasMethods:
    """compile, fit, evaluate, predict, summary."""

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = "sparse_categorical_crossentropy",
        metrics: Sequence[Any] | None = None,
    ) -> None:
        """Chooses what `fit` optimises, with what, and what it reports; see `train.compile`.

        Args:
            optimizer: "sgd", "rmsprop", "adam", "adamw" or "adagrad", with Keras's defaults; or
                one of `optim`.
            loss: "sparse_categorical_crossentropy", "categorical_crossentropy",
                "binary_crossentropy" or "mse"; a loss of `nn`; or a function (outputs, targets).
            metrics: for instance ["accuracy"].
        """
        from .. import train

        train.compile(self._module(), optimizer, loss, metrics)

    def fit(
        self,
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
        transform: Any = None,
    ) -> History:
        """Trains on samples x and targets y; see `train.fit`.

        Args:
            x: (N, ...), uint8 (scaled by 1/255) or float32; or a `data.Loader`.
            y: labels or targets (N, ...).
            epochs, batch_size: how often over how many at once.
            validation_data: (x, y) to evaluate after every epoch; or validation_split, a share.
            shuffle: a new order for each epoch.
            verbose: 0 is silent.
            callbacks, initial_epoch, transform: see `train.fit`.

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
        )

    def evaluate(self, x: Any, y: Any = None, batch_size: int = 256, verbose: int = 0) -> Any:
        """The loss on x and y, and with metrics (loss, metric, ...); see `train.evaluate`."""
        from .. import train

        return train.evaluate(self._module(), x, y, batch_size=batch_size, verbose=verbose)

    def predict(self, x: Any, batch_size: int = 256, verbose: int = 0) -> NDArray[np.float32]:
        """The outputs for x, probabilities after a cross-entropy loss; see `train.predict`."""
        from .. import train

        return train.predict(self._module(), x, batch_size=batch_size, verbose=verbose)

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
