"""Operations that wait for what follows them, so that neighbours run as one.

While a module is called, a convolution, a linear layer or a batch normalisation is checked, but it
does not run yet: its result is *pending*. One of two things comes next.

* A ReLU, a max pooling, an addition or a normalisation by known statistics *joins* it, as a post-op
  of the same operation; its result is pending in turn.
* Somebody looks at the values or at the tape (`Tensor._array`, `Tensor._node`), and it runs.

So users write plain layers and get one pass over memory, one node on the tape, one instruction in a
recorded program. A thread has one pending result at a time: it runs when the thread begins another
one, before anything is changed in place, and when the outermost call returns. What NumPy may write
to, because somebody has a view of it, is never read later.

A result that somebody still holds when its successor runs, a shortcut for instance, is computed by
itself, once, and its successor from it.
"""

from __future__ import annotations

import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import _core
from .grad_mode import grad_mode
from .tape import TensorBase

if TYPE_CHECKING:
    from .._core import Activation, Array, Pooling
    from .tape import Node
    from .tensor import Tensor

__all__ = [
    "NORMALISATION_TAKES",
    "NO_POST_OPS",
    "Head",
    "PostOps",
    "calls",
    "computed",
    "defer",
    "extended",
    "fusing_always",
    "join",
    "look",
    "may_wait",
    "settle",
    "settle_here",
    "take_over",
]


class PostOps(NamedTuple):
    """What is done with a result, in this order: max_pool2d(activation(normalise(y) + add))."""

    normalise: Any = None  # weight, bias, mean, variance (arrays or None), eps
    add: Tensor | None = None
    activation: Activation = None
    pool: Pooling | None = None


NO_POST_OPS = PostOps()
# What may follow a normalisation, one that has joined a convolution as well as one by itself.
NORMALISATION_TAKES = frozenset({"add", "activation"})
_PLACES = {field: place for place, field in enumerate(PostOps._fields)}


class Head(ABC):
    """A checked operation that waits."""

    __slots__ = ("computed", "latest", "lock", "recorded")

    joins: frozenset[str] = frozenset()  # the fields of PostOps that it takes
    writes: tuple[Tensor, ...] = ()  # running statistics that it will move

    recorded: bool  # for a gradient
    computed: tuple[int, Tensor] | None  # an intermediate result, after so many post-ops
    # Of a head that writes: its statistics move once, whoever looks.
    lock: Any
    latest: weakref.ref[Tensor]  # the result that waits

    @abstractmethod
    def run(self, post: PostOps) -> tuple[Array, Node | None]:
        """The values with the post-ops done, and their place on the tape."""


class Pending:
    """What a tensor without values waits for."""

    __slots__ = ("head", "joined", "post", "shape", "steps")

    def __init__(
        self, head: Head, shape: tuple[int, ...], post: PostOps, steps: tuple[Any, ...]
    ) -> None:
        self.head, self.shape, self.post = head, shape, post
        # Post-ops that were called: (reference to the operand, function, its other arguments).
        self.steps = steps
        self.joined = False  # whether a post-op has been


class _Held:
    """Running statistics that a pending normalisation will move have no values meanwhile.

    Only for the thread that runs it. Others see what they were: a thread that ran an operation of
    another one would leave a gap in the recording of that one.
    """

    __slots__ = ("array", "head", "shape", "thread")

    def __init__(self, array: Array, head: Head) -> None:
        self.array, self.head, self.shape = array, head, array.shape
        self.thread = threading.get_ident()


class _Calls(threading.local):
    """What one thread is about."""

    inside = False  # the call of a module
    waiting: Tensor | None = None
    always = False  # whether even what somebody still holds is fused


calls = _Calls()


def extended(post: PostOps, joins: frozenset[str], field: str, value: Any) -> PostOps | None:
    """`post` with one more post-op, for a head that takes `joins`; None where it cannot be next."""
    place = _PLACES[field]
    if field not in joins:
        return None
    if any(value is not None for value in post[place:]) and (
        # ReLU and maximum commute, but for windows without a pixel.
        field != "activation"
        or post.activation is not None
        or post.pool is None
        or post.pool.misses_pixels
    ):
        return None
    return PostOps._make((*post[:place], value, *post[place + 1 :]))


def _pending(head: Head, shape: tuple[int, ...], post: PostOps, steps: tuple[Any, ...]) -> Tensor:
    tensor = object.__new__(TensorBase.result_class)
    tensor._pending = Pending(head, shape, post, steps)
    if head.recorded:
        tensor._requires_grad = True
    else:
        tensor._requires_grad = False
        tensor._node = None
    tensor.grad = tensor._family = None
    return tensor


def may_wait(*operands: Array | None) -> bool:
    """Whether an operation may run later: inside a module, and where NumPy cannot write."""
    return calls.inside and not _core.any_lent(*operands)


