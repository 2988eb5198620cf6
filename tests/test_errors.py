"""Bad input gives the right exception with a message that helps, before anything is computed.

Messages are part of the interface: what was expected, what came, the arithmetic, the fix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import _core
from fastconv import functional as F
from tests import reference
from tests.support import array, assert_close, assert_same_bits, uniform


def z(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


HUGE = 2**62
CALLS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    # channels, groups, dimensions
    (
        lambda: F.conv2d(z(8, 3, 28, 28), z(6, 1, 5, 5)),
        fc.ShapeError,
        r"\[conv2d\] input has 3 channels, weight expects 1 \(groups=1\): input \(8, 3, 28, 28\), "
        r"weight \(6, 1, 5, 5\)",
    ),
    (
        lambda: F.conv2d(z(1, 4, 9, 9), z(6, 2, 3, 3), groups=4),
        fc.ShapeError,
        r"\[conv2d\].*groups=4.*6 output",
    ),
    (lambda: F.conv2d(z(1, 4, 9, 9), z(6, 4, 3, 3), groups=0), ValueError, r"\[conv2d\] groups"),
    (
        lambda: F.conv2d(z(28, 28), z(6, 1, 5, 5)),
        fc.ShapeError,
        r"\[conv2d\].*\(N, C, H, W\).*\(28, 28\)",
    ),
    (
        lambda: F.conv2d(z(1, 1, 1, 28, 28), z(6, 1, 5, 5)),
        fc.ShapeError,
        r"\[conv2d\].*\(1, 1, 1, 28, 28\)",
    ),
    (
        lambda: F.conv2d(z(2, 1, 9, 9), z(6, 1, 5)),
        fc.ShapeError,
        r"\[conv2d\].*weight.*\(6, 1, 5\)",
    ),
    (
        lambda: F.conv2d(z(2, 1, 9, 9), z(6, 1, 5, 5), z(5)),
        fc.ShapeError,
        r"\[conv2d\] bias.*\(6,\).*\(5,\)",
    ),
    # kernel, stride, padding, dilation
    (
        lambda: F.conv2d(z(1, 1, 4, 4), z(1, 1, 7, 7), padding=1),
        fc.ShapeError,
        r"\[conv2d\].*kernel.*4 \+ padding 1 \+ 1 = 6.*7",
    ),
    (
        lambda: F.conv2d(z(1, 1, 4, 4), z(1, 1, 3, 3), dilation=2),
        fc.ShapeError,
        r"2 \* \(3 - 1\) \+ 1 = 5",
    ),
    (lambda: F.conv2d(z(1, 1, 9, 9), z(1, 1, 3, 3), stride=0), ValueError, r"\[conv2d\] stride.*0"),
    (
        lambda: F.conv2d(z(1, 1, 9, 9), z(1, 1, 3, 3), stride=(1, -1)),
        ValueError,
        r"\[conv2d\] stride.*-1",
    ),
    (
        lambda: F.conv2d(z(1, 1, 9, 9), z(1, 1, 3, 3), padding=-1),
        ValueError,
        r"\[conv2d\] padding.*-1",
    ),
    (
        lambda: F.conv2d(z(1, 1, 9, 9), z(1, 1, 3, 3), dilation=0),
        ValueError,
        r"\[conv2d\] dilation.*0",
    ),
    (
        lambda: F.conv2d(z(1, 1, 9, 9), z(1, 1, 3, 3), padding="full"),
        ValueError,
        r"\[conv2d\] padding.*full",
    ),
    (
        lambda: F.conv2d(z(1, 1, 9, 9), z(1, 1, 3, 3), stride=(1, 2, 3)),
        (ValueError, TypeError),
        "stride",
    ),
    (lambda: F.conv2d(z(1, 1, 9, 9), z(1, 1, 3, 3), stride=1.5), ValueError, "stride.*1.5"),
    (lambda: F.conv2d(z(1, 1, 9, 9), z(1, 1, 3, 3), stride=True), ValueError, "stride.*True"),
    (lambda: F.conv2d(z(1, 1, 9, 9), z(1, 1, 3, 3), stride=np.float32(2)), ValueError, "stride"),
    # sizes of zero
    (
        lambda: F.conv2d(z(2, 0, 9, 9), z(1, 0, 3, 3)),
        fc.ShapeError,
        r"\[conv2d\].*size 0.*channels",
    ),
    (lambda: F.conv2d(z(2, 1, 0, 9), z(1, 1, 3, 3)), fc.ShapeError, r"\[conv2d\].*size 0"),
    (lambda: F.conv2d(z(2, 1, 9, 9), z(0, 1, 3, 3)), fc.ShapeError, r"\[conv2d\] weight.*size 0"),
    (lambda: F.max_pool2d(z(2, 1, 0, 4), 2), fc.ShapeError, r"\[max_pool2d\]"),
    # sizes that overflow: refused before anything is allocated
    (lambda: F.conv2d(z(1, 1, 9, 9), z(1, 1, 3, 3), padding=HUGE), OverflowError, "padding"),
    (lambda: F.conv2d(z(1, 1, 9, 9), z(1, 1, 3, 3), dilation=HUGE), OverflowError, "dilation"),
    (lambda: F.conv2d(z(1, 1, 9, 9), z(1, 1, 3, 3), padding=2**80), OverflowError, "."),
    (
        lambda: F.conv2d(z(1, 1, 9, 9), z(1, 1, 3, 3), stride=2**40, padding=2**61),
        OverflowError,
        ".",
    ),
    (
        lambda: F.conv2d(z(1, 1, 9, 9), z(1, 1, 3, 3), padding=2**40),
        (OverflowError, MemoryError),
        ".",
    ),
    (lambda: F.max_pool2d(z(1, 1, 9, 9), HUGE, 1, HUGE // 2), (OverflowError, ValueError), "."),
    (lambda: F.pad(z(1, 1, 2, 2), (HUGE, HUGE, HUGE, HUGE)), OverflowError, "."),
    (lambda: F.adaptive_avg_pool2d(z(1, 1, 2, 2), HUGE), OverflowError, "."),
    (lambda: _core.zeros((HUGE, 4)), OverflowError, "."),
    (lambda: _core.zeros((2**31, 2**31, 4)), (OverflowError, MemoryError), "."),
    # dense layers
    (
        lambda: F.linear(z(32, 400), z(10, 320)),
        fc.ShapeError,
        r"\[linear\] input has 400 features per sample, weight expects 320: input \(32, 400\)",
    ),
    (lambda: F.linear(z(2, 4), z(3, 4), z(4)), fc.ShapeError, r"\[linear\] bias.*\(3,?\).*\(4,\)"),
    (lambda: F.linear(z(2, 4), z(4)), fc.ShapeError, r"\[linear\] weight"),
    (
        lambda: F.linear_backward(z(2, 3), z(3, 4), z(3, 4)),
        fc.ShapeError,
        r"\[linear_backward\].*\(2, 3\)",
    ),
    # explicit gradients
    (
        lambda: F.conv2d_backward(z(2, 4, 5, 5), z(2, 1, 9, 9), z(4, 1, 3, 3)),
        fc.ShapeError,
        r"\[conv2d_backward\].*\(2, 4, 7, 7\).*\(2, 4, 5, 5\)",
    ),
    (
        lambda: F.max_pool2d_backward(z(2, 1, 4, 4), z(2, 1, 9, 9), 3),
        fc.ShapeError,
        r"\[max_pool2d_backward\].*\(2, 1, 3, 3\)",
    ),
    # pooling
    (lambda: F.max_pool2d(z(1, 1, 2, 2), 3), fc.ShapeError, r"\[max_pool2d\].*3"),
    (
        lambda: F.max_pool2d(z(1, 1, 9, 9), 2, padding=2),
        ValueError,
        r"\[max_pool2d\] padding.*half",
    ),
    (lambda: F.max_pool2d(z(1, 1, 9, 9), 0), ValueError, r"\[max_pool2d\] kernel_size"),
    (lambda: F.avg_pool2d(z(1, 1, 9, 9), 2, stride=0), ValueError, r"\[avg_pool2d\] stride"),
    (lambda: F.avg_pool2d(z(1, 1, 9, 9), 2, divisor_override=0), ValueError, "divisor_override"),
    (lambda: F.adaptive_avg_pool2d(z(1, 1, 9, 9), 0), ValueError, r"\[adaptive_avg_pool2d\]"),
    # transposed
    (
        lambda: F.conv_transpose2d(z(1, 3, 4, 4), z(2, 1, 3, 3)),
        fc.ShapeError,
        r"\[conv_transpose2d\].*3.*2",
    ),
    (
        lambda: F.conv_transpose2d(z(1, 2, 4, 4), z(2, 1, 3, 3), output_padding=1),
        ValueError,
        r"\[conv_transpose2d\] output_padding",
    ),
    (
        lambda: F.conv_transpose2d(z(1, 1, 1, 1), z(1, 1, 1, 1), padding=1),
        fc.ShapeError,
        "conv_transpose2d",
    ),
    # normalisation
    (
        lambda: F.batch_norm(z(2, 3, 4, 4), None, None, z(4), z(3), training=True),
        fc.ShapeError,
        r"\[batch_norm\].*\(3,?\)|3 channels",
    ),
    (lambda: F.batch_norm(z(1, 3), None, None, training=True), ValueError, "more than one value"),
    (lambda: F.batch_norm(z(2, 3), None, None), ValueError, "running_mean"),
    (lambda: F.local_response_norm(z(1, 3, 2, 2), 0), ValueError, r"\[local_response_norm\] size"),
    (lambda: F.dropout(z(2), p=1.5), ValueError, r"\[dropout\] p.*1.5"),
    # losses
    (lambda: F.cross_entropy(z(3, 4), np.array([0, 4, 1])), ValueError, r"\[cross_entropy\].*4"),
    (lambda: F.cross_entropy(z(3, 4), np.array([0, -1, 1])), ValueError, r"\[cross_entropy\].*-1"),
    (
        lambda: F.cross_entropy(z(3, 4), np.array([0, 1])),
        ValueError,
        r"\[cross_entropy\].*\(3.*\(2,\)",
    ),
    (
        lambda: F.cross_entropy(z(3, 4), np.array([0.5, 1, 2])),
        (TypeError, ValueError),
        "cross_entropy",
    ),
    (
        lambda: F.cross_entropy(z(3, 4), np.array([0, 1, 2]), reduction="max"),
        ValueError,
        "reduction",
    ),
    (
        lambda: F.cross_entropy(z(3, 4), np.array([0, 1, 2]), label_smoothing=2.0),
        ValueError,
        "label_smoothing",
    ),
    (lambda: F.mse_loss(z(3, 4), z(3, 5)), fc.ShapeError, r"\[mse_loss\].*\(3, 4\).*\(3, 5\)"),
    (lambda: F.binary_cross_entropy(z(3) + 2, z(3)), ValueError, r"\[binary_cross_entropy\].*2"),
    (lambda: F.softmax(z(3, 4), dim=2), IndexError, r"\[softmax\] dim 2"),
    # moving data
    (lambda: F.cat([z(2, 3), z(3, 3)], 1), fc.ShapeError, r"\[cat\].*\(3, 3\)"),
    (lambda: F.cat([], 0), ValueError, r"\[cat\]"),
    (lambda: F.pad(z(1, 1, 2, 2), (-3, 0)), fc.ShapeError, r"\[pad\d?d?\]"),
    (lambda: F.pad(z(1, 1, 2, 2), (1, 2, 3)), ValueError, r"\[pad\]"),
]


@pytest.mark.parametrize(("call", "error", "message"), CALLS, ids=range(len(CALLS)))
def test_message(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


DTYPES = [np.complex64, np.float16, np.int64, np.uint8, np.int32, bool, ">f4", object, "U1"]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_element_types(dtype: Any) -> None:
    """Operands are float32; a wrong type is named, never cast silently."""
    wrong = np.zeros((1, 1, 4, 4), np.float32).astype(dtype)
    for call in (
        lambda: F.conv2d(wrong, z(1, 1, 3, 3)),
        lambda: F.conv2d(z(1, 1, 4, 4), wrong),
        lambda: F.relu(wrong),
        lambda: F.max_pool2d(wrong, 2),
    ):
        with pytest.raises(TypeError, match=r"float32|dtype"):
            call()


@pytest.mark.filterwarnings("ignore:fastconv computes in float32")
def test_float64_is_accepted_and_becomes_float32(rng: np.random.Generator) -> None:
    x, w = rng.uniform(size=(2, 3, 5, 5)), rng.uniform(size=(4, 3, 3, 3))
    y = F.conv2d(x, w)
    assert y.dtype == np.float32
    assert_same_bits(y, F.conv2d(x.astype(np.float32), w.astype(np.float32)))


def test_not_arrays() -> None:
    for wrong in (None, "text", object(), {"a": 1}):
        with pytest.raises(TypeError):
            F.relu(wrong)
        with pytest.raises(TypeError):
            _core.array(wrong)  # type: ignore[arg-type]


def test_every_error_leaves_the_process_usable(rng: np.random.Generator) -> None:
    for call, error, _ in CALLS:
        with pytest.raises(error):
            call()
    x, w = uniform(rng, 17, 3, 6, 6), uniform(rng, 4, 3, 3, 3)
    assert_close(F.conv2d(x, w), reference.conv2d(x, w), 27)
    assert array(x).shape == x.shape
