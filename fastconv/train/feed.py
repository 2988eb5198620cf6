"""Batches for fit, evaluate and predict, from arrays, a Loader, a folder, or a generator.

A feed yields the batches of each pass, with checked targets. `LoaderFeed` knows all its samples
beforehand; `StreamFeed` takes the batches that a generator, or any other iterable, yields.
"""

from __future__ import annotations

import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..autograd import Tensor
from ..data.loader import Loader, Source
from ..random import generator
from .network import takes_signals
from .targets import check_lengths

if TYPE_CHECKING:
    from ..data.transforms import Transform
    from ..nn import Module
    from .objectives import Objective

__all__ = ["Batching", "Feed", "Passes", "check_steps", "make_feed"]

Batches: TypeAlias = Generator[tuple[Tensor, NDArray[Any]], None, None]


@dataclass(frozen=True)
class Batching:
    """How arrays and folders are divided into batches; other sources yield their own batches."""

    batch_size: int
    shuffle: bool = False
    transform: Transform | Sequence[Transform] | None = None
    drop_last: bool = False


@dataclass(frozen=True)
class Passes:
    """How many passes over a feed, and how long each is.

    Attributes:
        steps: Batches in one pass; None: until the source ends.
        count: The number of passes.
        done: Batches that a generator yielded to the run that is now resumed.
    """

    steps: int | None = None
    count: int = 1
    done: int = 0


class Feed(ABC):
    """Batches of (images, targets).

    Attributes:
        steps: Batches in one pass; None while unknown.
        samples: Samples in one pass; None while unknown.
        once: Whether all passes share one iteration over the data, as with a generator.
        last: Samples in the last batch of a pass; None while unknown.
    """

    steps: int | None
    samples: int | None
    once = False
    last: int | None = None

    @abstractmethod
    def sample(self) -> Tensor:
        """A small batch for a trial run; taking it changes nothing."""

    @abstractmethod
    def check(self, op: str, objective: Objective, outputs: tuple[int, ...]) -> None:
        """Checks targets and converts them for the loss; `outputs`: the shape for one sample."""

    @abstractmethod
    def batches(self, skip: int = 0) -> Batches:
        """One pass, without its first `skip` batches; draws its random numbers at once."""

    def labels(self) -> NDArray[Any]:
        """The targets of all samples, as checked."""
        raise ValueError(
            '[fit] class_weight="balanced" counts the labels beforehand, which batches that come '
            "one by one do not allow: give the weights, {label: weight}"
        )

    def first_not_finite(self) -> int | None:
        """The first sample with NaN or infinity, where all samples are in memory."""
        return None


class LoaderFeed(Feed):
    """All batches of a `data.Loader`, or the first `steps` of each pass.

    Args:
        loader: It stays as it is.
        steps: Batches in one pass; None: all.
        ordered: Keep the order of x, even if the loader shuffles.
        drop_last: Leave out a smaller last batch, even if the loader keeps it.
    """

    def __init__(
        self, loader: Loader, steps: int | None, ordered: bool = False, drop_last: bool = False
    ) -> None:
        self._loader = loader = copy.copy(loader)
        loader.shuffle = loader.shuffle and not ordered
        loader.drop_last = loader.drop_last or drop_last
        if not len(loader):
            raise ValueError(
                f"[fit] drop_last leaves no batch: {len(loader.x)} samples are less than one of "
                f"batch_size {loader.batch_size}"
            )
        self._steps = len(loader) if steps is None else min(steps, len(loader))
        self.steps = self._steps
        self.samples = min(loader.samples, self._steps * loader.batch_size)
        self.last = self.samples - (self._steps - 1) * loader.batch_size

    def sample(self) -> Tensor:
        return self._loader.sample()

    def check(self, op: str, objective: Objective, outputs: tuple[int, ...]) -> None:
        self._loader.y = objective.targets(op, self._loader.y, outputs)
        if not objective.weight(self._loader.y):
            raise ValueError(
                f"[{op}] no label counts: all of y are ignored by the loss, or of classes of "
                "weight 0"
            )

    def batches(self, skip: int = 0) -> Batches:
        return _first(self._steps - skip, self._loader.batches(skip))

    def labels(self) -> NDArray[Any]:
        return self._loader.y

    def first_not_finite(self) -> int | None:
        x = self._loader.x
        if not isinstance(x, np.ndarray) or x.dtype == np.uint8 or np.isfinite(x).all():
            return None
        return int(np.argmin(np.isfinite(x).reshape(len(x), -1).all(axis=1)))


