"""The commands and their options. Each command imports what it needs when it runs."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from .._core import __version__
from . import arguments as values
from .text import say

__all__ = ["make_parser"]

OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop", "adagrad")
DATA_HELP = (
    "folder with MNIST's files, with CIFAR-10's, or with pictures (class folders, perhaps under "
    "train/ and test/); or 'digits' for the built-in set"
)


class _Parser(argparse.ArgumentParser):
    """Reports errors in one line."""

    def error(self, message: str) -> NoReturn:
        say(f"{self.prog}: {message} (try: {self.prog} --help)", error=True)
        sys.exit(2)


def make_parser(arguments: list[str]) -> argparse.ArgumentParser:
    """The parser; it has the options of `bench`, which are many, only if `arguments` name it."""
    parser = _Parser(
        prog="fastconv", description="Convolutional networks at the speed of the machine."
    )
    parser.add_argument("--version", action="version", version=f"fastconv {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_models(commands)
    _add_train(commands)
    _add_finetune(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_bench(commands, wanted=arguments[:1] == ["bench"])
    info = commands.add_parser("info", help="version, instruction set, threads, devices, build")
    info.set_defaults(run=_lazy("info", "info"))
    return parser


def _lazy(module: str, function: str) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        status: int = getattr(importlib.import_module(f"fastconv.cli.{module}"), function)(args)
        return status

    return run


# ---------------------------------------------------------------------------------- the commands
def _add_models(commands: Any) -> None:
    parser = commands.add_parser("models", help="list the networks: sizes, work, known weights")
    parser.add_argument("--filter", metavar="TEXT", help="only those with TEXT in their name")
    parser.set_defaults(run=_lazy("listing", "models"))


def _add_train(commands: Any) -> None:
    parser = commands.add_parser("train", help="train a network from scratch, save its weights")
    _add_model(parser)
    _add_data(parser)
    _add_training(parser)
    parser.add_argument(
        "--optimizer", choices=OPTIMIZERS, metavar="NAME", help=", ".join(OPTIMIZERS)
    )
    parser.add_argument(
        "--until", type=values.percent, metavar="PERCENT", help="stop at this test accuracy"
    )
    _add_resume(parser)
    _add_machine(parser)
    parser.set_defaults(run=_lazy("train", "train"))


def _add_finetune(commands: Any) -> None:
    parser = commands.add_parser("finetune", help="teach a trained network new classes")
    _add_model(parser)
    parser.add_argument(
        "--weights",
        required=True,
        type=values.path,
        metavar="FILE|NAME",
        help="safetensors file, or 'imagenet', ...",
    )
    parser.add_argument("--data", required=True, type=values.path, metavar="DIR", help=DATA_HELP)
    _add_training(parser)
    parser.add_argument(
        "--frozen", action="store_true", help="train the new head alone: seconds, not minutes"
    )
    parser.add_argument(
        "--freeze", action="append", default=[], metavar="NAME", help="parts that stay ('conv1*')"
    )
    parser.add_argument(
        "--unfreeze", action="append", default=[], metavar="NAME", help="the only parts that learn"
    )
    parser.add_argument(
        "--cache",
        type=values.path,
        metavar="DIR",
        help="folder that keeps the features for the next run",
    )
    _add_resume(parser)
    _add_machine(parser)
    parser.set_defaults(run=_lazy("finetune", "finetune"))


def _add_evaluate(commands: Any) -> None:
    parser = commands.add_parser("evaluate", help="measure a trained network on the test set")
    _add_model(parser)
    _add_weights(parser)
    _add_data(parser)
    parser.add_argument(
        "--report", action="store_true", help="precision, recall and F1 of every class"
    )
    parser.add_argument(
        "--confusion",
        type=values.path,
        metavar="FILE",
        help="draw the confusion matrix (.png, .svg)",
    )
    _add_machine(parser)
    parser.set_defaults(run=_lazy("infer", "evaluate"))


def _add_predict(commands: Any) -> None:
    parser = commands.add_parser("predict", help="say what image files show")
    _add_model(parser)
    _add_weights(parser)
    parser.add_argument(
        "images", nargs="+", type=values.path, metavar="IMAGE", help="any image file"
    )
    parser.add_argument(
        "--top", type=values.positive, metavar="K", help="classes shown (default: 3 digits, 5 else)"
    )
    parser.add_argument(
        "--classes", type=values.path, metavar="FILE", help="names of the classes, one a line"
    )
    _add_machine(parser)
    parser.set_defaults(run=_lazy("infer", "predict"))


def _add_bench(commands: Any, wanted: bool) -> None:
    parser = commands.add_parser("bench", help="time layers and networks against other libraries")
    if wanted:
        from .. import benchmark

        benchmark.add_arguments(parser)
        parser.set_defaults(run=benchmark.run)


# ---------------------------------------------------------------- options of several commands
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


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=values.path, metavar="DIR", help=f"{DATA_HELP} (default: find MNIST)"
    )


def _add_resume(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--resume", type=values.path, metavar="FILE", help="go on with an interrupted run"
    )


def _add_training(parser: argparse.ArgumentParser) -> None:
    """The options that train and finetune share."""
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
