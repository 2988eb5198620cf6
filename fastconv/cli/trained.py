"""Weights into networks: what --weights means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CorruptFileError

if TYPE_CHECKING:
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
        if Path(path).is_file():
            state = _interrupted(path)
            if state is not None:
                return _from_checkpoint(name, path, state, arguments)
        model: Module = models.build(name, weights=path, **arguments)
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


def _interrupted(path: str) -> dict[str, Any] | None:
    """What a checkpoint says about the command that wrote it; {}: of a callback; None: it is none.

    Raises:
        CorruptFileError: damaged.
    """
    if path.endswith(".json"):
        return None
    from ..io import load_metadata

    header = load_metadata(path)
    if "state" not in header:
        return None
    try:
        extra = json.loads(header["state"])["extra"]
        return extra if "network" in extra else {}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CorruptFileError(f"[checkpoint] {path}: damaged header ({error})") from None


def _from_checkpoint(
    name: str, path: str, extra: dict[str, Any], arguments: dict[str, Any]
) -> Module:
    """The network of a checkpoint; one that a callback wrote says no more than its tensors do."""
    from .. import models
    from ..data import Preprocessing
    from ..train import load_weights

    try:
        network, built = extra.get("network") or (name, _arguments_for(name, path, arguments))
        recipe, classes = extra.get("preprocessing"), extra.get("classes")
        preprocessing = None if recipe is None else Preprocessing.from_dict(recipe)
        if not (classes is None or all(isinstance(text, str) for text in classes)):
            raise TypeError(f"classes must be a list of names, got {classes!r}")
    except (TypeError, ValueError) as error:
        raise CorruptFileError(f"[checkpoint] {path}: damaged header ({error})") from None
    if network != name:
        raise ValueError(f"{path} does not hold weights of {name}, but of {network}")
    model: Module = models.build(name, **built)
    load_weights(path, model)
    if extra:
        model.preprocessing, model.classes = preprocessing, classes
    return model


def _arguments_for(name: str, path: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """With the number of classes that the last layer in a checkpoint has."""
    from .. import models
    from ..io import load
    from ..models.transfer import head_name
    from .recipe import is_autoencoder

    if is_autoencoder(name):
        return arguments
    head = load(path).get(f"model.{head_name(models.build(name, **arguments))}.weight")
    return arguments if head is None else {**arguments, "num_classes": head.shape[0]}


def description(model: Module) -> dict[str, Any]:
    """What a checkpoint has to hold so that `load_trained` can build the network again."""
    recipe = model.preprocessing
    return {
        "network": model.architecture,
        "preprocessing": None if recipe is None else recipe.to_dict(),
        "classes": model.classes,
    }
