"""How people write the ten digits: pen paths as data, and the matrices that draw them.

A path is a string of control points ``x,y`` on a sheet of about 100 x 100, x to the right and y
down, in the order in which a hand writes them. A smooth curve runs through the points; ``*`` after
a point makes it a corner, and ``|`` lifts the pen. ``"34,4 22,46* 76,54"`` is a straight stroke, a
corner, and another stroke.

A curve point is a fixed linear combination of control points, so a path becomes one matrix:
``points = basis @ control``. Moving a control point moves the ink around it, for thousands of
digits in one product.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

POINTS = 72  # pen positions along a path: less than a pixel apart on the longest, the 8

# digit: (how often it is written this way, path). The shares of a digit need not add up to 1.
SKELETONS: dict[int, list[tuple[float, str]]] = {
    0: [
        # an oval from the top
        (4, "50,0 24,16 15,50 25,84 50,100 76,84 85,50 76,16 50,0"),
        # the end swings past the start, into the bowl
        (2, "62,8 40,2 20,22 14,55 26,88 52,100 78,80 86,48 74,16 54,6 38,14"),
        # not quite closed
        (1, "46,4 24,20 14,52 26,88 54,99 78,78 84,44 74,14 62,6"),
        # closed with a flourish to the right
        (1, "70,12 44,2 22,24 16,58 30,92 58,98 80,72 80,36 62,14 40,10 64,18 88,6"),
        # a curl inside the top
        (1, "40,30 52,22 56,6 36,2 16,28 14,64 34,96 62,94 82,66 82,32 66,10 44,8"),
        # the end turns deep into the bowl
        (1.5, "62,12 32,8 14,38 18,74 40,98 70,92 86,62 80,28 60,12 40,22 28,40"),
        # lying
        (1, "58,20 24,22 6,48 20,76 56,82 90,66 96,38 76,20 48,22"),
    ],
    1: [
        # a bar
        (7, "50,0 50,50 50,100"),
        # a short flag
        (1.5, "32,20 54,0* 53,50 52,100"),
        # a long flag
        (0.5, "22,36 40,20 56,0* 54,50 52,100"),
        # a flag and a foot
        (0.7, "28,22 52,0* 52,50 52,100 | 22,100 50,99 80,100"),
    ],
    2: [
        # a corner at the base
        (4, "16,26 34,4 62,4 76,26 64,54 38,80 12,98* 50,97 90,96"),
        # a loop at the base
        (3, "18,22 36,2 64,4 76,26 66,54 44,80 22,94 8,86 20,72 44,84 66,97 92,92"),
        # a big loop, a swinging tail
        (2, "20,28 36,4 60,2 72,24 66,52 48,80 26,98 6,92 10,72 32,66 56,80 78,98 98,88"),
        # a narrow neck over a loop
        (1, "32,20 44,2 62,8 62,36 52,70 36,94 18,96 16,80 34,74 56,86 84,92"),
        # a wavy base
        (2, "16,24 36,3 64,5 76,28 62,56 36,82 16,96* 40,90 66,97 94,90"),
        # like a z
        (1, "14,8 46,4 82,6* 50,50 14,96* 50,95 88,94"),
        # a small arch on a long base
        (2, "10,36 26,8 48,8 54,34 40,66 14,94* 56,90 100,86"),
        # a hooked start and a falling base
        (2, "30,36 14,22 32,2 60,2 78,22 70,50 44,74 14,90* 40,86 64,92 92,100"),
        # a straight neck on a short foot
        (1.5, "26,22 44,2 60,14 56,44 46,70 34,94* 56,96 80,94"),
        # a tight turn into a falling tail
        (2, "12,20 34,4 60,4 72,20 60,44 36,72 16,90 36,86 62,92 92,98"),
        # a small loop on a long foot
        (1, "28,20 42,2 58,12 54,44 40,78 22,92 16,80 40,78 70,84 100,82"),
        # a loop as big as the arch
        (2, "16,20 40,2 66,8 74,30 68,60 50,88 24,98 10,84 24,62 52,62 74,76 92,92"),
        # a slanted loop, the tail leaves high
        (2, "20,16 46,0 70,12 70,40 52,74 26,96 8,84 24,64 60,68 98,76"),
        # a flat turn, a rising tail
        (1.5, "16,18 44,2 68,16 60,46 38,70 8,92* 46,80 98,74"),
    ],
    3: [
        # two bowls and a cusp
        (4, "18,14 40,0 66,6 74,24 62,42 38,50* 64,54 82,72 70,94 42,100 16,90"),
        # a flat top
        (1, "16,4 48,3 80,4* 60,22 40,42* 66,48 82,68 70,92 42,100 14,90"),
        # a small loop at the waist
        (1, "18,12 44,0 70,10 70,32 48,48 34,50 38,40 60,48 80,66 76,90 46,100 16,90"),
        # a shallow cusp
        (2, "20,10 46,0 70,12 68,34 50,46* 74,56 82,78 62,98 36,98 16,86"),
        # a wide top over a small bowl
        (1, "10,20 34,2 66,2 80,18 66,36 42,46* 64,50 74,68 58,92 22,100"),
        # a small top over a wide bowl, ending far left
        (2, "30,8 50,0 66,10 64,28 40,40* 70,46 90,66 76,92 40,100 4,88"),
        # no cusp, a wave at the waist
        (2, "22,10 50,0 72,12 60,34 46,46 62,56 72,74 56,96 24,100"),
        # a narrow waist over a bowl that does not turn back
        (1.5, "20,12 48,0 70,10 62,30 42,42* 60,48 66,68 58,88 40,100"),
    ],
    4: [
        # open, a crossing stem
        (4, "24,0 18,28 14,54* 50,54 90,52 | 70,4 66,50 62,100"),
        # closed, like a sail
        (2, "66,0 40,30 10,64* 50,63 92,62 | 66,0 65,50 64,100"),
        # closed, with a short arm
        (1, "70,6 44,34 22,58* 52,58 80,54 | 70,6 62,50 54,100"),
        # an open bowl that meets the stem
        (3, "20,2 14,30 22,52 46,54 74,42 | 78,2 72,50 62,100"),
        # one stroke: a slanted bowl, then up and down the stem
        (1, "28,4 18,28 12,50* 50,48 80,40 | 74,12 62,56 50,100"),
        # a box on a long stem
        (2, "26,0 22,20 22,38* 48,38 76,32 | 78,2 70,50 62,100"),
        # a box on a short stem
        (1, "22,4 18,36 18,66* 50,66 94,64 | 72,0 72,50 70,100"),
    ],
    5: [
        # body, then hat
        (3, "34,4 28,24 22,46* 48,38 74,50 78,74 56,98 16,92 | 34,4 60,4 88,2"),
        # one stroke from the hat
        (3, "86,2 58,4 34,5* 28,26 22,46* 50,40 76,54 76,80 52,100 16,92"),
        # like an s
        (2, "82,4 54,2 32,14 30,36 54,48 76,62 72,88 46,100 16,90"),
        # a loose hat
        (1, "32,12 28,30 24,50* 50,42 74,54 76,78 54,99 18,94 | 42,5 66,3 90,0"),
        # a small body under a long rising hat
        (2, "30,14 24,30 20,48* 40,42 58,54 58,78 38,98 8,92 | 30,12 62,8 98,0"),
        # leaning, a hat and a body in one
        (1, "94,0 66,6 42,12* 34,30 26,48* 52,46 66,66 50,92 8,100"),
        # a full belly that curls up
        (1.5, "36,4 30,26 22,48* 50,38 76,52 80,76 58,98 30,96 12,76 | 36,4 60,4 86,2"),
        # a short neck over a wide belly
        (1, "78,2 52,4 30,8* 26,22 24,36* 52,28 76,44 78,72 54,98 14,94"),
        # a long neck over a small belly
        (1, "82,2 56,3 34,4* 28,30 24,56* 48,48 70,58 74,78 54,98 18,96"),
    ],
    6: [
        # a leaning tail
        (3, "60,0 38,24 22,52 18,78 36,98 62,96 78,76 66,56 42,58 22,76"),
        # a curled tail
        (2, "74,6 48,8 26,32 16,62 26,92 54,100 78,84 74,60 50,52 24,66"),
        # an upright tail
        (2, "34,0 26,30 20,60 22,88 44,100 70,90 76,70 56,58 34,68 24,84"),
        # a big bowl that ends inside
        (2, "46,0 24,28 14,60 24,92 54,100 82,84 84,58 62,44 40,56 34,78 46,90"),
        # a wide, low bowl
        (1, "40,0 20,34 10,66 22,94 54,100 86,90 92,68 66,56 40,68 26,86"),
        # the bowl turns in at the right
        (1, "24,0 12,40 12,80 40,98 76,90 88,64 66,46 46,60 44,84 64,94"),
    ],
    7: [
        # plain
        (4, "12,8 46,6 82,4* 64,50 46,100"),
        # a bent stem
        (2, "12,8 44,6 80,6* 66,30 54,62 50,100"),
        # a drop at the left
        (2, "12,28 16,6* 48,6 84,5* 64,50 48,100"),
        # a wave and a shoulder
        (1, "6,34 16,10 36,14 60,12 82,2* 66,46 48,100"),
        # a bar
        (1.5, "12,6 48,6 84,4* 64,50 44,100 | 32,52 56,50 82,48"),
        # a long bar, a bent stem
        (1, "16,8 44,6 76,6* 64,36 54,64 50,100 | 18,56 50,52 84,48"),
        # a round shoulder
        (2, "10,16 34,4 66,4 80,18 68,50 50,100"),
        # a drop, a round corner
        (1, "14,34 14,10* 44,6 76,8 70,40 60,70 56,100"),
        # a drop and a rising bar
        (1, "18,28 20,10* 50,10 84,2* 60,50 42,100 | 14,64 48,56 90,42"),
        # a tall drop, a rising top
        (1, "6,36 22,12* 46,14 90,0* 62,50 38,100"),
    ],
    8: [
        # down like an s, and back up
        (4, "74,14 48,0 24,16 30,36 54,50 76,72 66,95 40,99 22,80 36,58 60,42 74,22 64,4"),
        # two rings
        (1, "50,46 26,34 28,10 52,0 74,12 72,36 50,46 24,62 20,86 48,100 78,88 76,62 50,46"),
        # the way back up overshoots
        (2, "70,12 46,2 26,16 34,36 58,52 74,74 62,96 38,98 24,80 40,56 64,34 86,8"),
        # a long straight way back up
        (2, "64,12 42,2 22,18 36,40 58,60 64,82 46,100 26,90 30,70 48,50 70,26 94,2"),
        # a big head on a small foot
        (2, "80,16 52,0 20,10 18,36 46,50 64,70 58,94 38,100 28,84 40,62 66,46 84,26 70,6"),
        # open at the top
        (1, "60,4 34,4 22,22 40,42 66,58 76,80 58,98 32,96 22,76 42,56 68,40 80,18"),
        # an s that stops at the waist
        (0.7, "76,8 50,2 28,18 40,42 66,60 72,82 50,98 26,88 30,66 56,46"),
        # a big ring on a small one
        (1, "52,54 24,36 24,12 50,0 74,14 70,38 52,54 40,74 38,94 50,100 60,90 56,70 44,50"),
    ],
    9: [
        # a straight stem
        (4, "76,14 50,2 24,14 16,36 34,54 60,46 76,14* 70,56 64,100"),
        # a curved tail
        (2, "76,18 52,2 26,12 18,36 38,52 64,42 77,16* 78,50 68,84 42,100 20,90"),
        # one swing without a corner
        (2, "70,12 44,2 20,20 20,44 44,52 68,34 78,6 72,50 60,100"),
        # an open bowl and a stem
        (2, "68,8 40,4 18,24 26,46 52,44 74,22 | 78,6 72,50 66,100"),
        # a small bowl on a long stem
        (2, "72,8 50,0 32,12 34,32 54,36 72,12* 64,56 54,100"),
        # the top reaches past a curved tail
        (2, "84,6 56,2 28,12 24,34 46,46 68,30 76,8* 74,60 58,90 26,100"),
        # a slanted bowl to a point
        (2, "82,4 48,8 22,30 20,48 44,50 68,30 82,4* 68,54 52,100"),
        # a bowl with a flat top
        (1, "78,8 48,8 20,10 16,34 40,48 66,40 78,8* 76,54 72,100"),
        # a stem that leans back
        (1, "68,8 42,2 20,22 18,46 40,48 64,24* 72,56 86,100"),
        # a bowl open at the top
        (1, "40,2 20,14 16,38 38,48 62,36 76,6* 70,54 64,100"),
        # a flat, wide bowl
        (1, "84,12 50,2 14,14 10,34 40,42 72,28 84,10* 66,56 50,100"),
    ],
}


class Paths(NamedTuple):
    """Every way of writing, stacked: V ways, POINTS pen positions, C control points (padded)."""

    control: Floats  # (V, C, 2)
    basis: Floats  # (V, POINTS, C)
    joined: NDArray[np.bool_]  # (V, POINTS - 1): ink between one position and the next
    first: NDArray[np.intp]  # (10,): the first way of each digit
    share: Floats  # (10, most ways): cumulative shares, 1 from a digit's last way on


@cache
def paths() -> Paths:
    """Parse `SKELETONS` into the matrices of `Paths` (a few milliseconds, once)."""
    ways = [path for digit in range(10) for _, path in SKELETONS[digit]]
    drawn = [_draw(path) for path in ways]
    most = max(len(control) for control, _, _ in drawn)
    control = np.zeros((len(ways), most, 2), np.float32)
    basis = np.zeros((len(ways), POINTS, most), np.float32)
    for way, (xy, matrix, _) in enumerate(drawn):
        control[way, : len(xy)] = xy
        basis[way, :, : len(xy)] = matrix
    counts = [len(SKELETONS[digit]) for digit in range(10)]
    share = np.ones((10, max(counts)), np.float32)
    for digit, count in enumerate(counts):
        weights = np.array([weight for weight, _ in SKELETONS[digit]])
        share[digit, : count - 1] = (np.cumsum(weights) / weights.sum())[:-1]
    joined = np.stack([pen_down for _, _, pen_down in drawn])
    return Paths(control, basis, joined, np.cumsum([0, *counts[:-1]]), share)


def _draw(path: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Control points (C, 2) around the origin, basis (POINTS, C) and joints of one path."""
    strokes = [stroke.split() for stroke in path.split("|")]
    marks = [mark for stroke in strokes for mark in stroke]
    control = np.array([mark.rstrip("*").split(",") for mark in marks], np.float64) / 100 - 0.5

    # A piece is a smooth run between corners: positions of its control points in `marks`.
    pieces: list[range] = []
    starts: set[int] = set()  # pieces that begin with the pen in the air
    begin = 0
    for stroke in strokes:
        starts.add(len(pieces))
        end = begin + len(stroke) - 1
        for i in range(begin + 1, end + 1):
            if i == end or marks[i].endswith("*"):
                pieces.append(range(begin, i + 1))
                begin = i
        begin = end + 1

    lengths = [np.linalg.norm(np.diff(control[piece], axis=0), axis=1).sum() for piece in pieces]
    cuts = np.rint(np.cumsum([0, *lengths]) / np.sum(lengths) * POINTS).astype(int)
    basis = np.zeros((POINTS, len(marks)))
    pen_down = np.ones(POINTS - 1, bool)
    for number, (piece, low, high) in enumerate(zip(pieces, cuts[:-1], cuts[1:], strict=True)):
        # After a corner the first position is the corner itself, which the last piece has drawn.
        along = np.linspace(0, 1, high - low + (number not in starts))
        basis[low:high, piece] = _curve(control[piece], along)[-(high - low) :]
        if number in starts and low:
            pen_down[low - 1] = False
    return control, basis, pen_down


