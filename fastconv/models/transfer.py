"""Transfer learning: a network's head replaced, and what its other layers make of pictures.

Freezing is `Module.freeze`: with everything frozen but the head, what comes in front of it costs no
backward pass. Cheaper still is to run it once: `extract_features`, and a head trained on those.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core, io
from ..autograd import Tensor, no_grad
from ..errors import CorruptFileError
from ..nn import Conv1d, Conv2d, Linear, Module
from ..nn.modes import own_modes
from ..progress_bar import progress_bar

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..data import Loader
    from ..io import PathLike

__all__ = ["extract_features", "head_name", "replace_head"]


# -------------------------------------------------------------------------------------- the head


def head_name(model: Module) -> str:
    """The name of the layer that makes the logits: the last one with parameters.

    Raises:
        ValueError: that is no Linear and no convolution.

    Example:
        >>> from fastconv import models
        >>> models.head_name(models.cifar_resnet20())
        'linear'
    """
    names = getattr(model, "head_names", ())
    if names:
        return str(names[0])
    with_parameters = [
        (name, module) for name, module in model.named_modules() if [*module.parameters(False)]
    ]
    name, last = with_parameters[-1] if with_parameters else ("", model)
    if not isinstance(last, (Linear, Conv1d, Conv2d)):
        raise ValueError(
            f"[head_name] the last layer with parameters of {type(model).__name__} is "
            f"{name or 'none'} ({type(last).__name__}), not a Linear or convolution: name the head"
        )
    return name


def replace_head(
    model: Module,
    num_classes: int,
    classes: Sequence[str] | None = None,
    *,
    trained: Module | None = None,
    name: str | None = None,
) -> Module:
    """Gives a network a new last layer, of the same kind, with other outputs.

    It starts from random values and requires gradients, also where everything else is frozen. The
    network is changed in place; compile it afterwards, as optimisers hold parameters.

    Args:
        model: a network of `models`, or any other.
        num_classes: the number of outputs.
        classes: their names, for `model.classes`.
        trained: a Linear that was trained on `extract_features`, or a network that ends in one: its
            values go into the new head.
        name: the head, as in `named_modules`; None: `head_name(model)`.

    Returns:
        model.

    Raises:
        ValueError: num_classes, classes and `trained` contradict each other; or there is no head.

    Example:
        >>> from fastconv import models
        >>> model = models.replace_head(models.cifar_resnet20().freeze(), 2, ["cat", "dog"])
        >>> [name for name, p in model.named_parameters() if p.requires_grad]
        ['linear.weight', 'linear.bias']
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, (int, np.integer)):
        raise TypeError(f"[replace_head] num_classes must be an integer, got {num_classes!r}")
    if num_classes < 1:
        raise ValueError(f"[replace_head] num_classes must be 1 or more, got {num_classes}")
    if classes is not None and len(classes) != num_classes:
        raise ValueError(
            f"[replace_head] {len(classes)} classes for {num_classes} outputs: {list(classes)[:5]}"
        )
    usual = name is None or (model.architecture is not None and name == head_name(model))
    names = [head_name(model) if name is None else name]
    if usual:  # auxiliary heads, where there are any
        names += [n for n in getattr(model, "head_names", ())[1:] if _has(model, n)]
    heads = {name: _like(model.get_submodule(name), num_classes, name) for name in names}
    if trained is not None:
        _copy(trained, heads[names[0]])
    for path, head in heads.items():
        parent, _, last = path.rpartition(".")
        setattr(model.get_submodule(parent), last, head.train(model.training))
    model.classes = None if classes is None else [str(label) for label in classes]
    if model.architecture is not None:
        architecture, arguments = model.architecture
        known = usual and "num_classes" in arguments  # else it can no longer be built from these
        arguments = {**arguments, "num_classes": int(num_classes)}
        model.architecture = (architecture, arguments) if known else None
    return model


def _has(model: Module, name: str) -> bool:
    return any(name == other for other, _ in model.named_modules())


def _like(head: Module, outputs: int, name: str) -> Linear | Conv2d:
    """A new layer of the same kind, with so many outputs."""
    bias = getattr(head, "bias", None) is not None
    if isinstance(head, Linear):
        return Linear(head.in_features, outputs, bias)
    if isinstance(head, Conv2d) and head.groups == 1:
        return Conv2d(
            head.in_channels,
            outputs,
            head.kernel_size,
            head.stride,
            head.padding,
            head.dilation,
            bias=bias,
        )
    raise ValueError(f"[replace_head] {name} is {head}, not a Linear or Conv2d without groups")


def _copy(trained: Module, head: Linear | Conv2d) -> None:
    source: Any = trained.get_submodule(head_name(trained))
    weight, bias = np.asarray(source.weight), source.bias
    if weight.size != head.weight.numel() or len(weight) != len(head.weight):
        raise ValueError(
            f"[replace_head] the trained layer has weights {weight.shape}, the new head "
            f"{head.weight.shape}"
        )
    if (bias is None) != (head.bias is None):
        raise ValueError("[replace_head] of the trained layer and the head only one has a bias")
    with no_grad():
        head.weight.copy_(weight.reshape(head.weight.shape))
        if head.bias is not None:
            head.bias.copy_(np.asarray(bias))


# ------------------------------------------------------------------------------------ the features


