"""The fastconv command: models, train, finetune, evaluate, predict, bench, info.

* train.py      a network from scratch       finetune.py  from pretrained weights
* infer.py      evaluate and predict         listing.py   fastconv models
* arguments.py  values of options            info.py      fastconv info
* datasets.py   what --data means            weights.py   what --weights means
* fitting.py    networks and batches that fit a data set
* keeping.py    results, and what an interruption leaves   resuming.py   what --resume finds
* text.py       what is said, safely

What networks are trained with is no part of it: see `train.recipes` and `train.finetuning`.

Exit status: 0 the job is done, 1 it failed (one line on stderr says why), 2 wrong usage, 130
Ctrl-C, 143 SIGTERM, 129 SIGHUP. Each command imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn, TextIO

from ..interrupt import ignore_late_signals
from . import arguments as values
from .text import encodable, say

__all__ = ["main"]

OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop", "adagrad")
DATA_HELP = (
    "folder with MNIST's files, with CIFAR-10's, or with pictures (class folders, perhaps under "
    "train/ and test/); or 'digits' for the built-in set"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status.

    Args:
        argv: the arguments; None: those of this process, which is over then.
    """
    try:
        with encodable():
            return _run(list(sys.argv[1:] if argv is None else argv))
    finally:
        if argv is None:
            ignore_late_signals()


def _run(arguments: list[str]) -> int:
    args = _parser(arguments).parse_args(arguments)
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
        # Whoever read our output left. Python would complain again when it flushes at exit.
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
    """A warning as a user wants to read it, without the line of the program."""
    say(f"fastconv: {message}", error=True)


def _fail(message: str) -> int:
    # One line, whatever the exception had to say.
    say(f"fastconv: {' '.join(message.split())}", error=True)
    return 1


