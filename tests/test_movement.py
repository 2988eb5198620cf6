"""Moving data: pad, cat, slice, upsample and gathering batches."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import _core
from tests import reference
from tests.reference import Pads, Pair
from tests.support import (
    array,
    assert_close,
    assert_same_bits,
    batch_layout,
    dirty_arena,
    empty_lanes,
    numpy,
    stored,
    uniform,
)

IMAGES = [(1, 1, 1, 1), (3, 2, 5, 4), (17, 3, 4, 6), (33, 5, 3, 3)]
every_image = pytest.mark.parametrize("shape", IMAGES, ids=str)


@every_image
@pytest.mark.parametrize(
    "pads", [(0, 0, 0, 0), (1, 2, 3, 4), (2, 0, 0, 1), (-1, 2, 1, -2), (-2, -1, 0, 0)], ids=str
)
def test_pad(
    shape: tuple[int, ...], pads: Pads, layout: str, isa: str, rng: np.random.Generator
) -> None:
    if shape[2] + min(pads[0], 0) + min(pads[1], 0) < 1 or shape[3] + min(pads[2:], default=0) < 1:
        pads = (abs(pads[0]), 0, 0, abs(pads[3]))
    x = uniform(rng, *shape)
    dirty_arena()
    y = _core.pad2d(array(x, layout), pads, -1.5)
    assert _core.layout(y) == layout
    np.testing.assert_array_equal(numpy(y), reference.pad2d(x, pads, -1.5))
    back = tuple(-p for p in pads)
    np.testing.assert_array_equal(
        numpy(_core.pad2d(y, back, 0.0)), reference.pad2d(reference.pad2d(x, pads, -1.5), back)
    )  # type: ignore[arg-type]


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
@pytest.mark.parametrize("N", [1, 16, 17])
def test_cat_and_slice(axis: int, N: int, layout: str, isa: str, rng: np.random.Generator) -> None:
    shapes = [[N, 3, 4, 5] for _ in range(3)]
    for shape, size in zip(shapes, (1, 18, 4), strict=True):
        shape[axis] = size
    parts = [uniform(rng, *shape) for shape in shapes]
    others = {"plain": "lanes", "lanes": "plain"}
    arrays = [array(parts[0], layout), array(parts[1], others[layout]), array(parts[2], layout)]
    dirty_arena()
    y = _core.cat(arrays, axis)
    assert _core.layout(y) == ("plain" if axis == 0 else layout)
    np.testing.assert_array_equal(numpy(y), np.concatenate(parts, axis))
    begin = 0
    for part in parts:
        end = begin + part.shape[axis]
        piece = _core.slice_axis(y, axis, begin, end)
        if axis:
            assert _core.layout(piece) == layout
        np.testing.assert_array_equal(numpy(piece), part)
        begin = end


@pytest.mark.parametrize("axis", [0, 1])
def test_cat_and_slice_features(axis: int, layout: str, isa: str, rng: np.random.Generator) -> None:
    a, b = uniform(rng, 17, 5), uniform(rng, 17, 5)
    y = _core.cat([array(a, layout), array(b, layout)], axis)
    np.testing.assert_array_equal(numpy(y), np.concatenate([a, b], axis))
    np.testing.assert_array_equal(
        numpy(_core.slice_axis(y, axis, 2, 4)), numpy(y)[2:4] if axis == 0 else numpy(y)[:, 2:4]
    )


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (7, 2, 5, 4), (17, 3, 4, 6), (33, 5, 3, 18)], ids=str
)
@pytest.mark.parametrize("out", [(1, 1), (2, 3), (9, 35)], ids=str)
def test_gather(
    shape: tuple[int, int, int, int], out: Pair, layout: str, isa: str, rng: np.random.Generator
) -> None:
    """Rows and columns in any order, some several times, some not at all."""
    x = uniform(rng, *shape)
    x[0, 0, 0, 0] = -0.0
    rows, cols = (rng.integers(0, shape[2 + i], out[i]) for i in (0, 1))
    dirty_arena()
    y = _core.gather2d(array(x, layout), rows, cols)
    assert _core.layout(y) == layout
    expected = x[:, :, rows][:, :, :, cols]
    np.testing.assert_array_equal(numpy(y).view(np.int32), expected.view(np.int32))
    dy = uniform(rng, *y.shape)
    dx = np.zeros(shape)
    np.add.at(dx, (slice(None), slice(None), rows[:, None], cols), dy.astype(np.float64))
    dirty_arena()
    came = _core.gather2d_backward(array(dy, layout), rows, cols, shape)
    assert _core.layout(came) == layout
    assert_close(numpy(came), dx, out[0] * out[1])
    if layout == "lanes":
        assert not empty_lanes(y).any() and not empty_lanes(came).any()


@every_image
@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("out", [(1, 1), (4, 7), (9, 3)], ids=str)
def test_upsample_bilinear(
    shape: tuple[int, int, int, int],
    out: Pair,
    align: bool,
    layout: str,
    isa: str,
    rng: np.random.Generator,
) -> None:
    x = uniform(rng, *shape)
    weights = reference.upsample_bilinear2d_weights(shape[2:], out, align)
    y = _core.upsample_bilinear2d(array(x, layout), out, align)
    assert (_core.layout(y), y.shape) == (layout, (*shape[:2], *out))
    # Positions are float32: their error, eps times the position, is what the neighbours differ by.
    assert_close(numpy(y), reference.resample(x, weights), 4, c=8)
    dy = uniform(rng, *y.shape)
    dirty_arena()
    dx = _core.upsample_bilinear2d_backward(array(dy, layout), shape, align)
    assert_close(numpy(dx), reference.resample_backward(dy, weights, shape), out[0] * out[1], c=4)
    if layout == "lanes":
        assert not empty_lanes(dx).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("count", [1, 15, 16, 17, 40])
@pytest.mark.parametrize("shape", [(7,), (1, 5, 5), (3, 4, 6), (28, 28)], ids=str)
def test_gather_batch(
    shape: tuple[int, ...], count: int, dtype: type, isa: str, rng: np.random.Generator
) -> None:
    x = rng.integers(0, 256, (23, *shape)).astype(dtype)
    indices = rng.integers(0, 23, count)
    dirty_arena()
    y = _core.gather_batch(x, indices, 1 / 255, -0.5)
    assert (_core.layout(y), y.shape) == (batch_layout("plain", count), (count, *shape))
    assert_close(numpy(y), x[indices].astype(np.float64) * np.float32(1 / 255) - 0.5, 2)
    assert np.isfinite(stored(y)).all()


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.3, 0.7), ([1.0, 0.3], [0.0, -0.7])])
def test_small_batches_are_gathered_as_numpy_does(
    scale: float | list[float], shift: float | list[float], rng: np.random.Generator
) -> None:
    """Two roundings, subnormal numbers kept, and values that stay as they are keep their sign."""
    x = uniform(rng, 23, 2, 9)
    x[3, :, :3] = np.float32(1e-40), np.float32(-0.0), np.float32(np.inf)
    a, b = (np.asarray(v, np.float32).reshape(-1, 1) for v in (scale, shift))
    y = _core.gather_batch(x, np.arange(15), scale, shift)
    expected = x[:15] if (a == 1).all() and (b == 0).all() else x[:15] * a + b
    assert_same_bits(numpy(y), expected)


@pytest.mark.parametrize("indices", [[0, 23], [-1], [2**62]])
def test_gather_batch_out_of_range(indices: list[int]) -> None:
    with pytest.raises(IndexError, match=r"\[gather.*\].*23"):
        _core.gather_batch(np.zeros((23, 4), np.uint8), np.array(indices), 1.0, 0.0)