class StreamFeed(Feed):
    """Batches as they come, each (x, y) of arrays or Tensors, the batch along the first axis.

    Args:
        op: The caller's name, for messages.
        source: An iterable that starts again for every pass; a function that returns one; or a
            generator, which every pass continues.
        load: Makes a Loader of the arrays of one batch.
        passes: How many, and how long.
        labelled: Whether y is needed.
    """

    def __init__(
        self,
        op: str,
        source: Any,
        load: Callable[[Any, Any], Loader],
        passes: Passes,
        labelled: bool,
    ) -> None:
        self._op, self._source, self._load, self._labelled = op, source, load, labelled
        self._objective: Objective | None = None
        self._outputs: tuple[int, ...] = ()
        self._rest: Iterator[Any] | None = source if hasattr(source, "__next__") else None
        self.once = self._rest is not None
        steps = passes.steps
        if self._rest is not None and steps is None and passes.count > 1:
            raise ValueError(
                f"[{op}] a generator ends with its first pass, and {passes.count} are asked for: "
                "say how many batches make one with steps_per_epoch or validation_steps, or give a "
                "function that returns a new generator, or a list of batches"
            )
        if steps is None and hasattr(source, "__len__"):
            steps = len(source)
        self.steps = steps
        images, _ = self._arrays(self._peek())
        self._first_images = images[:1]
        self.samples = None if steps is None else steps * len(images)
        if self._rest is not None:
            _pass_over(self._rest, passes.done)

    def sample(self) -> Tensor:
        return self._tensor(self._first_images, None)[0]

    def check(self, op: str, objective: Objective, outputs: tuple[int, ...]) -> None:
        self._op, self._objective, self._outputs = op, objective, outputs  # batch by batch

    def batches(self, skip: int = 0) -> Batches:
        items = self._open()
        _pass_over(items, skip)
        steps = None if self.steps is None else self.steps - skip
        return _first(steps, map(self._batch, items))

    def _open(self) -> Iterator[Any]:
        if self._rest is not None:
            return self._rest
        return iter(self._source() if callable(self._source) else self._source)

    def _peek(self) -> Any:
        """The first batch, which the first pass yields again, with the same random numbers."""
        bits = generator().bit_generator
        state = bits.state
        items = self._open()
        first = next(items, None)
        if first is None:
            raise ValueError(f"[{self._op}] there is no batch: {_kind(self._source)} gave nothing")
        bits.state = state
        if self._rest is not None:
            self._rest = itertools.chain([first], items)
        return first

    def _batch(self, item: Any) -> tuple[Tensor, NDArray[Any]]:
        images, targets = self._tensor(*self._arrays(item))
        if self._objective is not None:
            targets = self._objective.targets(self._op, targets, self._outputs)
        return images, targets

    def _arrays(self, item: Any) -> tuple[Any, Any]:
        """x and y of one batch; y may be missing where it is not needed."""
        pair = isinstance(item, (tuple, list)) and len(item) == 2
        if not pair and self._labelled:
            what = f"{len(item)} things" if isinstance(item, (tuple, list)) else _kind(item)
            raise TypeError(f"[{self._op}] every batch must be (x, y), got {what}")
        x, y = item if pair else (item, None)
        x = x if isinstance(x, Tensor) else np.asarray(x)
        if self._labelled:
            check_lengths(self._op, x, np.asarray(y))
        return x, y if self._labelled else None

    def _tensor(self, x: Any, y: Any) -> tuple[Tensor, NDArray[Any]]:
        if isinstance(x, Tensor) and x.dtype == np.float32 and x.ndim != 3:
            return x, np.zeros(len(x), np.int64) if y is None else np.asarray(y)
        loader = self._load(x, y)
        return loader.sample(len(loader.x)), loader.y


