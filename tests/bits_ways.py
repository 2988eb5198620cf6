"""How a function of tensors is run for its bits: eager, in the middle of a network, recorded."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastconv as fc
from fastconv import functional as F
from fastconv import nn

BATCHES = (1, 7, 8, 11, 12, 15, 16, 17, 33)  # on both sides of every change of layout
SHORT_BATCHES = (1, 7, 12, 16, 17)

Arrays = dict[str, Any]
Subject = tuple[str, Callable[[], Arrays]]


def uniform(name: str, *shape: int, low: float = -1.0, high: float = 1.0) -> NDArray[np.float32]:
    """The numbers of that name, whatever else is drawn."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return rng.uniform(low, high, shape).astype(np.float32)


def planes(name: str, N: int, C: int = 5, H: int = 13, W: int = 11) -> NDArray[np.float32]:
    return uniform(name, N, C, H, W)


@dataclass(frozen=True)
class Case:
    """A function of tensors, and what it gets: `operands` require gradients, `constants` do not."""

    name: str
    call: Callable[..., Any]
    operands: dict[str, NDArray[Any]]
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)

    def tensors(self, gradients: bool = True, first: bool = True) -> list[fc.Tensor]:
        """All of them, made anew; first: whether the first operand requires a gradient too."""
        made = [fc.Tensor(v, requires_grad=gradients) for v in self.operands.values()]
        if not first:
            made[0].requires_grad = False
        return made + [fc.Tensor(v) for v in self.constants.values()]


class Recordable(nn.Module):
    """A case as a network: what it gets are its attributes, the first operand perhaps its input."""

    def __init__(self, case: Case, first: bool) -> None:
        super().__init__()
        parts: list[Any] = [nn.Parameter(v) for v in case.operands.values()]
        parts += [fc.Tensor(v) for v in case.constants.values()]
        parts += [None] * (6 - len(parts))
        self.call = case.call
        self.a, self.b, self.c, self.d, self.e, self.f = parts
        if not first:
            self.a = None

    def forward(self, x: fc.Tensor) -> Any:
        first = x if self.a is None else self.a
        rest = (self.b, self.c, self.d, self.e, self.f)
        return self.call(first, *[t for t in rest if t is not None])


def first_of(result: Any) -> Any:
    return result[0] if isinstance(result, (tuple, list)) else result


def weighted_sum(result: Any, dy: fc.Tensor) -> fc.Tensor:
    """A loss whose gradient by the result is dy; of a number, 0.7."""
    y: fc.Tensor = first_of(result)
    return (y * dy).sum() if y.ndim else y * 0.7


def results_of(result: Any) -> Arrays:
    parts = result if isinstance(result, (tuple, list)) else [result]
    return {f"y{i or ''}": part for i, part in enumerate(parts)}


def passed_on(x: fc.Tensor) -> fc.Tensor:
    """The same values as the result of an operation: in lanes, if a network would have them so."""
    if x.ndim == 4:
        return F.avg_pool2d(x, 1)
    if x.ndim == 2:
        return F.linear(x, np.eye(x.shape[1], dtype=np.float32))
    return x * 1.0


def _gradients(case: Case, tensors: list[fc.Tensor]) -> Arrays:
    pairs = zip((*case.operands, *case.constants), tensors, strict=True)
    return {
        **{f"d{name}": t.grad for name, t in pairs if t.grad is not None},
        # What an operation changes in place, as running statistics.
        **dict(zip(case.constants, tensors[len(case.operands) :], strict=True)),
    }


def eager(case: Case, first: bool = True) -> Arrays:
    """Forward and backward of leaves; without first, the first operand is a network's input."""
    tensors = case.tensors(first=first)
    result = case.call(*tensors)
    y = first_of(result)
    if y.requires_grad:
        y.backward(uniform(case.name + " dy", *y.shape))
    return {**results_of(result), **_gradients(case, tensors)}


def middle(case: Case) -> Arrays:
    """Between two other operations."""
    tensors = case.tensors()
    y = first_of(case.call(passed_on(tensors[0]), *tensors[1:]))
    dy = uniform(case.name + " dy", *y.shape)
    (passed_on(y) * fc.Tensor(dy)).sum().backward()
    return {"y": y, **_gradients(case, tensors)}


def inference(case: Case) -> Arrays:
    """Without gradients: of leaves, and behind another operation."""
    with fc.no_grad():
        alone = case.call(*case.tensors(gradients=False))
        tensors = case.tensors(gradients=False)
        behind = case.call(passed_on(tensors[0]), *tensors[1:])
    return {**results_of(alone), "behind": first_of(behind)}


def with_numpy(case: Case) -> Arrays:
    """NumPy in, NumPy out."""
    operands, constants = ([a.copy() for a in d.values()] for d in (case.operands, case.constants))
    result = case.call(*operands, *constants)
    return {**results_of(result), **dict(zip(case.constants, constants, strict=True))}


def recorded(case: Case) -> Arrays:
    """The second call of a recording, and whether it was one."""
    forward = fc.record(Recordable(case, first=False))
    x = fc.Tensor(next(iter(case.operands.values())))
    for _ in range(2):
        fc.manual_seed(1)
        result = forward(x)
    return {**results_of(result), "recorded": _told(forward.reason)}


def step(case: Case, first: bool = True) -> Arrays:
    """Forward and backward in a recording; see `eager`."""
    model = Recordable(case, first)
    run = fc.record_step(model, weighted_sum)
    x = fc.Tensor(next(iter(case.operands.values())))
    dy: Any = None
    for _ in range(2):
        if dy is None:
            with fc.no_grad():
                shape = first_of(model(x)).shape
            dy = fc.Tensor(uniform(case.name + " dy", *shape))
        model.zero_grad()
        fc.manual_seed(1)
        _, result = run(x, dy)
    parts = (model.a, model.b, model.c, model.d, model.e, model.f)
    grads = zip(case.operands, parts, strict=False)
    return {
        **results_of(result),
        **{f"d{name}": t.grad for name, t in grads if t is not None and t.grad is not None},
        "recorded": _told(run.reason),
    }


def _told(reason: str | None) -> str:
    return "yes" if reason is None else "no"


def seeded(run: Callable[[], Arrays]) -> Arrays:
    fc.manual_seed(1)
    return run()


WAYS: dict[str, Callable[[Case], Arrays]] = {
    "eager": eager,
    "input": functools.partial(eager, first=False),
    "middle": middle,
    "inference": inference,
    "numpy": with_numpy,
    "recorded": recorded,
    "step": step,
    "step_input": functools.partial(step, first=False),
}


def in_all_ways(case: Case, *ways: str) -> Iterator[Subject]:
    """One subject for each way; `ways`: only these."""
    for way in ways or WAYS:
        if "input" in way and len(case.operands) == 1:
            continue  # nothing would require a gradient
        if way == "numpy" and not callable(getattr(F, case.name.split("/")[0], None)):
            continue  # a method of tensors
        yield f"{case.name}/{way}", functools.partial(seeded, functools.partial(WAYS[way], case))
