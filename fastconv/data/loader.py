"""Arrays in memory, or pictures in files, to batches for the network.

The compiled core gathers a batch from the data set straight into the layout that suits its
network, bytes to floats on the way: there is no per-image Python, and without a transform no copy
of a batch in between. With a random transform, or with pictures that have to be read first,
background threads prepare the next batches while the network works.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..autograd import Tensor, is_grad_enabled, wrap
from ..errors import CorruptFileError, ShapeError
from ..random import generator
from .background import cores, in_order

if TYPE_CHECKING:
    from .preprocessing import Preprocessing
    from .transforms import Transform

__all__ = ["Loader", "Source", "prepare"]

_AHEAD = 2  # batches prepared before they are asked for
Batch: TypeAlias = tuple[Tensor, NDArray[Any]]
# One number, or one a channel (C,).
Scale: TypeAlias = "float | Sequence[float] | NDArray[Any]"


@runtime_checkable
class Source(Protocol):
    """What a Loader reads pictures from when they are not in an array; `ImageFolder` is one.

    `read` runs in background threads, several at a time, and must depend on its arguments only.
    Looked at where they exist: `preprocessing` for scale and shift, `images` (N, C, H, W) when all
    of them are in memory, and `report()`, called at the end of a pass.
    """

    targets: NDArray[Any]  # (N, ...)

    def __len__(self) -> int: ...

    def read(
        self, indices: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Pictures (B, C, H, W) of those `indices` that can be read, and their places therein."""
        ...