def make_feed(
    model: Module,
    op: str,
    x: Any,
    y: Any,
    batching: Batching,
    passes: Passes,
    *,
    labelled: bool = True,
) -> Feed:
    """The feed for x, whatever it is; see `fit` for x and y.

    Without labels, for `predict`, samples come in their order.
    """
    channel_axis = not takes_signals(model)
    if isinstance(x, Loader):
        if y is not None:
            raise ValueError(f"[{op}] a Loader brings its targets itself: y must be None")
        return LoaderFeed(x, passes.steps, not labelled, batching.drop_last)

    def load(x: Any, y: Any, batch_size: int | None = None, **more: Any) -> Loader:
        pictures = isinstance(x, Source) and not isinstance(x, np.ndarray)
        recipe = model.preprocessing
        if recipe is not None and (pictures or x.dtype == np.uint8):
            more["preprocessing"] = recipe
        size = len(x) if batch_size is None else batch_size
        return Loader(x, y, size, channel_axis=channel_axis, **more)

    if _is_stream(x, labelled):
        _check_stream(op, x, y, batching)
        return StreamFeed(op, x, load, passes, labelled)
    if not isinstance(x, (Source, Tensor)):
        x = _as_samples(op, x, y, labelled)
    if not isinstance(x, Source) or isinstance(x, np.ndarray):
        if y is None and labelled:
            raise ValueError(f"[{op}] y is missing: one target a sample")
        if y is not None:
            check_lengths(op, x, np.asarray(y))
    shuffle, transform = batching.shuffle, batching.transform
    loader = load(x, y, batching.batch_size, shuffle=shuffle, transform=transform)
    return LoaderFeed(loader, passes.steps, drop_last=batching.drop_last)


def _check_stream(op: str, x: Any, y: Any, batching: Batching) -> None:
    """Raises ValueError for arguments that a source of ready batches cannot take."""
    if y is not None:
        raise ValueError(f"[{op}] {_kind(x)} brings its targets itself: y must be None")
    if batching.transform is not None:
        raise ValueError(f"[{op}] transform works on arrays; transform what the batches hold")
    if batching.drop_last:
        raise ValueError(
            f"[{op}] drop_last is for arrays and Loaders: leave the batch out of what "
            f"{_kind(x)} gives"
        )


def _as_samples(op: str, x: Any, y: Any, labelled: bool) -> NDArray[Any]:
    """x as an array; raises ValueError for a pair that was meant as two arguments."""
    verb = op.partition(":")[0]
    pair = isinstance(x, (tuple, list)) and len(x) == 2 and all(np.ndim(part) for part in x[:1])
    try:
        samples = np.asarray(x)
    except ValueError:  # parts of different shapes
        samples = None
    if samples is None or (pair and labelled and y is None):
        kind = _kind(x)
        call = f"{verb}(x, y)" if labelled else f"{verb}(x)"
        raise ValueError(
            f"[{op}] x must be an array of samples, got {kind} of {len(x)} things: images and "
            f"targets are arguments of their own, {call}"
        )
    return samples


def check_steps(op: str, **steps: int | None) -> None:
    """Checks numbers of batches, given by the names of their arguments."""
    for name, value in steps.items():
        if value is not None and (isinstance(value, bool) or not hasattr(value, "__index__")):
            raise TypeError(f"[{op}] {name} must be an integer or None, got {value!r}")
        if value is not None and value < 1:
            raise ValueError(f"[{op}] {name} must be 1 or more, got {value}")


def _is_stream(x: Any, labelled: bool) -> bool:
    """Whether x yields batches, rather than being an array of samples (or nested lists)."""
    if isinstance(x, Source) or hasattr(x, "__array__"):
        return False
    if isinstance(x, (list, tuple)):
        pairs = len(x) > 0 and isinstance(x[0], tuple) and len(x[0]) == 2
        return pairs and (labelled or hasattr(x[0][0], "__array__"))
    return callable(x) or hasattr(x, "__iter__") or hasattr(x, "__next__")


def _first(count: int | None, batches: Iterator[tuple[Tensor, NDArray[Any]]]) -> Batches:
    """At most `count` of them; closing this also stops the background threads."""
    try:
        yield from itertools.islice(batches, count)
    finally:
        close = getattr(batches, "close", None)
        if close is not None:
            close()


def _pass_over(items: Iterator[Any], count: int) -> None:
    for _ in itertools.islice(items, count):
        pass


def _kind(x: Any) -> str:
    name = type(x).__name__
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"
