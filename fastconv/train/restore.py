"""Restores a run from a checkpoint: first checks everything, then changes everything.

The file does not choose what is changed. Whoever wrote a part reads it, and accepts only names it
knows: the optimiser, the means, the callbacks, the random generator.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ..errors import CorruptFileError
from ..nn.loading import matched
from ..random import generator
from .state_checks import checked, is_count, is_number, is_text

if TYPE_CHECKING:
    from ..nn import Module
    from ..optim import Optimizer
    from .checkpoint import Checkpoint
    from .measure import Means
    from .run import Run

__all__ = ["Restoration", "model_part", "with_state"]

Arrays = Mapping[str, NDArray[Any]]


class Restoration:
    """The checked state of a checkpoint, ready to be applied.

    Args:
        checkpoint: Where to continue from.
        model: Compiled as it was then.
        callbacks: Those given to `fit`.
        run: The run of `fit` that continues; None: restore only model, optimiser and callbacks.

    Raises:
        ValueError: Something does not fit.
        CorruptFileError: The checkpoint is damaged.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: Module,
        callbacks: Sequence[Any],
        run: Run | None = None,
    ) -> None:
        compiled = getattr(model, "_compiled", None)
        if compiled is None:
            raise RuntimeError("[checkpoint] compile the model first, as it was when it was saved")
        self._checkpoint, self._model, self._run = checkpoint, model, run
        self._optimizer: Optimizer = compiled.optimizer
        self._callbacks = with_state(callbacks)
        if run is not None:
            _check_place(checkpoint, run)
        damage = functools.partial(_damage, checkpoint.path)
        with damage("kinds"):
            _check_kinds(checkpoint, self._optimizer, self._callbacks)
        self._weights = model_part(checkpoint.arrays)
        matched(model.state_dict(), self._weights, True, type(model).__name__)
        with damage("random"):
            _check_random(checkpoint.random)
            if checkpoint.batches:
                _check_random(checkpoint.epoch_random)
        with damage("callbacks"):
            self._states = [
                _with_arrays(entry["state"], f"callbacks.{number}", checkpoint.arrays)
                for number, entry in enumerate(checkpoint.callbacks)
            ]
            for callback, state in zip(self._callbacks, self._states, strict=True):
                if hasattr(callback, "check_state_dict"):
                    callback.check_state_dict(state, model)
        with damage("optimizer"):
            self._ahead = _loaded_copy(self._optimizer, checkpoint)
        if run is not None:
            with damage("history"):
                self._history = _checked_history(checkpoint.history)
            with damage("means"):
                self._means = _loaded_means(run, checkpoint.means)

    def apply(self) -> None:
        """Changes everything, or nothing if a callback refuses its state."""
        before = [copy.deepcopy(callback.state_dict()) for callback in self._callbacks]
        groups = [dict(group) for group in self._optimizer.param_groups]
        asked = 0
        try:
            with _damage(self._checkpoint.path, "callbacks"):
                for callback, state in zip(self._callbacks, self._states, strict=True):
                    asked += 1
                    callback.load_state_dict(state)
        except BaseException:
            for callback, state in zip(self._callbacks[:asked], before, strict=False):
                with contextlib.suppress(Exception):  # report the first error
                    callback.load_state_dict(state)
            self._set_groups(groups)
            raise
        self._set_groups(self._ahead.param_groups)  # after the schedules, which change rates
        self._optimizer.state = self._ahead.state
        self._model.load_state_dict(self._weights)
        checkpoint, run = self._checkpoint, self._run
        generator().bit_generator.state = checkpoint.random
        if run is not None:
            run.epochs_done, run.batches_done = checkpoint.epoch, checkpoint.batches
            run.step, run.stopping = checkpoint.step, checkpoint.stopped
            run.epoch_random, run.means = checkpoint.epoch_random, self._means
            epochs, history = self._history
            run.history.epoch[:] = epochs
            run.history.history.update(history)

    def _set_groups(self, groups: Sequence[Mapping[str, Any]]) -> None:
        for own, group in zip(self._optimizer.param_groups, groups, strict=True):
            own.update(group)


# ------------------------------------------------------------------------------------- checks


