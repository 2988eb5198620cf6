"""A training run in one safetensors file: weights, optimiser, random numbers, place in the epoch.

Names in the file: "model.<name in state_dict>", "optimizer.state.<parameter number>.<slot>" and
"callbacks.<number>...."; the header keeps everything else as JSON. A checkpoint may be taken
between any two steps, and continues to the same bits as a run that was never stopped: in the middle
of an epoch the random state at the epoch's beginning reproduces the order of its samples, and the
batches that are done are skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..autograd import Tensor
from ..errors import CorruptFileError
from ..interrupt import signals_held
from ..io import parse_json, read_file, save
from ..random import generator
from ..untrusted import printable
from .restore import Restoration, model_part, with_state
from .state_checks import Kind, checked, is_count, optional

if TYPE_CHECKING:
    from ..nn import Module
    from .run import Run

__all__ = ["Checkpoint", "load_checkpoint", "load_weights", "save_checkpoint"]

_FORMAT = "fastconv checkpoint 2"


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


# The fields of a checkpoint that are not arrays, with the check for each.
_FIELDS: dict[str, Kind] = {
    "epoch": is_count,
    "batches": is_count,
    "step": is_count,
    "steps_per_epoch": optional(is_count),
    "optimizer": _is_dict,
    "callbacks": _is_list,
    "random": _is_dict,
    "epoch_random": _is_dict,
    "means": _is_dict,
    "history": _is_dict,
    "stopped": _is_switch,
    "extra": _is_dict,
}


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
    stopped: bool = False  # by a callback: the run is over
    extra: dict[str, Any] = field(default_factory=dict)  # JSON values of the caller
    path: str = field(default="", compare=False)  # of the file it was read from, for messages

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
            for number, callback in enumerate(with_state(run.callbacks))
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

    def __post_init__(self) -> None:
        """Raises CorruptFileError for a state that no run can have."""
        for name, kind in _FIELDS.items():
            if not kind(getattr(self, name)):
                raise CorruptFileError(f"[checkpoint] damaged: {name} has a wrong value")
        if self.batches > min(self.step, self.steps_per_epoch or self.step):
            raise CorruptFileError(
                f"[checkpoint] damaged: {self.batches} batches of an epoch of "
                f"{self.steps_per_epoch}, {self.step} steps in all"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the file, all or nothing."""
        header = {name: value for name, value in vars(self).items() if name in _FIELDS}
        text = json.dumps(header, default=_of_numpy)
        with signals_held():
            save(self.arrays, path, {"format": _FORMAT, "state": text})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """Reads what `save` wrote.

        Raises:
            CorruptFileError: The file is damaged, or holds something else, such as weights alone.
        """
        header, arrays = read_file(path)
        if header.get("format") != _FORMAT:
            raise CorruptFileError(
                f"[checkpoint] {os.fspath(path)} is no checkpoint of this fastconv, which begins "
                f"with {_FORMAT!r}; weights alone are read by train.load_weights"
            )
        try:
            state = checked("checkpoint", parse_json(header["state"], finite=False), _FIELDS)
            return cls(arrays, **state, path=os.fspath(path))
        except (KeyError, ValueError) as error:
            raise CorruptFileError(
                f"[checkpoint] {os.fspath(path)}: damaged header ({printable(error)})"
            ) from None

    @property
    def where(self) -> str:
        """In words: "at the start", "after epoch 3", "after 12 batches of epoch 4"."""
        if self.batches:
            return f"after {self.batches} batches of epoch {self.epoch + 1}"
        return f"after epoch {self.epoch}" if self.epoch else "at the start"

    def resume(self, run: Run) -> None:
        """Sets a run of `fit`, which must be configured as it was then, to this state.

        Raises:
            ValueError: Its model, optimiser, callbacks or data are of another kind, or the
                checkpoint is damaged; nothing is changed then.
        """
        self.prepare(run).apply()

    def prepare(self, run: Run) -> Restoration:
        """The first half of `resume`: checks everything and changes nothing."""
        return Restoration(self, run.model, run.callbacks, run)

    def restore(self, model: Module, callbacks: Sequence[Any] = ()) -> int:
        """Restores a compiled model and its callbacks; returns the number of epochs done.

        Raises:
            ValueError: The model, its optimiser or the callbacks are of another kind, or the
                checkpoint is damaged, and nothing is changed; or the checkpoint was taken in the
                middle of an epoch, which only `fit(resume=...)` can continue.
        """
        if self.batches:
            raise ValueError(
                f"[checkpoint] taken in the middle of epoch {self.epoch + 1}: use "
                "fit(..., resume=PATH), which takes it up there"
            )
        Restoration(self, model, callbacks).apply()
        return self.epoch


def is_checkpoint(header: Mapping[str, str]) -> bool:
    """Whether the strings in the header of a file are those of a checkpoint, of any version."""
    return header.get("format", "").startswith("fastconv checkpoint")


def save_checkpoint(path: str | os.PathLike[str], run: Run) -> None:
    """Writes the whole state of a run, between two steps; for callbacks.

    `ModelCheckpoint(path, everything=True)` does it by itself.
    """
    Checkpoint.of(run).save(path)


def load_checkpoint(
    path: str | os.PathLike[str], model: Module, callbacks: Sequence[Any] = ()
) -> int:
    """Restores a run that was saved at the end of an epoch into a model compiled in the same way.

    `fit(resume=path)` does more: it also continues in the middle of an epoch, and the same History.

    Args:
        path: What `save_checkpoint` wrote.
        model: Compiled with the same kind of optimiser.
        callbacks: Those that `fit` will be given, in the same order as when saved: schedules, early
            stopping and the like continue from their state.

    Returns:
        The number of epochs done, for `fit(initial_epoch=...)`.

    Raises:
        CorruptFileError: The file is damaged or not a checkpoint.
        ValueError: Model, optimiser or callbacks differ; the message names what.

    Example::

        done = train.load_checkpoint("run.safetensors", model)
        model.fit(x, y, epochs=10, initial_epoch=done)
    """
    return Checkpoint.load(path).restore(model, callbacks)


def load_weights(path: str | os.PathLike[str], model: Module) -> None:
    """Loads weights into a model, from a file of weights or from a checkpoint.

    Raises:
        CorruptFileError: The file is damaged.
        ValueError: It holds the weights of another network; lists what does not fit.
    """
    header, state = read_file(path)
    if is_checkpoint(header):
        state = model_part(state)
    model.load_state_dict(state)


def _of_numpy(value: Any) -> Any:
    """A NumPy number as JSON can hold it."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(
        f"[checkpoint] {type(value).__name__} cannot be kept: numbers, texts, lists and dicts can"
    )


def _without_arrays(value: Any, name: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """The value in JSON's types; its arrays go into `arrays`, under their dotted path."""
    if isinstance(value, (Tensor, np.ndarray)):
        arrays[name] = np.array(value)
        return {"$array": name}
    if isinstance(value, dict):
        return {str(k): _without_arrays(v, f"{name}.{k}", arrays) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_arrays(v, f"{name}.{i}", arrays) for i, v in enumerate(value)]
    return value.item() if isinstance(value, np.generic) else value