def computed(head: Head, post: PostOps) -> Tensor:
    """The result of a checked operation that does not wait."""
    tensor = object.__new__(TensorBase.result_class)
    tensor._array, tensor._node = head.run(post)
    tensor._requires_grad = head.recorded
    tensor.grad = tensor._family = tensor._pending = None
    return tensor


def defer(head: Head, shape: tuple[int, ...], post: PostOps = NO_POST_OPS) -> Tensor:
    """The result of a checked operation, pending; where `may_wait` of its operands."""
    if calls.waiting is not None:
        settle(calls.waiting)
    head.computed = head.lock = None
    tensor = calls.waiting = _pending(head, shape, post, ())
    if head.writes:
        head.lock, head.latest = threading.RLock(), weakref.ref(tensor)
    for statistics in head.writes:
        statistics._pending = _Held(statistics._array, head)
        del statistics._array
    return tensor


def join(
    x: Tensor,
    field: str,
    value: Any,
    shape: tuple[int, ...] | None,
    function: Callable[..., Any],
    *arguments: Any,
) -> Tensor | None:
    """`function(x, *arguments)` as a post-op of what x waits for; None where that cannot be.

    Args:
        x: what the post-op is applied to.
        field, value: the post-op, as in `PostOps`.
        shape: of the result; None: that of x.
        function, arguments: how to compute it where x has been computed after all.
    """
    pending = x._pending
    if type(pending) is not Pending or pending.joined:
        return None
    head = pending.head
    if head.recorded and not grad_mode.enabled:
        return None
    joins = head.joins if pending.post.normalise is None else NORMALISATION_TAKES
    post = extended(pending.post, joins, field, value)
    if post is None:
        return None
    pending.joined = True
    steps = (*pending.steps, (weakref.ref(x), function, arguments))
    result = _pending(head, shape or pending.shape, post, steps)
    if calls.waiting is x:
        calls.waiting = result
    if head.writes:
        head.latest = weakref.ref(result)
    return result


def take_over(x: Tensor, result: Tensor) -> bool:
    """x, which nobody has looked at, becomes `result`, which has joined it; whether it could."""
    pending = result._pending
    if type(pending) is not Pending or not pending.steps or pending.steps[-1][0]() is not x:
        return False
    steps = (*pending.steps[:-1], (_nobody, *pending.steps[-1][1:]))
    x._pending = Pending(pending.head, pending.shape, pending.post, steps)
    if calls.waiting is result:
        calls.waiting = x
    if pending.head.writes:
        pending.head.latest = weakref.ref(x)
    return True


def _nobody() -> None:
    return None


def look(x: Tensor, name: str) -> Any:
    """An attribute that a pending tensor does not have yet."""
    pending = x._pending
    if type(pending) is _Held and pending.thread != threading.get_ident():
        return pending.array
    settle(x)
    return object.__getattribute__(x, name)


def settle_here() -> None:
    """Computes what waits in this thread."""
    if calls.waiting is not None:
        settle(calls.waiting)


def settle(x: Tensor) -> None:
    """Gives a pending tensor its values."""
    pending = x._pending
    if pending is None:
        if calls.waiting is x:  # another thread has computed it
            calls.waiting = None
        return
    if type(pending) is _Held:
        latest = pending.head.latest()
        if latest is not None:
            settle(latest)
        return
    lock = pending.head.lock
    if lock is None:
        _run(x, pending)
        return
    with lock:
        if x._pending is not None:
            _run(x, pending)


def _run(x: Tensor, pending: Pending) -> None:
    if calls.waiting is x:
        calls.waiting = None
    head = pending.head
    base = _base(pending) if pending.steps else None
    if base is None:
        for statistics in head.writes:
            if type(statistics._pending) is _Held:
                statistics._array = statistics._pending.array
                statistics._pending = None
        x._array, x._node = head.run(pending.post)
    else:
        done, y = base
        for _, function, arguments in pending.steps[done:]:
            y = function(y, *arguments)
        x._array, x._node = y._array, y._node
    x._pending = None
    if pending.joined or head.writes:
        head.computed = len(pending.steps), x


def _base(pending: Pending) -> tuple[int, Tensor] | None:
    """An intermediate result to go on from, and after how many post-ops it is."""
    head, steps = pending.head, pending.steps
    if head.computed is not None and head.computed[0] < len(steps):
        return head.computed
    if calls.always and not head.writes:
        return None
    for done in range(len(steps) - 1, -1, -1):
        y = steps[done][0]()
        if y is not None:
            return done, y
    return None


@contextmanager
def fusing_always() -> Iterator[None]:
    """Fuses what somebody still holds, too: a recording leaves out what nobody uses in the end."""
    before, calls.always = calls.always, True
    try:
        yield
    finally:
        calls.always = before
