"""What stays when a command is over: weights, logs, pictures, and what to type next."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """Finds out before the training, not after it, whether its results can be written.

    Returns:
        Where the weights go.
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
    """A file of that name can be made."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; {option} needs the name of a file")
    try:
        import tempfile

        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{path} cannot be written: {reason}; see {option}") from None


def needs_matplotlib(option: str) -> None:
    """matplotlib is there, without the half second of importing it."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise ImportError(f"{option} needs matplotlib: pip install 'fastconv[plot]'")


def make_loggers(args: argparse.Namespace) -> list[Any]:
    """The callbacks that write --log; a run that goes on adds to it."""
    if not args.log:
        return []
    from ..train import CSVLogger, JSONLogger

    kind = CSVLogger if Path(args.log).suffix == ".csv" else JSONLogger
    return [kind(args.log, append=bool(args.resume))]


class Keeper:
    """A callback that can write down the run it watches, so that `--resume` goes on exactly.

    Attributes:
        extra: what else the file has to hold, as JSON has it.
    """

    def __init__(self) -> None:
        self.extra: dict[str, Any] = {}
        self._run: Run | None = None

    def on_train_begin(self, run: Run) -> None:
        self._run = run

    def interrupted(self, args: argparse.Namespace, save_path: Path, again: tuple[str, ...]) -> int:
        """Ctrl-C came: keeps the state after the last step, and says how to go on from it.

        Args:
            args: those of the command.
            save_path: where its weights would have gone; the state goes beside it.
            again: the words of the command that goes on.

        Returns:
            The exit status.
        """
        run = self._run
        if run is None:
            print("Interrupted before training began; nothing is kept.")
            return 130
        if not run.interrupted and run.epochs_done < run.epochs:
            print("Interrupted twice, in the middle of a step; nothing is kept.")
            return 130
        from ..train.checkpoint import Checkpoint

        path = save_path.with_suffix(".interrupted.safetensors")
        Checkpoint.of(run, self.extra).save(path)
        print(
            f"Interrupted. The state after step {run.step:,} (epoch {run.epoch + 1}) is kept in "
            f"{path}; to go on from it:"
        )
        words = [*again, "--resume", str(path)]
        for option in ("save", "log", "curves", "until"):
            value = getattr(args, option, None)
            if value is not None:
                words += [f"--{option}", f"{value:g}" if option == "until" else value]
        print("  " + command(*words), flush=True)
        return 130


def draw_curves(args: argparse.Namespace, history: History) -> None:
    """Draws --curves."""
    if args.curves:
        from .. import plot

        plot.curves(history, args.curves)
        print(f"Drew the training curves into {args.curves}.")


def save_weights(model: Module, path: Path, classes: list[str] | None) -> None:
    """Writes the network with everything that is needed to use it, and says so."""
    from ..models import save

    try:
        save(model, path, classes=classes)
    except OSError as error:
        raise OSError(f"{path} could not be written: {error.strerror or error}") from None
    print(f"Saved {path} ({path.stat().st_size / 1024:,.0f} kB). Next:")


def command(*words: object) -> str:
    """A line to type."""
    return shlex.join(["fastconv", *map(str, words)])


def one_line(error: Exception, path: str) -> str:
    """What is wrong with a file, its name included."""
    if isinstance(error, OSError) and error.strerror:
        return f"{path}: {error.strerror}"
    text = " ".join(str(error).split())
    return text if path in text else f"{path}: {text}"
