"""The table of a network: layers, output shapes, parameters, multiply-adds, and the arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .. import nn
from ..autograd import zeros
from ..nn.layer_calls import LayerCall, layer_calls, own_parameters

if TYPE_CHECKING:
    from ..nn import Module

__all__ = ["summary"]

_CONVS = (nn.Conv1d, nn.Conv2d)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d)


def summary(
    model: Module,
    input_shape: Sequence[int] | None = None,
    explain: bool = False,
    print_fn: Callable[[str], Any] = print,
) -> None:
    """Prints the layers of a network with their output shapes, parameters and multiply-adds.

    Args:
        model: Any Module that takes one Tensor.
        input_shape: The shape of one sample: (C, H, W), (C, L) or (F,).
        explain: Also print the arithmetic behind every size and every number of parameters.
        print_fn: Called with every line.

    Example:
        >>> from fastconv import nn
        >>> network = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2))
        >>> network.summary((1, 28, 28), explain=True)
        Layer           Output shape   Kernel / stride / pad   Parameters      MACs
        ---------------------------------------------------------------------------
        0 (Conv2d)      (6, 28, 28)    5x5 / 1 / 2                    156   117,600
        1 (ReLU)        (6, 28, 28)
        2 (MaxPool2d)   (6, 14, 14)    2x2 / 2 / 0
        ---------------------------------------------------------------------------
        Total parameters: 156 (0.6 kB)
        Multiply-adds for one sample: 117,600
        <BLANKLINE>
        0 (Conv2d): (28 + 2*2 - 5)/1 + 1 = 28
        0 (Conv2d): 6*1*5*5 + 6 = 156 parameters
        2 (MaxPool2d): (28 + 2*0 - 2)/2 + 1 = 14
    """
    if not isinstance(input_shape, Iterable) or not all(_is_size(size) for size in input_shape):
        raise ValueError(
            "[summary] needs the shape of one sample as whole numbers from 1, for instance "
            f"model.summary((1, 28, 28)); got {input_shape!r}"
        )
    sample = zeros(1, *(int(size) for size in input_shape))
    calls = layer_calls(model, sample)
    _print_table(calls, print_fn)
    _print_totals(model, calls, print_fn)
    if explain:
        print_fn("")
        for call in calls:
            for line in _explain(call):
                print_fn(f"{_title(call)}: {line}")


def _is_size(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool) and value >= 1


def _print_table(calls: list[LayerCall], print_fn: Callable[[str], Any]) -> None:
    header = ("Layer", "Output shape", "Kernel / stride / pad", "Parameters", "MACs")
    counted: set[int] = set()  # a layer that is called twice has its parameters once
    lines = [header]
    for call in calls:
        own = 0 if id(call.layer) in counted else own_parameters(call.layer)
        counted.add(id(call.layer))
        numbers = (f"{own:,}" if own else "", f"{call.macs:,}" if call.macs else "")
        lines.append((_title(call), str(call.output), _geometry(call.layer), *numbers))
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    rule = "-" * (sum(widths) + 3 * (len(widths) - 1))
    for number, line in enumerate(lines):
        cells = [f"{cell:<{w}}" for cell, w in zip(line[:3], widths[:3], strict=True)]
        cells += [f"{cell:>{w}}" for cell, w in zip(line[3:], widths[3:], strict=True)]
        print_fn("   ".join(cells).rstrip())
        if number == 0:
            print_fn(rule)
    print_fn(rule)


def _print_totals(model: Module, calls: list[LayerCall], print_fn: Callable[[str], Any]) -> None:
    parameters = list(model.parameters())
    total = sum(p.numel() for p in parameters)
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    print_fn(f"Total parameters: {total:,} ({_size(4 * total)})")
    if trained != total:
        print_fn(f"Trained: {trained:,}, fixed: {total - trained:,}")
    statistics = sum(b.numel() for b in model.buffers() if b.dtype.kind == "f")  # not the counters
    if statistics:
        print_fn(f"Running statistics: {statistics:,}")
    print_fn(f"Multiply-adds for one sample: {sum(call.macs for call in calls):,}")


def _title(call: LayerCall) -> str:
    kind = type(call.layer).__name__
    return f"{call.name} ({kind})" if call.name else kind


def _size(count: int) -> str:
    return f"{count / 1024:,.1f} kB" if count < 1024**2 else f"{count / 1024**2:,.1f} MB"


def _geometry(layer: Module) -> str:
    """ "5x5 / 1 / 2" """
    if not isinstance(layer, (*_CONVS, *_POOLS, nn.ConvTranspose2d)):
        return ""
    kernel = _pair(layer.kernel_size)
    text = f"{'x'.join(map(str, kernel))} / {_short(layer.stride)} / {_short(layer.padding)}"
    dilation = getattr(layer, "dilation", 1)
    if set(_pair(dilation)) != {1}:
        text += f", dilation {_short(dilation)}"
    groups = getattr(layer, "groups", 1)
    return text + (f", groups {groups}" if groups != 1 else "")


def _pair(value: Any) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _short(value: Any) -> str:
    if isinstance(value, (int, str)):
        return str(value)
    values = tuple(value)
    return str(values[0]) if len(set(values)) == 1 else "x".join(map(str, values))


# ------------------------------------------------------------------------------- the arithmetic


def _explain(call: LayerCall) -> list[str]:
    """The arithmetic of the output shape and of the parameters, with its numbers."""
    layer = call.layer
    lines = []
    if isinstance(layer, (*_CONVS, *_POOLS)):
        lines += _explain_window(call)
    elif isinstance(layer, nn.ConvTranspose2d):
        lines += _explain_transposed(call)
    elif isinstance(layer, nn.Flatten) and len(call.output) == 1:
        lines.append(f"{'*'.join(map(str, call.input))} = {call.output[0]}")
    if isinstance(layer, (*_CONVS, nn.ConvTranspose2d)):
        outer, inner, *kernel = layer.weight.shape
        weights = "*".join(map(str, (outer, inner, *kernel)))
        lines.append(_explain_parameters(layer, weights))
    elif isinstance(layer, nn.Linear):
        lines.append(_explain_parameters(layer, f"{layer.in_features}*{layer.out_features}"))
    return lines


def _explain_parameters(layer: Any, weights: str) -> str:
    bias = f" + {layer.bias.numel()}" if layer.bias is not None else ""
    return f"{weights}{bias} = {own_parameters(layer):,} parameters"


def _explain_window(call: LayerCall) -> list[str]:
    layer: Any = call.layer
    spatial = call.input[1:]
    kernel, stride = _pair(layer.kernel_size)[: len(spatial)], _pair(layer.stride)[: len(spatial)]
    dilation = _pair(getattr(layer, "dilation", 1))[: len(spatial)]
    if layer.padding == "same":
        sums = [
            f"ceil({i}/{s}) = {o}" for i, s, o in zip(spatial, stride, call.output[1:], strict=True)
        ]
        return _axes(sums)
    padding = (0,) * len(spatial) if layer.padding == "valid" else _pair(layer.padding)
    sums = []
    for axis, size in enumerate(spatial):
        k, s, p, d = kernel[axis], stride[axis], padding[axis], dilation[axis]
        reach = f"{k}" if d == 1 else f"({d}*({k} - 1) + 1)"
        rest = (size + 2 * p - d * (k - 1) - 1) % s
        text = f"({size} + 2*{p} - {reach})/{s}"
        if rest:
            text = f"{'ceil' if getattr(layer, 'ceil_mode', False) else 'floor'}({text})"
        sums.append(f"{text} + 1 = {call.output[1 + axis]}")
    return _axes(sums)


def _explain_transposed(call: LayerCall) -> list[str]:
    layer: Any = call.layer
    kernel, stride, padding = _pair(layer.kernel_size), _pair(layer.stride), _pair(layer.padding)
    extra, dilation = _pair(layer.output_padding), _pair(layer.dilation)
    sums = []
    for axis, size in enumerate(call.input[1:]):
        k, s, p, d, e = kernel[axis], stride[axis], padding[axis], dilation[axis], extra[axis]
        sums.append(f"({size} - 1)*{s} - 2*{p} + {d}*({k} - 1) + {e} + 1 = {call.output[1 + axis]}")
    return _axes(sums)


def _axes(sums: list[str]) -> list[str]:
    """One line where height and width are equal."""
    if len(sums) == 1 or len(set(sums)) == 1:
        return [sums[0]]
    return [f"{name}: {text}" for name, text in zip(("height", "width"), sums, strict=True)]
