"""What the command says: safe for the terminal, whatever names and texts it repeats."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator

from ..untrusted import printable

__all__ = ["encodable", "say"]


def say(text: object, *, error: bool = False) -> None:
    """Prints lines, on standard error if `error`, with control characters made visible.

    Names of files and folders, and the texts in files of weights, are other people's: an escape
    sequence among them would otherwise command the terminal.
    """
    print(printable(text, keep="\n"), file=sys.stderr if error else sys.stdout, flush=True)


@contextlib.contextmanager
def encodable() -> Iterator[None]:
    """While open, what the encoding of the output lacks is written as an escape.

    Otherwise the first name that it lacks would end the command.
    """
    streams = [s for s in (sys.stdout, sys.stderr) if isinstance(s, io.TextIOWrapper)]
    before = [stream.errors for stream in streams]
    for stream in streams:
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream, errors in zip(streams, before, strict=True):
            with contextlib.suppress(ValueError, OSError):  # closed, or nobody reads it
                stream.reconfigure(errors=errors)
