"""Data sets, and the way from arrays to batches."""

from .digits import digits
from .loader import Loader
from .mnist import mnist
from .transforms import Compose, RandomRotation, RandomShift

__all__ = ["Compose", "Loader", "RandomRotation", "RandomShift", "digits", "mnist"]
