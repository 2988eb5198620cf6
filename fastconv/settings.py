"""How fastconv computes: instruction set, threads, algorithms, devices, build."""

from __future__ import annotations

from contextlib import AbstractContextManager

from . import _core
from ._core import get_num_threads, isa, set_num_threads
from .autograd.pending import settle_here

__all__ = [
    "get_algorithm",
    "get_num_threads",
    "isa",
    "set_algorithm",
    "set_num_threads",
    "show_config",
]


class _Chosen(AbstractContextManager[None]):
    """Takes effect at once; as a context manager it restores the previous choice at the end."""

    def __init__(self, name: str) -> None:
        self._name, self._before = name, get_algorithm()
        _choose(name)

    def __repr__(self) -> str:
        return f"set_algorithm({self._name!r})"

    def __exit__(self, *exception: object) -> None:
        _choose(self._before)


def _choose(name: str) -> None:
    settle_here()  # what was called before the choice
    _core.allow_winograd(name == "auto")


def set_algorithm(name: str) -> AbstractContextManager[None]:
    """Chooses how convolutions are computed: in all threads, from now on or for a `with` block.

    Args:
        name: "auto": convolutions with square kernels that have 2x2 to 5x5 taps in each phase of
            the stride (3x3 with stride 1 or 2, 5x5, 7x7 with stride 2, 11x11 with stride 4) run
            through Winograd's F(4x4, 3x3) and its relatives where that is quicker: a quarter to
            little more than half of the products. The choice depends on the shape alone.
            "direct": always the formula as it stands.

    Returns:
        A context manager, which need not be used: at its end the choice before the call comes back.

    Winograd's rounding errors are twice as large as the formula's, of gradients by weight about
    six times (1.5e-6 of their size), and relative to the largest value of a tile of 6 x 6 pixels,
    not to each output. So with 64 input channels sums that are 0 or more by the formula come out
    down to -1.5e-5, where values are about 1 and weights 0.1, and a pixel of 1e6 moves outputs
    beside its window by up to 0.35. What is not finite does not spread: where tiles make NaN,
    infinities or sums that overflow, the formula is used instead, so that only outputs that meet
    such a value have it. This takes the time of the formula, for those rows of sixteen images.

    Raises:
        ValueError: another name.

    Example:
        >>> import fastconv as fc
        >>> with fc.set_algorithm("direct"):
        ...     fc.get_algorithm()
        'direct'
        >>> fc.get_algorithm()
        'auto'

    Reference: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015.
    """
    if name not in ("auto", "direct"):
        raise ValueError(f"[set_algorithm] expected 'auto' or 'direct', got {name!r}")
    return _Chosen(name)


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
