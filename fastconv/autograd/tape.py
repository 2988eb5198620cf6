"""The tape: how an operation records its gradient, and how `backward` runs what was recorded.

While gradients are enabled, an operation on tensors that require them records a `Node`: its
parents, and a function from the gradient of its result to the gradients of its parents.
`run_backward` walks the nodes from the newest to the oldest, so each has received its complete
gradient before it runs.

Three rules keep it small and safe:

* gradients travel as `_core.Array`, in whichever layout a kernel produced them;
* kernels overwrite, the tape adds, and it adds only into arrays that it allocated itself;
* where a parent needs no gradient a node has None, and its function does not compute one.
"""

from __future__ import annotations

import heapq
import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .. import _core
from .conversion import from_numpy
from .grad_mode import grad_mode

if TYPE_CHECKING:
    from typing import TypeGuard

    from numpy.typing import NDArray

    from .._core import Array, Saved
    from .tensor import Tensor

    Backward = Callable[[Array], tuple[Array | None, ...]]

__all__ = [
    "Node",
    "TensorBase",
    "accumulate",
    "binary",
    "is_tensor",
    "needs_grad",
    "record",
    "run_backward",
    "unary",
    "unary_numpy",
    "wrap",
]


class TensorBase:
    """The state of a tensor. `Tensor` adds the operations, as methods.

    The modules of operations lie below `Tensor` and cannot import it. They make their results with
    the functions of this module, which find the class of results here.
    """

    __slots__ = ("__weakref__", "_array", "_family", "_node", "_pending", "_requires_grad", "grad")

    result_class: ClassVar[type[Tensor]]
    settle: ClassVar[Callable[[Any], None]]

    _array: Array
    _node: Node | None  # what made it; None for leaves and for what is not recorded
    _requires_grad: bool
    _family: list[weakref.ref[Tensor]] | None  # reshapes of one another, itself included
    _pending: Any  # why there are no _array and _node yet (pending.py), or None
    grad: Tensor | None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The values and the node of a pending result: computes them."""
            if name == "_pending":
                return None
            if name not in ("_array", "_node"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            TensorBase.settle(self)
            return object.__getattribute__(self, name)


def is_tensor(x: object) -> TypeGuard[Tensor]:
    return isinstance(x, TensorBase)


class Node:
    """One recorded operation. `parents` are nodes, or leaf tensors, or None: no gradient wanted."""

    __slots__ = ("backward", "id", "op", "parents", "saved")
    _ids = itertools.count()

    def __init__(
        self,
        parents: tuple[Tensor | None, ...],
        backward: Backward,
        op: str,
        saved: Sequence[Array | None],
    ) -> None:
        self.id = next(Node._ids)  # newer than all its parents
        self.parents: tuple[Node | Tensor | None, ...] = tuple(
            [None if p is None or not p.requires_grad else p._node or p for p in parents]
        )
        self.backward: Backward | None = backward  # None once freed
        self.op = op
        self.saved = _core.Saved(saved) if saved else None


# ------------------------------------------------------------------------------ making results
def wrap(array: Array) -> Tensor:
    """A Tensor around an array, outside the tape."""
    tensor = object.__new__(TensorBase.result_class)
    tensor._array = array
    tensor._node = tensor.grad = tensor._family = tensor._pending = None
    tensor._requires_grad = False
    return tensor


def record(
    array: Array,
    parents: tuple[Tensor | None, ...],
    backward: Backward,
    op: str,
    *saved: Array | None,
) -> Tensor:
    """The result of an operation, recorded.

    Args:
        array: its values.
        parents: what it was computed from.
        backward: `backward(dy)` gives each parent a gradient or None. A gradient may be `dy` itself
            or share its storage, but must not share with anything else kept.
        op: the name of the operation, for messages.
        saved: the arrays that `backward` reads, which must not change before it runs.
    """
    tensor = object.__new__(TensorBase.result_class)
    tensor._array = array
    tensor._node = Node(parents, backward, op, saved)
    tensor.grad = tensor._family = tensor._pending = None
    tensor._requires_grad = True
    return tensor


def needs_grad(*tensors: Tensor | None) -> bool:
    """Whether an operation on these is to be recorded."""
    if grad_mode.enabled:
        for tensor in tensors:
            if tensor is not None and tensor.requires_grad:
                return True
    return False


def unary(
    x: Tensor, array: Array, backward: Callable[[Array], Array], op: str, *saved: Array | None
) -> Tensor:
    """The result of an operation on `x` alone, recorded when needed; see `record`."""
    if grad_mode.enabled and x.requires_grad:
        return record(array, (x,), lambda dy: (backward(dy),), op, *saved)
    return wrap(array)


def binary(
    a: Tensor, b: Tensor, array: Array, backward: Backward, op: str, *saved: Array | None
) -> Tensor:
    """The result of an operation on `a` and `b`, recorded when needed; see `record`."""
    if needs_grad(a, b):
        return record(array, (a, b), backward, op, *saved)
    return wrap(array)


def unary_numpy(
    x: Tensor, y: Any, backward: Callable[[NDArray[Any]], Any], op: str, *saved: Array | None
) -> Tensor:
    """The result of an operation computed in NumPy, with its gradient in NumPy; see `record`."""

    def in_numpy(dy: Array) -> Array:
        dx = np.asarray(backward(dy.values()), np.float32)
        return _core.array(dx, shared=False)

    return unary(x, from_numpy(y), in_numpy, op, *saved)


# -------------------------------------------------------------------------------------- backward
def run_backward(root: Node, dy: Array, retain_graph: bool) -> None:
    """Adds gradients to `grad` of all leaves that the result of `root` was computed from.

    Args:
        root: the node of the result.
        dy: the gradient of the result.
        retain_graph: keep the nodes, to run them again.

    Raises:
        RuntimeError: an earlier call freed a node, or an array that a node saved has changed.
    """
    arrived: dict[Node, Array] = {root: dy}  # the sum of what has reached each waiting node
    owned: set[Node] = set()  # nodes whose sum was allocated here
    newest_first = [(-root.id, root)]
    while newest_first:
        node = heapq.heappop(newest_first)[1]
        dy = arrived.pop(node)
        if node.backward is None:
            raise RuntimeError(
                "[backward] this part of the graph was freed by an earlier backward(): "
                "pass retain_graph=True to that call to go through it again"
            )
        if node.saved is not None and node.saved.changed >= 0:
            raise RuntimeError(_what_changed(node.op, node.saved))
        for parent, grad in zip(node.parents, node.backward(dy), strict=True):
            if parent is None or grad is None:
                continue
            if isinstance(parent, TensorBase):
                accumulate(parent, grad, dy)
            elif parent not in arrived:
                arrived[parent] = grad
                heapq.heappush(newest_first, (-parent.id, parent))
            elif parent in owned:
                _core.add_into(arrived[parent], grad)
            else:
                arrived[parent] = _core.add(arrived[parent], grad)
                owned.add(parent)
        if not retain_graph:
            node.backward = node.saved = None
            node.parents = ()


def _what_changed(op: str, saved: Saved) -> str:
    shape = saved[saved.changed].shape
    return (
        f"[backward] the gradient of {op} needs an array of shape {shape} as it was in the forward "
        "pass, but it was changed in place since (by an operator such as +=, copy_(), an "
        "optimizer's step, or through NumPy): call backward() before, or change a copy"
    )


def accumulate(leaf: Tensor, grad: Array, dy: Array) -> None:
    """Adds to `leaf.grad`; `grad` was computed from `dy` and may share its storage."""
    if leaf.grad is not None:
        _core.add_into(leaf.grad._array, grad)
        return
    grad = grad.contiguous()
    # From here on the user may write into it: it must not share storage with another gradient.
    leaf.grad = wrap(grad.copy() if grad.address == dy.address else grad)
