"""Tensor and the tape: sums of gradients, shared graphs, broadcasting, modes, NumPy."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import functional as F
from tests.reference import f64
from tests.support import assert_close, uniform


def leaf(values: Any) -> fc.Tensor:
    return fc.Tensor(np.asarray(values, np.float32), requires_grad=True)


# --------------------------------------------------------------------------------------- the tape


def test_gradients_add_up_over_calls() -> None:
    x = leaf([1.0, 2.0])
    (x * 3).sum().backward()
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad, [5, 7])
    x.grad = None
    x.sum().backward()
    np.testing.assert_array_equal(x.grad, [1, 1])


def test_diamond() -> None:
    """A value used twice receives both gradients before it passes them on."""
    x = leaf([2.0, -3.0])
    y = x * x
    (y * y + y * 3 + y).sum().backward()
    v = np.array([2.0, -3.0])
    np.testing.assert_array_equal(x.grad, (2 * v**2 + 4) * 2 * v)


def test_same_operand_twice() -> None:
    x = leaf([1.0, -2.0])
    (x + x).sum().backward()
    np.testing.assert_array_equal(x.grad, [2, 2])
    x.grad = None
    (x * x - x / x).sum().backward()
    assert_close(x.grad, [2, -4], 4)


def test_fan_out_and_in() -> None:
    """Three users of one node, each at another depth."""
    x = leaf(np.ones(5))
    a = x * 2
    b = a * 3
    c = b * a
    (a + b + c + a).sum().backward()
    np.testing.assert_array_equal(x.grad, np.full(5, 2 + 6 + 2 * 6 * 1 * 2 + 2))


def test_deep_chain() -> None:
    """Five thousand operations: no recursion, neither backwards nor when the graph is freed."""
    x = leaf([1.0])
    y = x
    for _ in range(5000):
        y = y + 0.5
    y.sum().backward()
    assert x.grad is not None and x.grad.item() == 1
    unused = x
    for _ in range(5000):
        unused = unused * 1.0
    del unused


def test_wide_graph() -> None:
    parts = [leaf([float(i)]) for i in range(300)]
    total = parts[0] * 1
    for part in parts[1:]:
        total = total + part * part
    total.sum().backward()
    assert all(
        part.grad is not None and part.grad.item() == 2 * i for i, part in enumerate(parts) if i
    )


def test_retain_graph() -> None:
    x = leaf([3.0])
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad is not None and x.grad.item() == 12
    with pytest.raises(RuntimeError, match=r"\[backward\].*freed.*retain_graph=True"):
        y.backward()


def test_no_grad() -> None:
    x = leaf([1.0])
    with fc.no_grad():
        assert not (x * 2).requires_grad
        with fc.enable_grad():
            assert (x * 2).requires_grad
    assert (x * 2).requires_grad

    @fc.no_grad()
    def double(x: fc.Tensor) -> fc.Tensor:
        return x * 2

    assert not double(x).requires_grad and fc.is_grad_enabled()
    with pytest.raises(ZeroDivisionError), fc.no_grad():
        raise ZeroDivisionError
    assert fc.is_grad_enabled(), "restored after an exception"


def test_detach_cuts_the_tape() -> None:
    x = leaf([2.0])
    y = x * x
    (y.detach() * x).sum().backward()
    assert x.grad is not None and x.grad.item() == 4


def test_backward_wants_one_number() -> None:
    x = leaf([1.0, 2.0])
    with pytest.raises(RuntimeError, match=r"\[backward\].*\(2,\).*sum\(\)"):
        (x * 2).backward()
    (x * 2).backward(np.array([1.0, 10.0], np.float32))
    np.testing.assert_array_equal(x.grad, [2, 20])
    with pytest.raises(ValueError, match=r"\[backward\].*\(3,\).*\(2,\)"):
        (x * 2).backward(np.ones(3, np.float32))
    with pytest.raises(RuntimeError, match=r"\[backward\]"):
        fc.Tensor([1.0]).backward()


def test_only_what_is_wanted_gets_a_gradient() -> None:
    x, w = fc.Tensor(np.ones((17, 2, 5, 5), np.float32)), leaf(np.ones((3, 2, 3, 3)))
    F.conv2d(x, w).sum().backward()
    assert x.grad is None and w.grad is not None
    frozen = leaf(np.ones((3, 2, 3, 3)))
    frozen.requires_grad = False
    y = leaf(np.ones((17, 2, 5, 5)))
    F.conv2d(y, frozen).sum().backward()
    assert frozen.grad is None and y.grad is not None and y.grad.shape == y.shape


def test_who_can_require_gradients() -> None:
    labels = fc.Tensor(np.arange(3))
    with pytest.raises(TypeError, match=r"\[Tensor\] only float32.*int64"):
        labels.requires_grad = True
    with pytest.raises(TypeError, match=r"\[Tensor\] only float32.*int64"):
        fc.Tensor(np.arange(3), requires_grad=True)
    assert not labels.requires_grad
    y = leaf(np.ones(3)) * 2
    with pytest.raises(RuntimeError, match=r"\[Tensor\].*detach"):
        y.requires_grad = False
    assert y.requires_grad and y.requires_grad_() is y


# --------------------------------------------------------------------- sharing memory, in place


def test_gradients_share_no_memory() -> None:
    """a + b sends the same dy to both; changing one gradient in place must not change the other."""
    a, b = leaf(np.ones(4)), leaf(np.ones(4))
    dy = np.ones(4, np.float32)
    (a + b).backward(dy)
    assert a.grad is not None and b.grad is not None
    a.grad.numpy()[:] = 7
    np.testing.assert_array_equal(b.grad, np.ones(4))
    np.testing.assert_array_equal(dy, np.ones(4))
    c = leaf(np.ones((2, 2)))
    seed = np.ones(4, np.float32)
    c.reshape(4).backward(seed)
    assert c.grad is not None
    c.grad.numpy()[:] = 7
    np.testing.assert_array_equal(seed, np.ones(4))


def test_accumulation_does_not_write_into_somebody_elses_gradient() -> None:
    """The sum at a shared node is a new array, even when the first part came from elsewhere."""
    x, z = leaf(np.ones(3)), leaf(np.ones(3))
    h = x * 1
    ((h + z) + h).sum().backward()
    np.testing.assert_array_equal(z.grad, np.ones(3))
    np.testing.assert_array_equal(x.grad, np.full(3, 2))


def test_constructor_copies() -> None:
    values = np.ones(3, np.float32)
    t = fc.Tensor(values)
    values[:] = 5
    np.testing.assert_array_equal(t, np.ones(3))
    t.numpy()[0] = 9
    assert t.tolist() == [9, 1, 1]


def test_results_do_not_change_with_their_inputs() -> None:
    """Operations that could be views (ReLU of positives, reshape, +0) still give the right gradient
    after the input's memory was overwritten by an optimiser step."""
    x = leaf(np.full((20, 4), 2.0))
    y = F.relu(x)
    np.testing.assert_array_equal(y, np.full((20, 4), 2))
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, np.ones((20, 4)))


