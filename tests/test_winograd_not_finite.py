"""NaN, infinities and sums that overflow stay with the outputs that meet them, though Winograd's
transforms spread them over a tile: those outputs are the formula's, the others as without them.
"""

from __future__ import annotations

from math import inf, nan, prod
from zlib import crc32

import numpy as np
import pytest

import fastconv as fc
from fastconv import Tensor, _core, nn
from fastconv import functional as F
from tests import reference
from tests.shapes import Conv, geometry, same
from tests.support import array, assert_close, assert_same_bits, numpy, uniform
from tests.test_winograd import CASES, FEW

ODD = (inf, -inf, nan, 3e38, -1e38)
# Whole tiles and cut ones, parts, points as tasks, small tiles, the adjoint, strides, 2x2 to 5x5.
NAMES = {
    *("whole_tiles", "same_padding", "odd_channels", "uneven_padding", "smaller_than_a_tile"),
    *("small_tiles_uneven", "one_row", "5x5_valid", "5x5_deep", "4x4_uneven", "2x2_uneven"),
    *("strided_3x3_uneven", "strided_3x3_last_both", "strided_5x5_by_3", "strided_11x11"),
    *("strided_7x7", "strided_8x8_far_padding"),
}
LANES = [case for case in CASES if case.name in NAMES] + [
    Conv("adjoint", (33, 64, 5, 5), 128),
    Conv("few_tiles", (17, 32, 7, 7), 64, pads=same(1)),
]
FEW_NAMES = {
    *("one_image", "bands_of_rows", "bands_across_images", "only_padding", "4x4_uneven"),
    "5x5_bands",
}
PLAIN = [case for case in FEW if case.name in FEW_NAMES]
every_case = pytest.mark.parametrize("case", LANES + PLAIN, ids=lambda case: case.name)
every_batch = pytest.mark.parametrize("N", [1, 7, 8, 12, 15, 16, 17, 33])


