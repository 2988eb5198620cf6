"""The random generator that initial weights, dropout and shuffling draw from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["draw_seed", "generator", "manual_seed"]

_generator: np.random.Generator | None = None  # made at the first use: numpy.random loads slowly


def manual_seed(seed: int) -> None:
    """Seeds the generator, so that what follows can be repeated bit by bit.

    Args:
        seed: any integer from 0.

    Example:
        >>> import fastconv as fc
        >>> fc.manual_seed(0); a = fc.randn(3)
        >>> fc.manual_seed(0); b = fc.randn(3)
        >>> a.tolist() == b.tolist()
        True
    """
    global _generator
    from numpy.random import PCG64, Generator

    _generator = Generator(PCG64(seed))


def generator() -> np.random.Generator:
    """The generator; seeded by the operating system unless `manual_seed` was called."""
    global _generator
    if _generator is None:
        from numpy.random import PCG64, Generator

        _generator = Generator(PCG64())
    return _generator


def draw_seed() -> int:
    """A fresh 63-bit seed, for kernels that make their own random numbers."""
    return int(generator().integers(1 << 63))
