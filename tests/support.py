"""What most test files need: arrays in either layout, error bounds, raw lanes, subprocesses."""

from __future__ import annotations

import ctypes
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import fastconv
from fastconv import _core

LANES = 16
EPS = float(np.finfo(np.float32).eps)
LAYOUTS = ("plain", "lanes")
FIXED_WIDTH_ISAS = [name for name in _core.available_isas() if name in ("avx2", "avx512")]


def array(x: Any, layout: str = "plain") -> _core.Array:
    """A copy of x as an Array in the layout."""
    made = _core.array(np.asarray(x))
    return _core.to_lanes(made) if layout == "lanes" else made


def numpy(x: _core.Array) -> np.ndarray:
    """A plain copy of x."""
    return np.array(x.contiguous().numpy())


def batch_layout(layout: str, samples: int) -> str:
    """The layout that an operation on images works in: a whole block of samples is in lanes."""
    return "lanes" if samples >= LANES else layout


def stored(x: _core.Array) -> np.ndarray:
    """The storage of x itself: (N, ...), or (blocks, ..., 16) in lanes, empty lanes included."""
    shape = x.shape
    if _core.layout(x) == "lanes":
        shape = (-(-shape[0] // LANES), *shape[1:], LANES)
    dtype = np.dtype(x.dtype)
    memory = (ctypes.c_char * (math.prod(shape) * dtype.itemsize)).from_address(x.address)
    return np.frombuffer(memory, dtype=dtype).reshape(shape)


def empty_lanes(x: _core.Array) -> np.ndarray:
    """The lanes of the last block that hold no sample, as a view."""
    used = x.shape[0] % LANES
    return stored(x)[-1, ..., used:] if used else stored(x)[:0]


def uniform(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """float32 in [-1, 1)."""
    return rng.uniform(-1, 1, shape).astype(np.float32)


def integers(rng: np.random.Generator, *shape: int, high: int = 5) -> np.ndarray:
    """Whole float32 values from -high to high: sums below 2^24 are exact in any order."""
    return rng.integers(-high, high + 1, shape).astype(np.float32)


def assert_close(
    actual: Any, expected: Any, length: int = 1, c: float = 1.0, scale: float = 1.0
) -> None:
    """|actual - expected| <= c * eps * (length * scale + |expected|).

    `length` is the number of terms summed into one value and `scale` the size of one term; operands
    drawn from [-1, 1) have scale 1. Rounding errors of a sum grow no faster than this bound.
    """
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(actual - expected))
        bound = c * EPS * (length * scale + np.abs(expected))
    wrong = ~same & ~(error <= bound)
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(
            f"{wrong.sum()} of {wrong.size} values are off; the first at {at}: {actual[at]!r}, "
            f"expected {expected[at]!r}, allowed {bound[at]:.3g}"
        )


def assert_same_bits(a: Any, b: Any) -> None:
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    assert a.shape == b.shape and a.dtype == b.dtype
    assert a.tobytes() == b.tobytes(), f"largest difference {np.nanmax(np.abs(a - b))}"


SLAB = (1 << 20) - 16  # floats where a thread's scratch lies (csrc/core/scratch.cpp)


def dirty_arena() -> None:
    """Leaves NaN in freed blocks of many sizes: what an operation forgets to write will show."""
    kept = [_core.full((1 << bits,), math.nan) for bits in range(4, 19) for _ in range(3)]
    kept += [_core.full((SLAB,), math.nan) for _ in range(3)]
    del kept


def child_environment(**extra: str) -> dict[str, str]:
    """This process's environment for a Python that imports the same fastconv from any folder."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("FASTCONV_")}
    root = str(Path(fastconv.__file__).resolve().parents[1])
    env["PYTHONPATH"] = os.pathsep.join(p for p in (root, env.get("PYTHONPATH", "")) if p)
    return {**env, **extra}


def run_python(
    code: str, *, cwd: Path | str | None = None, timeout: float = 120, **env: str
) -> subprocess.CompletedProcess[str]:
    """python -c code, in a process of its own; keyword arguments are environment variables."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
        env=child_environment(**env),
        check=False,
    )
