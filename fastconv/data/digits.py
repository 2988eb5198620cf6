"""Handwritten digits made by code: MNIST's form and feel with nothing to download.

    label -> pen path -> one hand's deformations -> fitted as MNIST was -> ink -> (28, 28) uint8

The pen paths are in `strokes.py`. Samples are made in chunks of `CHUNK`, each from a generator of
its own that is seeded with its place, so any number of threads makes the same images.
"""

from __future__ import annotations

import operator

import numpy as np
from numpy.typing import NDArray

from .background import cores
from .strokes import POINTS, Floats, paths

Bytes = NDArray[np.uint8]
Split = tuple[Bytes, Bytes]

SIDE = 28  # pixels of an image
BOX = 20  # the longer side of a digit, as in MNIST
CHUNK = 128  # samples made together: few enough to stay in a second-level cache

PIXELS = np.arange(SIDE, dtype=np.float32)
ALONG = np.linspace(0, 1, POINTS, dtype=np.float32)  # where on its path a pen position lies
TURN = np.float32(2 * np.pi)


def digits(train: int = 60_000, test: int = 10_000, seed: int = 0) -> tuple[Split, Split]:
    """Generate handwritten digits in the form of MNIST.

    Every image is written anew: one of several ways to write its digit, drawn with its own wobble,
    width, slant and pen, then fitted into 20 x 20 pixels and centred by mass in 28 x 28, the way
    MNIST was made. No MNIST image is used; a LeNet-5 trained on these digits alone reads about
    97.7 % of MNIST's test set.

    Args:
        train: number of training images.
        test: number of test images. They come from another random stream than the training images.
        seed: the same seed and sizes give the same digits.

    Returns:
        ``(x_train, y_train), (x_test, y_test)``: images uint8 ``(n, 28, 28)``, white ink (255) on
        black (0), and labels uint8 ``(n,)``, shuffled, as many of each digit as n allows.

    Raises:
        TypeError: a size or the seed is not an integer.
        ValueError: a size or the seed is negative.

    Example:
        >>> (x_train, y_train), (x_test, y_test) = digits(train=500, test=100)
        >>> x_train.shape, x_train.dtype, y_train.shape
        ((500, 28, 28), dtype('uint8'), (500,))
        >>> np.bincount(y_test).tolist()
        [10, 10, 10, 10, 10, 10, 10, 10, 10, 10]
    """
    train, test, seed = (
        _count(name, value) for name, value in (("train", train), ("test", test), ("seed", seed))
    )
    return _split(train, (seed, 0)), _split(test, (seed, 1))


def _count(name: str, value: int) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"[digits] {name} must be an integer, got {value!r}") from None
    if count < 0:
        raise ValueError(f"[digits] {name} must be 0 or more, got {count}")
    return count


def _split(count: int, stream: tuple[int, int]) -> Split:
    labels = (np.arange(count) % 10).astype(np.uint8)
    np.random.default_rng(stream).shuffle(labels)
    images = np.empty((count, SIDE, SIDE), np.uint8)

    def fill(start: int) -> None:
        rows = slice(start, start + CHUNK)
        images[rows] = _write(labels[rows], np.random.default_rng((*stream, start)))

    # Here and not above: it would add milliseconds to `import fastconv`.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(fill, range(0, count, CHUNK)))  # list: an error in a thread is raised here
    return images, labels


def _write(labels: Bytes, rng: np.random.Generator) -> Bytes:
    """Images (n, 28, 28) of `labels` (n,). Below, n samples at once, points are (n, POINTS, 2)."""
    points, joined = _trace(labels, rng)
    points = _pose(_deform(points, rng), rng)
    return _centre(_ink(points, joined, rng))


