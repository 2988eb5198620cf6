"""While a result waits: statistics move, operands change, gradients are switched off."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import Tensor, nn, optim
from fastconv import functional as F
from tests.support import assert_close, assert_same_bits, uniform

C, SIZE = 4, 8


pytestmark = pytest.mark.usefixtures("nothing_waits")


class Called(nn.Module):
    """A function as the forward pass of a module: inside it operations wait."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)


def images(n: int = 5) -> Tensor:
    return Tensor(uniform(np.random.default_rng(n), n, C, SIZE, SIZE))


def conv() -> nn.Conv2d:
    fc.manual_seed(0)
    return nn.Conv2d(C, C, 3, padding=1)


# -------------------------------------------------------------------------- running statistics
def read(norm: nn.BatchNorm2d, x: Tensor) -> list[Any]:
    return [norm.running_mean * 1.0, norm.running_var + 0.0]


READERS: dict[str, Callable[[nn.BatchNorm2d, Tensor], list[Any]]] = {
    "tensors": read,
    "numpy": lambda norm, x: [norm.running_mean.numpy().copy(), norm.running_var.numpy().copy()],
    "state_dict": lambda norm, x: [
        norm.state_dict()[name] for name in ("running_mean", "running_var")
    ],
    "copy": lambda norm, x: read(copy.deepcopy(norm), x),
}
# What becomes of the result before the statistics are read.
BETWEEN: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "nothing": lambda y, x: y,
    "relu": lambda y, x: F.relu(y),
    "relu, both held": lambda y, x: (y, F.relu(y)),
    "dropped": lambda y, x: None,
    "added to": lambda y, x: F.relu(y + x),
    "added to in place": lambda y, x: y.__iadd__(x),
    "looked at behind": lambda y, x: (F.relu(y), y * 1.0)[0],
    "another follows": lambda y, x: x.mean() + nn.Conv2d(C, 2, 1)(x).mean(),
    "looked at": lambda y, x: y.numpy() is not None and F.relu(y),
}


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("reader", READERS)
def test_statistics_move_once(reader: str, between: str) -> None:
    """And have their values for whoever reads them before the result."""
    norm, reference = nn.BatchNorm2d(C), nn.BatchNorm2d(C)
    x = images()
    reference(x)
    expected = [reference.running_mean.numpy(), reference.running_var.numpy()]
    found: list[Any] = []

    def forward(x: Tensor) -> Any:
        y = norm(x)
        y = BETWEEN[between](y, x)
        found.extend(READERS[reader](norm, x))
        return y

    Called(forward)(x)
    for one, other in zip(found, expected, strict=True):
        assert_same_bits(np.asarray(one), other)
    for one, other in zip(norm.buffers(), reference.buffers(), strict=True):
        assert_same_bits(one.numpy(), other.numpy())


def test_another_thread_sees_statistics_as_they_were() -> None:
    norm, reference, found = nn.BatchNorm2d(C), nn.BatchNorm2d(C), []  # type: ignore[var-annotated]
    reference(images())

    def forward(x: Tensor) -> Tensor:
        y = norm(x)
        thread = threading.Thread(target=lambda: found.extend(read(norm, x)))
        thread.start()
        thread.join()
        return F.relu(y)

    Called(forward)(images())
    for one, old in zip(found, (0, 1), strict=True):
        assert_same_bits(one.numpy(), np.full(C, old, np.float32))
    for one, other in zip(norm.buffers(), reference.buffers(), strict=True):
        assert_same_bits(one.numpy(), other.numpy())


def test_statistics_move_where_a_later_layer_fails() -> None:
    norm, reference, narrow = nn.BatchNorm2d(C), nn.BatchNorm2d(C), nn.Conv2d(C + 1, 2, 1)
    reference(images())
    with pytest.raises(fc.ShapeError, match="input has 4 channels, weight expects 5"):
        Called(lambda x: narrow(F.relu(norm(x))))(images())
    for one, other in zip(norm.buffers(), reference.buffers(), strict=True):
        assert_same_bits(one.numpy(), other.numpy())


