"""The values of options: numbers within their range, names of networks, the machine."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from typing import Any

from .. import _core
from ..autograd import check_device

__all__ = [
    "CHECKPOINT_MINUTES",
    "MODELS",
    "model",
    "not_negative",
    "path",
    "percent",
    "positive",
    "positive_float",
    "seed",
    "set_machine",
]

CHECKPOINT_MINUTES = 10.0  # between two checkpoints, by default

# A copy of the names in models/catalogue.py: reports a wrong name before the slow imports.
MODELS = (
    *("lenet1", "lenet5", "keras_mlp", "keras_convnet", "keras_convnet_no_pool", "tiny_vgg"),
    *("dense_autoencoder", "conv_autoencoder"),
    *("cifar_resnet20", "cifar_resnet32", "cifar_resnet44", "cifar_resnet56", "cifar_resnet110"),
    *("alexnet", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn"),
    *("vgg19", "vgg19_bn", "googlenet", "resnet18", "resnet34", "resnet50", "resnet101"),
    *("resnet152", "mobilenet_v1", "mobilenet_v2"),
)


def model(text: str) -> str:
    """The name of a network."""
    if text in MODELS:
        return text
    from difflib import get_close_matches

    near = get_close_matches(text, MODELS, 3, 0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise argparse.ArgumentTypeError(
        f"there is no network {text!r}; {hint}(`fastconv models` lists them all)"
    )


def path(text: str) -> str:
    """The name of a file or folder; "~" is the user's home, even if the shell did not expand it."""
    return os.path.expanduser(text)


def positive(text: str) -> int:
    return int(_number(text, int, lambda n: n >= 1, "a whole number from 1"))


def seed(text: str) -> int:
    return int(_number(text, int, lambda n: 0 <= n < 2**63, "a whole number from 0"))


def positive_float(text: str) -> float:
    return float(_number(text, float, lambda v: v > 0 and math.isfinite(v), "a number above 0"))


def not_negative(text: str) -> float:
    return float(_number(text, float, lambda v: v >= 0 and math.isfinite(v), "a number from 0"))


def percent(text: str) -> float:
    return float(
        _number(text.removesuffix("%"), float, lambda v: 0 < v <= 100, "a percentage up to 100")
    )


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


def set_machine(args: argparse.Namespace) -> None:
    """Applies --device and --threads."""
    check_device(args.device)
    if args.threads:
        _core.set_num_threads(args.threads)
