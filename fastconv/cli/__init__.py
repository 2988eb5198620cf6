"""The fastconv command: train, evaluate, predict, bench, info.

Exit status: 0 the job is done, 1 it failed (one line on stderr says why), 2 wrong usage, 130
Ctrl-C. Each command imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

__all__ = ["main"]

MODELS = ("lenet5", "lenet1", "keras_mlp", "keras_convnet", "keras_convnet_no_pool")
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop", "adagrad")
DATA_HELP = "folder with MNIST's four files, or 'digits' for the built-in set (default: find MNIST)"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = _parser(arguments).parse_args(arguments)
    try:
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
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        return _fail(str(error) or type(error).__name__)


def _fail(message: str) -> int:
    # One line, whatever the exception had to say.
    print(f"fastconv: {' '.join(message.split())}", file=sys.stderr)
    return 1


class _Parser(argparse.ArgumentParser):
    """Tells what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message} (try: {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


def _parser(arguments: list[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fastconv", description="Convolutional networks at the speed of the machine."
    )
    parser.add_argument("--version", action="version", version=f"fastconv {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    train = commands.add_parser("train", help="train a network on MNIST and save its weights")
    _add_model(train)
    train.add_argument("--data", metavar="DIR", help=DATA_HELP)
    train.add_argument("--epochs", type=_positive, metavar="N", help="passes over the training set")
    train.add_argument("--batch-size", type=_positive, metavar="N", help="images a step")
    train.add_argument(
        "--optimizer", choices=OPTIMIZERS, metavar="NAME", help=", ".join(OPTIMIZERS)
    )
    train.add_argument(
        "--lr", type=_positive_float, metavar="RATE", help="learning rate (at its peak)"
    )
    train.add_argument(
        "--seed", type=_seed, metavar="N", help="same seed, same result (default: 0)"
    )
    train.add_argument(
        "--until", type=_percent, metavar="PERCENT", help="stop at this accuracy on the test set"
    )
    train.add_argument(
        "--save", metavar="FILE", help="default: MODEL.safetensors in the current folder"
    )
    train.add_argument("--resume", metavar="FILE", help="go on with an interrupted run")
    _add_machine(train)
    train.set_defaults(run=_lazy("train", "train"))

    evaluate = commands.add_parser("evaluate", help="measure a trained network on the test set")
    _add_model(evaluate)
    _add_weights(evaluate)
    evaluate.add_argument("--data", metavar="DIR", help=DATA_HELP)
    _add_machine(evaluate)
    evaluate.set_defaults(run=_lazy("infer", "evaluate"))

    predict = commands.add_parser("predict", help="read handwritten digits from image files")
    _add_model(predict)
    _add_weights(predict)
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="any image file of one digit")
    predict.add_argument(
        "--top", type=_positive, default=3, metavar="K", help="classes shown (default: 3)"
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
    parser.add_argument("model", choices=MODELS, metavar="MODEL", help=", ".join(MODELS))


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights", metavar="FILE", help="default: MODEL.safetensors in the current folder"
    )


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument(
        "--threads", type=_positive, metavar="N", help="default: as many as this process may use"
    )


def _version() -> str:
    from .._core import __version__

    return __version__


# ------------------------------------------------------------------------- values of arguments


def _number(
    text: str, convert: Callable[[str], Any], valid: Callable[[Any], bool], expected: str
) -> Any:
    try:
        value = convert(text)
    except ValueError:
        value = None
    if value is None or not valid(value):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return value


def _positive(text: str) -> int:
    return int(_number(text, int, lambda n: n >= 1, "a whole number from 1"))


def _seed(text: str) -> int:
    return int(_number(text, int, lambda n: 0 <= n < 2**63, "a whole number from 0"))


def _positive_float(text: str) -> float:
    return float(_number(text, float, lambda v: v > 0 and math.isfinite(v), "a number above 0"))


def _percent(text: str) -> float:
    return float(
        _number(text.removesuffix("%"), float, lambda v: 0 < v <= 100, "a percentage up to 100")
    )
