"""Bad input gives the right exception with a message that helps, before anything is computed.

Messages are part of the interface: what was expected, what came, the arithmetic. Odd but legal arrays
(strides negative, zero or meaningless, read-only, misaligned, overlapping) give the right result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import _core, nn
from fastconv import functional as F
from tests import reference
from tests.support import array, assert_close, assert_same_bits, run_python, uniform


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


# ------------------------------------------------------------------------- odd arrays that are legal


def misaligned(x: np.ndarray) -> np.ndarray:
    """The same values one byte off every float's boundary."""
    memory = np.zeros(x.nbytes + 1, np.uint8)
    view = memory[1:].view(np.float32).reshape(x.shape)
    view[...] = x
    return view


def garbage_strides(x: np.ndarray) -> np.ndarray:
    """NumPy does not define the stride of an axis of size 1; here it points far outside."""
    assert x.shape[0] == 1
    return np.lib.stride_tricks.as_strided(x, x.shape, (2**40, *x.strides[1:]))


ODD: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "fortran": np.asfortranarray,
    "transposed": lambda x: np.ascontiguousarray(x.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0),
    "every_other": lambda x: np.repeat(x, 2, axis=3)[..., ::2],
    "reversed": lambda x: np.ascontiguousarray(x[:, ::-1, :, ::-1])[:, ::-1, :, ::-1],
    "negative_samples": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "misaligned": misaligned,
    "size_one_axis": garbage_strides,
    "inside_a_larger_one": lambda x: np.pad(x, 3)[3:-3, 3:-3, 3:-3, 3:-3],
}


@pytest.mark.parametrize("name", ODD)
def test_odd_strides(name: str, rng: np.random.Generator) -> None:
    x, w = uniform(rng, 1, 3, 7, 8), uniform(rng, 1, 3, 3, 2)
    y, odd = F.conv2d(x, w), ODD[name]
    assert_same_bits(F.conv2d(odd(x), w), y)
    assert_same_bits(F.conv2d(x, odd(w)), y)
    dy = uniform(rng, *y.shape)
    for one, other in zip(
        F.conv2d_backward(odd(dy), odd(x), odd(w)), F.conv2d_backward(dy, x, w), strict=True
    ):
        assert_same_bits(one, other)
    assert_same_bits(F.max_pool2d(odd(x), 2), F.max_pool2d(x, 2))
    assert_same_bits(F.relu(odd(x)), F.relu(x))
    assert_same_bits(fc.Tensor(odd(x)).numpy(), x)
    many = np.concatenate([x] * 17)
    if name != "size_one_axis":
        assert_same_bits(F.conv2d(odd(many), w), F.conv2d(many, w))


def test_broadcast_arrays(rng: np.random.Generator) -> None:
    """Stride 0: one value seen everywhere."""
    x = np.broadcast_to(uniform(rng, 1, 3, 1, 1), (17, 3, 6, 6))
    w = np.broadcast_to(np.float32(0.5), (2, 3, 3, 3))
    assert_same_bits(F.conv2d(x, w), F.conv2d(x.copy(), w.copy()))


def test_read_only_arrays(rng: np.random.Generator) -> None:
    """Fine as input; and nothing hands out a writable view of them."""
    x, w = uniform(rng, 2, 3, 7, 8), uniform(rng, 4, 3, 3, 2)
    before = x.copy()
    expected = F.conv2d(x, w)
    x.flags.writeable = w.flags.writeable = False
    assert_same_bits(F.conv2d(x, w), expected)
    t = fc.Tensor(x)
    t.numpy()[...] = 0
    shared = _core.array(x, copy=False)
    shared.numpy()[...] = 0
    assert_same_bits(x, before)


def test_overlapping_and_shared_operands(rng: np.random.Generator) -> None:
    """The same memory as x and as w, whole or in part."""
    memory = uniform(rng, 2, 3, 6, 6)
    x, w = memory, memory[:, :, 1:4, 2:5]
    assert_same_bits(F.conv2d(x, w), F.conv2d(x.copy(), w.copy()))
    assert_same_bits(F.conv2d(x, x), F.conv2d(x, x.copy()))
    windows = np.lib.stride_tricks.sliding_window_view(memory[0, 0], (3, 3))[:, :, None].transpose(
        0, 2, 3, 4, 1
    )[..., 0]
    assert_same_bits(F.relu(windows), F.relu(windows.copy()))


def test_results_own_their_memory(rng: np.random.Generator) -> None:
    """Changing an output changes no input, also where nothing was computed (flatten is a view)."""
    x = uniform(rng, 3, 2, 4, 4)
    before = x.copy()
    for call in (
        lambda: F.relu(np.abs(x)),
        lambda: F.pad(x, (0, 0, 0, 0)),
        lambda: F.max_pool2d(x, 1),
        lambda: F.adaptive_avg_pool2d(x, (4, 4)),
        lambda: F.cat([x], 1),
    ):
        call()[...] = 9
        assert_same_bits(x, before)


