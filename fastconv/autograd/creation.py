"""Tensors from nothing (zeros, ones, random numbers) and from other libraries."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core, random
from .conversion import as_array, check_device, from_numpy
from .shaping import sizes_of
from .tape import wrap
from .tensor import Tensor

__all__ = ["from_dlpack", "ones", "rand", "randn", "zeros"]


def zeros(*size: Any, requires_grad: bool = False, device: str = "cpu") -> Tensor:
    """A float32 tensor of zeros: `fc.zeros(2, 3)` or `fc.zeros((2, 3))`."""
    check_device(device)
    return wrap(_core.zeros(sizes_of(size))).requires_grad_(requires_grad)


def ones(*size: Any, requires_grad: bool = False, device: str = "cpu") -> Tensor:
    """A float32 tensor of ones."""
    check_device(device)
    return wrap(_core.full(sizes_of(size), 1.0)).requires_grad_(requires_grad)


def rand(*size: Any, requires_grad: bool = False, device: str = "cpu") -> Tensor:
    """Uniform random numbers from 0 to 1, decided by `fc.manual_seed`."""
    check_device(device)
    values = random.generator().random(sizes_of(size), dtype=np.float32)
    return wrap(from_numpy(values)).requires_grad_(requires_grad)


def randn(*size: Any, requires_grad: bool = False, device: str = "cpu") -> Tensor:
    """Normal random numbers of mean 0 and variance 1, decided by `fc.manual_seed`."""
    check_device(device)
    values = random.generator().standard_normal(sizes_of(size), dtype=np.float32)
    return wrap(from_numpy(values)).requires_grad_(requires_grad)


def from_dlpack(x: Any) -> Tensor:
    """A Tensor that shares memory with another library's CPU array (float32, int64 or uint8).

    Example:
        >>> import numpy as np, fastconv as fc
        >>> a = np.zeros(3, np.float32)
        >>> t = fc.from_dlpack(a)
        >>> a[0] = 5
        >>> t
        Tensor([5., 0., 0.])
    """
    return wrap(as_array(np.from_dlpack(x)))
