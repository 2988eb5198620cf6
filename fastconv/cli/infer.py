"""fastconv evaluate and predict: what a trained network makes of a test set, or of image files."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from .. import _core
from ..convert import check_device
from ..errors import CorruptFileError
from .datasets import announce, load_digits

if TYPE_CHECKING:
    from ..nn import Module

__all__ = ["evaluate", "predict"]


def evaluate(args: argparse.Namespace) -> int:
    """Loss and accuracy on the test set."""
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load_digits, args.data)
        model = _trained(args)
        digits = loading.result()
    announce(digits, "Measuring on")
    loss, accuracy = model.evaluate(*digits.test)
    print(
        f"Test accuracy on {digits.name}: {100 * accuracy:.2f} % (loss {loss:.4f}, "
        f"{len(digits.test[0]):,} images)."
    )
    return 0


def predict(args: argparse.Namespace) -> int:
    """Classes and probabilities, a line an image; status 1 when one could not be read."""
    from .images import read_digit

    model = _trained(args)
    width = max(map(len, args.images))
    failed = 0
    for path in args.images:
        try:
            digit, done = read_digit(path)
        except (OSError, ValueError) as error:
            print(f"fastconv: {_one_line(error, path)}", file=sys.stderr)
            failed += 1
            continue
        probabilities = model.predict(digit[None])[0]
        best = np.argsort(-probabilities, kind="stable")[: args.top]
        ranking = "   ".join(f"{k} {100 * probabilities[k]:5.1f} %" for k in best)
        print(f"{path:<{width}}  {ranking}" + (f"   ({done})" if done else ""))
    return 1 if failed else 0


def _trained(args: argparse.Namespace) -> Module:
    from ..models import REGISTRY
    from ..train.checkpoint import load_weights

    check_device(args.device)
    if args.threads:
        _core.set_num_threads(args.threads)
    path = args.weights or f"{args.model}.safetensors"
    model = REGISTRY[args.model]().to(args.device)
    try:
        load_weights(path, model)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} does not exist; train it first: fastconv train {args.model}"
        ) from None
    except CorruptFileError:
        raise
    except (KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold weights of {args.model}: {error}") from None
    model.compile(metrics=["accuracy"])
    return model


def _one_line(error: Exception, path: str) -> str:
    text = " ".join(str(error).split())
    return text if path in text else f"{path}: {text}"
