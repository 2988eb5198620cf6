"""The network in a checkpoint: how it was built, and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import models
from ..errors import CorruptFileError
from ..io import load_metadata, parse_json, read_file
from ..models import ARCHITECTURES
from ..models.pretrained import WeightFile
from ..models.weight_files import Description
from .checkpoint import is_checkpoint
from .restore import model_part

if TYPE_CHECKING:
    from ..nn import Module

__all__ = ["describe", "weights_of_run"]


def describe(model: Module) -> dict[str, Any]:
    """What a checkpoint must hold so that its network can be rebuilt."""
    recipe = model.preprocessing
    return {
        "network": model.architecture,
        "preprocessing": None if recipe is None else recipe.to_dict(),
        "classes": model.classes,
    }


def weights_of_run(path: Path, name: str, arguments: dict[str, Any]) -> WeightFile | None:
    """The weights in a checkpoint; None if the file is something else.

    The commands record which network it is. A callback does not; then the shape of the last layer
    gives the number of classes.

    Args:
        path: the file.
        name: of the expected network.
        arguments: for building it; the number of classes is added if the file does not record it.

    Raises:
        CorruptFileError: damaged.
    """
    if path.suffix == ".json" or not is_checkpoint(load_metadata(path)):
        return None
    header, arrays = read_file(path)
    tensors = model_part(arrays)
    try:
        extra = parse_json(header["state"], finite=False)["extra"]
        if "network" not in extra:
            _count_classes(name, tensors, arguments)
            return WeightFile(path=path, tensors=tensors)
        network, built = extra["network"]
        known = Description.from_dict({**extra, "architecture": network, "arguments": built})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptFileError(f"[checkpoint] {path}: damaged header ({error})") from None
    return WeightFile(**vars(known), path=path, tensors=tensors)


def _count_classes(name: str, tensors: Mapping[str, Any], arguments: dict[str, Any]) -> None:
    """Adds the number of outputs of the last layer to `arguments`."""
    if ARCHITECTURES[name].classifies:
        head = tensors.get(f"{models.head_name(models.build(name, **arguments))}.weight")
        if head is not None and head.ndim > 0:
            arguments["num_classes"] = len(head)