class _Parser(argparse.ArgumentParser):
    """Tells what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        say(f"{self.prog}: {message} (try: {self.prog} --help)", error=True)
        sys.exit(2)


def _parser(arguments: list[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fastconv", description="Convolutional networks at the speed of the machine."
    )
    parser.add_argument("--version", action="version", version=f"fastconv {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    listing = commands.add_parser("models", help="list the networks: sizes, work, known weights")
    listing.add_argument("--filter", metavar="TEXT", help="only those with TEXT in their name")
    listing.set_defaults(run=_lazy("listing", "models"))

    train = commands.add_parser("train", help="train a network from scratch, save its weights")
    _add_model(train)
    train.add_argument(
        "--data", type=values.path, metavar="DIR", help=f"{DATA_HELP} (default: find MNIST)"
    )
    _add_training(train)
    train.add_argument(
        "--optimizer", choices=OPTIMIZERS, metavar="NAME", help=", ".join(OPTIMIZERS)
    )
    train.add_argument(
        "--until", type=values.percent, metavar="PERCENT", help="stop at this test accuracy"
    )
    train.add_argument(
        "--resume", type=values.path, metavar="FILE", help="go on with an interrupted run"
    )
    _add_machine(train)
    train.set_defaults(run=_lazy("train", "train"))

    finetune = commands.add_parser("finetune", help="teach a trained network new classes")
    _add_model(finetune)
    finetune.add_argument(
        "--weights",
        required=True,
        type=values.path,
        metavar="FILE|NAME",
        help="safetensors file, or 'imagenet', ...",
    )
    finetune.add_argument("--data", required=True, type=values.path, metavar="DIR", help=DATA_HELP)
    _add_training(finetune)
    finetune.add_argument(
        "--frozen", action="store_true", help="train the new head alone: seconds, not minutes"
    )
    finetune.add_argument(
        "--freeze", action="append", default=[], metavar="NAME", help="parts that stay ('conv1*')"
    )
    finetune.add_argument(
        "--unfreeze", action="append", default=[], metavar="NAME", help="the only parts that learn"
    )
    finetune.add_argument(
        "--cache",
        type=values.path,
        metavar="DIR",
        help="folder that keeps the features for the next run",
    )
    finetune.add_argument(
        "--resume", type=values.path, metavar="FILE", help="go on with an interrupted run"
    )
    _add_machine(finetune)
    finetune.set_defaults(run=_lazy("finetune", "finetune"))

    evaluate = commands.add_parser("evaluate", help="measure a trained network on the test set")
    _add_model(evaluate)
    _add_weights(evaluate)
    evaluate.add_argument(
        "--data", type=values.path, metavar="DIR", help=f"{DATA_HELP} (default: find MNIST)"
    )
    evaluate.add_argument(
        "--report", action="store_true", help="precision, recall and F1 of every class"
    )
    evaluate.add_argument(
        "--confusion",
        type=values.path,
        metavar="FILE",
        help="draw the confusion matrix (.png, .svg)",
    )
    _add_machine(evaluate)
    evaluate.set_defaults(run=_lazy("infer", "evaluate"))

    predict = commands.add_parser("predict", help="say what image files show")
    _add_model(predict)
    _add_weights(predict)
    predict.add_argument(
        "images", nargs="+", type=values.path, metavar="IMAGE", help="any image file"
    )
    predict.add_argument(
        "--top", type=values.positive, metavar="K", help="classes shown (default: 3 digits, 5 else)"
    )
    predict.add_argument(
        "--classes", type=values.path, metavar="FILE", help="names of the classes, one a line"
    )
    _add_machine(predict)
    predict.set_defaults(run=_lazy("infer", "predict"))

    bench = commands.add_parser("bench", help="time layers and networks against other libraries")
    if arguments[:1] == ["bench"]:
        from .. import benchmark

        benchmark.add_arguments(bench)
        bench.set_defaults(run=benchmark.run)

    info = commands.add_parser("info", help="version, instruction set, threads, devices, build")
    info.set_defaults(run=_lazy("info", "info"))
    return parser


def _lazy(module: str, function: str) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        from importlib import import_module

        status: int = getattr(import_module(f"fastconv.cli.{module}"), function)(args)
        return status

    return run


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", type=values.model, metavar="MODEL", help="see `fastconv models`: lenet5, ..."
    )
    parser.add_argument(
        "--width",
        type=values.positive_float,
        metavar="X",
        help="MobileNets: the share of the channels kept; others: channels of the first layer",
    )


def _add_training(parser: argparse.ArgumentParser) -> None:
    """What train and finetune share."""
    parser.add_argument(
        "--epochs", type=values.positive, metavar="N", help="passes over the training set"
    )
    parser.add_argument("--batch-size", type=values.positive, metavar="N", help="images a step")
    parser.add_argument(
        "--lr", type=values.positive_float, metavar="RATE", help="learning rate (at its peak)"
    )
    parser.add_argument(
        "--seed", type=values.seed, metavar="N", help="same seed, same result (default: 0)"
    )
    parser.add_argument(
        "--checkpoint-minutes",
        type=values.not_negative,
        default=values.CHECKPOINT_MINUTES,
        metavar="N",
        help="keep the state this often, for --resume (default: %(default)g; 0: never)",
    )
    parser.add_argument(
        "--augment",
        action=argparse.BooleanOptionalAction,
        help="show every picture cropped, shifted or mirrored at random",
    )
    parser.add_argument(
        "--save",
        type=values.path,
        metavar="FILE",
        help="default: MODEL.safetensors in the current folder",
    )
    parser.add_argument(
        "--log",
        type=values.path,
        metavar="FILE",
        help="write a row an epoch (.csv, .jsonl), test set included",
    )
    parser.add_argument(
        "--curves", type=values.path, metavar="FILE", help="draw the training curves (.png, .svg)"
    )


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        type=values.path,
        metavar="FILE|NAME",
        help="default: MODEL.safetensors in the current folder",
    )


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument(
        "--threads",
        type=values.positive,
        metavar="N",
        help="default: as many as this process may use",
    )


def _version() -> str:
    from .._core import __version__

    return __version__