def test_one_normalisation_called_again_and_again() -> None:
    """In training, in evaluation and with new statistics, all within one call."""
    norm, reference = nn.BatchNorm2d(C), nn.BatchNorm2d(C)

    def forward(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
        y = F.relu(norm(norm(x)))
        norm.eval()
        y = norm(y)
        norm.train()
        z = norm(y)
        norm.reset_running_stats()
        return z + norm(x)

    together = Called(lambda x: forward(norm, x))(images())
    assert_same_bits(together.numpy(), forward(reference, images()).numpy())
    for one, other in zip(norm.buffers(), reference.buffers(), strict=True):
        assert_same_bits(one.numpy(), other.numpy())


# ------------------------------------------------------------- operands that change meanwhile
def a_step(layer: nn.Conv2d, x: Tensor) -> None:
    for parameter in layer.parameters():
        parameter.grad = Tensor(np.ones(parameter.shape, np.float32))
    optim.SGD(layer.parameters(), lr=0.5).step()


def in_place(layer: nn.Conv2d, x: Tensor) -> None:
    with fc.no_grad():
        layer.weight *= 2.0


def by_index(layer: nn.Conv2d, x: Tensor) -> None:
    with fc.no_grad():
        layer.weight[0] = 7.0


def by_data(layer: nn.Conv2d, x: Tensor) -> None:
    layer.weight.data = layer.weight.detach() * 3.0


def through_numpy(layer: nn.Conv2d, x: Tensor) -> None:
    assert layer.bias is not None
    layer.bias.numpy()[...] = 9


def loaded(layer: nn.Conv2d, x: Tensor) -> None:
    layer.load_state_dict(nn.Conv2d(C, C, 3).state_dict())


def copied(layer: nn.Conv2d, x: Tensor) -> None:
    with fc.no_grad():
        layer.weight.copy_(layer.weight.detach() + 1.0)


def initialised(layer: nn.Conv2d, x: Tensor) -> None:
    nn.init.ones_(layer.weight)


def input_changed(layer: nn.Conv2d, x: Tensor) -> None:
    x += 1.0


def input_through_numpy(layer: nn.Conv2d, x: Tensor) -> None:
    x.numpy()[...] = 0


def replaced(layer: nn.Conv2d, x: Tensor) -> None:
    layer.weight = nn.Parameter(np.zeros(layer.weight.shape, np.float32))


CHANGES = [
    *(a_step, in_place, by_index, by_data, through_numpy, loaded, copied, initialised),
    *(input_changed, input_through_numpy, replaced),
]


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_operands_are_those_of_the_call(change: Callable[..., None], grad: bool) -> None:
    layer = conv()
    old = copy.deepcopy(layer)

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        y = layer(x)
        change(layer, x)
        return F.relu(y), layer(x)

    with fc.set_grad_enabled(grad):
        before, after = Called(forward)(images())
        assert_same_bits(before.numpy(), F.relu(old(images())).numpy())
    new_x = images()
    if change in (input_changed, input_through_numpy):
        change(layer, new_x)
    assert_same_bits(after.numpy(), layer(new_x).numpy())


def test_a_pending_result_is_changed() -> None:
    """Every way to change y itself, before and behind a ReLU that waits for it."""

    def ways(y: Tensor, x: Tensor) -> Tensor:
        z = F.relu(y)
        y += x
        y *= 2.0
        y[0] = 1.0
        y -= z
        return y + z

    layer = conv()
    with fc.no_grad():
        together = Called(lambda x: ways(layer(x), x))(images())
        assert_same_bits(together.numpy(), ways(layer(images()), images()).numpy())
    x, leaf = images().requires_grad_(), images().requires_grad_()
    for given, call in (
        (x, Called(lambda x: ways(layer(x), x))),
        (leaf, lambda x: ways(layer(x), x)),
    ):
        call(given).sum().backward()
    assert_close(x.grad.numpy(), leaf.grad.numpy(), 9 * C)


def test_the_algorithm_is_that_of_the_call() -> None:
    fc.manual_seed(0)
    layer = nn.Conv2d(32, 32, 3)
    x = Tensor(uniform(np.random.default_rng(0), 16, 32, 16, 16))
    with fc.set_algorithm("direct"):
        expected = F.relu(layer(x)).numpy()

    def forward(x: Tensor) -> Tensor:
        with fc.set_algorithm("direct"):
            y = layer(x)
        return F.relu(y)

    assert_same_bits(Called(forward)(x).numpy(), expected)


# ------------------------------------------------------------------------------------- gradients
def relu_without_grad(y: Tensor) -> Tensor:
    with fc.no_grad():
        return F.relu(y)


@pytest.mark.parametrize("frozen", [(), ("weight",), ("bias",), ("weight", "bias")], ids=str)
@pytest.mark.parametrize("of_x", [True, False], ids=["x", "no x"])
@pytest.mark.parametrize("of_plus", [True, False], ids=["plus", "no plus"])
@pytest.mark.parametrize("layer_class", [nn.Conv2d, nn.BatchNorm2d])
def test_mixtures_of_required_gradients(
    layer_class: Any, of_plus: bool, of_x: bool, frozen: tuple[str, ...]
) -> None:
    results = []
    for inside in (True, False):
        layer: Any = conv() if layer_class is nn.Conv2d else nn.BatchNorm2d(C)
        for name in frozen:
            getattr(layer, name).requires_grad_(False)
        x, plus = images().requires_grad_(of_x), images(5).requires_grad_(of_plus)
        plus = plus if not of_plus else Tensor(plus.numpy().copy(), requires_grad=True)

        def forward(x: Tensor, plus: Tensor, layer: Any = layer) -> Tensor:
            y = layer(x)
            y = y + plus
            return F.relu(y)

        y = (Called(forward) if inside else forward)(x, plus)
        asked = of_x or of_plus or len(frozen) < 2
        assert y.requires_grad is asked
        if asked:
            y.backward(uniform(np.random.default_rng(3), *y.shape))
        results.append([y.detach(), x.grad, plus.grad, *(p.grad for p in layer.parameters())])
    for one, other in zip(*results, strict=True):
        assert (one is None) is (other is None)
        if one is not None:
            assert_same_bits(one.numpy(), other.numpy())


@pytest.mark.parametrize("layer_class", [nn.Conv2d, nn.BatchNorm2d])
def test_gradients_switched_off_in_between(layer_class: Any) -> None:
    layer: Any = conv() if layer_class is nn.Conv2d else nn.BatchNorm2d(C)
    apart = copy.deepcopy(layer)

    def forward(layer: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = layer(x)
        without = relu_without_grad(y)
        z = F.relu(y)
        with fc.no_grad():
            outside = layer(x)
        return without, z, F.relu(outside)

    together, expected = Called(lambda x: forward(layer, x))(images()), forward(apart, images())
    assert [y.requires_grad for y in together] == [False, True, False]
    for one, other in zip(together, expected, strict=True):
        assert one.requires_grad is other.requires_grad
        assert_same_bits(one.numpy(), other.numpy())
    together[1].sum().backward()
    expected[1].sum().backward()
    assert_same_bits(layer.weight.grad.numpy(), apart.weight.grad.numpy())


def test_backward_inside_a_module() -> None:
    layer, apart = conv(), conv()

    def forward(layer: nn.Conv2d, x: Tensor) -> Tensor:
        loss = (F.relu(layer(x)) * 2.0).sum()
        y = layer(x)
        loss.backward()
        return F.relu(y)

    assert_same_bits(
        Called(lambda x: forward(layer, x))(images()).numpy(), forward(apart, images()).numpy()
    )
    assert_same_bits(layer.weight.grad.numpy(), apart.weight.grad.numpy())


def test_a_graph_that_was_freed_stays_so() -> None:
    layer = conv()
    y, relu, pooled = Called(lambda x: (y := layer(x), F.relu(y), F.max_pool2d(y, 2)))(images())
    y.sum().backward()
    for behind in (relu, pooled):
        with pytest.raises(RuntimeError, match="freed by an earlier backward"):
            behind.sum().backward()


def test_a_graph_is_gone_through_twice() -> None:
    layer = conv()
    y = Called(lambda x: F.max_pool2d(F.relu(layer(x)), 2))(images()).sum()
    y.backward(retain_graph=True)
    once = layer.weight.grad.numpy().copy()
    y.backward()
    np.testing.assert_allclose(layer.weight.grad.numpy(), 2 * once, rtol=1e-6)


def test_inputs_are_let_go_where_weights_are_frozen() -> None:
    layer = conv()
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    x = images(16).requires_grad_()
    held = fc._core.arena_stats()["bytes_in_use"]
    y = Called(lambda x: F.max_pool2d(F.relu(layer(x * 1.0)), 2))(x)
    kept = fc._core.arena_stats()["bytes_in_use"] - held
    assert kept < x.numpy().nbytes, "a quarter of it for y and less for positions, but no input"
    y.sum().backward()
    assert x.grad is not None
