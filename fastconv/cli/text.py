"""Printing: safe for the terminal, whatever names and texts it repeats."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator

from ..untrusted import printable

__all__ = ["encodable", "say"]


def say(text: object, *, error: bool = False) -> None:
    """Prints lines, on standard error if `error`, with control characters made visible.

    Names of files and texts in weight files may come from anyone; an escape sequence in them could
    control the terminal.
    """
    print(printable(text, keep="\n"), file=sys.stderr if error else sys.stdout, flush=True)


@contextlib.contextmanager
def encodable() -> Iterator[None]:
    """While open, characters that the output's encoding lacks are written as escapes.

    Otherwise the first such character would end the command with an error.
    """
    streams = [s for s in (sys.stdout, sys.stderr) if isinstance(s, io.TextIOWrapper)]
    before = [stream.errors for stream in streams]
    for stream in streams:
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream, errors in zip(streams, before, strict=True):
            with contextlib.suppress(ValueError, OSError):  # closed, or a pipe without a reader
                stream.reconfigure(errors=errors)
