"""The fastconv command: models, train, finetune, evaluate, predict, bench, info.

* train.py      a network from scratch       finetune.py  from pretrained weights
* infer.py      evaluate and predict         listing.py   fastconv models
* parser.py     commands and options         arguments.py  values of options
* info.py       fastconv info
* datasets.py   what --data means            weights.py   what --weights means
* fitting.py    networks and batches that fit a data set
* keeping.py    results, and what an interruption leaves   resuming.py   what --resume finds
* text.py       printing, safely

How networks are trained by default stands in `train.recipes` and `train.finetuning`.

Exit status: 0 the job is done, 1 it failed (one line on stderr says why), 2 wrong usage, 130
Ctrl-C, 143 SIGTERM, 129 SIGHUP. Each command imports what it needs when it runs.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

from ..interrupt import ignore_late_signals
from .parser import make_parser
from .text import encodable, say

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status.

    Args:
        argv: the arguments; None: those of this process, which ends afterwards.
    """
    try:
        with encodable():
            return _run(list(sys.argv[1:] if argv is None else argv))
    finally:
        if argv is None:
            ignore_late_signals()


def _run(arguments: list[str]) -> int:
    args = make_parser(arguments).parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status: int = args.run(args)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output is gone. Python would report that again when it flushes at exit.
        with contextlib.suppress(OSError, AttributeError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError as error:
        return _fail(f"out of memory {error}".strip())
    except OSError as error:
        named = error.strerror and error.filename and error.errno
        return _fail(f"{error.filename}: {error.strerror}" if named else str(error))
    except (ValueError, RuntimeError, ImportError) as error:
        return _fail(str(error) or type(error).__name__)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Prints a warning without the source line."""
    say(f"fastconv: {message}", error=True)


def _fail(message: str) -> int:
    # One line, whatever the exception's message.
    say(f"fastconv: {' '.join(message.split())}", error=True)
    return 1
