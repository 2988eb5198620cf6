"""Arrays of the core from NumPy arrays, lists and numbers; the check of device names."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .._core import Array

__all__ = ["as_array", "check_device", "from_numpy"]


def as_array(data: object, *, copy: bool = False) -> Array:
    """Anything NumPy understands as an Array of float32, int64 or uint8.

    float64 arrays become float32 with one warning per process, other integers int64, lists and
    numbers float32 or int64. Shares memory with writable float32, int64 and uint8 arrays unless
    `copy`.

    Raises:
        TypeError: for every other element type.
    """
    x = np.asarray(data)
    if x.dtype == np.float64:
        if isinstance(data, np.ndarray):
            _warn_float64()
        return from_numpy(x.astype(np.float32))
    if x.dtype.kind in "iub" and x.dtype not in (np.int64, np.uint8):
        return from_numpy(x.astype(np.int64))
    if x.dtype not in (np.float32, np.int64, np.uint8) or not x.dtype.isnative:
        raise TypeError(
            f"[Tensor] element type {x.dtype} is not supported: convert with x.astype(np.float32)"
        )
    return _core.array(x, copy=copy)


def from_numpy(x: NDArray[Any]) -> Array:
    """An Array around a NumPy array that only fastconv holds: float32, int64 or uint8."""
    return _core.array(np.asarray(x), copy=False, shared=False)


@functools.lru_cache(maxsize=1)
def _warn_float64() -> None:
    warnings.warn(
        "fastconv computes in float32: a float64 array was converted (this is said once); "
        "x.astype(np.float32) avoids the copy",
        stacklevel=4,
    )


def check_device(device: object) -> None:
    """Raises for every device but "cpu", and says why it cannot be used."""
    name = str(device)
    if name == "cpu":
        return
    if name.partition(":")[0] != "cuda":
        raise ValueError(f"[device] expected 'cpu' or 'cuda', got {name!r}")
    if _core.cuda_available():
        why = f"found {_core.cuda_devices()}, but no operation has CUDA kernels yet"
    elif _core.build_config().get("cuda") == "no":
        why = "this fastconv was built without CUDA"
    else:
        why = "no CUDA device was found"
    raise RuntimeError(f"[device] {name!r} cannot be used: {why}; use device='cpu'")
