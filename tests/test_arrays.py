"""Odd but legal arrays: strides of any kind, read-only, misaligned, overlapping, empty.

They give the right result, inputs stay as they were, and odd values (NaN, infinity, denormals) too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import fastconv as fc
from fastconv import _core, nn
from fastconv import functional as F
from tests.support import assert_same_bits, uniform


def z(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


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
