"""All networks by name: what each takes, how its pictures are prepared, where its weights are."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ..nn import Module
from .pretrained import available, find, load_into

if TYPE_CHECKING:
    from ..data.preprocessing import Preprocessing

__all__ = ["ARCHITECTURES", "Architecture", "build", "network"]

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
    def preprocessing(self) -> Preprocessing | None:
        """What makes pictures into its inputs where weights do not say otherwise."""
        if self.recipe is None:
            return None
        from ..data import preprocessing  # only when it is asked for: networks need no data

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
    """Puts a function that builds a network into the catalogue, and gives it `weights`.

    The function has a parameter `weights` and need not look at it: None, the name of published
    weights ("imagenet"), or a file. What the weights know about themselves (arguments that were not
    given, preprocessing, classes) goes into the network, which is then in evaluation mode.

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
            if weights is not None:
                given = {**weights.arguments, **given}
            made: Callable[..., M] = function
            model = made(**given)
            model.architecture = (name, {**defaults, **given})
            if weights is not None:
                load_into(model, weights)
                model.eval()
                model.classes, model.preprocessing = weights.classes, weights.preprocessing
                model.output_activation = weights.output_activation
                if weights.architecture is None:  # a file that says nothing about itself
                    model.preprocessing = entry.preprocessing
            return model

        entry = ARCHITECTURES[name] = Architecture(name, build, input_shape, recipe, names)
        return build

    return register


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
