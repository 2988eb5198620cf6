"""What --weights means: a file, the state of an interrupted run, or a published name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CorruptFileError
from ..untrusted import printable

if TYPE_CHECKING:
    from ..nn import Module

__all__ = ["load_trained", "names_elsewhere"]

_MISFITS = 3  # tensors that do not fit which an error names


def load_trained(name: str, weights: str | None, width: float | None = None) -> Module:
    """A network with the weights of a file or of a published name ("imagenet").

    Files of `fastconv train` say how the network was built; so do published ones, which are
    recognised by their contents. The state that an interrupted run left is taken too.

    Args:
        name: of the network.
        weights: None: what `fastconv train` writes when nothing is said.
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
            arguments = {}  # the file says them
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
    """How to get the names of the classes of published weights in a file; "": they have none."""
    from ..models.pretrained import ClassFile, identify

    path = Path(weights or f"{name}.safetensors")
    published = identify(path) if path.is_file() else None
    if published is None or not isinstance(published.classes, ClassFile):
        return ""
    return published.classes.remedy


def _short(text: str) -> str:
    """A message that lists all misfits, with the first of them and what they tell."""
    lines = text.splitlines()
    if len(lines) <= 2 * _MISFITS:
        return text
    return "\n".join([*lines[: 1 + _MISFITS], "  ...", lines[-1]])