class Loader:
    """Batches of `(images, targets)`, in order or shuffled anew at every pass.

    Args:
        x: Images (N, H, W), (N, C, H, W) or features (N, F): uint8, float32 or float64. (N, H, W)
            becomes (N, 1, H, W). Or an `ImageFolder`, or any other `Source`.
        y: Targets, N of them, of any shape and type. None: a source brings its own, arrays get
            zeros.
        batch_size: Samples in a batch; the last one may be smaller.
        shuffle: A new order at every pass, drawn from `fastconv.manual_seed`'s generator.
        scale: Images come out as `x * scale + shift`; a number, or one a channel (C,). None: what
            the `preprocessing` of a source says, else 1/255 for uint8 (bytes become 0 to 1) and 1
            for floats.
        shift: See scale; None: that of the `preprocessing`, else 0. To give MNIST mean 0 and
            deviation 1: scale=1 / (255 * 0.3081), shift=-0.1307 / 0.3081. Given, they hold for
            whatever a transform makes; otherwise floats that it makes of bytes stay as they are.
        transform: Random changes to a batch, `transform(images, rng)`, or several in a list; see
            `fastconv.data.RandomShift`. They run in background threads, each batch with a random
            generator of its own.
        drop_last: Leave out a last batch that is smaller.
        channel_axis: False: a three-dimensional x is (N, C, L), for `nn.Conv1d`, and stays so.
        preprocessing: scale and shift of bytes, in place of those of a source.

    Yields:
        A float32 Tensor, and the targets as a NumPy array. Pictures of a source that
        cannot be read are missing from their batch.

    Raises:
        ShapeError: x has no sample, or not 2 to 4 dimensions; scale or shift does not fit its
            channels.
        ValueError: x and y differ in length, or batch_size is not positive.
        TypeError: x is of another element type.

    >>> import numpy as np
    >>> from fastconv import data
    >>> x, y = np.zeros((100, 28, 28), np.uint8), np.arange(100) % 10
    >>> loader = data.Loader(x, y, batch_size=64, shuffle=True)
    >>> [images.shape for images, labels in loader]
    [(64, 1, 28, 28), (36, 1, 28, 28)]
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 32,
        shuffle: bool = False,
        *,
        scale: Scale | None = None,
        shift: Scale | None = None,
        transform: Transform | Sequence[Transform] | None = None,
        drop_last: bool = False,
        channel_axis: bool = True,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        self._given = scale is not None or shift is not None
        recipe = preprocessing
        if isinstance(x, Source) and not isinstance(x, np.ndarray):
            held = getattr(x, "images", None)  # pictures that a source has read already
            y = x.targets if y is None else y
            recipe = recipe or getattr(x, "preprocessing", None)
            self.x: Any = x if held is None else prepare(held)
        else:
            self.x = prepare(x, channel_axis)
        self.y = np.zeros(len(self.x), np.int64) if y is None else np.asarray(y)
        if self.y.ndim == 0 or len(self.y) != len(self.x):
            raise ValueError(
                f"[Loader] x has {len(self.x):,} samples, y has shape {self.y.shape}: "
                "one target a sample is needed"
            )
        if len(self.x) == 0:
            raise ShapeError("[Loader] x has no samples")
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)):
            raise TypeError(f"[Loader] batch_size must be an integer, got {batch_size!r}")
        if batch_size < 1:
            raise ValueError(f"[Loader] batch_size must be 1 or more, got {batch_size}")
        self.batch_size, self.shuffle, self.drop_last = int(batch_size), bool(shuffle), drop_last
        whole = not isinstance(self.x, np.ndarray) or self.x.dtype == np.uint8
        if recipe is not None and whole:
            scale = recipe.scale if scale is None else scale
            shift = recipe.shift if shift is None else shift
        self.scale = self._numbers("scale", scale, 1 / 255 if whole else 1.0)
        self.shift = self._numbers("shift", shift, 0.0)
        if transform is not None and not callable(transform):
            from .transforms import Compose

            transform = Compose(transform)
        self.transform = transform

    @property
    def samples(self) -> int:
        """Samples in one pass."""
        n = len(self.x)
        return n - n % self.batch_size if self.drop_last else n

    def __len__(self) -> int:
        """Batches in one pass."""
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()

    def batches(self, skip: int = 0) -> Iterator[Batch]:
        """One pass without its first `skip` batches; the others are what they would have been.

        The random numbers of a pass are drawn when this is called, the same for any `skip`.

        Raises:
            ValueError: The pass has fewer batches than `skip`.

        Example:
            >>> import numpy as np
            >>> loader = Loader(np.zeros((5, 2), np.float32), np.arange(5), batch_size=2)
            >>> [y.tolist() for x, y in loader.batches(skip=1)]
            [[2, 3], [4]]
        """
        if not 0 <= skip <= len(self):
            raise ValueError(f"[Loader] skip must be 0 to {len(self)} batches, got {skip}")
        rng = generator()
        order = rng.permutation(len(self.x)) if self.shuffle else np.arange(len(self.x))
        if isinstance(self.x, np.ndarray) and self.transform is None:
            return self._gathered(order, skip)
        return self._prepared(order, int(rng.integers(2**63)), skip)

    def sample(self, count: int = 1) -> Tensor:
        """The first samples, in order and without transform.

        Raises:
            CorruptFileError: No picture of a source can be read.
        """
        count = min(count, len(self.x))
        if isinstance(self.x, np.ndarray):
            return self._gather(self.x, np.arange(count))
        found: list[NDArray[np.uint8]] = []
        for index in range(len(self.x)):
            images, _ = self.x.read(np.array([index]), np.random.default_rng(0))
            found.extend(images)
            if len(found) == count:
                break
        if not found:
            raise _nothing_to_read(self.x)
        return self._gather(np.stack(found), np.arange(len(found)))

    def _gathered(self, order: NDArray[np.int64], skip: int) -> Iterator[Batch]:
        for number in range(skip, len(self)):
            indices = self._indices(order, number)
            yield self._gather(self.x, indices), self.y[indices]

    def _prepared(self, order: NDArray[np.int64], seed: int, skip: int) -> Iterator[Batch]:
        def prepare_batch(number: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
            # A generator for each batch: what it draws does not depend on the batches before it.
            rng = np.random.default_rng([seed, number])
            indices = self._indices(order, number)
            if isinstance(self.x, np.ndarray):
                images = self.x[indices]
            else:
                images, kept = self.x.read(indices, rng)
                indices = indices[kept]
            if self.transform is not None and len(images):
                images = np.ascontiguousarray(self.transform(images, rng))
            return images, indices

        # Decoding frees the interpreter and is worth a thread a core; NumPy's transforms are not.
        threads = 1 if isinstance(self.x, np.ndarray) else max(2, cores())
        ready = in_order(prepare_batch, skip, len(self), threads=threads, ahead=_AHEAD + threads)
        empty = True
        try:
            for images, indices in ready:
                if len(indices):
                    empty = False
                    yield self._gather(images, np.arange(len(indices))), self.y[indices]
        finally:
            ready.close()
            if hasattr(self.x, "report"):
                self.x.report()
        if empty and skip < len(self):
            raise _nothing_to_read(self.x)

    def _indices(self, order: NDArray[np.int64], number: int) -> NDArray[np.int64]:
        begin = number * self.batch_size
        return order[begin : min(begin + self.batch_size, self.samples)]

    def _gather(self, x: NDArray[Any], indices: NDArray[np.int64]) -> Tensor:
        scale, shift = self.scale, self.shift
        if x.dtype != np.uint8 and not self._given:
            scale, shift = 1.0, 0.0  # what is no byte any more has its scale
        if x.dtype != np.uint8:
            x = x.astype(np.float32, copy=False)  # whatever floats a transform makes
        return wrap(_core.gather_batch(x, indices, scale, shift, is_grad_enabled()))

    def _numbers(self, name: str, value: Scale | None, default: float) -> Any:
        """A float, or float32 (C,)."""
        values = np.asarray(default if value is None else value, np.float32)
        if values.size == 1:
            return float(values.reshape(()) if value is None else np.asarray(value).reshape(()))
        channels = self.x.shape[1] if hasattr(self.x, "shape") else None
        if values.ndim != 1 or channels not in (None, len(values)):
            raise ShapeError(
                f"[Loader] {name} has shape {values.shape}, expected a number or one for each of "
                f"the {channels} channels of x {self.x.shape}"
            )
        return values


def _nothing_to_read(source: Any) -> CorruptFileError:
    bad = getattr(source, "bad", ())
    first = f"; the first: {bad[0][1]}" if bad else ""
    return CorruptFileError(f"[Loader] none of {len(source):,} pictures could be read{first}")


def prepare(x: Any, channel_axis: bool = True) -> NDArray[Any]:
    """Images or features as the core gathers them: C-contiguous, uint8 or float32, (N, ...).

    (N, H, W) gets its channel axis unless told otherwise; float64 and float16 become float32, once.
    """
    x = x.numpy() if isinstance(x, Tensor) else np.asarray(x)
    if x.dtype == np.uint8 or x.dtype.kind == "f":
        dtype = np.uint8 if x.dtype == np.uint8 else np.float32
    else:
        raise TypeError(
            f"[data] x must be uint8 (0 to 255) or floating point, got {x.dtype}: use "
            "x.astype(np.uint8) or x.astype(np.float32)"
        )
    if not 2 <= x.ndim <= 4:
        hint = ""
        if x.ndim == 5:
            hint = "; drop the axis that is one too many"
        elif x.ndim == 1:
            hint = "; for one sample use x[None]"
        raise ShapeError(f"[data] x must be (N, F), (N, H, W) or (N, C, H, W), got {x.shape}{hint}")
    if 0 in x.shape:
        axis = x.shape.index(0)
        what = "no samples" if axis == 0 else f"size 0 on axis {axis}"
        raise ShapeError(f"[data] x has {what}: {x.shape}")
    if x.ndim == 3 and channel_axis:
        x = x[:, None]
    # An array of another byte order, or a view, is copied once here.
    return np.ascontiguousarray(x, dtype=dtype)