def extract_features(
    model: Module,
    x: Any,
    cache: PathLike | None = None,
    *,
    batch_size: int = 32,
    until: str | None = None,
    with_targets: bool = False,
) -> Any:
    """What the head of a network would be given: one row a sample, computed batch by batch.

    The network runs in evaluation mode, recording nothing, and stops in front of its head. Bytes
    are scaled as `model.preprocessing` says. A progress bar is drawn on a terminal.

    Args:
        model: the network; for the codes of an autoencoder its `encoder`, with until="".
        x: arrays (N, C, H, W), an `ImageFolder`, or a `Loader` that does not shuffle.
        cache: a folder in which the features are kept, in a safetensors file named after the
            weights, the data and the layer: the next call with the same ones reads it.
        batch_size: how many at once, for arrays and folders.
        until: the layer whose input is wanted; "": the output of the network; None: its head.
        with_targets: return (features, targets); of a folder, pictures that cannot be read are
            missing from both.

    Returns:
        (N, F) float32; with_targets: and what the loader gives as targets.

    Raises:
        ValueError: a shuffled Loader; a cache for random transforms; an unknown layer.

    Example:
        >>> import numpy as np
        >>> from fastconv import models
        >>> model = models.cifar_resnet20()
        >>> models.extract_features(model, np.zeros((3, 3, 32, 32), np.uint8)).shape
        (3, 64)
    """
    layer = head_name(model) if until is None else until
    if layer and not _has(model, layer):
        raise ValueError(f"[extract_features] {type(model).__name__} has no layer {layer!r}")
    loader = _in_order(model, x, batch_size)
    path = None
    if cache is not None:
        name = f"features-{_key(model, layer, loader)[:24]}.safetensors"
        path = Path(os.path.expanduser(cache)) / name
        # Any other content is replaced.
        with contextlib.suppress(CorruptFileError, FileNotFoundError, KeyError):
            kept = {name: np.asarray(tensor) for name, tensor in io.load(path).items()}
            return (kept["features"], kept["targets"]) if with_targets else kept["features"]
    batches = list(_run(model, layer, loader))
    if not batches:
        raise ValueError("[extract_features] the Loader gives no batch: drop_last=False")
    features = np.concatenate([features for features, _ in batches])
    targets = np.concatenate([targets for _, targets in batches])
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        io.save({"features": features, "targets": targets}, path)
    return (features, targets) if with_targets else features


def _in_order(model: Module, x: Any, batch_size: int) -> Loader:
    from ..data import Loader

    if isinstance(x, Loader):
        if x.shuffle:
            raise ValueError(
                "[extract_features] the Loader shuffles, so that no row would be known: use "
                "shuffle=False"
            )
        return x
    recipe = model.preprocessing
    in_bytes = getattr(x, "dtype", None) == np.uint8 and recipe is not None
    scale, shift = (recipe.scale, recipe.shift) if in_bytes and recipe else (None, None)
    return Loader(x, batch_size=batch_size, scale=scale, shift=shift)


class _Reached(Exception):  # noqa: N818  (no error: it ends a forward pass early)
    """Carries what a layer was given."""

    def __init__(self, value: Tensor) -> None:
        self.value = value


def _run(
    model: Module, layer: str, loader: Loader
) -> Iterator[tuple[NDArray[np.float32], NDArray[Any]]]:
    thread = threading.get_ident()

    def stop(_: Module, inputs: tuple[Any, ...]) -> None:
        if threading.get_ident() == thread:  # another one may run the network meanwhile
            raise _Reached(inputs[0])

    hook = model.get_submodule(layer).register_forward_pre_hook(stop) if layer else None
    try:
        for x, targets in progress_bar(loader, desc="features"):
            with own_modes(), no_grad():
                model.eval()
                try:
                    y = model(x)
                except _Reached as reached:
                    y = reached.value
            yield np.array(y.numpy(), np.float32).reshape(len(x), -1), targets
    finally:
        if hook is not None:
            hook.remove()


def _key(model: Module, layer: str, loader: Loader) -> str:
    """A hash of the weights, the data and all that lies between them and the features."""
    import hashlib

    digest = hashlib.sha256()

    def add(*parts: Any) -> None:
        for part in parts:
            digest.update(repr(part).encode() + b"\n")

    def add_array(values: NDArray[Any]) -> None:
        values = np.ascontiguousarray(values)
        add(values.dtype.str, values.shape)
        digest.update(values.reshape(-1).view(np.uint8).data)

    add(_core.__version__, repr(model), layer, model.architecture, loader.drop_last)
    for name, tensor in model.state_dict().items():
        add(name)
        add_array(np.asarray(tensor))
    add_array(np.asarray(loader.scale))
    add_array(np.asarray(loader.shift))
    add_array(loader.y)
    if loader.transform is not None or getattr(loader.x, "augment", None) is not None:
        raise ValueError("[extract_features] random transforms: their features cannot be cached")
    if isinstance(loader.x, np.ndarray):
        add_array(loader.x)
    else:
        for path in _paths(loader.x):
            status = os.stat(path)
            add(os.fspath(path), status.st_size, status.st_mtime_ns)
        recipe = getattr(loader.x, "preprocessing", None)
        add(json.dumps(recipe.to_dict()) if recipe is not None else None)
    return digest.hexdigest()


def _paths(source: Any) -> Sequence[PathLike]:
    paths: Sequence[PathLike] | None = getattr(source, "paths", None)
    if paths is None:
        raise ValueError(
            f"[extract_features] {type(source).__name__} has no `paths` to know its data by: "
            "cache=None, or read it into an array first"
        )
    return paths