def places(shape: tuple[int, ...], rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Corners, edges and the middle of some images, a channel each."""
    N, C, H, W = shape
    pixels = [(0, 0), (0, W - 1), (H - 1, 0), (H - 1, W - 1), (0, W // 2), (H // 2, 0)]
    pixels += [(H // 2, W // 2), (H // 3, 2 * W // 3)]
    samples = sorted({0, N // 2, N - 1})
    return [(samples[i % len(samples)], int(rng.integers(C)), *p) for i, p in enumerate(pixels)]


def planted(x: np.ndarray, values: tuple[float, ...], rng: np.random.Generator) -> np.ndarray:
    """x with one of the values at each place, in turn."""
    x = np.array(x)
    for i, place in enumerate(places(x.shape, rng)):
        x[place] = values[i % len(values)]
    return x


def check(actual: np.ndarray, formula: np.ndarray, length: int, largest: float) -> None:
    """Not finite where the formula is not, with the same values, and close elsewhere."""
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(formula))
    np.testing.assert_array_equal(
        np.where(np.isinf(actual), actual, 0), np.where(np.isinf(formula), formula, 0)
    )
    finite = np.isfinite(formula)
    assert_close(actual[finite], formula[finite], length, c=2.0, scale=largest)


def forward(*arguments) -> _core.Array:  # type: ignore[no-untyped-def]
    return _core.conv2d(*arguments)[0]


def by_formula(operation, *arguments) -> np.ndarray:  # type: ignore[no-untyped-def]
    with fc.set_algorithm("direct"):
        return numpy(operation(*arguments))


@pytest.mark.parametrize("value", ODD)
@every_case
def test_forward(case: Conv, value: float, isa: str) -> None:
    rng = np.random.default_rng(crc32(case.name.encode()))
    layout = "lanes" if case.x[0] >= 16 else "plain"
    clean, w, b = uniform(rng, *case.x), uniform(rng, *case.w), uniform(rng, case.OC)
    x = planted(clean, (value,), rng)
    rest = (array(w), array(b), geometry(case))
    for activation in (None, "relu"):
        y = numpy(forward(array(x, layout), *rest, activation))
        formula = by_formula(forward, array(x, layout), *rest, activation)
        check(y, formula, prod(case.w[1:]) + 1, 1 if not np.isfinite(value) else abs(value))
        if np.isfinite(value):
            continue
        # Where no window meets one of them: what comes without them.
        meets = reference.conv2d(
            (~np.isfinite(x)).astype(np.float32), np.ones_like(w), None, *case.geometry
        )
        without = numpy(forward(array(clean, layout), *rest, activation))
        far = meets == 0
        assert_close(y[far], without[far], prod(case.w[1:]) + 1, c=2.0)
        others = [n for n in range(case.x[0]) if np.isfinite(x[n]).all()]
        assert_same_bits(y[others], without[others])


@pytest.mark.parametrize("value", [-inf, nan, 3e38])
@every_case
def test_by_input(case: Conv, value: float, isa: str) -> None:
    rng = np.random.default_rng(crc32(case.name.encode()))
    layout = "lanes" if case.x[0] >= 16 else "plain"
    dy, w = planted(uniform(rng, *case.y), (value,), rng), uniform(rng, *case.w)
    rest = (array(w), case.x, geometry(case))
    dx = numpy(_core.conv2d_backward_input(array(dy, layout), *rest))
    formula = by_formula(_core.conv2d_backward_input, array(dy, layout), *rest)
    length = case.OC * prod(case.kernel)
    check(dx, formula, length, 1 if not np.isfinite(value) else abs(value))


@pytest.mark.parametrize("value", [inf, nan, 3e38])
@pytest.mark.parametrize("of_x", [True, False], ids=["x", "dy"])
@pytest.mark.parametrize("case", LANES, ids=lambda case: case.name)
def test_by_weight(case: Conv, of_x: bool, value: float, isa: str) -> None:
    rng = np.random.default_rng(crc32(case.name.encode()))
    x, dy = uniform(rng, *case.x), uniform(rng, *case.y)
    (x if of_x else dy)[places(case.x if of_x else case.y, rng)[0]] = value
    arguments = (array(dy, "lanes"), array(x, "lanes"), case.w, geometry(case))
    dw = numpy(_core.conv2d_backward_weight(*arguments))
    formula = by_formula(_core.conv2d_backward_weight, *arguments)
    largest = 1 if not np.isfinite(value) else abs(value)
    check(dw, formula, case.y[0] * prod(case.y[2:]), largest)
    clean = np.isfinite(dw).sum()
    assert np.isfinite(value) or 0 < clean < dw.size, "one channel at most is met"


@pytest.mark.parametrize("value", [inf, nan])
@every_case
def test_weights(case: Conv, value: float, isa: str) -> None:
    """One weight that is not finite spoils its output channel alone."""
    rng = np.random.default_rng(crc32(case.name.encode()))
    layout = "lanes" if case.x[0] >= 16 else "plain"
    x, w = uniform(rng, *case.x), uniform(rng, *case.w)
    w[1, 2 % case.w[1], 0, -1] = value
    arguments = (array(x, layout), array(w), None, geometry(case))
    y = numpy(forward(*arguments))
    check(y, by_formula(forward, *arguments), prod(case.w[1:]), 1)
    assert np.isfinite(np.delete(y, 1, axis=1)).all()


@every_case
def test_sums_that_only_transforms_overflow(case: Conv, isa: str) -> None:
    """Images of one large value: the formula's sums are finite."""
    layout = "lanes" if case.x[0] >= 16 else "plain"
    rng = np.random.default_rng(crc32(case.name.encode()))
    x, w = np.full(case.x, 1.5e38, np.float32), uniform(rng, *case.w) / prod(case.w[1:])
    rest = (array(w), None, geometry(case))
    y = numpy(forward(array(x, layout), *rest))
    assert np.isfinite(y).all()
    formula = by_formula(forward, array(x, layout), *rest)
    assert_close(y, formula, prod(case.w[1:]), c=2.0, scale=1.5e38)


@pytest.mark.parametrize("value", [inf, -inf, nan])
@every_batch
def test_layers(N: int, value: float, isa: str) -> None:
    """Eager and recorded, a ReLU and maxima behind it; the gradient of x, too."""
    fc.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(32, 48, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(48, 64, 3, padding=1)
    ).eval()
    rng = np.random.default_rng(N)
    x = uniform(rng, N, 32, 28, 28)
    x[N // 2, 5, 10, 11] = value
    formula = by_formula(lambda: model(Tensor(x))._array)
    recorded = fc.record(model)
    with fc.no_grad():
        for y in (model(Tensor(x)), *(recorded(Tensor(x)) for _ in range(3))):
            check(np.array(y.numpy()), formula, 48 * 9, 8)
    dy = uniform(rng, N, 48, 28, 28)
    dy[N // 2, 5, 10, 11] = value
    weight = model[0].weight.detach()
    gradient = F.conv2d_backward(Tensor(dy), Tensor(x), weight, padding=1)[0]
    seen = np.zeros(gradient.shape, bool)
    seen[N // 2, :, 9:12, 10:13] = True
    np.testing.assert_array_equal(~np.isfinite(np.array(gradient.numpy())), seen)


def test_same_bits_for_any_number_of_threads() -> None:
    for case in LANES[:4] + PLAIN[:2]:
        rng = np.random.default_rng(3)
        layout = "lanes" if case.x[0] >= 16 else "plain"
        x, w = planted(uniform(rng, *case.x), ODD, rng), uniform(rng, *case.w)
        results = []
        for threads in (1, 2, 3, 7):
            _core.set_num_threads(threads)
            results.append(
                numpy(
                    _core.conv2d(array(x, layout), array(w), None, geometry(case), "relu")[0]
                ).view(np.int32)
            )
        for other in results[1:]:
            assert_same_bits(results[0], other)