@pytest.mark.parametrize("shape", [(0, 3, 8, 8)], ids=str)
def test_empty_batches_go_through_a_network(shape: tuple[int, ...]) -> None:
    """No samples: outputs without samples, gradients of weights zero, no division by zero."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.AvgPool2d(1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    x = fc.Tensor(np.zeros(shape, np.float32), requires_grad=True)
    y = model(x)
    assert y.shape == (0, 5)
    y.sum().backward()
    assert x.grad is not None and x.grad.shape == shape
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and not parameter.grad.numpy().any(), name


def test_inputs_are_never_changed(rng: np.random.Generator) -> None:
    x, w, b = uniform(rng, 17, 3, 6, 6), uniform(rng, 4, 3, 3, 3), uniform(rng, 4)
    before = [v.copy() for v in (x, w, b)]
    y = F.conv2d(x, w, b)
    F.conv2d_backward(y, x, w)
    F.batch_norm(x, None, None, training=True)
    F.local_response_norm(x, 3)
    F.softmax(x, 1)
    F.relu(x)
    for value, copy in zip((x, w, b), before, strict=True):
        assert_same_bits(value, copy)


def test_failed_call_leaves_running_statistics_alone() -> None:
    mean, var = z(3), z(3) + 1
    with pytest.raises(ValueError, match="batch_norm"):
        F.batch_norm(z(4, 3, 2, 2), mean, var, z(5), z(3), training=True)
    assert not mean.any() and (var == 1).all()


def test_denormals_are_flushed_and_the_callers_mode_restored() -> None:
    """Inside kernels tiny numbers count as zero; afterwards NumPy sees them again."""
    tiny = np.full(1000, 1e-40, np.float32)
    for threads in (1, 2):
        fc.set_num_threads(threads)
        F.conv2d(np.ones((64, 8, 16, 16), np.float32), np.ones((8, 8, 3, 3), np.float32))
        assert (tiny * np.float32(1)).all(), "the caller's floating-point mode leaks"


def test_infinity_times_zero_is_nan_everywhere(isa: str) -> None:
    x = z(17, 1, 3, 3)
    x[0, 0, 1, 1] = math.inf
    w = z(1, 1, 1, 1)
    y = F.conv2d(x, w)
    assert np.isnan(y[0, 0, 1, 1]) and np.isnan(y).sum() == 1
    assert np.isnan(F.linear(np.full((17, 2), np.inf, np.float32), z(3, 2))).all()


def test_large_offsets_are_64_bit() -> None:
    """A view whose strides reach beyond 2^31 bytes is read at the right places."""
    memory = np.zeros(2**29 + 64, np.float32)  # 2 GiB of untouched zero pages
    x = np.lib.stride_tricks.as_strided(memory, (2, 1, 4, 4), (2**31, 64, 16, 4))
    memory[2**29] = 5
    y = F.conv2d(x, np.ones((1, 1, 4, 4), np.float32))
    assert y.ravel().tolist() == [0, 5]


def test_every_error_leaves_the_process_usable(rng: np.random.Generator) -> None:
    for call, error, _ in CALLS:
        with pytest.raises(error):
            call()
    x, w = uniform(rng, 17, 3, 6, 6), uniform(rng, 4, 3, 3, 3)
    assert_close(F.conv2d(x, w), reference.conv2d(x, w), 27)
    assert array(x).shape == x.shape


def test_core_refuses_nonsense_without_crashing() -> None:
    """The layer below the Python checks is safe too: called directly with wrong layouts, dtypes, sizes."""
    code = """
