"""The network as training sees it: logits, also where the model returns probabilities."""

from __future__ import annotations

import math
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import functional as F
from .. import nn
from ..autograd import Tensor, grad_mode, no_grad
from ..errors import ShapeError
from ..functional.activation import Activated, activations_noted
from ..nn.modes import own_modes
from ..program import RecordedForward, RecordedStep

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .objectives import Objective

__all__ = ["Network", "activate", "takes_signals"]

_CLOSE = 1e-4  # how far sums of probabilities in float32 may be from 1


class Network:
    """A model whose outputs are logits, whether or not it ends in softmax (or sigmoid).

    Where the model returns the very result of a sigmoid or softmax, of a layer or of a function in
    its `forward`, the input of that operation replaces it: the loss sees logits and is computed in
    its stable form. The numbers are the same, and the model does not change.

    Networks of this package's own layers run as recorded programs (fastconv/program.py).

    Args:
        model: The user's network.
        head: The activation that the loss (or `predict`) applies: "softmax", "sigmoid", or None.
        sample: A small batch for a trial run.
        op: The caller's name, for a warning where the head seems to be applied twice; None: no
            warning.
    """

    def __init__(
        self, model: nn.Module, head: str | None, sample: Tensor, op: str | None = None
    ) -> None:
        self.model = model
        self._head, self._sample, self._op = head, sample, op
        self._call: Any = model if head is None else self._logits
        self._forward = RecordedForward(model, automatic=True, call=self._call)
        self._step: RecordedStep | None = None
        self._first = True  # call of the model
        self._found = False  # whether the model ends in the head
        self._never = False  # whether what seemed to be the head is not

    def output_shape(self) -> tuple[int, ...]:
        """The shape for one sample, from a trial run; raises ShapeError before training begins."""
        try:
            with own_modes(), no_grad():
                self.model.eval()
                outputs = self._call(self._sample)
        except ShapeError as error:
            error.args = (f"{error}{_channels_last_hint(self._sample)}",)
            raise
        if not isinstance(outputs, Tensor):
            raise TypeError(f"the model must return one Tensor, got {type(outputs).__name__}")
        return outputs.shape[1:]

    def __call__(self, x: Tensor) -> Tensor:
        outputs: Tensor = self._call(x) if grad_mode.enabled else self._forward(x)
        return outputs

    def step(self, objective: Objective, images: Tensor, targets: NDArray[Any]) -> Any:
        """The loss and the outputs; adds gradients to the parameters. One objective per run."""
        if self._step is None:
            self._step = RecordedStep(
                self.model, objective.function, automatic=True, call=self._call
            )
        return self._step(images, objective.prepared(targets))

    def norm_of_single_values(self) -> str | None:
        """The first batch norm that has one value per channel when it trains on one sample."""
        model, thread = self.model, threading.get_ident()
        with own_modes():
            model.train()
            found = [
                (name, module)
                for name, module in model.named_modules()
                if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and module._by_batch
            ]
        single: list[str] = []

        def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
            def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
                shape = np.shape(inputs[0])
                if threading.get_ident() == thread and math.prod(shape[2:]) == 1:
                    single.append(f"{name!r} ({type(module).__name__})")

            return note

        hooks = [module.register_forward_pre_hook(hook(name)) for name, module in found]
        try:
            if hooks:
                self.output_shape()
        finally:
            for each in hooks:
                each.remove()
        return single[0] if single else None

    def _logits(self, x: Tensor) -> Any:
        """The outputs, without the head if there is one."""
        with activations_noted() as notes:
            outputs = self.model(x)
        if not isinstance(outputs, Tensor):
            return outputs
        logits = self._behind(outputs, notes)
        if self._first:
            self._first = False
            if logits is None and _seems_activated(self._head, outputs.numpy(), notes):
                if x is not self._sample:  # a single sample shares memory even after a reshape
                    with no_grad():
                        self._logits(self._sample)
                    logits = self._behind(outputs, notes)
                if logits is None:
                    self._never = True
                    if self._op is not None:
                        _warn_of_two(self._op, self._head)
        return outputs if logits is None else logits

    def _behind(self, outputs: Tensor, notes: deque[Activated]) -> Tensor | None:
        """The input of the head, if the outputs are its result, in the shape of the outputs."""
        for note in reversed(notes):
            if note.kind == self._head and self._is_result(outputs, note):
                same = note.input.shape == outputs.shape
                return note.input if same else note.input.reshape(outputs.shape)
        return None

    def _is_result(self, outputs: Tensor, note: Activated) -> bool:
        """Whether the outputs are the noted result, perhaps in another shape."""
        if self._never or not _along_classes(outputs.shape, note) or not note.holds():
            return False
        made = note.output._array
        if outputs._array.address != made.address:
            # Where the head is known to be the end: a reshape on the way may have made a row-major
            # copy.
            moved = self._found and outputs._array.is_contiguous != made.is_contiguous
            return moved and np.array_equal(_flat(outputs), _flat(note.output))
        self._found = True
        return True


