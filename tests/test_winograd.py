"""2x2 to 5x5 convolutions through Winograd, strided ones by phases of the stride: all three passes,
one to fifteen plain images, every instruction set.
"""

from __future__ import annotations

from functools import cache
from math import prod
from types import SimpleNamespace
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv import _core
from tests import reference
from tests.shapes import Conv, geometry, same
from tests.strategies import BATCHES, SEEDS, generator
from tests.support import (
    FIXED_WIDTH_ISAS,
    array,
    assert_close,
    assert_same_bits,
    dirty_arena,
    empty_lanes,
    numpy,
    uniform,
)
from tests.test_conv2d import problem

# Whole tiles and cut ones, more channels than a chunk of 32, unequal and odd ones, padding on each
# side, maps smaller than a tile, blocks of samples with one and with fifteen empty lanes.
CASES = [
    Conv("keras_convnet_2", (16, 32, 13, 13), 64),
    Conv("whole_tiles", (16, 16, 18, 10), 16),
    Conv("same_padding", (16, 48, 14, 14), 40, pads=same(1)),
    Conv("odd_channels", (31, 17, 9, 14), 37, pads=same(1)),
    Conv("uneven_padding", (17, 16, 8, 7), 20, pads=(2, 0, 1, 2)),
    Conv("wide_padding", (16, 16, 12, 16), 16, pads=(4, 3, 3, 4)),
    Conv("smaller_than_a_tile", (48, 64, 5, 5), 72),
    Conv("small_tiles", (31, 33, 8, 5), 40),
    Conv("small_tiles_same", (17, 24, 9, 5), 37, pads=same(1)),
    Conv("small_tiles_uneven", (16, 40, 5, 8), 70, pads=(0, 1, 2, 0)),
    Conv("small_tiles_slices", (250, 16, 9, 9), 24, pads=same(1)),
    Conv("one_row", (16, 40, 3, 30), 16),
    Conv("many_blocks", (100, 16, 12, 12), 16),
    Conv("shares_of_channels", (33, 150, 7, 7), 70, pads=same(1)),
    Conv("5x5_same", (16, 24, 13, 11), 40, (5, 5), pads=same(2)),
    Conv("5x5_valid", (33, 17, 9, 12), 18, (5, 5)),
    Conv("5x5_deep", (20, 64, 7, 7), 96, (5, 5), pads=same(2)),
    Conv("5x5_many_blocks", (130, 16, 12, 12), 16, (5, 5), pads=(1, 2, 0, 3)),
    Conv("4x4_uneven", (16, 24, 13, 11), 40, (4, 4), pads=(1, 2, 2, 0)),
    Conv("4x4_valid", (33, 17, 9, 12), 18, (4, 4)),
    Conv("4x4_deep", (20, 64, 8, 8), 96, (4, 4), pads=same(2)),
    Conv("two_cuts", (16, 130, 34, 34), 34, pads=same(1)),
    Conv("chunks_of_outputs", (16, 130, 21, 26), 100, pads=same(1)),
    Conv("slices_of_tiles", (33, 17, 34, 30), 20, pads=same(1)),
    Conv("few_tiles_in_chunks", (16, 180, 14, 14), 48, pads=same(1)),
    Conv("2x2", (16, 24, 21, 17), 40, (2, 2)),
    Conv("2x2_uneven", (33, 17, 9, 12), 18, (2, 2), pads=(1, 0, 1, 1)),
    # Strides: kernels whose phases have all as many taps or not, pixels no window meets.
    Conv("strided_3x3", (17, 20, 30, 41), 24, (3, 3), (2, 2), same(1)),
    Conv("strided_3x3_uneven", (16, 33, 27, 40), 37, (3, 3), (2, 2), (0, 1, 2, 0)),
    Conv("strided_3x3_last_row", (16, 64, 33, 27), 64, (3, 3), (2, 2), same(1)),
    Conv("strided_3x3_last_both", (17, 48, 27, 19), 64, (3, 3), (2, 2)),
    Conv("strided_5x5_last_column", (31, 24, 31, 33), 40, (5, 5), (2, 2), same(2)),
    Conv("strided_3x3_few_tiles", (16, 64, 24, 24), 240, (3, 3), (2, 2), same(1)),
    Conv("strided_3x3_slices", (32, 16, 50, 49), 24, (3, 3), (2, 2), same(1)),
    Conv("strided_4x4", (31, 12, 34, 23), 20, (4, 4), (2, 2), same(1)),
    Conv("strided_5x5", (16, 24, 26, 31), 40, (5, 5), (2, 2), same(2)),
    Conv("strided_5x5_by_3", (16, 16, 60, 46), 40, (5, 5), (3, 3), (1, 3, 2, 0)),
    Conv("strided_6x6_by_4", (16, 16, 80, 76), 40, (6, 6), (4, 4), same(1)),
    Conv("strided_10x10", (16, 9, 28, 26), 33, (10, 10), (2, 2), same(4)),
    Conv("strided_11x11", (17, 3, 51, 51), 64, (11, 11), (4, 4), same(2)),
    Conv("strided_uneven", (16, 3, 57, 54), 40, (11, 11), (4, 4), (0, 0, 2, 0)),
    Conv("strided_7x7", (17, 3, 45, 47), 64, (7, 7), (2, 2), same(3)),
    Conv("strided_9x9", (33, 5, 38, 30), 33, (9, 9), (3, 3), (1, 2, 0, 1)),
    Conv("strided_8x8_far_padding", (16, 2, 25, 27), 48, (8, 8), (3, 3), (9, 3, 1, 7)),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)