@contextlib.contextmanager
def _damage(path: str, part: str) -> Iterator[None]:
    """Reports a malformed state as damage, wherever reading it fails."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise CorruptFileError(
            f"[checkpoint] {path or 'the state'} is damaged: its {part} cannot be read "
            f"({type(error).__name__}: {str(error)!a})"
        ) from error


def _check_place(checkpoint: Checkpoint, run: Run) -> None:
    if checkpoint.batches and run.steps_per_epoch != checkpoint.steps_per_epoch:
        raise ValueError(
            f"[checkpoint] taken after {checkpoint.batches} of {checkpoint.steps_per_epoch} "
            f"batches, this run has {run.steps_per_epoch} an epoch: give the same data and "
            "batch_size"
        )


def _check_kinds(checkpoint: Checkpoint, optimizer: Optimizer, callbacks: Sequence[Any]) -> None:
    saved_kind, kind = checkpoint.optimizer["kind"], type(optimizer).__name__
    if kind != saved_kind:
        raise ValueError(f"[checkpoint] optimizer: saved with {_shown(saved_kind)}, this is {kind}")
    saved = [entry["kind"] for entry in checkpoint.callbacks]
    given = [type(callback).__name__ for callback in callbacks]
    if saved != given:
        raise ValueError(
            "[checkpoint] callbacks with a state: saved with "
            f"{', '.join(map(_shown, saved)) or 'none'}; given {', '.join(given) or 'none'}"
        )


def _shown(kind: Any) -> str:
    return kind if isinstance(kind, str) and kind.isidentifier() else ascii(kind)


def _check_random(state: Mapping[str, Any]) -> None:
    """Sets the state of a second generator of the same kind, which must return it unchanged."""
    other = type(generator().bit_generator)()
    try:
        other.state = state
    except ValueError as error:
        raise TypeError(str(error)) from None
    if dict(other.state) != dict(state):
        raise TypeError("no generator can have this state")


def _checked_history(history: Any) -> tuple[list[int], dict[str, list[float]]]:
    parts = checked(
        "checkpoint",
        history,
        {"epoch": lambda value: _are(is_count, value), "history": _is_history},
    )
    return list(parts["epoch"]), {name: list(values) for name, values in parts["history"].items()}


def _is_history(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        is_text(name) and _are(is_number, values) for name, values in value.items()
    )


def _are(kind: Any, values: Any) -> bool:
    return isinstance(values, list) and all(map(kind, values))


def _loaded_means(run: Run, state: Mapping[str, Any]) -> Means:
    """The run's means with the saved numbers, under exactly the names that the run has."""
    means = type(run.means)(run.compiled)
    form = means.state_dict()
    means.load_state_dict(copy.deepcopy(dict(state)))
    if not is_count(means.samples) or not _has_form(means.state_dict(), form):
        raise TypeError("they are not numbers under the names of this run's means")
    return means


def _has_form(value: Any, form: Any) -> bool:
    if isinstance(form, Mapping):
        return (
            isinstance(value, Mapping)
            and value.keys() == form.keys()
            and all(_has_form(value[name], inner) for name, inner in form.items())
        )
    return is_number(value)


# --------------------------------------------------------------------------------- parts of a file


def model_part(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """The weights among the arrays of a checkpoint, as in the model's state_dict."""
    return {n.removeprefix("model."): a for n, a in arrays.items() if n.startswith("model.")}


def with_state(callbacks: Sequence[Any]) -> list[Any]:
    """The callbacks that have a state to keep."""
    return [callback for callback in callbacks if hasattr(callback, "state_dict")]


def _loaded_copy(optimizer: Optimizer, checkpoint: Checkpoint) -> Optimizer:
    """A copy of the optimiser, for the same parameters, with the saved state."""
    state = _with_arrays(checkpoint.optimizer["state"], "optimizer", checkpoint.arrays)
    ahead = copy.copy(optimizer)
    ahead.param_groups = [dict(group) for group in optimizer.param_groups]
    ahead.load_state_dict(
        {
            "state": {int(number): slots for number, slots in state["state"].items()},
            "param_groups": [
                {name: _tuple(value) for name, value in group.items()}
                for group in state["param_groups"]
            ],
        }
    )
    return ahead


def _with_arrays(value: Any, name: str, arrays: Arrays) -> Any:
    """The value of that name with its arrays; tuples were saved as lists and stay lists."""
    if isinstance(value, dict):
        if "$array" in value:
            if value != {"$array": name}:
                raise TypeError(f"{name!a} has an array of another name")
            return arrays[name]
        return {k: _with_arrays(v, f"{name}.{k}", arrays) for k, v in value.items()}
    if isinstance(value, list):
        return [_with_arrays(v, f"{name}.{i}", arrays) for i, v in enumerate(value)]
    return value


def _tuple(value: Any) -> Any:
    """Options such as Adam's betas are tuples; "params", a list of numbers, may be either."""
    return tuple(value) if isinstance(value, list) else value
