"""Tensor and the tape.

A Tensor is an array that may take part in differentiation. While gradients are enabled, an
operation on tensors that require them records a `Node`: its parents, and a function from the
gradient of its result to the gradients of its parents. `Tensor.backward()` walks the nodes from the
newest to the oldest, so that each has received all it will ever receive before it is run.

Three rules keep it small and safe:

* gradients travel as `_core.Array`, in whichever layout a kernel produced them;
* kernels overwrite, the tape adds, and it adds only into arrays that it allocated itself;
* where a parent needs no gradient a node has None, and its function does not compute one.
"""

from __future__ import annotations

import heapq
import itertools
import math
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from .arithmetic import Arithmetic
from .changes import changes
from .convert import as_array, check_device, from_numpy
from .grad_mode import grad_mode
from .shaping import reshaped

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from ._core import Array, Saved

    Backward = Callable[[Array], tuple[Array | None, ...]]

__all__ = ["Tensor", "as_tensor", "needs_grad", "record", "unary", "wrap"]

_LARGE_FAMILY = 8  # reshapes of one tensor, of which some may have gone


# -------------------------------------------------------------------------------------- the tape
class Node:
    """One recorded operation. `parents` are nodes, or leaf tensors, or None: no gradient wanted."""

    __slots__ = ("backward", "id", "op", "parents", "saved", "stage")
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
        self.stage: Any = None  # see functional/_neighbours.py


def wrap(array: Array) -> Tensor:
    """A Tensor around an array, outside the tape."""
    tensor = Tensor.__new__(Tensor)
    tensor._array = array
    tensor._node = tensor.grad = tensor._family = None
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
    tensor = Tensor.__new__(Tensor)
    tensor._array = array
    tensor._node = Node(parents, backward, op, saved)
    tensor.grad = tensor._family = None
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


def _run_backward(root: Node, dy: Array, retain_graph: bool) -> None:
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
            if isinstance(parent, Tensor):
                _add_to_leaf(parent, grad, dy)
            elif parent not in arrived:
                arrived[parent] = grad
                heapq.heappush(newest_first, (-parent.id, parent))
            elif parent in owned:
                _core.add_into(arrived[parent], grad)
            else:
                arrived[parent] = _core.add(arrived[parent], grad)
                owned.add(parent)
        if not retain_graph:
            node.backward = node.stage = node.saved = None
            node.parents = ()


def _what_changed(op: str, saved: Saved) -> str:
    shape = saved[saved.changed].shape
    return (
        f"[backward] the gradient of {op} needs an array of shape {shape} as it was in the forward "
        "pass, but it was changed in place since (by an operator such as +=, copy_(), an "
        "optimizer's step, or through NumPy): call backward() before, or change a copy"
    )


def _add_to_leaf(leaf: Tensor, grad: Array, dy: Array) -> None:
    if leaf.grad is not None:
        _core.add_into(leaf.grad._array, grad)
        return
    grad = grad.to_plain()
    # From here on the user may write into it: it must not share storage with another gradient.
    leaf.grad = wrap(grad.copy() if grad.address == dy.address else grad)


