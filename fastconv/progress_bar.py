"""Progress bars for long work that is not training: on a terminal, and nothing at all elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

__all__ = ["progress_bar"]


def progress_bar(items: Iterable[Any] | None = None, **options: Any) -> Any:
    """tqdm(items, ...) on standard error, erased when it is done.

    Args:
        items: what to iterate over; None: the caller updates the bar.
        options: tqdm's own: total, desc, unit, ...

    Example:
        >>> sum(progress_bar([1, 2, 3], desc="adding"))
        6
    """
    from tqdm import tqdm

    terminal = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return tqdm(items, leave=False, disable=not terminal, **options)
