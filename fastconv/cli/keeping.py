"""What a command leaves behind: weights, logs, pictures, and the next command to type."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shlex
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import atomic
from .arguments import CHECKPOINT_MINUTES

if TYPE_CHECKING:
    from ..nn import Module
    from ..train.run import History, Run

__all__ = [
    "Keeper",
    "check_outputs",
    "check_writable",
    "command",
    "draw_curves",
    "make_loggers",
    "needs_matplotlib",
    "one_line",
    "save_weights",
]


def check_outputs(args: argparse.Namespace) -> Path:
    """Checks before the training whether its results can be written.

    Returns:
        The path of the weights.
    """
    path = Path(args.save or f"{args.model}.safetensors")
    for option, target in (("--save", path), ("--log", args.log), ("--curves", args.curves)):
        if target is not None:
            check_writable(Path(target), option)
    if args.log and Path(args.log).suffix not in (".csv", ".jsonl"):
        raise ValueError(f"{args.log}: --log needs a name that ends in .csv or .jsonl")
    if args.curves:
        needs_matplotlib("--curves")
    return path


def check_writable(path: Path, option: str) -> None:
    """Raises OSError if a file of that name cannot be written."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; {option} needs the name of a file")
    try:
        atomic.check_writable(path)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{path} cannot be written: {reason}; see {option}") from None


def needs_matplotlib(option: str) -> None:
    """Raises ImportError if matplotlib is missing, without importing it, which is slow."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise ImportError(f"{option} needs matplotlib: pip install 'fastconv[plot]'")


def make_loggers(args: argparse.Namespace) -> list[Any]:
    """The callbacks that write --log; a resumed run appends to it."""
    if not args.log:
        return []
    from ..train import CSVLogger, JSONLogger

    kind = CSVLogger if Path(args.log).suffix == ".csv" else JSONLogger
    return [kind(args.log, append=bool(args.resume))]


class Keeper:
    """A callback that writes checkpoints, from which `--resume` continues exactly.

    It writes every --checkpoint-minutes, and when a signal ends the command, to
    NAME.interrupted.safetensors beside the weights.

    Attributes:
        extra: JSON values to keep in the file as well.
        again: the words of the command that resumes.
    """

    last = True  # the other callbacks are part of the state

    def __init__(self, args: argparse.Namespace, save_path: Path, again: tuple[str, ...]) -> None:
        self.extra: dict[str, Any] = {}
        self.again = again
        self._args = args
        beside = save_path if save_path.is_file() or not save_path.exists() else Path(args.model)
        self._path = beside.with_suffix(".interrupted.safetensors")
        self._seconds = 60.0 * args.checkpoint_minutes or math.inf
        self._run: Run | None = None
        self._kept: str | None = None  # describes the state in the file, once it is written

    def on_train_begin(self, run: Run) -> None:
        self._run = run
        self._due = time.monotonic() + self._seconds

    def on_batch_end(self, step: int, logs: Any) -> None:
        if time.monotonic() < self._due:
            return
        first = self._kept is None
        try:
            self._keep()
        except OSError as error:
            warnings.warn(f"the state of the run was not kept: {error}", stacklevel=2)
        else:
            if first:
                print(
                    f"Keeping the state in {self._path} every {self._args.checkpoint_minutes:g} "
                    "minutes; --resume goes on from it.",
                    flush=True,
                )
        self._due = time.monotonic() + self._seconds

    def finished(self) -> None:
        """Removes the checkpoint once the results are written."""
        if self._kept is not None:
            self._path.unlink(missing_ok=True)

    def interrupted(self, end: BaseException) -> int:
        """Keeps the state after the last step when a signal ends the command.

        Prints how to resume.

        Args:
            end: KeyboardInterrupt, or SystemExit with the exit status.

        Returns:
            The exit status.
        """
        run = self._run
        try:
            if run is None:
                _tell("Interrupted before training began; nothing is kept.")
            elif run.interrupted or run.stopping or run.epochs_done == run.epochs:
                self._keep()
                self._tell_how_to_go_on(f"Interrupted. The state {self._kept} is kept")
            elif self._kept is not None:
                self._tell_how_to_go_on(
                    f"Interrupted twice, in the middle of step {run.step + 1:,}. "
                    f"The state {self._kept} is kept"
                )
            else:
                _tell("Interrupted twice, in the middle of a step; nothing is kept.")
        except OSError as error:
            _tell(f"Interrupted. The state could not be kept: {error}")
            if self._kept is not None:
                self._tell_how_to_go_on(f"That {self._kept} is")
        return int(end.code or 0) if isinstance(end, SystemExit) else 130

    def _keep(self) -> None:
        from ..train.checkpoint import Checkpoint

        run = self._run
        assert run is not None
        Checkpoint.of(run, self.extra).save(self._path)
        self._kept = f"after step {run.step:,} (epoch {run.epoch + 1})"

    def _tell_how_to_go_on(self, what: str) -> None:
        words = [*self.again, "--resume", str(self._path)]
        for option in ("save", "log", "curves", "until", "checkpoint_minutes"):
            value = getattr(self._args, option, None)
            if option == "checkpoint_minutes" and value == CHECKPOINT_MINUTES:
                continue
            if value is not None:
                flag = "--" + option.replace("_", "-")
                words += [flag, f"{value:g}" if isinstance(value, float) else value]
        _tell(f"{what} in {self._path}; to go on from it:\n  {command(*words)}")


def _tell(text: str) -> None:
    """Prints, unless the terminal is gone, as after SIGHUP."""
    try:
        print(text, flush=True)
    except OSError:
        # Python would report that again when it flushes at exit.
        with contextlib.suppress(OSError, AttributeError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def draw_curves(args: argparse.Namespace, history: History) -> None:
    """Draws --curves."""
    if args.curves:
        from .. import plot

        plot.curves(history, args.curves)
        print(f"Drew the training curves into {args.curves}.")


def save_weights(model: Module, path: Path, classes: list[str] | None) -> None:
    """Saves the network with all that is needed to use it, and prints the path."""
    from ..interrupt import signals_held
    from ..models import save

    try:
        with signals_held():
            save(model, path, classes=classes)
    except OSError as error:
        raise OSError(f"{path} could not be written: {error.strerror or error}") from None
    print(f"Saved {path} ({path.stat().st_size / 1024:,.0f} kB). Next:")


def command(*words: object) -> str:
    """A line to type."""
    return shlex.join(["fastconv", *map(str, words)])


def one_line(error: Exception, path: str) -> str:
    """The error of a file in one line, with the file's name."""
    if isinstance(error, OSError) and error.strerror:
        return f"{path}: {error.strerror}"
    text = " ".join(str(error).split())
    return text if path in text else f"{path}: {text}"