# -------------------------------------------------------------------- arithmetic, broadcasting

BROADCASTS = [
    ((3, 4), (3, 4)),
    ((3, 4), (4,)),
    ((4,), (3, 4)),
    ((3, 1), (1, 4)),
    ((17, 3, 4, 5), (3, 1, 1)),
    ((17, 3, 4, 5), (1, 3, 1, 1)),
    ((17, 3, 4, 5), ()),
    ((), (2, 2)),
    ((1,), (1,)),
]
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
}


def reduced(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The sum over what was broadcast."""
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    axes = tuple(i for i, size in enumerate(shape) if size == 1)
    return gradient.sum(axis=axes, keepdims=True)


@pytest.mark.parametrize(("a_shape", "b_shape"), BROADCASTS, ids=str)
@pytest.mark.parametrize("name", OPERATORS)
def test_broadcasting(
    name: str, a_shape: tuple[int, ...], b_shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    a, b = leaf(uniform(rng, *a_shape)), leaf(uniform(rng, *b_shape) + np.float32(2))
    y = OPERATORS[name](a, b)
    va, vb = f64(a.numpy()), f64(b.numpy())
    expected = OPERATORS[name](va, vb)
    assert y.shape == expected.shape
    assert_close(y.numpy(), expected)
    dy = uniform(rng, *expected.shape)
    y.backward(dy)
    one = np.ones_like(expected)
    da, db = {
        "add": (one, one),
        "sub": (one, -one),
        "mul": (vb * one, va * one),
        "div": (one / vb, -va / vb**2 * one),
    }[name]
    assert_close(a.grad, reduced(dy * da, a_shape), expected.size, c=4)
    assert_close(b.grad, reduced(dy * db, b_shape), expected.size, c=4)


def test_numbers_and_arrays_as_operands() -> None:
    x = leaf([1.0, 2.0])
    array = np.array([3.0, 4.0], np.float32)
    for y, expected in (
        (1 + x, [2, 3]),
        (1 - x, [0, -1]),
        (2 * x, [2, 4]),
        (2 / x, [2, 1]),
        (-x, [-1, -2]),
        (array + x, [4, 6]),
        (x - array, [-2, -2]),
        (array * x, [3, 8]),
        (x**2, [1, 4]),
    ):
        assert isinstance(y, fc.Tensor) and y.requires_grad
        np.testing.assert_array_equal(y, expected)
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)|\(3,\).*\(2,\)"):
        x + np.ones(3, np.float32)


REDUCTIONS: list[tuple[str, dict[str, Any]]] = [
    ("sum", {}),
    ("sum", {"dim": 1}),
    ("sum", {"dim": (0, 2), "keepdim": True}),
    ("sum", {"dim": -1}),
    ("mean", {}),
    ("mean", {"dim": 0}),
    ("mean", {"dim": (2, 3)}),
]


@pytest.mark.parametrize(("name", "options"), REDUCTIONS, ids=str)
def test_reductions(name: str, options: dict[str, Any], rng: np.random.Generator) -> None:
    x = leaf(uniform(rng, 17, 3, 4, 5))
    y = getattr(x, name)(**options)
    axis, keep = options.get("dim"), options.get("keepdim", False)
    expected = getattr(f64(x.numpy()), name)(axis=axis, keepdims=keep)
    assert y.shape == expected.shape
    assert_close(y.numpy(), expected, x.numel())
    dy = uniform(rng, *expected.shape)
    y.backward(dy)
    spread = f64(dy) if axis is None or keep else np.expand_dims(f64(dy), axis)
    share = expected.size / x.numel() if name == "mean" else 1.0
    assert_close(x.grad, np.broadcast_to(spread * share, x.shape), 2)


SHAPERS: dict[str, tuple[Callable[[Any], Any], Callable[[np.ndarray], np.ndarray]]] = {
    "reshape": (lambda t: t.reshape(17, -1), lambda v: v.reshape(17, -1)),
    "reshape_across_samples": (lambda t: t.reshape(4, 51, 5), lambda v: v.reshape(4, 51, 5)),
    "flatten": (lambda t: t.flatten(1), lambda v: v.reshape(17, 60)),
    "unsqueeze": (lambda t: t.unsqueeze(1), lambda v: v[:, None]),
    "transpose": (lambda t: t.transpose(1, 3), lambda v: v.swapaxes(1, 3)),
    "permute": (lambda t: t.permute(2, 0, 3, 1), lambda v: v.transpose(2, 0, 3, 1)),
    "index": (lambda t: t[2:9, 1], lambda v: v[2:9, 1]),
    "step": (lambda t: t[:, :, ::2, 1:], lambda v: v[:, :, ::2, 1:]),
    "negative": (lambda t: t[-1], lambda v: v[-1]),
    "array": (lambda t: t[np.array([0, 3, 3])], lambda v: v[np.array([0, 3, 3])]),
}


@pytest.mark.parametrize("in_lanes", [False, True])
@pytest.mark.parametrize("name", SHAPERS)
def test_moving_around(name: str, in_lanes: bool, rng: np.random.Generator) -> None:
    """The gradient goes back to where each value came from; an element taken twice gets both."""
    tensor, array = SHAPERS[name]
    x = leaf(uniform(rng, 17, 3, 4, 5))
    inner = F.max_pool2d(x, 1) if in_lanes else x
    y = tensor(inner)
    np.testing.assert_array_equal(y, array(x.numpy()))
    dy = uniform(rng, *y.shape)
    y.backward(dy)
    places = array(np.arange(x.numel()).reshape(x.shape))
    expected = np.bincount(places.ravel(), dy.ravel(), x.numel()).reshape(x.shape)
    assert_close(x.grad, expected, 2)


# ---------------------------------------------------------------------------- in and out of NumPy


@pytest.mark.filterwarnings("ignore:fastconv computes in float32")
@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        ([1.5, 2], np.float32),
        ([1, 2], np.int64),
        (3.5, np.float32),
        (np.ones(2, np.float64), np.float32),
        (np.ones(2, np.uint8), np.uint8),
        (np.ones(2, np.int32), np.int64),
        (np.ones(2, bool), np.int64),
    ],
    ids=str,
)
def test_element_types(data: Any, dtype: type) -> None:
    t = fc.Tensor(data)
    assert t.dtype == dtype
    np.testing.assert_array_equal(t, np.asarray(data))


@pytest.mark.parametrize(
    "data",
    [
        np.ones(2, np.complex64),
        np.ones(2, np.float16),
        np.array([object()]),
        np.array(["1"]),
        np.ones(2, ">f4"),
        None,
    ],
    ids=lambda d: str(getattr(d, "dtype", d)),
)
def test_element_types_refused(data: Any) -> None:
    with pytest.raises(TypeError, match=r"\[Tensor\].*(float32|dtype)"):
        fc.Tensor(data)


def test_only_floats_require_gradients() -> None:
    with pytest.raises(TypeError, match=r"int64"):
        fc.Tensor(np.arange(3), requires_grad=True)


def test_array_exchange() -> None:
    t = fc.Tensor(np.arange(6, dtype=np.float32).reshape(2, 3))
    assert np.asarray(t).dtype == np.float32 and np.asarray(t, dtype=np.float64).dtype == np.float64
    assert np.add(t, 1).shape == (2, 3)
    assert (
        t.shape == (2, 3) and t.ndim == 2 and len(t) == 2 and t.numel() == 6 and t.device == "cpu"
    )
    assert float(t.sum()) == 15 and t.sum().item() == 15
    with pytest.raises(ValueError, match=r"one element|size 1"):
        t.item()
    shared = np.from_dlpack(t)
    shared[0, 0] = 100
    assert t.numpy()[0, 0] == 100
    back = fc.from_dlpack(np.ones(3, np.float32))
    assert isinstance(back, fc.Tensor) and back.tolist() == [1, 1, 1]
    assert copy.deepcopy(t).tolist() == t.tolist()
    assert pickle.loads(pickle.dumps(leaf([1.0, 2.0]))).requires_grad


def test_repr() -> None:
    assert repr(fc.Tensor([1.0, 2.0])) == "Tensor([1., 2.])"
    assert "requires_grad=True" in repr(leaf([1.0]))
    assert "int64" in repr(fc.Tensor([1, 2]))


def test_device() -> None:
    t = fc.Tensor([1.0])
    assert t.to("cpu") is t
    with pytest.raises(ValueError, match=r"\[device\].*'tpu'"):
        t.to("tpu")
    if not fc._core.cuda_available():
        with pytest.raises(RuntimeError, match=r"\[device\].*cuda.*device='cpu'"):
            t.to("cuda")


def test_float64_warns_once() -> None:
    from tests.support import run_python

    code = (
        "import warnings, numpy as np, fastconv as fc\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    for _ in range(3): fc.Tensor(np.ones(2))\n"
        "    fc.Tensor([1.0])\n"
        "print(len(seen), 'float64' in str(seen[0].message))"
    )
    done = run_python(code)
    assert done.stdout.split() == ["1", "True"], done.stderr
