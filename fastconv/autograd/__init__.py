"""Tensors and automatic differentiation.

Each module imports only from those above it in this list; `functional` and `nn` build on the room.

    changes                version counters, by which recordings know whether they still hold
    grad_mode              whether operations are recorded
    conversion             NumPy arrays, lists and numbers become arrays of the core
    tape                   how an operation records its gradient, and how `backward` runs
    pending                operations that wait for what follows them
    shaping                reshape, permute, index, join
    operands               what operators take: tensors, arrays, numbers; broadcasting
    arithmetic, elementwise, reductions, in_place      the operations
    numpy_functions        NumPy's functions on tensors
    tensor                 the class, with the operations above as its methods
    creation               zeros, ones, random numbers
"""

from .conversion import as_array, check_device, from_numpy
from .creation import from_dlpack, ones, rand, randn, zeros
from .grad_mode import enable_grad, grad_mode, is_grad_enabled, no_grad, set_grad_enabled
from .operands import as_tensor
from .tape import Node, needs_grad, record, unary, wrap
from .tensor import Tensor

__all__ = [
    "Node",
    "Tensor",
    "as_array",
    "as_tensor",
    "check_device",
    "enable_grad",
    "from_dlpack",
    "from_numpy",
    "grad_mode",
    "is_grad_enabled",
    "needs_grad",
    "no_grad",
    "ones",
    "rand",
    "randn",
    "record",
    "set_grad_enabled",
    "unary",
    "wrap",
    "zeros",
]
