"""Arrays: conversion between plain and lanes, what the empty lanes hold, views, copies."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from fastconv import _core
from tests.support import (
    LANES,
    array,
    assert_same_bits,
    dirty_arena,
    empty_lanes,
    numpy,
    stored,
    uniform,
)

SHAPES = [
    (1, 1),
    (15, 3),
    (16, 3),
    (17, 3),
    (33, 7),
    (2, 3, 5),
    (17, 3, 5, 7),
    (48, 1, 28, 28),
    (5, 130),
]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@every_shape
def test_round_trip(shape: tuple[int, ...], isa: str, rng: np.random.Generator) -> None:
    x = uniform(rng, *shape)
    lanes = _core.to_lanes(_core.array(x))
    assert (_core.layout(lanes), lanes.shape, lanes.dtype) == ("lanes", shape, "float32")
    assert_same_bits(lanes.numpy(), x)
    assert_same_bits(lanes.contiguous().numpy(), x)
    assert _core.to_lanes(lanes).address == lanes.address, "already so: shared"


@every_shape
def test_lane_i_is_sample_i(shape: tuple[int, ...], isa: str, rng: np.random.Generator) -> None:
    """[ceil(N / 16)][...][16], the lanes beyond N zero after conversion."""
    x = uniform(rng, *shape)
    dirty_arena()
    lanes = array(x, "lanes")
    blocks = stored(lanes)
    for n in range(shape[0]):
        np.testing.assert_array_equal(blocks[n // LANES, ..., n % LANES], x[n])
    assert not empty_lanes(lanes).any()


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int64])
def test_dtypes(dtype: type, rng: np.random.Generator) -> None:
    x = rng.integers(0, 200, (17, 3)).astype(dtype)
    a = _core.array(x)
    assert a.dtype == np.dtype(dtype).name
    assert_same_bits(a.numpy(), x)


def test_numpy_shares_memory_when_plain() -> None:
    a = _core.zeros((3, 4))
    a.numpy()[1, 2] = 5
    assert a.numpy()[1, 2] == 5
    assert a.numpy().flags.writeable and a.numpy().ctypes.data == a.address
    lanes = _core.to_lanes(a)
    lanes.numpy()[0, 0] = 9
    assert lanes.numpy()[0, 0] == 0, "of lanes, a converted copy"


def test_numpy_view_outlives_the_array() -> None:
    view = _core.full((1000,), 3.0).numpy()
    gc.collect()
    dirty_arena()
    assert (view == 3.0).all()


def test_array_without_copy_shares_and_keeps_alive() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    a = _core.array(x, copy=False)
    assert a.address == x.ctypes.data
    x[0, 0] = 7
    assert a.numpy()[0, 0] == 7
    del x
    gc.collect()
    assert a.numpy()[2, 3] == 11
    strided = np.arange(24, dtype=np.float32).reshape(4, 6)[:, ::2]
    b = _core.array(strided, copy=False)
    assert b.address != strided.ctypes.data
    assert_same_bits(b.numpy(), strided)


def test_copy_is_independent(layout: str, rng: np.random.Generator) -> None:
    a = array(uniform(rng, 17, 3), layout)
    b = a.copy()
    assert (_core.layout(b), b.shape) == (layout, (17, 3)) and b.address != a.address
    before = numpy(b)
    stored(a)[...] = 0
    assert_same_bits(numpy(b), before)


def test_reshape_shares_storage(layout: str, rng: np.random.Generator) -> None:
    x = uniform(rng, 17, 6, 4)
    a = array(x, layout)
    flat = a.reshape((17, 24))
    assert flat.address == a.address and _core.layout(flat) == layout
    assert_same_bits(numpy(flat), x.reshape(17, 24))
    assert_same_bits(numpy(flat.reshape((17, 2, 3, 2, 2))), x.reshape(17, 2, 3, 2, 2))
    joined = a.reshape((34, 12))
    assert (joined.address == a.address) == (layout == "plain")
    assert_same_bits(numpy(joined), x.reshape(34, 12))
    with pytest.raises(ValueError, match="17"):
        a.reshape((17, 25))


def test_zeros_full_item() -> None:
    dirty_arena()
    assert not _core.zeros((17, 3)).numpy().any()
    like = _core.zeros_like(array(np.ones((17, 3), np.float32), "lanes"))
    assert _core.layout(like) == "lanes" and not stored(like).any()
    assert (_core.full((2, 3), 1.5).numpy() == 1.5).all()
    assert _core.full((), 2.5).item() == 2.5
    with pytest.raises(ValueError, match="3"):
        _core.zeros((3,)).item()


def test_storage_is_aligned() -> None:
    for size in (1, 17, 1000, 10**6):
        assert _core.zeros((size,)).address % 64 == 0


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4, 5), (0,)], ids=str)
def test_empty_batch(shape: tuple[int, ...]) -> None:
    a = _core.array(np.zeros(shape, np.float32))
    assert a.shape == shape and a.numpy().shape == shape
    assert _core.to_lanes(a).numpy().shape == shape
