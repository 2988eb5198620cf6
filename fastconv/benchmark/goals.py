"""The table of goals: what fastconv is to reach, and what a run measured of it.

Made from the rows that everything.py keeps, whenever they were measured.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .cases import LAYERS, PASSES, Conv
from .table import Table, times

Row = Mapping[str, Any]  # what was measured of one unit: see everything.py

HEAD = [
    *(("work", 46), ("fastconv", -13), ("best peer", -13), ("who", 25)),
    *(("ratio", -6), ("goal", -6), ("of peak", -7), ("met", 4)),
]


@dataclass(frozen=True)
class Goal:
    """One line. `units` are the ids of what it is made of; layers take many, others one."""

    work: str
    units: tuple[str, ...]
    goal: float
    kind: str  # "rate", "ratio of ms", "us", "s", "ms", "MB", "mean", "least"

    @property
    def absolute(self) -> bool:
        """Whether the goal is a figure of ours, not a ratio."""
        return self.kind in ("us", "s", "ms", "MB")

    @property
    def target(self) -> str:
        return f"{self.goal:g} {self.kind}" if self.absolute else f"{self.goal:g}x"


def _layers(choose: Any) -> tuple[str, ...]:
    chosen = ((conv, batches[0]) for conv, batches in LAYERS if choose(conv))
    return tuple(f"{conv.name}@{batch}:{p}" for conv, batch in chosen for p in PASSES)


def _plain_3x3(conv: Conv) -> bool:
    return conv.K == 3 and conv.stride == 1 and conv.groups == 1


_EVERY, _3X3 = _layers(lambda conv: True), _layers(_plain_3x3)
GOALS = (
    Goal("LeNet-5 training step, batch 128", ("lenet5@128:train",), 4.5, "rate"),
    Goal("Keras convnet training step, batch 128", ("keras_convnet@128:train",), 3.0, "rate"),
    Goal("MLP 784-512-10 training step, batch 128", ("mlp@128:train",), 1.3, "rate"),
    Goal(f"{len(_EVERY)} conv passes, batch >= 16: geometric mean", _EVERY, 2.0, "mean"),
    Goal(f"{len(_EVERY)} conv passes, batch >= 16: least", _EVERY, 1.05, "least"),
    Goal(f"{len(_3X3)} of them 3x3 stride 1: geometric mean", _3X3, 2.3, "mean"),
    Goal("VGG-16 training step, batch 16", ("vgg16@16:train",), 2.2, "rate"),
    Goal("ResNet-18 training step, batch 16", ("resnet18@16:train",), 2.0, "rate"),
    Goal("ResNet-50 training step, batch 16", ("resnet50@16:train",), 1.4, "rate"),
    Goal("MobileNet-v2 training step, batch 16", ("mobilenet_v2@16:train",), 2.0, "rate"),
    Goal("GoogLeNet training step, batch 16", ("googlenet@16:train",), 1.7, "rate"),
    Goal("AlexNet training step, batch 16", ("alexnet@16:train",), 1.3, "rate"),
    Goal("LeNet-5, one image, from Python", ("lenet5@1:infer",), 15.0, "us"),
    Goal("ResNet-18, one image", ("resnet18@1:infer",), 1.1, "ratio of ms"),
    Goal("VGG-16, one image", ("vgg16@1:infer",), 1.0, "ratio of ms"),
    Goal("MobileNet-v2, one image", ("mobilenet_v2@1:infer",), 1.0, "ratio of ms"),
    Goal("MNIST to 99 %, from process start", ("mnist",), 2.5, "s"),
    Goal("import beyond NumPy's own", ("import",), 15.0, "ms"),
    Goal("wheel (peer: installed package)", ("size",), 3.0, "MB"),
)


def lines(rows: Mapping[str, Row]) -> list[str]:
    """The table as Markdown, a line a string; goals without a row say so."""
    table = Table(HEAD)
    result = [table.head()]
    # Whatever disturbs a reading of the peak makes it lower: the highest counts.
    peak = max((row.get("peak", 0.0) for row in rows.values()), default=0.0)
    for goal in GOALS:
        there = [rows[unit] for unit in goal.units if unit in rows]
        good = [row for row in there if "error" not in row]
        if len(good) < len(goal.units):
            cells = [_missing(goal, there, good), "-", "-", "-", goal.target, "-", "-"]
            result.append(table.row([goal.work, *cells]))
        elif goal.kind in ("mean", "least"):
            result.append(table.row([goal.work, *_of_layers(goal, good, peak)]))
        else:
            result.append(table.row([goal.work, *_of_one(goal, good[0], peak)]))
    return result


def unmet(rows: Mapping[str, Row]) -> list[str]:
    """Goals that were measured and not reached, shortly."""
    cut = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines(rows)[1:]]
    missed = [(goal, cells) for goal, cells in zip(GOALS, cut, strict=True) if cells[-1] == "no"]
    return [f"{goal.work} ({cells[1 if goal.absolute else 4]})" for goal, cells in missed]


def memory_lines(rows: Mapping[str, Row]) -> list[str]:
    """Peak memory of the training steps; [] where none was measured."""
    table = Table(
        [
            *(("training step", 24), ("fastconv, MB", -12), ("best peer", -9), ("who", 25)),
            *(("ratio", -6), ("whole process", -13), ("peer's", -7)),
        ]
    )
    result = []
    for unit, row in rows.items():
        if unit.endswith(":train") and row.get("ours", {}).get("memory", {}).get("peak"):
            ours, peer = row["ours"], row.get("peer")
            cells = [_megabytes(ours), *("-",) * 3, f"{ours['memory']['peak'] / 1e6:,.0f}", "-"]
            if peer and peer["memory"].get("peak"):
                ratio = _held(peer) / max(1, _held(ours))
                cells[1:4] = [_megabytes(peer), peer["name"], times(ratio)]
                cells[5] = f"{peer['memory']['peak'] / 1e6:,.0f}"
            result.append(table.row([unit.removesuffix(":train"), *cells]))
    return [table.head(), *result] if result else []


def _held(entry: Mapping[str, Any]) -> int:
    return int(entry["memory"]["peak"] - entry["memory"]["before"])


def _megabytes(entry: Mapping[str, Any]) -> str:
    return f"{_held(entry) / 1e6:,.0f}"


def _missing(goal: Goal, there: list[Row], good: list[Row]) -> str:
    if len(there) > len(good):
        return "failed" if len(goal.units) == 1 else f"{len(there) - len(good)} failed"
    return "not yet" if len(goal.units) == 1 else f"{len(good)}/{len(goal.units)}"


def _share(row: Row, peak: float) -> float:
    return float(row["flop"] / row["ours"]["seconds"] / peak)


def _of_layers(goal: Goal, rows: list[Row], peak: float) -> list[str]:
    shares = [_share(row, peak) for row in rows]
    share = f"{100 * math.exp(sum(map(math.log, shares)) / len(shares)):.0f} %"
    raced = [row for row in rows if row.get("peer")]
    if len(raced) < len(rows):
        alone = len(rows) - len(raced)
        return ["", "", f"no peer for {alone} of {len(rows)}", "-", goal.target, share, "-"]
    ratios = [row["peer"]["ratio"] for row in raced]
    if goal.kind == "mean":
        value, who = math.exp(sum(map(math.log, ratios)) / len(ratios)), "best for each"
    else:
        value = min(ratios)
        row = raced[ratios.index(value)]
        who, share = row["unit"].replace("backward_", "b_"), f"{100 * _share(row, peak):.0f} %"
    return ["", "", who, times(value), goal.target, share, _met(value >= goal.goal)]


def _of_one(goal: Goal, row: Row, peak: float) -> list[str]:
    peer = row.get("peer")
    ours, ratio = _value(goal.kind, row, row["ours"]), peer["ratio"] if peer else math.nan
    reached = ours <= goal.goal if goal.absolute else ratio >= goal.goal
    met = _met(reached) if peer or goal.absolute else "-"
    share = f"{100 * _share(row, peak):.0f} %" if "flop" in row else ""
    figures = [_figure(goal.kind, ours), "-"]
    if peer:
        figures[1] = _figure(goal.kind, _value(goal.kind, row, peer))
    who = peer["name"] if peer else "no peer took part"
    return [*figures, who, times(ratio) if peer else "-", goal.target, share, met]


def _value(kind: str, row: Row, entry: Mapping[str, Any]) -> float:
    """In the unit of the goal."""
    if kind == "MB":
        return float(entry["megabytes"])
    if kind == "rate":
        return float(row["batch"] / entry["seconds"])
    return float(entry["seconds"]) * {"us": 1e6, "ms": 1e3, "ratio of ms": 1e3, "s": 1.0}[kind]


def _figure(kind: str, value: float) -> str:
    if kind == "rate":
        return f"{value:,.0f} img/s" if value >= 100 else f"{value:.1f} img/s"
    unit = "ms" if kind == "ratio of ms" else kind
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def _met(reached: bool) -> str:
    return "yes" if reached else "no"


def chosen(pattern: str | None) -> list[str]:
    """The units of all goals, those of one line together; only matching ones if a filter asks."""
    units = dict.fromkeys(unit for goal in GOALS for unit in goal.units)
    return [unit for unit in units if pattern is None or re.search(pattern, unit)]