# ------------------------------------------------------------------------------------ the tensor
class Tensor(Arithmetic):
    """An array of float32 (or of int64 labels, or bytes) that may require a gradient.

    Args:
        data: a NumPy array (copied), a number, nested lists, anything NumPy can read. float64
            becomes float32.
        requires_grad: whether gradients of results with respect to this tensor go into `grad`.
        device: "cpu".

    Attributes:
        requires_grad: set it to False on parameters that shall stay as they are.
        grad: None, or the sum of the gradients of all `backward()` calls so far.

    Example:
        >>> import fastconv as fc
        >>> x = fc.Tensor([1.0, 2.0, 3.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        Tensor([2., 4., 6.])
    """

    __slots__ = ("__weakref__", "_array", "_family", "_node", "_requires_grad", "grad")

    _array: Array
    _node: Node | None
    _requires_grad: bool
    _family: list[weakref.ref[Tensor]] | None  # reshapes of one another, itself included
    grad: Tensor | None

    def __init__(self, data: object, requires_grad: bool = False, device: str = "cpu") -> None:
        check_device(device)
        self._array = as_array(data, copy=True)
        self._node = self.grad = self._family = None
        self._requires_grad = False
        self.requires_grad = requires_grad

    # ---- what it is
    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def ndim(self) -> int:
        return len(self._array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self._array.dtype)

    @property
    def device(self) -> str:
        return "cpu"

    @property
    def is_leaf(self) -> bool:
        """Whether the user made it, not a recorded operation."""
        return self._node is None

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def numel(self) -> int:
        return math.prod(self._array.shape)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("[Tensor] len() of a tensor without dimensions")
        return self.shape[0]

    def __repr__(self) -> str:
        name = type(self).__name__
        values = np.array2string(self.numpy(), separator=", ", prefix=f"{name}(")
        dtype = "" if self._array.dtype == "float32" else f", dtype={self._array.dtype}"
        grad = ", requires_grad=True" if self.requires_grad else ""
        return f"{name}({values}{dtype}{grad})"

    # ---- leaving fastconv
    def numpy(self) -> NDArray[Any]:
        """The values: shared memory, or a copy when they are stored in lane blocks."""
        return self._array.numpy()

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        values = self._array.numpy()
        if dtype is not None and np.dtype(dtype) != values.dtype:
            if copy is False:
                raise ValueError(f"[Tensor] {values.dtype} to {np.dtype(dtype)} needs a copy")
            return values.astype(dtype)
        return values.copy() if copy else values

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        from .numpy_functions import apply_ufunc

        return apply_ufunc(ufunc, method, inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        from .numpy_functions import apply_function

        return apply_function(function, args, options)

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.numpy().__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # kDLCPU

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.numpy(), self.requires_grad)

    # ---- devices
    def to(self, device: object) -> Tensor:
        """This tensor on a device; today there is "cpu"."""
        check_device(device)
        return self

    def cpu(self) -> Tensor:
        return self

    def cuda(self) -> Tensor:
        return self.to("cuda")

    # ---- differentiation
    @property
    def requires_grad(self) -> bool:
        """Whether gradients with respect to this tensor are computed."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value == self._requires_grad:
            return
        if value and self._array.dtype != "float32":
            raise TypeError(f"[Tensor] only float32 can require gradients, this is {self.dtype}")
        if self._node is not None:
            raise RuntimeError("[Tensor] a recorded result always requires gradients: detach() it")
        self._requires_grad = bool(value)
        changes.of_state()

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        self.requires_grad = requires_grad
        return self

    def detach(self) -> Tensor:
        """The same values in the same memory, outside the tape."""
        return wrap(self._array)

    @property
    def data(self) -> Tensor:
        """`detach()`; assigning replaces the values without recording."""
        return wrap(self._array)

    @data.setter
    def data(self, value: Tensor) -> None:
        self._array = as_tensor(value)._array.to_plain()
        changes.of_state()

    def backward(self, gradient: object = None, retain_graph: bool = False) -> None:
        """Adds the gradient of this result to `grad` of every leaf it was computed from.

        Args:
            gradient: the gradient of this tensor, of its shape; may be left out for one element.
            retain_graph: keep what was recorded, to go through it again.

        Raises:
            RuntimeError: nothing requires a gradient, `gradient` is missing, or an earlier call
                freed the graph.
        """
        if not self.requires_grad:
            raise RuntimeError(
                "[backward] nothing that this tensor was computed from requires gradients, "
                "or it was computed under no_grad()"
            )
        if gradient is not None:
            dy = as_tensor(gradient, "[backward] gradient")._array
            if dy.shape != self.shape:
                raise _core.ShapeError(
                    f"[backward] gradient {dy.shape} must have the tensor's shape {self.shape}"
                )
        elif self.numel() == 1:
            dy = _core.full(self.shape, 1.0)
        else:
            raise RuntimeError(
                f"[backward] this tensor has shape {self.shape}: reduce it to one number with "
                ".sum() or .mean(), or pass gradient="
            )
        if self._node is None:
            _add_to_leaf(self, dy, dy)
        else:
            _run_backward(self._node, dy, retain_graph)

    # ---- in place, outside the tape
    def copy_(self, source: object) -> Tensor:
        """Overwrites the values; `source` broadcasts. Parameters: only under `fc.no_grad()`.

        A gradient that needs the old values raises when it is computed.
        """
        if grad_mode.enabled and self.requires_grad:
            raise RuntimeError(
                "[Tensor] what requires gradients can be changed in place only under fc.no_grad()"
            )
        if isinstance(source, Tensor) and source.shape == self.shape:
            return self._become(source)
        if self._array.dtype == "float32":
            values = np.broadcast_to(np.asarray(source), self.shape)
            if not np.can_cast(values.dtype, np.float32, "same_kind"):
                raise TypeError(f"[copy_] expected float32 values, got {values.dtype}")
            return self._become(wrap(from_numpy(values.astype(np.float32))))
        np.copyto(self._array.numpy(), np.asarray(source), casting="same_kind")
        return self

    def fill_(self, value: float) -> Tensor:
        """Overwrites every value with one number."""
        return self.copy_(np.float32(value))

    def zero_(self) -> Tensor:
        """Overwrites every value with zero."""
        return self.fill_(0.0)

    def _become(self, result: Tensor) -> Tensor:
        """In place: takes the values of `result`, and its place on the tape; so do its reshapes."""
        family = [t for ref in self._family or () if (t := ref()) is not None and t is not self]
        leaves = [t for t in (self, *family) if t._requires_grad and t._node is None]
        if result._requires_grad and leaves:
            raise RuntimeError(
                "[Tensor] a leaf that requires gradients can be changed in place only under "
                "fc.no_grad()"
            )
        if result.shape != self.shape:
            raise _core.ShapeError(
                f"[Tensor] a tensor of shape {self.shape} cannot take values of shape "
                f"{result.shape} in place"
            )
        if self._array.saved and (result._requires_grad or self._node is not None):
            self._array = result._array.copy()  # the gradient of something needs the old values
            changes.of_state()
        elif self._array.dtype == result._array.dtype == "float32":
            _core.assign(self._array, result._array)
        else:
            np.copyto(self._array.numpy(), result._array.values(), casting="same_kind")
        if result._requires_grad:
            self._node, self._requires_grad = result._node, True
        for other in family:
            other._follow(self, result._requires_grad)
        return self

    def _follow(self, changed: Tensor, recorded: bool) -> None:
        """Is a reshape of `changed`, which has changed in place."""
        array, shape = reshaped(changed._array, self.shape), changed.shape
        if array.address != self._array.address:
            self._array = array
            changes.of_state()
        if recorded:
            self._node = Node((changed,), lambda dy: (reshaped(dy, shape),), "reshape", ())
            self._requires_grad = True

    def _related(self, reshape: Tensor) -> Tensor:
        """`reshape`, which changes along with this tensor; see `_become`."""
        if grad_mode.enabled or reshape._array.address != self._array.address:
            family = self._family = self._family or [weakref.ref(self)]
            if len(family) > _LARGE_FAMILY:
                family[:] = [ref for ref in family if ref() is not None]
            family.append(weakref.ref(reshape))
            reshape._family = family
        return reshape

    # ---- for Arithmetic
    _unary = unary
    _needs_grad = needs_grad
    _wrap = staticmethod(wrap)

    def _values(self) -> NDArray[Any]:
        """The values, to read only."""
        return self._array.values()

    def _binary(
        self, other: Tensor, array: Array, backward: Backward, op: str, *saved: Array | None
    ) -> Tensor:
        if needs_grad(self, other):
            return record(array, (self, other), backward, op, *saved)
        return wrap(array)

    def _operand(self, value: object) -> Tensor:
        if isinstance(value, Tensor):
            return value
        array = as_array(value)
        return wrap(array if array.dtype == "float32" else _as_float32(array))


def _as_float32(array: Array) -> Array:
    """What whole numbers and booleans become beside float32."""
    return from_numpy(array.values().astype(np.float32))


def _rebuild(kind: type[Tensor], values: NDArray[Any], requires_grad: bool) -> Tensor:
    tensor = kind.__new__(kind)
    Tensor.__init__(tensor, values, requires_grad)
    return tensor


# ---------------------------------------------------------------------------------- from outside
def as_tensor(data: object, what: str = "[Tensor] value") -> Tensor:
    """A float32 operand: a Tensor as it is, anything else converted, without a copy if possible.

    Raises: TypeError for integers and bytes, whose scale only the caller knows.
    """
    if isinstance(data, Tensor):
        return data
    array = as_array(data)
    if array.dtype != "float32":
        came = getattr(data, "dtype", array.dtype)
        scale = " / 255" if array.dtype == "uint8" else ""
        raise TypeError(f"{what} must be float32, got {came}: use x.astype(np.float32){scale}")
    return wrap(array)