# Plain images: in bands of rows of tiles (one, and several in a task) and in chunks of output
# channels, tiles of several images side by side, rows of tiles that meet only padding, tiles in two
# batches.
FEW = [
    Conv("one_image", (1, 64, 14, 14), 48, pads=same(1)),
    Conv("four_tiles", (1, 64, 7, 7), 64, pads=same(1)),
    Conv("four_outputs", (8, 64, 4, 4), 64),
    Conv("bands_of_one_row", (1, 16, 50, 35), 16),
    Conv("bands_of_rows", (2, 16, 130, 6), 32, pads=same(1)),
    Conv("bands_across_images", (15, 16, 13, 18), 37, pads=same(1)),
    Conv("odd_channels", (2, 33, 13, 11), 49),
    Conv("channels_in_chunks", (5, 48, 7, 7), 130, pads=same(1)),
    Conv("uneven_padding", (15, 16, 8, 7), 20, pads=(2, 0, 1, 2)),
    Conv("only_padding", (2, 32, 6, 5), 32, pads=(10, 0, 3, 12)),
    Conv("only_padding_below", (2, 32, 6, 5), 32, pads=(0, 13, 12, 3)),
    Conv("wide", (1, 16, 4, 600), 16, pads=same(1)),
    Conv("two_batches", (1, 7296, 12, 12), 16, pads=same(1)),
    Conv("4x4_uneven", (2, 24, 12, 13), 40, (4, 4), pads=(1, 2, 2, 0)),
    Conv("4x4_deep", (15, 64, 7, 7), 96, (4, 4), pads=same(2)),
    Conv("5x5_same", (1, 24, 13, 11), 40, (5, 5), pads=same(2)),
    Conv("5x5_valid", (5, 31, 9, 12), 47, (5, 5)),
    Conv("5x5_bands", (2, 16, 40, 23), 16, (5, 5), pads=(1, 2, 0, 3)),
    Conv("5x5_deep", (15, 64, 7, 7), 96, (5, 5), pads=same(2)),
]
few_images = pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)

# The transforms cost accuracy: the bound is twice that of a plain sum of the same length.
C = 2.0


def passes(case: Conv) -> tuple[_core.Array, _core.Array, _core.Array]:
    p = problem(case)
    x, w, dy = array(p.x, "lanes"), array(p.w), array(p.dy, "lanes")
    return (
        _core.conv2d(x, w, array(p.b), geometry(case), "relu")[0],
        _core.conv2d_backward_input(dy, w, case.x, geometry(case)),
        _core.conv2d_backward_weight(dy, x, case.w, geometry(case)),
    )


@every_case
def test_against_the_oracle(case: Conv, isa: str) -> None:
    p, K = problem(case), prod(case.w[1:])
    for _ in range(2):
        dirty_arena()
        y, dx, dw = passes(case)
        assert_close(numpy(y), np.maximum(p.y + p.b[:, None, None], 0), K + 1, c=C)
        assert_close(numpy(dx), p.dx, case.OC * prod(case.w[2:]), c=C)
        assert_close(numpy(dw), p.dw, case.y[0] * prod(case.y[2:]), c=C)
        assert np.isfinite(empty_lanes(y)).all()
        assert not empty_lanes(dx).any(), "empty lanes of a gradient are zero"


def test_strided_with_bias(isa: str) -> None:
    """By input a bias is added to every pixel, also to those that no window meets."""
    case = next(c for c in CASES if c.name == "strided_uneven")
    p = problem(case)
    b = np.arange(1, 4, dtype=np.float32)
    dx = _core.conv2d_backward_input(
        array(p.dy, "lanes"), array(p.w), case.x, geometry(case), array(b)
    )
    assert_close(numpy(dx), p.dx + b[:, None, None], case.OC * prod(case.w[2:]) + 1, c=C)
    assert_same_bits(numpy(dx)[:, :, -1], np.broadcast_to(b[:, None], (16, 3, case.x[3])))


