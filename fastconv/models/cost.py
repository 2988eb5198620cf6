"""The cost of a network, without computing it: parameters and multiply-adds.

The network is built with parameters that have a shape but no memory. One sample of zeros passes
through it, and every layer that multiplies only returns zeros of its output shape. So VGG-19 with
its 144 million parameters takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from .. import nn
from ..autograd import zeros
from ..nn.layer_calls import layer_calls

__all__ = ["Cost", "cost_of"]

_SHAPE_KEPT = (nn.BatchNorm2d, nn.Dropout, nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Tanh)


@dataclass(frozen=True)
class Cost:
    """Of one network."""

    parameters: int
    macs: int  # multiply-adds of convolutions and dense layers, for one sample


def cost_of(build: Callable[[], nn.Module], input_shape: Sequence[int]) -> Cost:
    """Counts parameters and multiply-adds of a network.

    Args:
        build: makes it.
        input_shape: of one sample.

    Example:
        >>> from fastconv import models
        >>> cost_of(models.lenet5, (1, 28, 28))
        Cost(parameters=61706, macs=416520)
    """
    with _parameters_without_memory():
        model = build()
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            layer.forward = _shape_only(layer)  # type: ignore[method-assign, assignment]
        elif isinstance(layer, _SHAPE_KEPT):
            layer.forward = _same  # type: ignore[method-assign]
    calls = layer_calls(model, zeros(1, *input_shape))
    return Cost(sum(p.numel() for p in model.parameters()), sum(call.macs for call in calls))


@contextmanager
def _parameters_without_memory() -> Iterator[None]:
    """While open, parameters have shapes and no values."""

    def without_memory(self: Any, data: Any, requires_grad: bool = True) -> None:
        self._array = SimpleNamespace(shape=data.shape)
        self._node = self.grad = None
        self._requires_grad = requires_grad

    before = nn.Parameter.__init__
    fillers = {name: getattr(nn.init, name) for name in ("uniform_", "normal_", "constant_")}
    nn.Parameter.__init__ = without_memory  # type: ignore[method-assign]
    for name in fillers:
        setattr(nn.init, name, _same)
    try:
        yield
    finally:
        nn.Parameter.__init__ = before  # type: ignore[method-assign]
        for name, filler in fillers.items():
            setattr(nn.init, name, filler)


def _same(x: Any, *arguments: Any, **options: Any) -> Any:
    return x


def _shape_only(layer: Any) -> Callable[[Any], Any]:
    return lambda x: zeros(_output_shape(layer, x.shape))


def _output_shape(layer: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(layer, nn.Linear):
        return (*shape[:-1], layer.out_features)
    sizes = []
    for axis in (0, 1):
        size, kernel, stride = shape[2 + axis], layer.kernel_size[axis], layer.stride[axis]
        reach = layer.dilation[axis] * (kernel - 1) + 1
        if isinstance(layer, nn.ConvTranspose2d):
            padding = 2 * layer.padding[axis] - layer.output_padding[axis]
            sizes.append((size - 1) * stride - padding + reach)
        elif layer.padding == "same":
            sizes.append(-(-size // stride))
        else:
            padding = 0 if layer.padding == "valid" else layer.padding[axis]
            sizes.append((size + 2 * padding - reach) // stride + 1)
    return (shape[0], layer.out_channels, *sizes)