def _curve(control: NDArray[np.float64], along: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights (len(along), C) of a Catmull-Rom spline with chord-length knots.

    The tangent at a point is that of the parabola through it and its neighbours, so circles look
    round however unevenly their points are spaced.
    """
    count = len(control)
    chords = np.linalg.norm(np.diff(control, axis=0), axis=1)
    knots = np.concatenate([[0], np.cumsum(chords)])
    chord = (np.eye(count)[1:] - np.eye(count)[:-1]) / chords[:, None]  # slopes, as weights
    tangent = np.empty((count, count))
    mix = (chords[:-1] / (chords[:-1] + chords[1:]))[:, None]
    tangent[1:-1] = (1 - mix) * chord[:-1] + mix * chord[1:]
    tangent[0] = 2 * chord[0] - tangent[1] if count > 2 else chord[0]
    tangent[-1] = 2 * chord[-1] - tangent[-2] if count > 2 else chord[0]

    at = along * knots[-1]
    span = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, count - 2)
    h = chords[span][:, None]
    t = (at - knots[span])[:, None] / h
    value = np.eye(count)
    weights: NDArray[np.float64] = (  # cubic Hermite between the two ends of the span
        (1 + 2 * t) * (1 - t) ** 2 * value[span]
        + t * (1 - t) ** 2 * h * tangent[span]
        + t**2 * (3 - 2 * t) * value[span + 1]
        - t**2 * (1 - t) * h * tangent[span + 1]
    )
    return weights