@given(
    BATCHES,
    st.tuples(st.integers(16, 40), st.integers(16, 40)),
    st.tuples(st.integers(6, 24), st.integers(6, 24)),
    st.sampled_from([(3, 1), (3, 1), (2, 1), (4, 1), (5, 1), (3, 2), (4, 2), (5, 2), (5, 3)]),
    st.tuples(*[st.integers(0, 3)] * 4),
    SEEDS,
)
def test_random_shapes(
    N: int,
    channels: tuple[int, int],
    size: tuple[int, int],
    kernel: tuple[int, int],
    pads: tuple[int, int, int, int],
    seed: int,
) -> None:
    k, stride = kernel
    case = Conv("random", (N, channels[0], *size), channels[1], (k, k), (stride, stride), pads)
    rng, g = generator(seed), case.geometry
    x, w, dy = uniform(rng, *case.x), uniform(rng, *case.w), uniform(rng, *case.y)
    a, d = array(x, "lanes"), array(dy, "lanes")
    y = _core.conv2d(a, array(w), None, geometry(case))[0]
    assert_close(numpy(y), reference.conv2d(x, w, None, *g), k * k * case.x[1], c=C)
    dx = _core.conv2d_backward_input(d, array(w), case.x, geometry(case))
    expected = reference.conv2d_backward_input(dy, w, case.x, *g)
    assert_close(numpy(dx), expected, k * k * case.OC, c=C)
    dw = _core.conv2d_backward_weight(d, a, case.w, geometry(case))
    expected = reference.conv2d_backward_weight(dy, x, case.w, *g)
    assert_close(numpy(dw), expected, N * prod(case.y[2:]), c=C)


@pytest.mark.parametrize(
    ("name", "rounding"),
    [
        ("keras_convnet_2", 2e-6),
        ("small_tiles", 2e-6),
        ("strided_3x3_few_tiles", 4e-6),
        ("strided_11x11", 4e-6),
        ("2x2", 2e-6),
    ],
)
def test_it_is_chosen_and_can_be_forbidden(name: str, rounding: float) -> None:
    """Not the same bits as the direct sum, hence another algorithm; and back again."""
    case = next(c for c in CASES if c.name == name)
    automatic = [numpy(a) for a in passes(case)]
    fastconv.set_algorithm("direct")
    assert fastconv.get_algorithm() == "direct"
    direct = [numpy(a) for a in passes(case)]
    for one, other in zip(automatic, direct, strict=True):
        assert (one != other).any()
        np.testing.assert_allclose(one, other, atol=rounding * np.abs(other).max(), rtol=0)
    fastconv.set_algorithm("auto")
    for one, other in zip(automatic, passes(case), strict=True):
        assert_same_bits(one, numpy(other))
    with pytest.raises(
        ValueError, match=r"\[set_algorithm\] expected 'auto' or 'direct', got 'fft'"
    ):
        fastconv.set_algorithm("fft")


def test_forbidden_for_a_block() -> None:
    """At its end, whichever that is, the choice before comes back."""
    with fastconv.set_algorithm("direct"):
        assert fastconv.get_algorithm() == "direct"
        with fastconv.set_algorithm("auto"):
            assert fastconv.get_algorithm() == "auto"
        assert fastconv.get_algorithm() == "direct"
        fastconv.set_algorithm("auto")
    assert fastconv.get_algorithm() == "auto"
    with pytest.raises(KeyError), fastconv.set_algorithm("direct"):
        raise KeyError
    assert fastconv.get_algorithm() == "auto"
    assert repr(fastconv.set_algorithm("direct")) == "set_algorithm('direct')"
    assert fastconv.get_algorithm() == "direct", "a plain call lasts"


@every_case
def test_same_bits_for_any_number_of_threads(case: Conv) -> None:
    _core.set_num_threads(1)
    expected = [numpy(a) for a in passes(case)]
    for threads in (2, 3, 7):
        _core.set_num_threads(threads)
        for one, other in zip(expected, passes(case), strict=True):
            assert_same_bits(one, numpy(other))


@pytest.mark.skipif(len(FIXED_WIDTH_ISAS) < 2, reason="this CPU has only one of avx2 and avx512")
@every_case
def test_avx2_and_avx512_agree_to_the_bit(case: Conv) -> None:
    results = []
    for name in FIXED_WIDTH_ISAS:
        _core.set_isa(name)
        results.append([numpy(a) for a in passes(case)])
    for one, other in zip(*results, strict=True):
        assert_same_bits(one, other)


@every_case
def test_empty_lanes_do_not_count(case: Conv, isa: str) -> None:
    p = problem(case)
    x, dy = array(p.x, "lanes"), array(p.dy, "lanes")
    empty_lanes(x)[...] = 1e30
    y = _core.conv2d(x, array(p.w), None, geometry(case))[0]
    assert_close(numpy(y), p.y, prod(case.w[1:]), c=C)
    dw = _core.conv2d_backward_weight(dy, x, case.w, geometry(case))
    assert_close(numpy(dw), p.dw, case.y[0] * prod(case.y[2:]), c=C)


