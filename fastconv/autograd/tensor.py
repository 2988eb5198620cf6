"""Tensor: an array that may take part in differentiation.

The class holds a tensor's state and conversions. The operations are functions in the modules beside
this one, next to their gradients; the end of the class lists them as its methods.
"""

from __future__ import annotations

import builtins
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from . import arithmetic, elementwise, in_place, reductions, shaping
from .changes import changes
from .conversion import as_array, check_device
from .operands import as_tensor
from .pending import settle, settle_here
from .tape import TensorBase, accumulate, run_backward, wrap

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = ["Tensor"]


class Tensor(TensorBase):
    """An array of float32 (or of int64 labels, or bytes) that may require a gradient.

    Args:
        data: a NumPy array (copied), a number, nested lists, anything NumPy can read. float64
            becomes float32.
        requires_grad: whether gradients of results with respect to this tensor go into `grad`.
        device: "cpu".

    Attributes:
        requires_grad: set it to False on parameters that are not to be trained.
        grad: None, or the sum of the gradients of all `backward()` calls so far.

    Example:
        >>> import fastconv as fc
        >>> x = fc.Tensor([1.0, 2.0, 3.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        Tensor([2., 4., 6.])
    """

    __slots__ = ()

    def __init__(self, data: object, requires_grad: bool = False, device: str = "cpu") -> None:
        check_device(device)
        self._array = as_array(data, copy=True)
        self._node = self.grad = self._family = self._pending = None
        self._requires_grad = False
        self.requires_grad = requires_grad

    # ---- what it is
    @property
    def shape(self) -> tuple[int, ...]:
        pending = self._pending
        shape: tuple[int, ...] = self._array.shape if pending is None else pending.shape
        return shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

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
        """The values: shared memory, or a copy when a device keeps them in another order."""
        settle_here()  # the caller may write
        return self._array.numpy()

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        values = self.numpy()
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
        settle(self)  # what waits must not overwrite the values later
        self._array = as_tensor(value)._array.contiguous()
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
        settle_here()
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
            accumulate(self, dy, dy)
        else:
            run_backward(self._node, dy, retain_graph)

    # ---- Python numbers
    def item(self) -> Any:
        """The only element, as a Python number."""
        return self._array.values().item()

    def tolist(self) -> Any:
        return self._array.values().tolist()

    def __float__(self) -> builtins.float:
        return builtins.float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    # ---- arithmetic
    __add__ = __radd__ = arithmetic.add
    __sub__ = arithmetic.subtract
    __rsub__ = arithmetic.subtracted_from
    __mul__ = __rmul__ = arithmetic.multiply
    __truediv__ = arithmetic.divide
    __rtruediv__ = arithmetic.divided_by
    __neg__ = arithmetic.negative
    __pow__ = arithmetic.power
    __rpow__ = arithmetic.power_of
    __matmul__ = arithmetic.matmul
    __rmatmul__ = arithmetic.rmatmul

    __eq__ = eq = arithmetic.equal
    __ne__ = ne = arithmetic.not_equal
    __lt__ = lt = arithmetic.less
    __le__ = le = arithmetic.less_equal
    __gt__ = gt = arithmetic.greater
    __ge__ = ge = arithmetic.greater_equal
    __hash__ = object.__hash__  # tensors are keys by identity

    # ---- in place
    __iadd__ = in_place.iadd
    __isub__ = in_place.isub
    __imul__ = in_place.imul
    __itruediv__ = in_place.itruediv
    __ipow__ = in_place.ipow
    __setitem__ = in_place.setitem
    copy_ = in_place.copy_
    fill_ = in_place.fill_
    zero_ = in_place.zero_

    # ---- elementwise
    exp = elementwise.exp
    log = elementwise.log
    sqrt = elementwise.sqrt
    abs = __abs__ = elementwise.abs
    clamp = elementwise.clamp
    clone = elementwise.clone
    float = elementwise.to_float

    # ---- reductions
    sum = reductions.sum
    mean = reductions.mean
    max = reductions.max
    min = reductions.min
    argmax = reductions.argmax
    argmin = reductions.argmin
    var = reductions.var
    std = reductions.std
    norm = reductions.norm
    prod = reductions.prod

    # ---- shapes
    __getitem__ = shaping.getitem
    reshape = view = shaping.reshape
    flatten = shaping.flatten
    squeeze = shaping.squeeze
    unsqueeze = shaping.unsqueeze
    permute = shaping.permute
    transpose = shaping.transpose

    @property
    def T(self) -> Tensor:  # noqa: N802
        """All dimensions reversed."""
        return self.permute(*reversed(range(self.ndim)))


TensorBase.result_class = Tensor
TensorBase.settle = staticmethod(settle)


def _rebuild(kind: type[Tensor], values: NDArray[Any], requires_grad: bool) -> Tensor:
    tensor = kind.__new__(kind)
    Tensor.__init__(tensor, values, requires_grad)
    return tensor
