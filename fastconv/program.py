"""Recorded programs: a network's operations written down once, then run without Python.

`record` makes a fast forward pass of a model, `record_step` a fast step of training. The first call
with inputs of a new form runs as ever, while the core writes down which operations run on which
arrays (csrc/program); later calls run that list in one call of the core. Same operations, same
bits, including dropout, which gets fresh random seeds from the same generator.

Python code is not run again, so a recording must not depend on values it has seen. What changes the
list is watched, and recorded anew when it changes: shapes, training mode, which parameters require
gradients, which arrays hold them, any attribute of a module, and the lists, dictionaries, objects,
globals and closures that the code of a network reads (surroundings.py). What reads values while the
network runs (NumPy, `item()`, comparisons), brings new ones from NumPy, draws random numbers of
Python's, or has hooks, cannot be recorded: it runs as ever, with the same results, and `reason`
says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _core
from .autograd import Node, Tensor, as_array, grad_mode, no_grad, wrap
from .autograd.changes import changes
from .autograd.pending import fusing_always, settle_here
from .nn.modes import here
from .nn.module import Module
from .random import draw_seed
from .surroundings import Surroundings

if TYPE_CHECKING:
    from ._core import Array, Recorder

    Rebuild = Callable[[list[Array]], Any]  # what a call returns, from its arrays

__all__ = ["RecordedForward", "RecordedStep", "record", "record_step"]

MOST_CHANGES = 3  # recordings that are tried of a network that changes itself
MOST_PROGRAMS = 8  # that one object keeps, each for inputs of its own form; the oldest goes first


def record(model: Module) -> RecordedForward:
    """A model's forward pass without gradients, recorded: for predictions, one or many at a time.

    Args:
        model: called with the same inputs as ever. What its `forward` does besides calling
            operations, as counting or printing, is done when a recording is made and not again.

    Example:
        >>> import numpy as np, fastconv as fc
        >>> model = fc.models.lenet5().eval()
        >>> forward = fc.record(model)
        >>> x = np.zeros((1, 1, 28, 28), np.float32)
        >>> forward(x).shape  # runs the model and records it
        (1, 10)
        >>> forward(x).shape, forward.reason  # runs the recording
        ((1, 10), None)
    """
    return RecordedForward(model)


def record_step(model: Module, loss_function: Callable[[Any, Tensor], Tensor]) -> RecordedStep:
    """Forward, loss and backward of a training step, recorded, for a training loop of your own.

    Args:
        model: called with the images.
        loss_function: `loss_function(outputs, targets)`: an nn loss, one of `functional`, or any
            function of tensors, for which holds what `record` says of `forward`.

    Example:
        >>> import numpy as np, fastconv as fc
        >>> fc.manual_seed(0)
        >>> model = fc.nn.Sequential(fc.nn.Linear(2, 2))
        >>> step = fc.record_step(model, fc.functional.cross_entropy)
        >>> sgd = fc.optim.SGD(model.parameters(), lr=1.0)
        >>> labels = np.arange(64) % 2
        >>> for _ in range(50):
        ...     sgd.zero_grad()
        ...     loss, outputs = step(np.eye(2, dtype=np.float32)[labels], labels)
        ...     sgd.step()
        >>> loss.item() < 0.1, step.reason
        (True, None)
    """
    return RecordedStep(model, loss_function)


class _Program:
    """A recording, or why there is none, and the state of the network it was made in."""

    __slots__ = ("core", "leaves", "reason", "rebuild", "seeds", "state")

    def __init__(
        self,
        state: object,
        recorder: Recorder,
        leaves: Sequence[Tensor],
        arrays: list[Array],
        rebuild: Rebuild,
    ) -> None:
        self.state = state
        self.reason = recorder.reason or None
        self.core = None if self.reason else recorder.finish(arrays)
        self.seeds = self.core.seeds if self.core else 0
        self.leaves = leaves  # the first of the arrays are their gradients
        self.rebuild = rebuild  # takes the others


class _Looked(NamedTuple):
    """What a network is like. One value, so that threads which share a recording never mix two."""

    changed: int  # the count of `changes`, when it was looked at
    stamp: object  # of this thread's modes
    attributes: int  # the same of attributes, when modules and tensors were found
    modules: list[Module]
    tensors: list[Tensor]
    surroundings: Surroundings | None
    state: object  # recordings are of one state
    read: object  # what its code read besides


class _Recorded:
    """The recordings of something that is done with a network.

    Any number of threads may call one.

    Args:
        parts: the model, and functions that go with it.
        call: what is called in place of the model, and calls it.
        automatic: started by fit or predict, not by the user. Only code of this package is
            recorded then, and only when inputs of a form come for the second time.
    """

    def __init__(
        self, *parts: object, automatic: bool, call: Callable[..., Any] | None = None
    ) -> None:
        if not isinstance(parts[0], Module):
            raise TypeError(f"[record] expected a Module, got {type(parts[0]).__name__}")
        self.reason: str | None = None
        self._parts, self._automatic = parts, automatic
        self._model: Callable[..., Any] = call or parts[0]
        self._changes = 0  # recordings refused because modules changed meanwhile
        self._unsteady = 0  # times in a row that what the code reads has changed
        self._never: str | None = None  # why nothing will ever be recorded
        self._looked = _Looked(-1, None, -1, [], [], None, None, None)
        self._programs: dict[bytes, _Program | None] = {}  # by the form of inputs; None: seen

    def _eagerly(self, tensors: list[Tensor]) -> Any:
        """What is to be done, and its result."""
        raise NotImplementedError

    def _recording(
        self, tensors: list[Tensor], recorder: Recorder, known: list[Tensor]
    ) -> tuple[Sequence[Tensor], list[Array], Rebuild]:
        """The same: tensors, the arrays of their gradients and of the result, and the result.

        `known`: the tensors of the network.
        """
        raise NotImplementedError

    def _call(self, inputs: Sequence[Any], refused: str | None = None) -> Any:
        settle_here()
        arrays = [x._array if isinstance(x, Tensor) else as_array(x) for x in inputs]
        refused = refused or self._never
        if refused is not None:
            self.reason = refused
            return self._eagerly(_tensors(inputs, arrays))
        key = _core.signature(arrays)
        if self._automatic and key not in self._programs:
            self._keep(key, None)
            self.reason = "inputs of this form came for the first time"
            return self._eagerly(_tensors(inputs, arrays))
        looked = self._looked
        if changes.count != looked.changed or here.stamp is not looked.stamp:
            looked = self._look_up(looked)
        if looked.surroundings is not None and looked.surroundings.state() != looked.read:
            self._unsteady += 1
            if self._unsteady == MOST_CHANGES:
                self._never = "what its code reads changes from call to call"
            looked = self._look_up(looked._replace(attributes=-1))
        program = self._programs.get(key)
        if program is None or program.state != looked.state:
            # Where nobody else can write: results may wait, and neighbours are fused.
            own = [
                a if isinstance(x, Tensor) else a.copy()
                for x, a in zip(inputs, arrays, strict=True)
            ]
            program, results = self._record(looked, _tensors(inputs, own), own)
            self._keep(key, program)
        elif program.core is None:
            self.reason = program.reason
            return self._eagerly(_tensors(inputs, arrays))
        else:
            self._unsteady = 0
            seeds = [draw_seed() for _ in range(program.seeds)] if program.seeds else []
            results = program.core.run(arrays, seeds)
        self.reason = program.reason
        if program.leaves:
            for leaf, gradient in zip(program.leaves, results, strict=False):
                _add_gradient(leaf, gradient)
            results = results[len(program.leaves) :]
        return program.rebuild(results)

    def _look_up(self, before: _Looked) -> _Looked:
        # Numbers before anything is looked at: what changes meanwhile counts.
        count, stamp, attributes = changes.count, here.stamp, changes.attributes
        modules, tensors, surroundings = before.modules, before.tensors, before.surroundings
        if attributes != before.attributes:
            self._programs = {}
            roots = [part for part in self._parts if isinstance(part, Module)]
            modules = list({id(m): m for root in roots for m in root.modules()}.values())
            values = [value for module in modules for value in list(vars(module).values())]
            tensors = [value for value in values if isinstance(value, Tensor)]
            if not self._automatic:
                surroundings = Surroundings(modules, self._parts) or None
        read = None if surroundings is None else surroundings.state()
        state = (
            attributes,
            [m.training for m in modules],
            [t._array for t in tensors],
            [t.requires_grad for t in tensors],
            read,
        )
        self._looked = looked = _Looked(
            count, stamp, attributes, modules, tensors, surroundings, state, read
        )
        return looked

    def _record(
        self, looked: _Looked, tensors: list[Tensor], arrays: list[Array]
    ) -> tuple[_Program, list[Array]]:
        modules = looked.modules
        with _core.Recorder(arrays) as recorder:
            if looked.surroundings is not None and looked.surroundings.reason is not None:
                recorder.refuse(looked.surroundings.reason)
            if any(m._forward_hooks or m._forward_pre_hooks for m in modules):
                recorder.refuse("a layer has hooks")
            if self._automatic:
                forwards = [vars(m)["forward"] for m in modules if "forward" in vars(m)]
                for part in (*self._parts, *modules, *forwards):
                    if str(getattr(part, "__module__", "")).partition(".")[0] != __package__:
                        name = getattr(part, "__name__", type(part).__name__)
                        recorder.refuse(f"{name} is not of this package: use fc.record_step")
            with fusing_always():
                leaves, results, rebuild = self._recording(tensors, recorder, looked.tensors)
            if changes.attributes != looked.attributes:
                recorder.refuse("the network changes attributes of its own while it runs")
                self._changes += 1
                if self._changes == MOST_CHANGES:  # no chance, as from another thread
                    self._never = recorder.reason
        return _Program(looked.state, recorder, leaves, results, rebuild), results

    def _keep(self, key: bytes, program: _Program | None) -> None:
        programs = dict(self._programs)  # another thread may read them, or keep one of its own
        programs.pop(key, None)
        if len(programs) == MOST_PROGRAMS:
            del programs[next(iter(programs))]
        programs[key] = program
        self._programs = programs


class RecordedForward(_Recorded):
    """A model's forward pass without gradients; see `record`.

    Attributes:
        reason: why the last call ran as ever instead of as a recording; None if it did not.
    """

    def __init__(
        self, model: Module, *, automatic: bool = False, call: Callable[..., Any] | None = None
    ) -> None:
        super().__init__(model, automatic=automatic, call=call)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._parts  # copies record for themselves

    def __call__(self, *inputs: Any) -> Any:
        """model(*inputs): a Tensor, or a tuple or list of Tensors."""
        return self._call(inputs)

    def _eagerly(self, tensors: list[Tensor]) -> Any:
        with no_grad():
            return self._model(*tensors)

    def _recording(
        self, tensors: list[Tensor], recorder: Recorder, known: list[Tensor]
    ) -> tuple[Sequence[Tensor], list[Array], Rebuild]:
        return (), *_taken_apart(self._eagerly(tensors), recorder)


class RecordedStep(_Recorded):
    """Forward, loss and backward of a training step; see `record_step`.

    Attributes:
        reason: why the last call ran as ever instead of as a recording; None if it did not.
    """

    def __init__(
        self,
        model: Module,
        loss_function: Callable[[Any, Tensor], Tensor],
        *,
        automatic: bool = False,
        call: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(model, loss_function, automatic=automatic, call=call)
        self._loss_function = loss_function

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._parts

    def __call__(self, inputs: Any, targets: Any) -> tuple[Tensor, Any]:
        """Adds the gradients to `grad` of the parameters, as `backward` does.

        Returns:
            the loss and the model's outputs, outside the tape.
        """
        if not grad_mode.enabled:
            raise RuntimeError("[record_step] a training step needs gradients: not under no_grad()")
        both = inputs, _labels(targets)
        wanted = any(isinstance(x, Tensor) and x.requires_grad for x in both)
        loss, outputs = self._call(both, "inputs require gradients" if wanted else None)
        return loss, outputs

    def _eagerly(self, tensors: list[Tensor]) -> Any:
        loss, outputs = self._forward(tensors)
        loss.backward()
        arrays, rebuild = _taken_apart(outputs, None)
        return loss.detach(), rebuild(arrays)

    def _recording(
        self, tensors: list[Tensor], recorder: Recorder, known: list[Tensor]
    ) -> tuple[Sequence[Tensor], list[Array], Rebuild]:
        loss, outputs = self._forward(tensors)
        leaves = _leaves(loss)
        own = {id(t) for t in known}
        if any(id(leaf) not in own for leaf in leaves):
            recorder.refuse("gradients go to a tensor that is no attribute of a module")
        before = [leaf.grad for leaf in leaves]
        for leaf in leaves:
            leaf.grad = None
        try:
            loss.backward()
            reached = {id(leaf): leaf.grad._array for leaf in leaves if leaf.grad is not None}
        finally:
            for leaf, gradient in zip(leaves, before, strict=True):
                leaf.grad = gradient
        arrays, rebuild = _taken_apart(outputs, recorder)
        return (
            [leaf for leaf in leaves if id(leaf) in reached],
            [*reached.values(), loss._array, *arrays],
            lambda results: (wrap(results[0]), rebuild(results[1:])),
        )

    def _forward(self, tensors: list[Tensor]) -> tuple[Tensor, Any]:
        outputs = self._model(tensors[0])
        return self._loss_function(outputs, tensors[1]), outputs


def _labels(targets: Any) -> Any:
    """Whole numbers as int64: losses convert others, which a recording would see."""
    if isinstance(targets, Tensor) and targets._array.dtype == "uint8":
        targets = targets._array.values()
    if isinstance(targets, np.ndarray) and targets.dtype.kind in "iu":
        return targets.astype(np.int64, copy=False)
    return targets


def _tensors(inputs: Sequence[Any], arrays: list[Array]) -> list[Tensor]:
    pairs = zip(inputs, arrays, strict=True)
    return [x if isinstance(x, Tensor) else wrap(array) for x, array in pairs]


def _taken_apart(result: Any, recorder: Recorder | None) -> tuple[list[Array], Rebuild]:
    """The arrays of a Tensor, tuple or list of Tensors, and how to make one from such arrays."""
    if isinstance(result, Tensor):
        return [result._array], lambda arrays: wrap(arrays[0])
    if isinstance(result, (tuple, list)) and all(isinstance(t, Tensor) for t in result):
        kind = type(result)
        make: Any = getattr(kind, "_make", kind)  # named tuples
        return [t._array for t in result], lambda arrays: make([wrap(a) for a in arrays])
    if recorder is not None:
        recorder.refuse(f"the network returns {type(result).__name__}, not Tensors")
    return [], lambda _: result


def _leaves(result: Tensor) -> list[Tensor]:
    """Where `result.backward()` will leave gradients."""
    if result._node is None:
        return [result]
    found: dict[int, Tensor] = {}
    seen: set[Node] = {result._node}
    waiting = [result._node]
    while waiting:
        for parent in waiting.pop().parents:
            if isinstance(parent, Tensor):
                found[id(parent)] = parent
            elif parent is not None and parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    return list(found.values())


def _add_gradient(leaf: Tensor, gradient: Array) -> None:
    if leaf.grad is None:
        leaf.grad = wrap(gradient)
    else:
        _core.add_into(leaf.grad._array, gradient)
