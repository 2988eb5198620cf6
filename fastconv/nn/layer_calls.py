"""The calls of layers that one sample causes, with their shapes and multiply-adds."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..autograd import Tensor, no_grad
from .conv import Conv1d, Conv2d, ConvTranspose2d
from .linear import Linear
from .modes import own_modes
from .module import Module

__all__ = ["LayerCall", "layer_calls", "own_parameters"]


@dataclass
class LayerCall:
    """One call of one layer.

    Attributes:
        name: as in `named_modules`.
        layer: a module without submodules, or with parameters of its own.
        input, output: shapes of one sample.
    """

    name: str
    layer: Module
    input: tuple[int, ...]
    output: tuple[int, ...]

    @property
    def macs(self) -> int:
        """Multiply-adds for one sample: every weight once for each place where it is applied."""
        layer = self.layer
        if isinstance(layer, (Conv1d, Conv2d)):
            return math.prod(self.output[1:]) * layer.weight.numel()
        if isinstance(layer, ConvTranspose2d):
            return math.prod(self.input[1:]) * layer.weight.numel()
        if isinstance(layer, Linear):
            return math.prod(self.output[:-1]) * layer.weight.numel()
        return 0


def layer_calls(model: Module, x: Tensor) -> list[LayerCall]:
    """Runs a network in evaluation mode and records every call of a layer, in order."""
    calls: list[LayerCall] = []
    hooks = []
    thread = threading.get_ident()  # another one may run the network meanwhile

    def note(name: str) -> Callable[[Module, tuple[Any, ...], Any], None]:
        def hook(layer: Module, inputs: tuple[Any, ...], output: Any) -> None:
            tensors = isinstance(output, Tensor) and inputs and isinstance(inputs[0], Tensor)
            if tensors and threading.get_ident() == thread:
                calls.append(LayerCall(name, layer, inputs[0].shape[1:], output.shape[1:]))

        return hook

    try:
        for name, module in model.named_modules():
            is_leaf = not any(True for _ in module.children())
            if is_leaf or any(True for _ in module.parameters(recurse=False)):
                hooks.append(module.register_forward_hook(note(name)))
        with own_modes(), no_grad():
            model.eval()
            model(x)
    finally:
        for each in hooks:
            each.remove()
    return calls


def own_parameters(layer: Module) -> int:
    """How many numbers the parameters of a layer have, without those of its submodules."""
    return sum(p.numel() for p in layer.parameters(recurse=False))