def activate(head: str | None, outputs: Tensor, axis: int | None = 1) -> Tensor:
    """Applies the head to logits; without one they stay as they are."""
    if head is None:
        return outputs
    return F.sigmoid(outputs) if head == "sigmoid" else F.softmax(outputs, axis)


def takes_signals(model: nn.Module) -> bool:
    """Whether the first layer works on (N, C, L), so that a three-dimensional x is not images."""
    leaves = (module for module in model.modules() if not any(True for _ in module.children()))
    first = next(leaves, None)
    return isinstance(first, (nn.Conv1d, nn.BatchNorm1d))


def _along_classes(shape: tuple[int, ...], note: Activated) -> bool:
    """Whether the classes that a softmax made sum to 1 are axis 1 of that shape."""
    before = note.output.shape
    if note.axis is None:
        return math.prod(before) == math.prod(shape)
    axis = note.axis
    if len(shape) < 2:
        return False
    parts = [(s[:a], s[a : a + 1], s[a + 1 :]) for s, a in ((before, axis), (shape, 1))]
    sizes = [[math.prod(part) for part in three] for three in parts]
    return sizes[0] == sizes[1]


def _flat(x: Tensor) -> NDArray[Any]:
    return x.detach().numpy().reshape(-1)


def _seems_activated(head: str | None, values: NDArray[Any], notes: deque[Activated]) -> bool:
    """Whether outputs went through the head although they are not its result.

    Clamped or indexed outputs, for example: all of them are among the results of the last sigmoid;
    or their rows are probabilities and a softmax was computed. A gate within the network matches
    neither.
    """
    noted = [note.output for note in notes if note.kind == head]
    if not noted or not values.size or not np.isfinite(values).all():
        return False
    if head == "sigmoid":
        return bool(np.isin(values, noted[-1].detach().numpy()).all())
    if values.ndim < 2 or values.shape[1] < 2 or (values < 0).any():
        return False
    return bool((np.abs(values.sum(axis=1) - 1) < _CLOSE).all())


def _warn_of_two(op: str, head: str | None) -> None:
    remedy = "use loss=nn.BCELoss()" if head == "sigmoid" else "end in nn.Softmax(dim=1)"
    depth, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("fastconv."):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(
        f"[{op}] the network's outputs have been through a {head} and something behind it, and "
        f"the loss, which takes logits, applies its own {head}: return the result of the {head} "
        f"itself, or leave it out, or {remedy}",
        stacklevel=depth,
    )


def _channels_last_hint(sample: Tensor) -> str:
    shape = sample.shape
    if len(shape) == 4 and shape[3] in (1, 3, 4) and shape[1] > 4:
        return (
            f". x looks like (N, H, W, C), {shape[1:]} a sample; fastconv takes (N, C, H, W): "
            "x.transpose(0, 3, 1, 2)"
        )
    return ""
