"""Weights into networks: what --weights means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CorruptFileError
from ..untrusted import printable
from .recipe import is_autoencoder

if TYPE_CHECKING:
    from ..models.pretrained import WeightFile
    from ..nn import Module

__all__ = ["description", "load_trained", "names_elsewhere"]

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
    from .inputs import width_argument

    path = weights or f"{name}.safetensors"
    arguments = width_argument(name, width)
    if weights is None and not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist; train it first: fastconv train {name}")
    try:
        found = _checkpoint(name, path, arguments) if Path(path).is_file() else None
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


def _checkpoint(name: str, path: str, arguments: dict[str, Any]) -> WeightFile | None:
    """The weights in the state of a run; None where the file is something else.

    The commands write down which network it is. A callback does not, and then the last layer tells
    the number of classes.

    Raises:
        CorruptFileError: damaged.
    """
    from ..io import load_metadata, parse_json, read_file
    from ..models.pretrained import WeightFile
    from ..models.weight_files import Description
    from ..train.checkpoint import is_checkpoint
    from ..train.restore import model_part

    if path.endswith(".json") or not is_checkpoint(load_metadata(path)):
        return None
    header, arrays = read_file(path)
    tensors = model_part(arrays)
    try:
        extra = parse_json(header["state"], finite=False)["extra"]
        if "network" not in extra:
            _count_classes(name, tensors, arguments)
            return WeightFile(path=Path(path), tensors=tensors)
        network, built = extra["network"]
        known = Description.from_dict({**extra, "architecture": network, "arguments": built})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptFileError(f"[checkpoint] {path}: damaged header ({error})") from None
    return WeightFile(**vars(known), path=Path(path), tensors=tensors)


def _count_classes(name: str, tensors: Mapping[str, Any], arguments: dict[str, Any]) -> None:
    """Adds the number of outputs of the last layer to the arguments of a network."""
    from .. import models
    from ..models.transfer import head_name

    if not is_autoencoder(name):
        head = tensors.get(f"{head_name(models.build(name, **arguments))}.weight")
        if head is not None and head.ndim > 0:
            arguments["num_classes"] = len(head)


def description(model: Module) -> dict[str, Any]:
    """What a checkpoint has to hold so that `load_trained` can build the network again."""
    recipe = model.preprocessing
    return {
        "network": model.architecture,
        "preprocessing": None if recipe is None else recipe.to_dict(),
        "classes": model.classes,
    }
