"""Handwritten digits made by code: a stand-in for MNIST that needs no download.

    label -> pen path -> a hand's deformations -> fitted as MNIST was -> ink -> (28, 28) uint8

`strokes.py` holds the pen paths. Everything random comes from the seed, in chunks of `CHUNK`
samples with a generator each, so any number of threads makes the same images.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from fastconv.data.strokes import POINTS, Floats, paths

Images = NDArray[np.uint8]
Split = tuple[Images, NDArray[np.uint8]]

SIDE = 28  # pixels of an image
BOX = 20  # the digit's longer side, as in MNIST
CHUNK = 128  # samples drawn together: their working set stays in the second-level cache


def digits(train: int = 60_000, test: int = 10_000, seed: int = 0) -> tuple[Split, Split]:
    return _split(train, seed, 0), _split(test, seed, 1)


def _split(count: int, seed: int, part: int) -> Split:
    labels = (np.arange(count) % 10).astype(np.uint8)
    np.random.default_rng([seed, part]).shuffle(labels)
    images = np.empty((count, SIDE, SIDE), np.uint8)

    def draw(start: int) -> None:
        rng = np.random.default_rng([seed, part, start])
        rows = slice(start, start + CHUNK)
        images[rows] = _draw(labels[rows], rng)

    with ThreadPoolExecutor(int(os.environ.get("T", "1"))) as pool:
        list(pool.map(draw, range(0, count, CHUNK)))
    return images, labels


K = dict(jit=0.045, jitsd=0.3, taper=0.3, bend=0.04, power=0.09, amp=0.03, freq=4.0, wsd=0.22, wmu=0.97, smu=0.15,
         ssd=0.25, turn=0.12, pen=0.072, pensd=0.36, press=0.15, ratio=2.0, sharp=1.2, noise=0.05, gap=0.35, fill=0.0, trim=0.0)


def _draw(labels, rng):
    points, joined = _write(labels, rng)
    points = _deform(points, rng)
    points = _pose(points, rng)
    return _ink(points, joined, rng)


def _normal(rng, sd, *shape) -> Floats:
    return np.float32(sd) * rng.standard_normal(shape, np.float32)


def _write(labels, rng):
    """Pen positions (n, POINTS, 2) and joints (n, POINTS - 1)."""
    book = paths()
    n = len(labels)
    pick = rng.random((n, 1), np.float32)
    way = book.first[labels] + (pick > book.share[labels]).sum(1)
    control = book.control[way]
    wobble = np.exp(_normal(rng, K["jitsd"], n, 1, 1))
    control = control + wobble * _normal(rng, K["jit"], *control.shape)
    joined = book.joined[way]
    if K["trim"]:
        at = np.linspace(0, 1, POINTS - 1, dtype=np.float32)
        a = np.abs(_normal(rng, K["trim"], n, 1))
        b = np.abs(_normal(rng, K["trim"], n, 1))
        joined = joined & (at >= a) & (at <= 1 - b)
    return book.basis[way] @ control, joined


def _deform(points, rng):
    """What differs from hand to hand: tall or flat loops, tapers, bends, and a smooth wobble."""
    n = len(points)
    x, y = points[..., 0], points[..., 1]
    square = 4 * y * y - 1  # zero at the top and at the foot
    x = x * (1 + _normal(rng, K["taper"], n, 1) * y) + _normal(rng, K["bend"], n, 1) * square
    y = y + _normal(rng, K["power"], n, 1) * square
    for _ in range(2):
        f = K["freq"]
        kx, ky, phase = _normal(rng, f, n, 1), _normal(rng, f, n, 1), 6.3 * rng.random((n, 1), np.float32)
        wave = np.sin(kx * x + ky * y + phase)
        x = x + _normal(rng, K["amp"], n, 1) * wave
        y = y + _normal(rng, K["amp"], n, 1) * wave
    return np.stack([x, y], -1)


def _pose(points, rng):
    """Width, slant and turn of the whole digit."""
    n = len(points)
    width = np.exp(_normal(rng, K["wsd"], n, 1)) * np.float32(K["wmu"])
    slant = np.float32(K["smu"]) + _normal(rng, K["ssd"], n, 1)
    turn = _normal(rng, K["turn"], n, 1)
    x, y = points[..., 0], points[..., 1]
    x = width * x - slant * y
    c, s = np.cos(turn), np.sin(turn)
    return np.stack([c * x - s * y, s * x + c * y], -1)


def _ink(points, joined, rng):
    n = len(points)
    ratio = np.float32(K["ratio"])
    pen = np.float32(K["pen"]) * np.exp(_normal(rng, K["pensd"], n, 1))
    step = np.linalg.norm(np.diff(points, axis=1), axis=2) * joined
    mass = np.zeros((n, POINTS), np.float32)
    mass[:, :-1] += step / 2
    mass[:, 1:] += step / 2
    dry = mass == 0
    low = np.where(dry[..., None], 9, points).min(1)
    high = np.where(dry[..., None], -9, points).max(1)
    scale = BOX / ((high - low).max(1, keepdims=True) + 2 * pen)
    radius = np.maximum(pen * scale, 0.65)
    points = (points - (low + high)[:, None] / 2) * scale[:, None] + np.float32(13.5)
    mass = mass * scale
    pressure = 1 + np.float32(K["press"]) * np.sin(np.linspace(0, 6.3, POINTS, dtype=np.float32) * rng.random((n, 1), np.float32) + 6.3 * rng.random((n, 1), np.float32))
    sigma = np.maximum(radius * pressure / ratio, np.float32(K["gap"]) * mass)
    grid = np.arange(SIDE, dtype=np.float32)[:, None]
    scaled = (np.sqrt(np.float32(0.5)) / sigma)[:, None]
    across = np.exp(-np.square((grid - points[:, None, :, 0]) * scaled))
    down = np.exp(-np.square((grid - points[:, None, :, 1]) * scaled))
    down *= (mass / sigma / np.sqrt(2 * np.pi, dtype=np.float32))[:, None]
    field = down @ across.transpose(0, 2, 1)
    edge = np.log(field + np.float32(1e-6)) + np.float32(ratio**2 / 2)
    edge *= (np.float32(K["sharp"]) * radius / ratio**2)[..., None]
    edge += 0.5
    edge += _normal(rng, K["noise"], n, SIDE, SIDE) * (edge > 0)
    edge = np.clip(edge, 0, 1)
    total = edge.sum((1, 2))
    cy = edge.sum(2) @ grid[:, 0] / total
    cx = edge.sum(1) @ grid[:, 0] / total
    dy = np.clip(np.rint(14 - cy), -4, 4).astype(int)
    dx = np.clip(np.rint(14 - cx), -4, 4).astype(int)
    rows = (np.arange(SIDE) - dy[:, None]) % SIDE
    cols = (np.arange(SIDE) - dx[:, None]) % SIDE
    image = (edge * 255).astype(np.uint8)
    return image[np.arange(n)[:, None, None], rows[:, :, None], cols[:, None, :]]
