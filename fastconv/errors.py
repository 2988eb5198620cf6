"""The exceptions fastconv raises beyond Python's own.

Shapes that do not fit raise `ShapeError` (a ValueError), wrong element types TypeError, wrong
values ValueError, sizes that do not fit 63 bits OverflowError.
"""

from ._core import ShapeError

__all__ = ["CorruptFileError", "DownloadError", "ShapeError", "TrainingDiverged"]


class CorruptFileError(ValueError):
    """A data or weight file that violates its format. Names the file."""


class DownloadError(OSError):
    """No mirror delivered a file. Lists every address with its reason, and the manual way."""


class TrainingDiverged(RuntimeError):  # noqa: N818  (what happened, as in KeyboardInterrupt)
    """The loss became NaN or infinite; the parameters are those before the failing step."""
