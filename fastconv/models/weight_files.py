"""Files of weights: reading them, and saving networks with all that is needed to rebuild them.

`models.save` writes one safetensors file: the tensors, and in its header the architecture, its
arguments, the preprocessing and the names of the classes, as JSON. Any program that reads
safetensors reads the tensors.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import io
from ..errors import CorruptFileError
from ..untrusted import printable
from .keras_weights import from_keras, read_tfjs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..data.preprocessing import Preprocessing
    from ..nn import Module

__all__ = ["Content", "Description", "PathLike", "read", "save", "under_own_names"]

PathLike = str | os.PathLike[str]
KEY = "fastconv"  # in the header


@dataclass(frozen=True)
class Description:
    """What weights know about themselves.

    Attributes:
        architecture, arguments: for `models.build`; None: not known.
        preprocessing: how pictures become inputs.
        classes: the names of the outputs.
        output_activation: what makes predictions of the outputs, "softmax", "sigmoid" or None.
    """

    architecture: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    classes: list[str] | None = None
    output_activation: str | None = None

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Description:
        """Where classes are known and nothing else is said, outputs are logits of a softmax.

        Raises TypeError or ValueError where it makes no sense.
        """
        recipe, classes = fields.get("preprocessing"), fields.get("classes")
        architecture, arguments = fields.get("architecture"), fields.get("arguments") or {}
        if not (architecture is None or isinstance(architecture, str)):
            raise TypeError(f"architecture must be a name, got {architecture!r}")
        if not isinstance(arguments, Mapping):
            raise TypeError(f"arguments must have names, got {arguments!r}")
        if recipe is not None:
            from ..data.preprocessing import Preprocessing

            recipe = Preprocessing.from_dict(recipe)
        if classes is not None and not (
            isinstance(classes, list) and all(isinstance(name, str) for name in classes)
        ):
            raise TypeError(f"classes must be a list of names, got {classes!r}")
        activation = fields.get("output_activation", "softmax" if classes else None)
        if activation not in ("softmax", "sigmoid", None):
            raise ValueError(f"output_activation must be softmax or sigmoid, got {activation!r}")
        return cls(architecture, dict(arguments), recipe, classes and list(classes), activation)


@dataclass(frozen=True)
class Content:
    """What one reading of a file gave: all of it is of the same file, also if that is replaced.

    Attributes:
        path: of the file.
        tensors: under their names in the file.
        description: what `models.save` wrote into the header; None: it was not written by that.
        sha256: of the file, where it does not describe itself; else empty.
    """

    path: Path
    tensors: Mapping[str, NDArray[Any]]
    description: Description | None
    sha256: str


def read(path: Path) -> Content:
    """Reads a safetensors file, or a TensorFlow.js model.json with its shards beside it.

    Raises:
        CorruptFileError: the file is damaged, or a pickle.
    """
    import hashlib

    if path.suffix == ".json":
        content = path.read_bytes()
        return Content(path, read_tfjs(path, content), None, hashlib.sha256(content).hexdigest())
    content = io.read_bytes(path)
    header, tensors = io.read_tensors(path, content)
    if KEY not in header:
        return Content(path, tensors, None, hashlib.sha256(content).hexdigest())
    try:
        description = Description.from_dict(io.parse_json(header[KEY]))
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CorruptFileError(
            f"[load] {os.fspath(path)}: damaged header: {printable(error)}"
        ) from None
    return Content(path, tensors, description, "")


def under_own_names(
    tensors: Mapping[str, Any], rename: Sequence[tuple[str, str]], own: Mapping[str, Any]
) -> dict[str, Any]:
    """The tensors of a file under the names of a network.

    Keras's names are recognised by the "/" in them and converted. Where a dense layer of the
    network was stored as a convolution, (OC, IC, KH, KW), it becomes (OC, IC KH KW).

    Args:
        tensors: as `read` gives them.
        rename: texts in names and what takes their place, one after another.
        own: the network's state_dict.
    """
    state: dict[str, Any] = {}
    if any("/" in name for name in tensors):
        # With one input channel a group, Keras's two layouts of kernels are the same.
        groups = {n.removesuffix(".weight") for n, t in own.items() if t.shape[1:2] == (1,)}
        tensors = from_keras(tensors, depthwise=groups)
    for name, tensor in tensors.items():
        for old, new in rename:
            name = name.replace(old, new)
        values = np.asarray(tensor)
        if rename and name in own and values.ndim == 4 and len(own[name].shape) == 2:
            values = values.reshape(len(values), math.prod(values.shape[1:]))
        state[name] = values
    return state


# ------------------------------------------------------------------------------------------- save


def save(model: Module, path: PathLike, classes: Sequence[str] | None = None) -> None:
    """Writes a network of `models` with everything that `models.load` needs; all or nothing.

    What makes predictions of its outputs goes with it: what the loss it was compiled with says,
    else `model.output_activation`.

    Args:
        model: built by a function of `models`; its head may have been replaced.
        path: a safetensors file; its folder must exist.
        classes: the names of its outputs; None: `model.classes`.

    Raises:
        ValueError: another network, whose tensors alone `fc.save(model.state_dict(), path)` writes;
            or not as many classes as outputs.

    Example:
        >>> import tempfile
        >>> from fastconv import models
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     models.save(models.lenet1(2), f"{folder}/my.safetensors", classes=["no", "yes"])
        ...     models.load(f"{folder}/my.safetensors").classes
        ['no', 'yes']
    """
    if model.architecture is None:
        raise ValueError(
            f"[models.save] {type(model).__name__} is not of models, and could not be built again "
            "from a name: fc.save(model.state_dict(), path) writes its tensors"
        )
    architecture, arguments = model.architecture
    names = model.classes if classes is None else list(classes)
    outputs = arguments.get("num_classes")
    if names is not None and outputs is not None and len(names) != outputs:
        raise ValueError(f"[models.save] {len(names)} classes for {outputs} outputs: {names[:5]}")
    description = {
        "architecture": architecture,
        "arguments": arguments,
        "preprocessing": model.preprocessing and model.preprocessing.to_dict(),
        "classes": names,
        "output_activation": _activation(model),
    }
    text = json.dumps(description, default=lambda value: value.item())  # NumPy's numbers
    Description.from_dict(json.loads(text))
    io.save(model.state_dict(), path, {KEY: text})


def _activation(model: Module) -> str | None:
    compiled = getattr(model, "_compiled", None)
    if compiled is None or not compiled.objective.known:  # a loss of one's own does not tell
        return model.output_activation
    head: str | None = compiled.objective.head
    return head
