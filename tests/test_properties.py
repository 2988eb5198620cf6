"""What must hold for every convolution, whatever its shape: checked without an oracle."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fastconv import _core
from tests import reference
from tests.shapes import Conv, geometry
from tests.strategies import SEEDS, convs, generator
from tests.support import (
    FIXED_WIDTH_ISAS,
    LAYOUTS,
    array,
    assert_close,
    assert_same_bits,
    integers,
    numpy,
    uniform,
)

layouts = st.sampled_from(LAYOUTS)


def forward(x: np.ndarray, w: np.ndarray, case: Conv, layout: str, **other: object) -> np.ndarray:
    stride, pads, dilation, groups = (
        other.get(name, getattr(case, name)) for name in ("stride", "pads", "dilation", "groups")
    )
    return numpy(
        _core.conv2d(
            array(x, layout), array(w), None, _core.Geometry(stride, pads, dilation, groups)
        )[0]
    )


@given(convs(), layouts, SEEDS)
def test_linear_in_input_and_weight(case: Conv, layout: str, seed: int) -> None:
    """Powers of two scale exactly, so conv(2 x1 + x2, w) differs by rounding only."""
    rng = generator(seed)
    x1, x2, w = uniform(rng, *case.x), uniform(rng, *case.x), uniform(rng, *case.w)
    K = prod(case.w[1:])
    y1, y2 = forward(x1, w, case, layout), forward(x2, w, case, layout)
    assert_close(forward(2 * x1 + x2, w, case, layout), 2 * y1.astype(np.float64) + y2, K, c=6)
    assert_same_bits(forward(x1 * 4, w, case, layout), y1 * 4)
    assert_same_bits(forward(x1, w * 0.5, case, layout), y1 * np.float32(0.5))


@given(convs(), SEEDS)
def test_whole_numbers_are_exact_everywhere(case: Conv, seed: int) -> None:
    """Every instruction set and layout gives the one right answer, in all three passes."""
    rng = generator(seed)
    x, w, dy = (integers(rng, *shape) for shape in (case.x, case.w, case.y))
    g, before = case.geometry, _core.isa()
    y = reference.conv2d(x, w, None, *g)
    dx = reference.conv2d_backward_input(dy, w, case.x, *g)
    dw = reference.conv2d_backward_weight(dy, x, case.w, *g)
    try:
        for name in _core.available_isas():
            _core.set_isa(name)
            for layout in LAYOUTS:
                a, d = array(x, layout), array(dy, layout)
                np.testing.assert_array_equal(
                    numpy(_core.conv2d(a, array(w), None, geometry(case))[0]), y
                )
                np.testing.assert_array_equal(
                    numpy(_core.conv2d_backward_input(d, array(w), case.x, geometry(case))), dx
                )
                np.testing.assert_array_equal(
                    numpy(_core.conv2d_backward_weight(d, a, case.w, geometry(case))), dw
                )
    finally:
        _core.set_isa(before)


@given(convs(), layouts, SEEDS)
def test_avx2_and_avx512_agree_to_the_bit(case: Conv, layout: str, seed: int) -> None:
    rng = generator(seed)
    x, w, results, before = uniform(rng, *case.x), uniform(rng, *case.w), [], _core.isa()
    try:
        for name in FIXED_WIDTH_ISAS:
            _core.set_isa(name)
            results.append(forward(x, w, case, layout))
    finally:
        _core.set_isa(before)
    for other in results[1:]:
        assert_same_bits(results[0], other)


@given(convs(max_pad=0), layouts, SEEDS)
def test_translation(case: Conv, layout: str, seed: int) -> None:
    """Without padding, an image moved down by a stride gives an output moved down by one row."""
    x = uniform(generator(seed), *case.x)
    w = uniform(generator(seed + 1), *case.w)
    moved = np.pad(x, ((0, 0), (0, 0), (case.stride[0], 0), (0, 0)))
    assert_close(
        forward(moved, w, case, layout)[:, :, 1:],
        forward(x, w, case, layout),
        prod(case.w[1:]),
        c=2,
    )


@given(convs(), layouts, SEEDS)
def test_groups_are_separate_convolutions(case: Conv, layout: str, seed: int) -> None:
    rng = generator(seed)
    x, w = uniform(rng, *case.x), uniform(rng, *case.w)
    parts = [
        forward(xg, wg, case, layout, groups=1)
        for xg, wg in zip(
            np.split(x, case.groups, axis=1), np.split(w, case.groups, axis=0), strict=True
        )
    ]
    assert_close(forward(x, w, case, layout), np.concatenate(parts, axis=1), prod(case.w[1:]), c=2)


@given(convs(), layouts, SEEDS)
def test_stride_is_subsampling(case: Conv, layout: str, seed: int) -> None:
    rng = generator(seed)
    x, w = uniform(rng, *case.x), uniform(rng, *case.w)
    dense = forward(x, w, case, layout, stride=(1, 1))[:, :, :: case.stride[0], :: case.stride[1]]
    assert_close(forward(x, w, case, layout), dense, prod(case.w[1:]), c=2)


@given(convs(), layouts, SEEDS)
def test_dilation_is_a_kernel_with_holes(case: Conv, layout: str, seed: int) -> None:
    rng = generator(seed)
    x, w = uniform(rng, *case.x), uniform(rng, *case.w)
    (KH, KW), (DH, DW) = case.kernel, case.dilation
    holes = np.zeros((*case.w[:2], DH * (KH - 1) + 1, DW * (KW - 1) + 1), np.float32)
    holes[:, :, ::DH, ::DW] = w
    stuffed = forward(x, holes, case, layout, dilation=(1, 1))
    assert_close(forward(x, w, case, layout), stuffed, prod(case.w[1:]), c=2)


@given(convs(), SEEDS)
def test_a_batch_is_its_samples(case: Conv, seed: int) -> None:
    """N samples at once and one at a time, in lanes and plain: the same up to rounding."""
    rng = generator(seed)
    x, w = uniform(rng, *case.x), uniform(rng, *case.w)
    together = forward(x, w, case, "lanes")
    alone = np.concatenate([forward(x[n : n + 1], w, case, "plain") for n in range(len(x))])
    assert_close(together, alone, prod(case.w[1:]), c=2)


@given(convs(), SEEDS)
def test_a_sample_does_not_depend_on_its_lane(case: Conv, seed: int) -> None:
    """Reversing the batch reverses the output, bit for bit: every lane sees the same operations."""
    rng = generator(seed)
    x, w = uniform(rng, *case.x), uniform(rng, *case.w)
    backwards = forward(np.ascontiguousarray(x[::-1]), w, case, "lanes")
    assert_same_bits(backwards[::-1], forward(x, w, case, "lanes"))


@given(convs(), layouts, SEEDS, st.permutations(range(4)), st.tuples(*[st.booleans()] * 4))
def test_strides_of_the_input_do_not_matter(
    case: Conv, layout: str, seed: int, order: list[int], flipped: tuple[bool, ...]
) -> None:
    """Transposed, reversed and sliced views give the bits of their contiguous copies."""
    rng = generator(seed)
    w = uniform(rng, *case.w)
    memory = uniform(rng, *(case.x[axis] * 2 for axis in order))
    view = memory[tuple(slice(None, None, -2 if flip else 2) for flip in flipped)]
    view = view.transpose(np.argsort(order))
    assert view.shape == case.x
    wide = np.asfortranarray(w)
    assert_same_bits(
        forward(view, wide, case, layout), forward(np.ascontiguousarray(view), w, case, layout)
    )
