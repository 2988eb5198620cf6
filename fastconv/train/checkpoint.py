"""A training run in one safetensors file: weights, optimiser, random numbers, epoch.

Names in the file: "model.<name in state_dict>" and "optimizer.<parameter number>.<slot>"; the
header keeps what is no array as JSON. Taken between two epochs, a checkpoint continues to the same
bits as a run that was never stopped.
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
from ..io import load, load_metadata, save
from ..random import generator
from ..tensor import Tensor

if TYPE_CHECKING:
    from ..nn import Module
    from .run import Run

__all__ = ["Checkpoint", "load_checkpoint", "load_weights", "save_checkpoint"]

_FORMAT = "fastconv checkpoint 1"


@dataclass
class Checkpoint:
    """The state of a run between two epochs, in memory."""

    arrays: dict[str, NDArray[Any]]
    epoch: int  # epochs done
    optimizer: dict[str, Any]  # kind, options, step counts
    callbacks: list[Any]  # the states of those that have one
    random: dict[str, Any]
    extra: dict[str, Any] = field(default_factory=dict)  # the caller's own, as JSON has it

    @classmethod
    def of(cls, run: Run, epoch: int, extra: dict[str, Any] | None = None) -> Checkpoint:
        """A copy of the state of `run`, of which `epoch` epochs are done."""
        state = run.optimizer.state_dict()
        arrays = {f"model.{name}": _copy(tensor) for name, tensor in run.model.state_dict().items()}
        steps: dict[str, int] = {}
        for number, entries in state["state"].items():
            steps[str(number)] = entries["step"]
            for slot, value in entries.items():
                if isinstance(value, Tensor):
                    arrays[f"optimizer.{number}.{slot}"] = _copy(value)
        optimizer = {
            "kind": type(run.optimizer).__name__,
            "groups": [dict(group) for group in state["param_groups"]],
            "steps": steps,
        }
        callbacks = [callback.state_dict() for callback in _with_state(run.callbacks)]
        return cls(
            arrays, epoch, optimizer, callbacks, dict(generator().bit_generator.state), extra or {}
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the file, all or nothing."""
        header = {name: value for name, value in vars(self).items() if name != "arrays"}
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
                f"[checkpoint] {os.fspath(path)} is not a checkpoint of fastconv"
            )
        try:
            state = json.loads(header["state"])
            return cls({name: tensor.numpy() for name, tensor in load(path).items()}, **state)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise CorruptFileError(
                f"[checkpoint] {os.fspath(path)}: damaged header ({error})"
            ) from None

    def restore(self, model: Module, callbacks: Sequence[Any] = ()) -> int:
        """Puts everything back into a compiled model, and returns the number of epochs done.

        Raises:
            ValueError: The model, its optimiser or the callbacks are of another kind.
        """
        compiled = getattr(model, "_compiled", None)
        if compiled is None:
            raise RuntimeError("[checkpoint] compile the model first, as it was when it was saved")
        kind = type(compiled.optimizer).__name__
        if kind != self.optimizer["kind"]:
            raise ValueError(
                f"[checkpoint] optimizer: saved with {self.optimizer['kind']}, this is {kind}"
            )
        callbacks = _with_state(callbacks)
        if len(callbacks) != len(self.callbacks):
            raise ValueError(
                f"[checkpoint] callbacks with a state: saved with {len(self.callbacks)}, given "
                f"{len(callbacks)}"
            )
        model.load_state_dict(self._part("model."))
        slots: dict[int, dict[str, Any]] = {
            int(number): {"step": step} for number, step in self.optimizer["steps"].items()
        }
        for name, array in self._part("optimizer.").items():
            number, _, slot = name.partition(".")
            slots[int(number)][slot] = array
        groups = [{k: _tuples(v) for k, v in g.items()} for g in self.optimizer["groups"]]
        compiled.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        for callback, state in zip(callbacks, self.callbacks, strict=True):
            callback.load_state_dict(state)
        generator().bit_generator.state = self.random
        return self.epoch

    def _part(self, prefix: str) -> dict[str, NDArray[Any]]:
        """The arrays of that prefix, without it."""
        return {n.removeprefix(prefix): a for n, a in self.arrays.items() if n.startswith(prefix)}


def save_checkpoint(path: str | os.PathLike[str], run: Run) -> None:
    """Writes the whole state of a run at the end of an epoch; for callbacks.

    `ModelCheckpoint(path, everything=True)` does it after every epoch.
    """
    Checkpoint.of(run, run.epoch + 1).save(path)


def load_checkpoint(
    path: str | os.PathLike[str], model: Module, callbacks: Sequence[Any] = ()
) -> int:
    """Puts a saved run back into a model that was compiled in the same way.

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
    if any(name.startswith("model.") for name in state) and "format" in load_metadata(path):
        state = {n.removeprefix("model."): t for n, t in state.items() if n.startswith("model.")}
    model.load_state_dict(state)


def _with_state(callbacks: Sequence[Any]) -> list[Any]:
    return [callback for callback in callbacks if hasattr(callback, "state_dict")]


def _copy(tensor: Tensor) -> NDArray[Any]:
    return np.array(tensor.numpy())


def _tuples(value: Any) -> Any:
    """JSON made lists of what were tuples (Adam's betas); "params" is a list of numbers anyway."""
    return tuple(value) if isinstance(value, list) else value
