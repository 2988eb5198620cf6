"""What this fastconv is and runs on: instruction set, threads, algorithms, devices, build."""

from __future__ import annotations

from . import _core
from ._core import get_num_threads, isa, set_num_threads

__all__ = [
    "get_algorithm",
    "get_num_threads",
    "isa",
    "set_algorithm",
    "set_num_threads",
    "show_config",
]


def set_algorithm(name: str) -> None:
    """Chooses how convolutions are computed.

    Args:
        name: "auto": convolutions with square kernels that have 2x2 to 5x5 taps in each phase of
            the stride (3x3 with stride 1 or 2, 5x5, 7x7 with stride 2, 11x11 with stride 4) run
            through Winograd's F(4x4, 3x3) and its relatives where that is quicker: a quarter to
            little more than half of the products. Rounding errors are twice as large, of
            gradients by weight about six times (1.5e-6 of their size). The choice depends on the
            shape alone.
            "direct": always the formula as it stands.

    Raises:
        ValueError: another name.

    Example:
        >>> import fastconv as fc
        >>> fc.set_algorithm("direct")
        >>> fc.get_algorithm()
        'direct'
        >>> fc.set_algorithm("auto")

    Reference: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015.
    """
    if name not in ("auto", "direct"):
        raise ValueError(f"[set_algorithm] expected 'auto' or 'direct', got {name!r}")
    _core.allow_winograd(name == "auto")


def get_algorithm() -> str:
    """The name given to `set_algorithm`; "auto" at first."""
    return "auto" if _core.winograd_allowed() else "direct"


def show_config() -> None:
    """Prints version, instruction set, threads, CUDA devices and how the core was compiled."""
    rows = {
        "fastconv": _core.__version__,
        "instruction set": f"{_core.isa()} (available: {', '.join(_core.available_isas())})",
        "threads": f"{_core.get_num_threads()} (default: {_core.default_num_threads()})",
        "CUDA devices": ", ".join(_core.cuda_devices()) or "none",
    }
    rows.update({f"build: {key}": value for key, value in _core.build_config().items()})
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:{width}}  {value}")
