"""Weights into networks: what --weights means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CorruptFileError

if TYPE_CHECKING:
    from ..nn import Module

__all__ = ["description", "load_trained", "names_elsewhere"]


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
    if Path(path).is_file():
        state = _interrupted(path)
        if state is not None:
            return _from_checkpoint(name, path, state)
    try:
        model: Module = models.build(name, weights=path, **arguments)
    except (CorruptFileError, OSError):
        raise
    except ValueError as error:
        text = str(error)
        raise ValueError(
            text if path in text else f"{path} does not hold weights of {name}: {error}"
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


def _interrupted(path: str) -> dict[str, Any] | None:
    """What an interrupted run said about itself, if the file is of one."""
    if path.endswith(".json"):
        return None
    from ..io import load_metadata

    header = load_metadata(path)
    if "state" not in header:
        return None
    extra = json.loads(header["state"]).get("extra", {})
    return extra if "network" in extra else None


def _from_checkpoint(name: str, path: str, extra: dict[str, Any]) -> Module:
    from .. import models
    from ..train import load_weights

    network, arguments = extra["network"]
    if network != name:
        raise ValueError(f"{path} does not hold weights of {name}, but of {network}")
    model: Module = models.build(name, **arguments)
    load_weights(path, model)
    if extra["preprocessing"] is not None:
        from ..data import Preprocessing

        model.preprocessing = Preprocessing.from_dict(extra["preprocessing"])
    model.classes = extra["classes"]
    return model


def description(model: Module) -> dict[str, Any]:
    """What a checkpoint has to hold so that `load_trained` can build the network again."""
    recipe = model.preprocessing
    return {
        "network": model.architecture,
        "preprocessing": None if recipe is None else recipe.to_dict(),
        "classes": model.classes,
    }
