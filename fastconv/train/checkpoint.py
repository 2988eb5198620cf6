"""A training run in one safetensors file: weights, optimiser, random numbers, place in the epoch.

Names in the file: "model.<name in state_dict>", "optimizer.state.<parameter number>.<slot>" and
"callbacks.<number>...."; the header keeps what is no array as JSON. A checkpoint may be taken
between any two steps, and continues to the same bits as a run that was never stopped: in the middle
of an epoch the random numbers with which that epoch began give its order of the samples again, of
which those done are skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptFileError
from ..interrupt import signals_held
from ..io import load, load_metadata, save
from ..random import generator
from ..tensor import Tensor

if TYPE_CHECKING:
    from ..nn import Module
    from .run import Run

__all__ = ["Checkpoint", "load_checkpoint", "load_weights", "save_checkpoint"]

_FORMAT = "fastconv checkpoint 2"


@dataclass
class Checkpoint:
    """The state of a run between two steps, in memory."""

    arrays: dict[str, NDArray[Any]]
    epoch: int  # epochs done
    batches: int  # done in the epoch after those
    step: int  # optimiser steps taken in all
    steps_per_epoch: int | None
    optimizer: dict[str, Any]  # kind and state
    callbacks: list[dict[str, Any]]  # kind and state of those that have one
    random: dict[str, Any]
    epoch_random: dict[str, Any]  # as the epoch under way began
    means: dict[str, Any]  # of that epoch
    history: dict[str, Any]
    stopped: bool = False  # by a callback: nothing is left to do
    extra: dict[str, Any] = field(default_factory=dict)  # the caller's own, as JSON has it

    @classmethod
    def of(cls, run: Run, extra: dict[str, Any] | None = None) -> Checkpoint:
        """A copy of the state of `run`, as it is now, between two steps."""
        arrays: dict[str, NDArray[Any]] = {}
        _without_arrays(run.model.state_dict(), "model", arrays)
        optimizer = {
            "kind": type(run.optimizer).__name__,
            "state": _without_arrays(run.optimizer.state_dict(), "optimizer", arrays),
        }
        callbacks = [
            {
                "kind": type(callback).__name__,
                "state": _without_arrays(callback.state_dict(), f"callbacks.{number}", arrays),
            }
            for number, callback in enumerate(_with_state(run.callbacks))
        ]
        return cls(
            arrays,
            run.epochs_done,
            run.batches_done,
            run.step,
            run.steps_per_epoch,
            optimizer,
            callbacks,
            random=dict(generator().bit_generator.state),
            epoch_random=run.epoch_random,
            means=run.means.state_dict(),
            history={
                "epoch": list(run.history.epoch),
                "history": {name: list(v) for name, v in run.history.history.items()},
            },
            stopped=run.stopping,
            extra=extra or {},
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the file, all or nothing."""
        header = {name: value for name, value in vars(self).items() if name != "arrays"}
        with signals_held():
            save(self.arrays, path, {"format": _FORMAT, "state": json.dumps(header)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """Reads what `save` wrote.

        Raises:
            CorruptFileError: The file is damaged, or holds something else, such as weights alone.
        """
        header = load_metadata(path)
        if header.get("format") != _FORMAT:
            raise CorruptFileError(
                f"[checkpoint] {os.fspath(path)} is no checkpoint of this fastconv, which begins "
                f"with {_FORMAT!r}; weights alone are read by train.load_weights"
            )
        try:
            state = json.loads(header["state"])
            return cls({name: tensor.numpy() for name, tensor in load(path).items()}, **state)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise CorruptFileError(
                f"[checkpoint] {os.fspath(path)}: damaged header ({error})"
            ) from None

    @property
    def where(self) -> str:
        """In words: "at the start", "after epoch 3", "after 12 batches of epoch 4"."""
        if self.batches:
            return f"after {self.batches} batches of epoch {self.epoch + 1}"
        return f"after epoch {self.epoch}" if self.epoch else "at the start"

    def resume(self, run: Run) -> None:
        """Puts a run of `fit`, which must be set up as it was then, where this was taken.

        Raises:
            ValueError: Its model, optimiser, callbacks or data are of another kind.
        """
        if self.batches and run.steps_per_epoch != self.steps_per_epoch:
            raise ValueError(
                f"[checkpoint] taken after {self.batches} of {self.steps_per_epoch} batches, this "
                f"run has {run.steps_per_epoch} an epoch: give the same data and batch_size"
            )
        run.means.load_state_dict(self.means)
        self._restore(run.model, run.callbacks)
        run.epochs_done, run.batches_done, run.step = self.epoch, self.batches, self.step
        run.epoch_random, run.stopping = self.epoch_random, self.stopped
        run.history.epoch[:] = self.history["epoch"]
        run.history.history.update({name: list(v) for name, v in self.history["history"].items()})

    def restore(self, model: Module, callbacks: Sequence[Any] = ()) -> int:
        """Puts everything back into a compiled model, and returns the number of epochs done.

        Raises:
            ValueError: The model, its optimiser or the callbacks are of another kind; or the
                checkpoint was taken in the middle of an epoch, which only `fit(resume=...)` can
                continue.
        """
        if self.batches:
            raise ValueError(
                f"[checkpoint] taken in the middle of epoch {self.epoch + 1}: use "
                "fit(..., resume=PATH), which takes it up there"
            )
        self._restore(model, callbacks)
        return self.epoch

    def _restore(self, model: Module, callbacks: Sequence[Any]) -> None:
        compiled = getattr(model, "_compiled", None)
        if compiled is None:
            raise RuntimeError("[checkpoint] compile the model first, as it was when it was saved")
        kind = type(compiled.optimizer).__name__
        if kind != self.optimizer["kind"]:
            raise ValueError(
                f"[checkpoint] optimizer: saved with {self.optimizer['kind']}, this is {kind}"
            )
        callbacks = _with_state(callbacks)
        saved, given = (
            ", ".join(kinds) or "none"
            for kinds in (
                [entry["kind"] for entry in self.callbacks],
                [type(callback).__name__ for callback in callbacks],
            )
        )
        if saved != given:
            raise ValueError(
                f"[checkpoint] callbacks with a state: saved with {saved}; given {given}"
            )
        part = {n.removeprefix("model."): a for n, a in self.arrays.items() if n[:6] == "model."}
        model.load_state_dict(part)
        state = _with_arrays(self.optimizer["state"], self.arrays)
        compiled.optimizer.load_state_dict(
            {
                "state": {int(number): slots for number, slots in state["state"].items()},
                "param_groups": [
                    {name: _tuple(value) for name, value in group.items()}
                    for group in state["param_groups"]
                ],
            }
        )
        for callback, entry in zip(callbacks, self.callbacks, strict=True):
            callback.load_state_dict(_with_arrays(entry["state"], self.arrays))
        generator().bit_generator.state = self.random


def save_checkpoint(path: str | os.PathLike[str], run: Run) -> None:
    """Writes the whole state of a run, between two steps; for callbacks.

    `ModelCheckpoint(path, everything=True)` does it by itself.
    """
    Checkpoint.of(run).save(path)


def load_checkpoint(
    path: str | os.PathLike[str], model: Module, callbacks: Sequence[Any] = ()
) -> int:
    """Puts a run saved at the end of an epoch back into a model compiled in the same way.

    `fit(resume=path)` does the same and more: it also goes on in the middle of an epoch, and with
    the same History.

    Args:
        path: What `save_checkpoint` wrote.
        model: Compiled with the same kind of optimiser.
        callbacks: Those that `fit` will be given, in the same order as when saved: schedules, early
            stopping and the like go on where they were.

    Returns:
        The number of epochs done, for `fit(initial_epoch=...)`.

    Raises:
        CorruptFileError: The file is damaged, or no checkpoint.
        ValueError: Model, optimiser or callbacks differ; the message names what.

    Example::

        done = train.load_checkpoint("run.safetensors", model)
        model.fit(x, y, epochs=10, initial_epoch=done)
    """
    return Checkpoint.load(path).restore(model, callbacks)


def load_weights(path: str | os.PathLike[str], model: Module) -> None:
    """Loads weights into a model, from a file of weights or from a checkpoint."""
    state = load(path)
    if load_metadata(path).get("format", "").startswith("fastconv checkpoint"):
        state = {n.removeprefix("model."): t for n, t in state.items() if n.startswith("model.")}
    model.load_state_dict(state)


def _with_state(callbacks: Sequence[Any]) -> list[Any]:
    return [callback for callback in callbacks if hasattr(callback, "state_dict")]


def _without_arrays(value: Any, name: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """The same as JSON has it; arrays go to `arrays`, by the way that leads to them."""
    if isinstance(value, (Tensor, np.ndarray)):
        arrays[name] = np.array(value)
        return {"$array": name}
    if isinstance(value, dict):
        return {str(k): _without_arrays(v, f"{name}.{k}", arrays) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_arrays(v, f"{name}.{i}", arrays) for i, v in enumerate(value)]
    return value.item() if isinstance(value, np.generic) else value


def _with_arrays(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """What `_without_arrays` was given, but for tuples, which are lists now."""
    if isinstance(value, dict):
        if "$array" in value:
            return arrays[value["$array"]]
        return {k: _with_arrays(v, arrays) for k, v in value.items()}
    return [_with_arrays(v, arrays) for v in value] if isinstance(value, list) else value


def _tuple(value: Any) -> Any:
    """Options such as Adam's betas are tuples; "params", a list of numbers, may be either."""
    return tuple(value) if isinstance(value, list) else value
