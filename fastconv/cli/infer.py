"""fastconv evaluate and predict: a trained network on a test set, or on image files."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..untrusted import printable
from .arguments import set_machine
from .keeping import check_writable, needs_matplotlib, one_line
from .text import say

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..nn import Module
    from .datasets import Dataset

__all__ = ["Result", "evaluate", "measure", "predict"]

_MAX_NAMES = 1 << 22  # bytes of a file of class names; ImageNet's 1,000 have 20 kB


def evaluate(args: argparse.Namespace) -> int:
    """Loss and accuracy on the test set; on request a report by class and its picture."""
    from .datasets import announce, load_dataset
    from .fitting import wanted

    if args.confusion:
        check_writable(Path(args.confusion), "--confusion")
        needs_matplotlib("--confusion")
    if (args.confusion or args.report) and not _classifies(args.model):
        raise ValueError(f"{args.model} knows no classes: --report and --confusion need them")
    model = _trained(args)
    preprocessing = model.preprocessing
    dataset = load_dataset(
        args.data,
        lambda: preprocessing or wanted(args.model),
        classes=model.classes,
    )
    if model.classes is None and _classifies(args.model):
        dataset.check_classes()
    announce(dataset, "Measuring on")
    if model.classes is None and dataset.kind == "pictures":
        _miss_names(args, "the folders count as 0, 1, ... in their order. To have names, ")
    by_class = args.report or args.confusion
    result = _measure_classes(args, model, dataset) if by_class else measure(model, dataset)
    print(f"{result.text(dataset.name)}, {result.count:,} images).")
    return 0


@dataclass
class Result:
    """Measurements on a test set."""

    loss: float
    accuracy: float  # NaN for autoencoders
    count: int  # images that could be read

    def text(self, data: str) -> str:
        """The beginning of the sentence that is printed."""
        if np.isnan(self.accuracy):
            return f"Test error on {data}: {self.loss:.5f} (mean square"
        return f"Test accuracy on {data}: {100 * self.accuracy:.2f} % (loss {self.loss:.4f}"


def measure(model: Module, dataset: Dataset) -> Result:
    """Measures a compiled network on the test set."""
    from .fitting import make_loader

    result = model.evaluate(make_loader(dataset, "test", model))
    loss, accuracy = result if isinstance(result, tuple) else (result, float("nan"))
    bad = {path for path, _ in getattr(dataset.test, "bad", ())}
    unread = sum(path in bad for path in getattr(dataset.test, "paths", ()))
    return Result(loss, accuracy, len(dataset.labels("test")) - unread)


def predict(args: argparse.Namespace) -> int:
    """Classes and probabilities, one line per image; status 1 if an image cannot be read."""
    if not _classifies(args.model):
        raise ValueError(f"{args.model} draws pictures and knows no classes: see `evaluate`")
    names = _names(args.classes) if args.classes else None
    model = _trained(args)
    names = names or model.classes
    if names is None:
        _miss_names(args, "pass --classes FILE, or ")
    top = args.top or (3 if model.preprocessing is None else 5)
    width = max(len(printable(path)) for path in args.images)
    failed = 0
    for path in args.images:
        try:
            x, done = _read(path, model)
        except (OSError, ValueError, MemoryError) as error:
            say(f"fastconv: {one_line(error, path)}", error=True)
            failed += 1
            continue
        probabilities = model.predict(x)[0]
        if names is not None and len(names) != len(probabilities):
            raise ValueError(
                f"{args.classes or 'the weights file'} names {len(names):,} classes, the network "
                f"has {len(probabilities):,}"
            )
        best = np.argsort(-probabilities, kind="stable")[:top]
        ranking = "   ".join(
            f"{printable(names[k]) if names else k} {100 * probabilities[k]:5.1f} %" for k in best
        )
        say(f"{printable(path):<{width}}  {ranking}" + (f"   ({done})" if done else ""))
    return 1 if failed else 0


def _trained(args: argparse.Namespace) -> Module:
    """The compiled network with the weights of --weights."""
    from ..train.recipes import make_loss
    from .weights import load_trained

    set_machine(args)
    model = load_trained(args.model, args.weights, args.width).to(args.device)
    metrics = ["accuracy"] if _classifies(args.model) else []
    model.compile(loss=make_loss(args.model), metrics=metrics)
    return model


def _classifies(name: str) -> bool:
    from ..models import ARCHITECTURES

    return ARCHITECTURES[name].classifies


def _miss_names(args: argparse.Namespace, then: str) -> None:
    """Prints a line if published weights have class names that are not on this machine."""
    from .weights import names_elsewhere

    if remedy := names_elsewhere(args.model, args.weights):
        say(f"fastconv: no names of classes: {then}{remedy}", error=True)


def _read(path: str, model: Module) -> tuple[NDArray[np.uint8], str]:
    """A file as a batch of one image, and a description of how it was prepared."""
    from .fitting import fitted, input_shape

    if model.preprocessing is not None:
        return model.preprocessing.frame(path)[None], ""
    from ..data.digit_pictures import read_digit

    digit, done = read_digit(path)
    return fitted(digit[None], input_shape(model)), done


def _names(path: str) -> list[str]:
    """The class names in a text file, one per line; blank lines do not count.

    The encoding is UTF-8, or UTF-16 with a byte-order mark.

    Raises:
        ValueError: not a text, too long, or empty.
    """
    with Path(path).open("rb") as file:
        content = file.read(_MAX_NAMES + 1)
    if len(content) > _MAX_NAMES:
        raise ValueError(f"{path}: more than {_MAX_NAMES:,} bytes; --classes needs one name a line")
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ValueError(f"{path}: not a text file; --classes needs one name a line")
    names = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
    names = [name for name in names if name]
    if not names:
        raise ValueError(f"{path}: empty; --classes needs one name a line")
    return names


def _measure_classes(args: argparse.Namespace, model: Module, dataset: Dataset) -> Result:
    """Measures class by class; prints --report and draws --confusion."""
    from .. import train
    from .fitting import make_loader

    loader = make_loader(dataset, "test", model)
    probabilities = model.predict(loader)
    labels: Any = np.asarray(dataset.labels("test"))
    if len(labels) != len(probabilities):  # files that cannot be read are missing
        labels = np.concatenate([targets for _, targets in loader])
    predicted = probabilities.argmax(axis=1)
    names = model.classes or dataset.classes or [str(k) for k in range(probabilities.shape[1])]
    names = [printable(name) for name in names]
    report = train.classification_report(labels, predicted, names)
    if args.report:
        print(report)
    if args.confusion:
        from .. import plot

        plot.confusion(report, args.confusion)
        print(f"Drew the confusion matrix into {args.confusion}.")
    chosen = probabilities[np.arange(len(labels)), labels]
    loss = -np.log(np.maximum(chosen, np.finfo(np.float32).tiny)).mean()
    return Result(float(loss), report.accuracy, len(labels))
