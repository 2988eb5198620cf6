"""Operations written one after the other that are one: a convolution with the ReLU and the max
pooling behind it, a dense layer with its ReLU. `nn.Sequential` sees such neighbours beforehand;
here they meet when the second one is called.

Each result is computed when its operation is called, for somebody may look at it. Two things are
done together nevertheless:

* The gradient. Nobody sees those of results in between, so the node of the ReLU or the pooling
  leads straight to the inputs of the convolution, with the gradient of all of them as one operation
  (`Node.stage`). What else uses a result in between has the convolution's own node.
* In a recording, everything: there the convolution is called again with what is behind it, and
  what nobody uses is left out of the program.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from .. import _core
from ..autograd import Node, Tensor, record

if TYPE_CHECKING:
    from .._core import Array, Pads, Pair, Pooling, Saved

__all__ = ["Stage", "fusing", "max_pool_behind", "node_of", "recent", "relu_behind", "remember"]

FEW = 4  # results that are remembered: a convolution, its ReLU, and those of a branch beside it


# ---------------------------------------------------------------------------------- in recordings
class Made(NamedTuple):
    """How a result was made: `again(relu, pool)` makes it with these."""

    result: Tensor
    array: Array  # that the result held
    unchanged: Saved  # what it was made of, and the result itself
    again: Callable[[bool, Pooling | None], Tensor]
    relu: bool
    pool: Pooling | None
    pools: bool  # whether pooling can be a part of it


class _Recent(threading.local):
    results: deque[Made] | None = None  # while a recording is made


recent = _Recent()


@contextmanager
def fusing() -> Iterator[None]:
    """Neighbours become one operation: while a recording is made."""
    before, recent.results = recent.results, deque(maxlen=FEW)
    try:
        yield
    finally:
        recent.results = before


def remember(
    result: Tensor,
    again: Callable[[bool, Pooling | None], Tensor],
    relu: bool,
    pool: Pooling | None,
    pools: bool,
    *sources: Tensor | None,
) -> None:
    """Keeps in mind how a result was made, and of what; while a recording is made."""
    assert recent.results is not None
    y = result._array
    saved = _core.Saved([y, *(None if s is None else s._array for s in sources)])
    recent.results.append(Made(result, y, saved, again, relu, pool, pools))


def _made(result: Tensor) -> Made | None:
    if recent.results is not None:
        for made in recent.results:
            if made.result is result and made.array is result._array:
                return made if made.unchanged.changed < 0 else None
    return None


def relu_behind(x: Tensor) -> Tensor | None:
    """relu(x) together with what made x; None where that cannot be."""
    made = _made(x)
    if made is None or made.relu or (made.pool is not None and _misses_pixels(made.pool)):
        return None
    return made.again(True, made.pool)


def _misses_pixels(pooling: Pooling) -> bool:
    """Whether windows can lie in the padding altogether: -inf, unless a ReLU comes behind."""
    _, _, pads, dilation, _ = pooling
    return max(dilation) > 1 and max(pads) > 0


def max_pool_behind(x: Tensor, pooling: Pooling) -> Tensor | None:
    """max_pool2d(x) together with what made x; None where that cannot be."""
    made = _made(x)
    if made is None or made.pool is not None or not made.pools:
        return None
    return made.again(made.relu, pooling)


# ------------------------------------------------------------------------------------- the gradient
class Stage(NamedTuple):
    """What the gradient of a convolution takes, with what is behind it."""

    x: Array | None  # None where dw is not wanted
    x_shape: tuple[int, ...]
    w: Array
    geometry: tuple[Pair, Pads, Pair, int]
    wanted: tuple[bool, bool, bool]
    mask: Array | None = None  # the result, where there is a ReLU
    argmax: Array | None = None
    pool: Pooling | None = None

    def backward(self, dy: Array) -> tuple[Array | None, Array | None, Array | None]:
        dx, dw, db = _core.conv_stage_backward(
            *(dy, self.mask, self.argmax, self.x, self.x_shape, self.w),
            *(*self.geometry, self.pool, self.wanted),
        )
        need_x, need_w, need_b = self.wanted
        return dx if need_x else None, dw if need_w else None, db if need_b else None

    def record(self, y: Array, parents: tuple[Tensor | None, ...]) -> Tensor:
        """The result of the convolution."""
        x, w = self.x, self.w if self.wanted[0] else None
        tensor = record(y, parents, self.backward, "conv2d", x, w, self.mask, self.argmax)
        tensor._node.stage = self  # type: ignore[union-attr]
        return tensor

    def record_behind(self, y: Array, node: Node) -> Tensor:
        """The result of an operation behind the one that `node` stands for."""
        tensor = self.record(y, ())
        tensor._node.parents = node.parents  # type: ignore[union-attr]
        return tensor


def node_of(x: Tensor) -> Node | None:
    """The node of a convolution's result, with ReLU and pooling or not; None for others."""
    node = x._node
    return None if node is None or node.stage is None else node
