"""Calls that fail, calls inside calls, calls in several threads: each computes what it began."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import Tensor, nn
from fastconv import functional as F
from fastconv.autograd.pending import calls
from tests.support import assert_same_bits
from tests.test_pending_changes import C, Called, conv, images

pytestmark = pytest.mark.usefixtures("nothing_waits")


# ---------------------------------------------------------------------------------------- errors
class BrokenError(Exception):
    pass


def fails(x: Tensor) -> Tensor:
    raise BrokenError


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_in_the_middle_leaves_nothing(depth: int) -> None:
    layer = conv()
    network: Any = Called(lambda x: fails(F.relu(layer(x))))
    for _ in range(depth):
        network = nn.Sequential(conv(), network)
    with pytest.raises(BrokenError):
        network(images())
    assert calls.waiting is None
    assert not calls.inside
    # One that is caught inside another call: the call goes on.
    caught = Called(lambda x: _caught(network, F.relu(layer(x))))
    assert_same_bits(caught(images()).numpy(), F.relu(layer(images())).numpy())


def _caught(network: nn.Module, y: Tensor) -> Tensor:
    with pytest.raises(BrokenError):
        network(y)
    assert calls.inside
    return y


@pytest.mark.parametrize("grad", [True, False])
def test_errors_come_at_the_call_that_is_wrong(grad: bool) -> None:
    """From the layer whose operands do not fit, and with its name."""
    fits, x = nn.Conv2d(C, C, 3), images()
    wrong: list[tuple[nn.Module, str]] = [
        (nn.Conv2d(C + 1, 2, 3), r"\[conv2d\] input has 4 channels"),
        (nn.Conv2d(C, 2, 7), r"\[conv2d\] the kernel is larger"),
        (nn.BatchNorm2d(C + 1), r"\[batch_norm\]"),
        (nn.MaxPool2d(7), r"\[max_pool2d\] the window needs 7"),
        (nn.Linear(3, 2), r"\[linear\]"),
    ]
    for layer, message in wrong:
        layer.eval()
        reached: list[str] = []

        class Network(nn.Module):
            def __init__(self, layer: nn.Module) -> None:
                super().__init__()
                self.first, self.second, self.third = fits, layer, nn.ReLU()

            def forward(self, x: Tensor, reached: list[str] = reached) -> Tensor:
                y = self.first(x)
                reached.append("first")
                y = self.second(y)
                reached.append("second")
                return self.third(y)

        with fc.set_grad_enabled(grad):
            for network in (Network(layer), nn.Sequential(fits, layer, nn.ReLU())):
                with pytest.raises(fc.ShapeError, match=message) as error:
                    network(x)
                assert "'second'" in str(error.value) or "'1'" in str(error.value)
        assert reached == ["first"]
        assert calls.waiting is None


@pytest.mark.parametrize("wrong", ["bias", "weight", "input"])
def test_types_are_checked_at_the_call(wrong: str) -> None:
    for layer, x in ((conv(), images()), (nn.Linear(3, 2), Tensor(np.ones((2, 3), np.float32)))):
        if wrong == "input":
            x = Tensor(np.ones(x.shape, np.int64))
        else:
            old = getattr(layer, wrong)
            shape = (9,) if wrong == "bias" else (old.shape[0], 9, *old.shape[2:])
            setattr(layer, wrong, nn.Parameter(np.ones(shape, np.float32)))
        after: list[int] = []

        def forward(x: Tensor, layer: Any = layer, after: list[int] = after) -> Tensor:
            y = layer(x)
            after.append(1)
            return F.relu(y)

        with pytest.raises((ValueError, TypeError)):
            Called(forward)(x)
        assert not after


# --------------------------------------------------------------------------- calls and threads
def test_nothing_waits_outside_a_call() -> None:
    layer = conv()
    y = layer(images())
    assert y._pending is None
    inner: list[Any] = []

    def forward(x: Tensor) -> Tensor:
        y = nn.Sequential(layer)(x)
        inner.append((y._pending is not None, calls.waiting is y))
        return y

    z = Called(forward)(images())
    assert inner == [(True, True)]
    several = Called(lambda x: (layer(x), F.relu(layer(x)), layer(x)))(images())
    assert [y._pending for y in several] == [None, None, None]
    assert z._pending is None
    assert F.conv2d(images(), layer.weight, layer.bias)._pending is None


def test_attributes_do_not_look_at_values() -> None:
    """Shape and requires_grad are known before the result is."""
    layer = conv()

    def forward(x: Tensor) -> Tensor:
        y = F.relu(layer(x))
        assert (y.shape, y.ndim, len(y), y.requires_grad) == (x.shape, 4, len(x), True)
        assert y._pending is not None
        return y

    assert Called(forward)(images()).grad is None


@pytest.mark.parametrize("grad", [True, False])
def test_threads_do_not_meet(grad: bool) -> None:
    """Each waits for its own results, though all run the same layers."""
    fc.manual_seed(0)
    network = nn.Sequential(conv(), nn.BatchNorm2d(C), nn.ReLU(), nn.MaxPool2d(2)).eval()
    first, norm, relu, pool = network
    barrier, failures = threading.Barrier(4), []  # type: ignore[var-annotated]
    written = Called(lambda x: pool(relu(norm(first(x)))))
    with fc.set_grad_enabled(grad):
        expected = [written(images(n)).numpy() for n in range(1, 5)]

    def work(n: int) -> None:
        try:
            barrier.wait(20)
            with fc.set_grad_enabled(grad):
                for _ in range(50):
                    assert_same_bits(written(images(n)).numpy(), expected[n - 1])
            assert calls.waiting is None
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_another_thread_sees_a_result_that_waits() -> None:
    """It is computed there, once, and the thread that made it goes on."""
    layer = conv()
    seen: list[np.ndarray] = []

    def forward(x: Tensor) -> Tensor:
        y = F.relu(layer(x))
        thread = threading.Thread(target=lambda: seen.append(y.numpy().copy()))
        thread.start()
        thread.join()
        return F.max_pool2d(y, 2)

    expected = F.relu(layer(images()))
    pooled = Called(forward)(images())
    assert_same_bits(seen[0], expected.numpy())
    assert_same_bits(pooled.numpy(), F.max_pool2d(expected, 2).numpy())
