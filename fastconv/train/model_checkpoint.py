"""ModelCheckpoint: a callback that keeps the weights, or the whole run, in files."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

from ..atomic import check_writable
from .callbacks import Logs, Watcher

if TYPE_CHECKING:
    from .run import Run

__all__ = ["ModelCheckpoint"]


class ModelCheckpoint(Watcher):
    """Saves the weights after every epoch, or after those that were the best so far.

    The file is always complete: writing replaces it atomically. `models.load` builds a network
    of `models` from it, `load_state_dict(fc.load(path))` puts it into any network. Whether files
    can be written there is checked when training begins, before the first epoch.

    Args:
        path: A .safetensors file; `{epoch}` (from 1), `{step}` and the names in the logs may stand
            in it, as in "lenet5-{epoch:02d}-{val_accuracy:.4f}.safetensors".
        save_best_only: Save only when `monitor` improved.
        everything: Also the optimiser, the random numbers, the other callbacks and the place in the
            epoch, for `fit(resume=path)`. Ctrl-C and SIGTERM then save as well: nothing is lost.
        on_error: "raise", or "warn" to continue training when a file cannot be written.
        save_freq: "epoch", or a number of steps after which to save, instead.
        extra: With everything: JSON values to keep as well; `Checkpoint.extra`.

    Raises:
        ValueError: An argument is out of range; or `path` cannot be formatted or names what is not
            in the logs, which may only show when training begins.
        OSError: When training begins or later: the file cannot be written, unless on_error="warn".

    Example::

        best = train.ModelCheckpoint("best.safetensors", "val_accuracy", save_best_only=True)
        keep = train.ModelCheckpoint("run.safetensors", everything=True, save_freq=1000)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        mode: str = "auto",
        save_best_only: bool = False,
        everything: bool = False,
        on_error: str = "raise",
        save_freq: int | str = "epoch",
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        if on_error not in ("raise", "warn"):
            raise ValueError(f'[callbacks] on_error must be "raise" or "warn", got {on_error!r}')
        if save_freq != "epoch" and (not isinstance(save_freq, int) or save_freq < 1):
            raise ValueError(
                f'[callbacks] save_freq must be "epoch" or a number of steps, got {save_freq!r}'
            )
        self.path, self.last = os.fspath(path), everything
        self._best_only, self._everything, self._on_error = save_best_only, everything, on_error
        self._every = None if save_freq == "epoch" else int(save_freq)
        self._extra = extra
        self._format(_Names({"epoch": 1, "step": 1}))

    def on_train_begin(self, run: Run) -> None:
        super().on_train_begin(run)
        logs = dict.fromkeys(("loss", *run.compiled.metrics), 0.5)
        names = {"epoch": run.epochs_done + 1, "step": run.step, **logs}
        path = self._format(_Names(names))
        # A folder whose name depends on the logs is known only with them.
        if "{" not in os.path.dirname(self.path):
            try:
                check_writable(path)
            except OSError as error:
                self._complain(path, error)

    def on_batch_end(self, step: int, logs: Logs) -> None:
        if self._every and (step + 1) % self._every == 0:
            self._consider(logs)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if not self._every:
            self._consider(logs)

    def on_train_end(self) -> None:
        if self._everything and not self._best_only and self.run.interrupted:
            self._save(self.run.means.logs() if self.run.batches_done else {})

    def _consider(self, logs: Logs) -> None:
        if not self._best_only or self.improved(logs):
            self._save(logs)

    def _save(self, logs: Logs) -> None:
        from .. import io, models
        from .checkpoint import Checkpoint

        model = self.run.model
        path = self._format({"epoch": self.run.epoch + 1, "step": self.run.step, **logs})
        try:
            if self._everything:
                Checkpoint.of(self.run, self._extra).save(path)
            elif model.architecture is not None:
                models.save(model, path)
            else:
                io.save(model.state_dict(), path)
        except OSError as error:
            self._complain(path, error)

    def _format(self, names: dict[str, Any]) -> str:
        try:
            return self.path.format_map(names)
        except KeyError as error:
            raise ValueError(
                f"[ModelCheckpoint] {self.path} asks for {error}, there is only {', '.join(names)}"
                " here; val_... is known at the end of an epoch"
            ) from None
        except (ValueError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(
                f"[ModelCheckpoint] {self.path} cannot be formatted ({error}): it may hold names "
                "such as {epoch:02d} or {loss:.4f}; braces that stand for themselves are doubled"
            ) from None

    def _complain(self, path: str, error: OSError) -> None:
        if self._on_error == "raise":
            raise error
        warnings.warn(f"[ModelCheckpoint] {path} was not written: {error}", stacklevel=3)


class _Names(dict[str, Any]):
    """Example values for a first try of the path; a run may add other names."""

    def __missing__(self, name: str) -> _Anything:
        return _Anything()


class _Anything:
    """A placeholder for a number of the logs, valid in any format."""

    def __format__(self, form: str) -> str:
        return "0"