def test_nan_stays_in_the_tiles_that_read_it(isa: str) -> None:
    """A transform spreads NaN over its tile of 4 x 4 outputs, and no further."""
    case = CASES[1]
    p = problem(case)
    x = np.array(p.x)
    x[0, 0, 0, 0] = np.nan
    y = numpy(_core.conv2d(array(x, "lanes"), array(p.w), None, geometry(case))[0])
    assert np.isnan(y[0, :, 0, 0]).all()
    assert not np.isnan(y[0, :, 4:]).any()
    assert not np.isnan(y[0, :, :, 4:]).any()
    assert not np.isnan(y[1:]).any()


@cache
def few(case: Conv) -> SimpleNamespace:
    """Operands of a case of plain images and what the oracle says."""
    rng = np.random.default_rng(crc32(case.name.encode()))
    x, w, b = (uniform(rng, *shape) for shape in (case.x, case.w, (case.OC,)))
    return SimpleNamespace(x=x, w=w, b=b, y=reference.conv2d(x, w, None, *case.geometry))


def forward(case: Conv) -> np.ndarray:
    p = few(case)
    return numpy(_core.conv2d(array(p.x), array(p.w), array(p.b), geometry(case), "relu")[0])


@few_images
def test_few_images_against_the_oracle(case: Conv, isa: str) -> None:
    p, K = few(case), prod(case.w[1:])
    for _ in range(2):
        dirty_arena()
        y = _core.conv2d(array(p.x), array(p.w), None, geometry(case))[0]
        assert (_core.layout(y), y.shape) == ("plain", case.y)
        assert_close(numpy(y), p.y, K, c=C)
        biased = p.y + p.b[:, None, None]
        y = _core.conv2d(array(p.x), array(p.w), array(p.b), geometry(case))[0]
        assert_close(numpy(y), biased, K + 1, c=C)
        assert_close(forward(case), np.maximum(biased, 0), K + 1, c=C)


@given(
    st.integers(1, 15),
    st.tuples(st.integers(16, 70), st.integers(16, 70)),
    st.tuples(st.integers(6, 24), st.integers(6, 24)),
    st.sampled_from([3, 5]),
    st.tuples(*[st.integers(0, 6)] * 4),
    SEEDS,
)
def test_random_few_images(
    N: int,
    channels: tuple[int, int],
    size: tuple[int, int],
    kernel: int,
    pads: tuple[int, int, int, int],
    seed: int,
) -> None:
    case = Conv("random", (N, channels[0], *size), channels[1], (kernel, kernel), pads=pads)
    rng, g = generator(seed), case.geometry
    x, w = uniform(rng, *case.x), uniform(rng, *case.w)
    y = numpy(_core.conv2d(array(x), array(w), None, geometry(case))[0])
    assert_close(y, reference.conv2d(x, w, None, *g), prod(case.w[1:]), c=C)


@few_images
def test_few_images_choose_it_unless_forbidden(case: Conv) -> None:
    p, automatic = few(case), forward(case)
    fastconv.set_algorithm("direct")
    direct = forward(case)
    assert (automatic != direct).any()
    assert_close(direct, np.maximum(p.y + p.b[:, None, None], 0), prod(case.w[1:]) + 1)
    fastconv.set_algorithm("auto")
    assert_same_bits(forward(case), automatic)


@few_images
def test_few_images_same_bits_for_any_number_of_threads(case: Conv) -> None:
    _core.set_num_threads(1)
    expected = forward(case)
    for threads in (2, 3, 7):
        _core.set_num_threads(threads)
        assert_same_bits(forward(case), expected)


@pytest.mark.skipif(len(FIXED_WIDTH_ISAS) < 2, reason="this CPU has only one of avx2 and avx512")
@few_images
def test_few_images_avx2_and_avx512_agree_to_the_bit(case: Conv) -> None:
    results = []
    for name in FIXED_WIDTH_ISAS:
        _core.set_isa(name)
        results.append(forward(case))
    assert_same_bits(*results)


def test_few_images_nan_stays_in_the_tiles_that_read_it(isa: str) -> None:
    case = Conv("nan", (3, 64, 14, 14), 64, pads=same(1))
    p = few(case)
    x = np.array(p.x)
    x[1, 63, 0, 0] = np.nan
    y = numpy(_core.conv2d(array(x), array(p.w), None, geometry(case))[0])
    assert np.isnan(y[1, :, 0, 0]).all()
    y[1, :, :4, :4] = p.y[1, :, :4, :4]
    assert_close(y, p.y, prod(case.w[1:]), c=C)