def _trace(labels: Bytes, rng: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
    """A pen path for each label, its control points moved; where the pen is down between points."""
    book = paths()
    n = len(labels)
    way = book.first[labels] + (_uniform(rng, n, 1) > book.share[labels]).sum(axis=1)
    unrest = 0.04 * np.exp(_normal(rng, 0.3, n, 1, 1))  # some hands are calmer than others
    control = book.control[way]
    control = control + unrest * _normal(rng, 1, *control.shape)
    return book.basis[way] @ control, book.joined[way]


def _deform(points: Floats, rng: np.random.Generator) -> Floats:
    """Uneven top and foot, taper, bend, and two smooth waves across the sheet."""
    n = len(points)
    x, y = points[..., 0], points[..., 1]
    inside = 1 - 4 * y * y  # 0 at the top and at the foot, 1 at the waist
    x = x * (1 + _normal(rng, 0.3, n, 1) * y) + _normal(rng, 0.04, n, 1) * inside
    y = y + _normal(rng, 0.09, n, 1) * inside
    for _ in range(2):
        phase = TURN * _uniform(rng, n, 1)
        wave = np.sin(_normal(rng, 4, n, 1) * x + _normal(rng, 4, n, 1) * y + phase)
        x = x + _normal(rng, 0.03, n, 1) * wave
        y = y + _normal(rng, 0.03, n, 1) * wave
    return np.stack([x, y], axis=-1)


def _pose(points: Floats, rng: np.random.Generator) -> Floats:
    """Width, slant (most people lean to the right) and turn of the whole digit."""
    n = len(points)
    width = np.exp(_normal(rng, 0.22, n, 1))
    slant = 0.15 + _normal(rng, 0.25, n, 1)
    angle = _normal(rng, 0.14, n, 1)
    x, y = points[..., 0], points[..., 1]
    x = width * x - slant * y
    return np.stack(
        [np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y], axis=-1
    )


def _ink(points: Floats, joined: NDArray[np.bool_], rng: np.random.Generator) -> Floats:
    """Grey levels (n, 28, 28) from 0 to 1 of digits in the 20 x 20 box in the middle.

    The ink is a sum of round Gaussians along the path. A round Gaussian is a column times a row,
    so the whole sum is one matrix product: (28, POINTS) @ (POINTS, 28). Across a straight stroke
    the sum is exp(-d^2 / 2 sigma^2), and its logarithm gives back the distance d from the pen.
    """
    n = len(points)
    pen = 0.072 * np.exp(_normal(rng, 0.36, n, 1))  # radius, in heights of a digit
    low, high = points.min(axis=1), points.max(axis=1)
    zoom = BOX / ((high - low).max(axis=1, keepdims=True) + 2 * pen)
    points = (points - (low + high)[:, None] / 2) * zoom[:, None] + (SIDE - 1) / 2

    step = np.linalg.norm(np.diff(points, axis=1), axis=2) * joined
    length = np.zeros((n, POINTS), np.float32)  # of the path that a pen position stands for
    length[:, :-1] += step / 2
    length[:, 1:] += step / 2

    radius = np.maximum(pen * zoom, 0.65)
    pressure = 1 + 0.15 * np.sin(TURN * (_uniform(rng, n, 1) * ALONG + _uniform(rng, n, 1)))
    sigmas = 2  # in a radius: more is sharper, but takes more points
    sigma = np.maximum(radius * pressure / sigmas, 0.35 * length)  # no gaps between points
    across, down = _bells(points[..., 0], sigma), _bells(points[..., 1], sigma)
    down *= (length / sigma / np.sqrt(TURN))[..., None]
    field = np.matmul(down.transpose(0, 2, 1), across)

    # depth = 1 - (d / radius)^2 is 1 under the pen and 0 on the rim, where it falls by 2 / radius
    # a pixel: ink = 1/2 + radius / 2 * depth has the slope of a sharp edge averaged over a pixel.
    # 0.6 instead of 1/2 is a little harder, as MNIST's edges are.
    depth = 1 + np.log(field + 1e-6) * (2 / sigmas**2)
    ink: Floats = 0.5 + 0.6 * radius[..., None] * depth
    ink += _normal(rng, 0.05, n, SIDE, SIDE) * (ink > 0)
    np.clip(ink, 0, 1, out=ink)
    return ink


def _bells(at: Floats, sigma: Floats) -> Floats:
    """exp(-(pixel - at)^2 / 2 sigma^2): (n, POINTS) -> (n, POINTS, 28)."""
    bells: Floats = PIXELS - at[..., None]
    bells *= bells  # in place: this is where the time goes
    bells *= (-0.5 / (sigma * sigma))[..., None]
    np.exp(bells, out=bells)
    return bells


def _centre(ink: Floats) -> Bytes:
    """Bytes of `ink`, moved by whole pixels until the centre of mass is nearest to (14, 14).

    A digit has a margin of four pixels, so what is rolled over the edge of the image is empty.
    """
    n = len(ink)
    margin = (SIDE - BOX) // 2
    mass = ink.sum(axis=(1, 2))[:, None]

    def source(axis: int) -> NDArray[np.intp]:
        centre = (ink.sum(axis=3 - axis) @ PIXELS)[:, None] / mass
        move = np.clip(np.rint(SIDE / 2 - centre), -margin, margin).astype(np.intp)
        rolled: NDArray[np.intp] = (np.arange(SIDE) - move) % SIDE
        return rolled

    image = np.rint(ink * 255).astype(np.uint8)
    return image[np.arange(n)[:, None, None], source(1)[:, :, None], source(2)[:, None, :]]


def _normal(rng: np.random.Generator, deviation: float, *shape: int) -> Floats:
    sample: Floats = rng.standard_normal(shape, np.float32)
    sample *= np.float32(deviation)
    return sample


def _uniform(rng: np.random.Generator, *shape: int) -> Floats:
    return rng.random(shape, np.float32)
