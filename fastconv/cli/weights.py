"""What --weights means: a file, the state of an interrupted run, or a published name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CorruptFileError
from ..untrusted import printable

if TYPE_CHECKING:
    from ..nn import Module

__all__ = ["load_trained", "names_elsewhere"]

_MISFITS = 3  # an error names at most so many tensors that do not fit


def load_trained(name: str, weights: str | None, width: float | None = None) -> Module:
    """A network with the weights of a file or of a published name ("imagenet").

    Files of `fastconv train` record how the network was built; published files are recognised by
    their contents. The checkpoint of an interrupted run works too.

    Args:
        name: of the network.
        weights: a file or a name; None: the default output of `fastconv train`.
        width: of networks that have one.

    Raises:
        FileNotFoundError: neither a file nor a name.
        CorruptFileError: damaged.
        ValueError: weights of another network.
    """
    from .. import models
    from ..train.trained import weights_of_run
    from .fitting import width_argument

    path = weights or f"{name}.safetensors"
    arguments = width_argument(name, width)
    if weights is None and not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist; train it first: fastconv train {name}")
    try:
        found = weights_of_run(Path(path), name, arguments) if Path(path).is_file() else None
        if found is not None and found.architecture not in (None, name):
            raise ValueError(f"it is of {printable(found.architecture)}")
        if found is not None and found.architecture is not None:
            arguments = {}  # the file has them
        model: Module = models.build(name, weights=found or path, **arguments)
    except (CorruptFileError, OSError):
        raise
    except ValueError as error:
        text = _short(str(error))
        raise ValueError(
            text if path in text else f"{path} does not hold weights of {name}: {text}"
        ) from None
    return model


def names_elsewhere(name: str, weights: str | None) -> str:
    """How to get the class names of published weights in a file; "" if they have none."""
    from ..models.pretrained import ClassFile, identify

    path = Path(weights or f"{name}.safetensors")
    published = identify(path) if path.is_file() else None
    if published is None or not isinstance(published.classes, ClassFile):
        return ""
    return published.classes.remedy


def _short(text: str) -> str:
    """A message that lists all tensors that do not fit, cut to the first of them and the advice."""
    lines = text.splitlines()
    if len(lines) <= 2 * _MISFITS:
        return text
    return "\n".join([*lines[: 1 + _MISFITS], "  ...", lines[-1]])