import numpy as np
from fastconv import _core
f = lambda *s: _core.array(np.zeros(s, "f4"))
i = lambda *s: _core.array(np.zeros(s, "i8"))
g = ((1, 1), (0, 0, 0, 0), (1, 1), 1)
pool = ((2, 2), (2, 2), (0, 0, 0, 0), (1, 1))
y, argmax = _core.max_pool2d_forward(f(2, 3, 4, 4), *pool, False, False)
calls = [
    lambda: _core.conv2d_forward(i(2, 3, 4, 4), f(1, 3, 2, 2), None, *g, False),
    lambda: _core.conv2d_backward_input(f(2, 1, 9, 9), f(1, 3, 2, 2), (2, 3, 4, 4), *g),
    lambda: _core.conv2d_backward_input(f(2, 1, 3, 3), f(1, 3, 2, 2), (2, 3, 4), *g),
    lambda: _core.conv2d_backward_weight(f(3, 1, 3, 3), f(2, 3, 4, 4), (1, 3, 2, 2), *g),
    lambda: _core.conv2d_backward_weight(f(2, 1, 3, 3), f(2, 3, 4, 4), (-1, 3, 2, 2), *g),
    lambda: _core.linear_forward(f(2, 3, 4), f(2, 3), None, False),
    lambda: _core.linear_backward_input(f(2, 3), f(4, 3)),
    lambda: _core.linear_backward_weight(f(2, 3), f(3, 3)),
    lambda: _core.max_pool2d_backward(f(2, 3, 5, 5), argmax, None, (2, 3, 4, 4), *pool),
    lambda: _core.max_pool2d_backward(y, argmax, None, (2, 3, 9, 9), *pool),
    lambda: _core.max_pool2d_backward(y, y, None, (2, 3, 4, 4), *pool),
    lambda: _core.max_pool2d_backward(y, argmax, f(1), (2, 3, 4, 4), *pool),
    lambda: _core.max_pool2d_indices(y, (2, 3, 4, 4), *pool),
    lambda: _core.avg_pool2d_backward(f(2, 3, 5, 5), (2, 3, 4, 4), *pool[:3], False, True, 0),
    lambda: _core.adaptive_avg_pool2d_backward(f(2, 3, 5), (2, 3, 4, 4)),
    lambda: _core.add(f(2, 3), f(3, 2)),
    lambda: _core.add(f(2, 3), i(2, 3)),
    lambda: _core.add_into(f(2, 3), f(2, 4)),
    lambda: _core.relu_backward(f(2, 3), f(3)),
    lambda: _core.channel_sum(f(3)),
    lambda: _core.batch_norm_train(f(2, 3), f(2), None, None, None, 0.1, 1e-5),
    lambda: _core.batch_norm_train(f(2, 3), None, None, f(2), f(3), 0.1, 1e-5),
    lambda: _core.batch_norm_train_backward(f(2, 3), f(2, 4), None, f(3), f(3)),
    lambda: _core.batch_norm_eval(f(2, 3), None, None, f(3), f(2), 1e-5),
    lambda: _core.local_response_norm_backward(f(2, 3), f(2, 4), 3, 1.0, 1.0, 1.0),
    lambda: _core.softmax(f(2, 3), 2),
    lambda: _core.softmax_backward(f(2, 3), f(2, 4), 1),
    lambda: _core.cross_entropy(f(2, 3), f(2), None, -100, 0.0, "mean"),
    lambda: _core.cross_entropy(f(2, 3), i(2), f(2), -100, 0.0, "mean"),
    lambda: _core.cross_entropy(f(2, 3), i(2), None, -100, 0.0, "most"),
    lambda: _core.mse_loss(f(2, 3), f(2), "mean"),
    lambda: _core.count_correct(f(2, 3), i(3)),
    lambda: _core.cat([f(2, 3), f(2, 3, 1)], 1),
    lambda: _core.cat([f(2, 3)], 5),
    lambda: _core.slice_axis(f(2, 3), 1, 2, 4),
    lambda: _core.slice_axis(f(2, 3), 1, -1, 2),
    lambda: _core.slice_axis(f(2, 3), 7, 0, 1),
    lambda: _core.pad2d(f(2, 3), (1, 1, 1, 1), 0.0),
    lambda: _core.upsample_nearest2d(f(1, 1, 2, 2), (0, 1)),
    lambda: _core.upsample_nearest2d_backward(f(1, 1, 3, 3), (2, 2)),
    lambda: _core.upsample_bilinear2d(f(1, 1, 2, 2), (0, 2), False),
    lambda: _core.upsample_bilinear2d_backward(f(1, 1, 2, 2), (1, 2, 3, 3), False),
    lambda: _core.gather_lanes(np.zeros((3, 4), "f8"), np.array([0]), 1.0, 0.0),
    lambda: _core.sgd_step([f(2)], [f(3)], [], 0.1, 0.0, 0.0, 0.0, False, True, False),
    lambda: _core.sgd_step([f(2)], [], [], 0.1, 0.0, 0.0, 0.0, False, True, False),
    lambda: _core.sgd_step([f(2)], [f(2)], [], 0.1, 0.9, 0.0, 0.0, False, True, False),
    lambda: _core.adam_step([f(2)], [f(2)], [f(2)], [f(1)], [], 1, 0.1, 0.9, 0.9, 1e-8, 0.0, False, False),
    lambda: _core.rmsprop_step([f(2)], [f(2)], [], [], [], 0.1, 0.9, 1e-8, 0.0, 0.0, False),
    lambda: _core.adagrad_step([i(2)], [f(2)], [f(2)], 0.1, 0.0, 1e-8),
    lambda: f(2, 3).reshape((4, 2)),
    lambda: _core.zeros((1,) * 7),
    lambda: _core.zeros((-1,)),
    lambda: _core.Array(),
]
for number, call in enumerate(calls):
    try:
        call()
    except (ValueError, TypeError, IndexError, OverflowError):
        continue
    print("no error from call", number)
print("done")
"""
    done = run_python("import faulthandler; faulthandler.enable()\n" + code)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stdout + done.stderr
