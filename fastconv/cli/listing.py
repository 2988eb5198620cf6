"""fastconv models: the networks, with input, parameters, multiply-adds and published weights."""

from __future__ import annotations

import argparse

from ..models.cost import cost_of
from .arguments import MODELS

__all__ = ["models"]


def models(args: argparse.Namespace) -> int:
    """Prints one line per network; returns the exit status."""
    from ..models.catalogue import ARCHITECTURES

    wanted = [name for name in MODELS if args.filter is None or args.filter.lower() in name]
    if not wanted:
        raise ValueError(f"no network has {args.filter!r} in its name: `fastconv models` lists all")
    lines = [("network", "input", "parameters", "multiply-adds", "weights")]
    for name in wanted:
        entry = ARCHITECTURES[name]
        cost = cost_of(entry.build, entry.input_shape)
        shape = " x ".join(map(str, entry.input_shape))
        numbers = (f"{cost.parameters:,}", _millions(cost.macs))
        lines.append((name, shape, *numbers, _weights(name)))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        cells = [f"{cell:<{width}}" for cell, width in zip(line[:2], widths[:2], strict=True)]
        cells += [f"{cell:>{width}}" for cell, width in zip(line[2:4], widths[2:4], strict=True)]
        print("  ".join([*cells, line[4]]).rstrip())
    return 0


def _weights(name: str) -> str:
    """The published weights: "imagenet (width=0.75)"."""
    from ..models import available

    known = []
    for entry in available(name):
        options = ", ".join(f"{k}={v}" for k, v in entry.arguments.items())
        known.append(f"{entry.name} ({options})" if options else entry.name)
    return ", ".join(dict.fromkeys(known))


def _millions(count: int) -> str:
    return f"{count / 1e6:,.2f} M" if count < 10e6 else f"{count / 1e6:,.0f} M"
