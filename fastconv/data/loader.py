"""Arrays in memory to batches for the network.

A batch is gathered from the data set straight into lane blocks, bytes to floats on the way, by the
compiled core: there is no per-image Python, and for plain data no copy of a batch in between. With
a random transform the next batches are prepared in a background thread while the network works.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..convert import from_numpy
from ..errors import ShapeError
from ..grad_mode import is_grad_enabled
from ..random import generator
from ..tensor import Tensor, wrap
from .transforms import Compose, Transform

__all__ = ["Loader", "prepare"]

_AHEAD = 2  # batches prepared before they are asked for
_LANES = 16
Batch = tuple[Tensor, NDArray[Any]]


class Loader:
    """Batches of `(images, targets)`, in order or shuffled anew at every pass.

    Args:
        x: Images (N, H, W), (N, C, H, W) or features (N, F): uint8, float32 or float64. (N, H, W)
            becomes (N, 1, H, W).
        y: Targets, N of them, of any shape and type; zeros when None.
        batch_size: Samples in a batch; the last one may be smaller.
        shuffle: A new order at every pass, drawn from `fastconv.manual_seed`'s generator.
        scale: Images come out as `x * scale + shift`. None: 1/255 for uint8, 1 otherwise, so that
            bytes become 0 to 1.
        shift: See scale. To give MNIST mean 0 and deviation 1: scale=1 / (255 * 0.3081),
            shift=-0.1307 / 0.3081.
        transform: Random changes to a batch, `transform(images, rng)`, or several in a list; see
            `fastconv.data.RandomShift`.
        drop_last: Leave out a last batch that is smaller.
        channel_axis: False: a three-dimensional x is (N, C, L), for `nn.Conv1d`, and stays so.

    Yields:
        A float32 Tensor in lanes, and the targets as a NumPy array.

    Raises:
        ShapeError: x has no sample, or not 2 to 4 dimensions.
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
        scale: float | None = None,
        shift: float = 0.0,
        transform: Transform | Sequence[Transform] | None = None,
        drop_last: bool = False,
        channel_axis: bool = True,
    ) -> None:
        self.x = prepare(x, channel_axis)
        self.y = np.zeros(len(self.x), np.int64) if y is None else np.asarray(y)
        if self.y.ndim == 0 or len(self.y) != len(self.x):
            raise ValueError(
                f"[Loader] x has {len(self.x):,} samples, y has shape {self.y.shape}: "
                "one target a sample is needed"
            )
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)):
            raise TypeError(f"[Loader] batch_size must be an integer, got {batch_size!r}")
        if batch_size < 1:
            raise ValueError(f"[Loader] batch_size must be 1 or more, got {batch_size}")
        self.batch_size, self.shuffle, self.drop_last = int(batch_size), bool(shuffle), drop_last
        self.scale = (
            float(scale) if scale is not None else (1 / 255 if self.x.dtype == np.uint8 else 1.0)
        )
        self.shift = float(shift)
        self.transform = (
            transform if callable(transform) or transform is None else Compose(transform)
        )

    @property
    def samples(self) -> int:
        """Samples in one pass."""
        n = len(self.x)
        return n - n % self.batch_size if self.drop_last else n

    def __len__(self) -> int:
        """Batches in one pass."""
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        # All random numbers of a pass are drawn here: what follows may run in another thread.
        rng = generator()
        order = rng.permutation(len(self.x)) if self.shuffle else np.arange(len(self.x))
        if self.transform is None:
            return self._batches(order, None)
        return _in_background(self._batches(order, np.random.default_rng(rng.integers(2**63))))

    def sample(self, count: int = 1) -> Tensor:
        """The first samples, in order and without transform."""
        return self._gather(self.x, np.arange(min(count, len(self.x))))

    def _batches(
        self, order: NDArray[np.int64], rng: np.random.Generator | None
    ) -> Iterator[Batch]:
        for begin in range(0, self.samples, self.batch_size):
            indices = order[begin : begin + self.batch_size]
            if self.transform is None or rng is None:
                yield self._gather(self.x, indices), self.y[indices]
            else:
                images = np.ascontiguousarray(self.transform(self.x[indices], rng))
                yield self._gather(images, np.arange(len(indices))), self.y[indices]

    def _gather(self, x: NDArray[Any], indices: NDArray[np.int64]) -> Tensor:
        if len(indices) < _LANES and not is_grad_enabled():
            # Few samples, forward only: the plain layout has kernels of its own.
            few = x[indices].astype(np.float32)
            if self.scale != 1 or self.shift != 0:
                few = few * np.float32(self.scale) + np.float32(self.shift)
            return wrap(from_numpy(few))
        return wrap(_core.gather_lanes(x, indices, self.scale, self.shift))


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


class _Failure:
    """Carries an exception from the background thread to the one that waits."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _in_background(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches in the same order, made ahead in a thread that ends with the iteration."""
    ready: queue.Queue[Batch | _Failure | None] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def offer(item: Batch | _Failure | None) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for batch in batches:
                offer(batch)
                if stopped.is_set():
                    return
            offer(None)
        except BaseException as error:
            offer(_Failure(error))

    thread = threading.Thread(target=work, name="fastconv-loader", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        stopped.set()
        thread.join()
