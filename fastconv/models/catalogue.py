"""All networks by name: their input, the preprocessing of pictures, their published weights."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from ..errors import CorruptFileError
from ..nn import Module
from ..nn.limit import LimitExceeded, at_most
from ..untrusted import printable
from .pretrained import WeightFile, available, find, load_into, recognised

if TYPE_CHECKING:
    from ..data.preprocessing import Preprocessing
    from .weight_files import PathLike

__all__ = ["ARCHITECTURES", "Architecture", "build", "load", "network"]

P = ParamSpec("P")
M = TypeVar("M", bound=Module)


@dataclass(frozen=True)
class Architecture:
    """An entry of the catalogue.

    Attributes:
        name: "resnet18".
        build: the function of that name.
        input_shape: (C, H, W) it was made for.
        recipe: the name of its `preprocessing` in data.preprocessing, "IMAGENET"; or None.
        arguments: the names of those that `build` takes, but for weights.
    """

    name: str
    build: Callable[..., Any]
    input_shape: tuple[int, int, int]
    recipe: str | None
    arguments: tuple[str, ...]

    @property
    def classifies(self) -> bool:
        """Whether its outputs are classes; an autoencoder reconstructs its input instead."""
        return "num_classes" in self.arguments

    @property
    def preprocessing(self) -> Preprocessing | None:
        """The preprocessing of pictures, unless weights bring their own."""
        if self.recipe is None:
            return None
        from ..data import preprocessing  # imported only when needed

        recipe: Preprocessing = getattr(preprocessing, self.recipe)
        return recipe

    @property
    def weights(self) -> list[str]:
        """The names of the pretrained weights it can have: ["imagenet"]."""
        return list(dict.fromkeys(published.name for published in available(self.name)))


ARCHITECTURES: dict[str, Architecture] = {}


def network(
    input_shape: tuple[int, int, int], recipe: str | None = None
) -> Callable[[Callable[P, M]], Callable[P, M]]:
    """Registers a function that builds a network, and handles its argument `weights`.

    `weights` is None, the name of published weights ("imagenet"), or a file; the function itself
    ignores it. What the weights record (arguments that were not given, preprocessing, classes) is
    set in the network, which is then in evaluation mode.

    Args:
        input_shape, recipe: see `Architecture`.
    """

    def register(function: Callable[P, M]) -> Callable[P, M]:
        name, signature = function.__name__, inspect.signature(function)
        names = tuple(n for n in signature.parameters if n != "weights")
        defaults = {n: signature.parameters[n].default for n in names}

        @functools.wraps(function)
        def build(*args: P.args, **kwargs: P.kwargs) -> M:
            try:
                given = dict(signature.bind(*args, **kwargs).arguments)
            except TypeError as error:
                raise TypeError(f"{name}() {error}") from None
            weights = find(name, given.pop("weights", None), given, defaults)
            made: Callable[..., M] = function
            if weights is None:
                model = made(**given)
            else:
                _check_arguments(name, weights, defaults)
                model = _made_for(weights, name, made, given)
                given = {**weights.arguments, **given}
            model.architecture = (name, {**defaults, **given})
            if weights is not None:
                load_into(model, weights)
                model.eval()
                model.classes, model.preprocessing = weights.classes, weights.preprocessing
                model.output_activation = weights.output_activation
                if weights.architecture is None:  # a file without a description
                    model.preprocessing = entry.preprocessing
            return model

        entry = ARCHITECTURES[name] = Architecture(name, build, input_shape, recipe, names)
        return build

    return register


def _check_arguments(name: str, weights: WeightFile, defaults: Mapping[str, Any]) -> None:
    """Raises CorruptFileError for arguments in a file that the function does not take."""
    for argument, value in weights.arguments.items():
        kind = type(defaults.get(argument))
        fits = type(value) is kind or (
            type(value) is int and (kind is float or (kind is bool and value in (0, 1)))
        )
        if argument not in defaults or not fits:
            known = ", ".join(f"{n} ({type(v).__name__})" for n, v in defaults.items())
            raise CorruptFileError(
                f"[{name}] {weights.path}: its header has the argument {argument!a} = {value!a}; "
                f"{name} takes {known}"
            )


def _made_for(
    weights: WeightFile, name: str, function: Callable[..., M], given: Mapping[str, Any]
) -> M:
    """The untrained network, no larger than the weights if these describe their network.

    Parameters are counted while they are made, so no architecture needs a formula.
    """
    if weights.architecture is None:
        return function(**given)
    asked, saved = {**weights.arguments, **given}, weights.arguments
    numbers = sum(np.size(tensor) for tensor in weights.tensors.values())
    try:
        with at_most(numbers):
            return function(**asked)
    except (LimitExceeded, MemoryError):
        other = {n: v for n, v in given.items() if n in saved and saved[n] != v}
        if not other:
            raise CorruptFileError(
                f"[{name}] {weights.path}: its header describes a network of more than the "
                f"{numbers:,} numbers that the file holds"
            ) from None
        now, then = (", ".join(f"{n}={source[n]!r}" for n in other) for source in (given, saved))
        raise ValueError(
            f"[{name}] {weights.path} holds too few numbers for {now}: it was saved with {then}. "
            "Build it so; models.replace_head then gives it another number of classes"
        ) from None
    except (ValueError, ArithmeticError) as error:
        if given:
            raise
        raise CorruptFileError(
            f"[{name}] {weights.path}: its header describes no network: {error}"
        ) from None


def build(name: str, **arguments: Any) -> Any:
    """The network of that name; `arguments` are those of its function, `weights` among them.

    `model.architecture` is then (name, arguments), with which it can be built again.

    Raises:
        ValueError: there is none of that name; lists those near to it.

    Example:
        >>> from fastconv import models
        >>> models.build("lenet5", num_classes=3).architecture[0]
        'lenet5'
    """
    if name not in ARCHITECTURES:
        from difflib import get_close_matches

        near = get_close_matches(name, ARCHITECTURES, n=3, cutoff=0.5) or sorted(ARCHITECTURES)
        raise ValueError(f"[models] there is no network {name!r}; there are {', '.join(near)}")
    return ARCHITECTURES[name].build(**arguments)


def load(path: PathLike) -> Any:
    """Builds the network that `models.save` wrote, with its preprocessing and classes.

    It is in evaluation mode, and `predict` returns probabilities for a classifier. `fit` trains it
    like any other network; a training loop of your own calls `train()` first.

    Files of published weights are recognised too, by their SHA-256.

    Raises:
        CorruptFileError: the file is damaged, or a pickle.
        ValueError: it does not record its network, or holds the tensors of another one. No network
            larger than the file is built meanwhile.

    Example::

        model = models.load("cats-and-dogs.safetensors")
        probabilities = F.softmax(model(model.preprocessing("cat.jpg")), dim=1)
    """
    found = recognised(Path(os.path.expanduser(path)))
    if found.architecture is None:
        raise ValueError(
            f"[models.load] {os.fspath(path)} does not say of which network it is, as files of "
            "models.save do: build the network with the file, models.resnet18(weights=FILE)"
        )
    if found.architecture not in ARCHITECTURES:
        raise ValueError(
            f"[models.load] {os.fspath(path)} is of {printable(found.architecture)!r}, which this "
            "version of fastconv does not have"
        )
    return ARCHITECTURES[found.architecture].build(weights=found)
