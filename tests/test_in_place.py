"""What changes in place: the tape, recordings and fused operations see it, whoever writes."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import Tensor, nn, optim
from fastconv import functional as F

BATCHES = (1, 7, 8, 11, 12, 15, 16, 17, 33)
OPERATORS = {
    "+=": (operator.iadd, operator.add),
    "-=": (operator.isub, operator.sub),
    "*=": (operator.imul, operator.mul),
    "/=": (operator.itruediv, operator.truediv),
}


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 4, 6, 6)).astype(np.float32) + 3


class Residual(nn.Module):
    """relu or max pooling of conv(x) that x was combined with, in place or not."""

    def __init__(self, combine: Callable[[Any, Any], Any], kind: str, pool: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6) if kind == "linear" else nn.Conv2d(4, 4, 3, padding=1)
        self.combine, self.pool = combine, pool

    def forward(self, x: Any) -> Any:
        out = self.layer(x)
        out = self.combine(out, x)
        return F.max_pool2d(out, 2) if self.pool else F.relu(out)


def pair(name: str, kind: str, pool: bool) -> tuple[Residual, Residual]:
    fc.manual_seed(0)
    in_place, combine = OPERATORS[name]
    first, second = Residual(in_place, kind, pool), Residual(combine, kind, pool)
    second.load_state_dict(first.state_dict())
    return first, second


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize(
    ("kind", "pool"), [("conv", False), ("conv", True), ("linear", False)], ids=str
)
@pytest.mark.parametrize("name", OPERATORS)
class TestOperatorsBehindALayer:
    """Between a layer and the ReLU or pooling that it could be fused with."""

    def x(self, kind: str, n: int) -> np.ndarray:
        return images(n)[:, 0, 0] if kind == "linear" else images(n)

    def test_without_gradients(self, name: str, kind: str, pool: bool, n: int) -> None:
        first, second = pair(name, kind, pool)
        x = self.x(kind, n)
        with fc.no_grad():
            right = second(Tensor(x)).numpy()
            np.testing.assert_array_equal(first(Tensor(x)).numpy(), right)
        recorded = fc.record(first)
        for _ in range(3):  # the first call records; its own result counts too
            np.testing.assert_allclose(recorded(x).numpy(), right, rtol=1e-5, atol=1e-6)

    def test_with_gradients(self, name: str, kind: str, pool: bool, n: int) -> None:
        grads = []
        for model in pair(name, kind, pool):
            x = Tensor(self.x(kind, n), requires_grad=True)
            y = model(x)
            y.backward(Tensor(np.cos(np.arange(y.numel())).astype(np.float32).reshape(y.shape)))
            grads.append([x.grad, *(p.grad for p in model.parameters())])
        for got, right in zip(*grads, strict=True):
            np.testing.assert_array_equal(got.numpy(), right.numpy())

    def test_recorded_step(self, name: str, kind: str, pool: bool, n: int) -> None:
        def loss_function(y: Any, target: Any) -> Any:
            return F.mse_loss(y, target)

        first, second = pair(name, kind, pool)
        x = self.x(kind, n)
        target = np.zeros(second(Tensor(x)).shape, np.float32)
        loss = loss_function(second(Tensor(x)), target)
        loss.backward()
        step = fc.record_step(first, loss_function)
        for _ in range(3):
            first.zero_grad()
            got, _ = step(x, target)
            np.testing.assert_allclose(got.item(), loss.item(), rtol=1e-6)
            for p, q in zip(first.parameters(), second.parameters(), strict=True):
                np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", BATCHES)
def test_predict_does_not_depend_on_the_batch(n: int) -> None:
    model, other = pair("+=", "conv", False)
    x = images(40)
    model.compile(loss="mse")
    with fc.no_grad():
        right = other(Tensor(x)).numpy()
    np.testing.assert_allclose(model.predict(x, batch_size=n), right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("change", ["copy_", "fill_", "numpy", "setitem", "data"])
def test_results_changed_by_hand_while_a_recording_is_made(change: str, n: int) -> None:
    """Whether it can be recorded or not, every call sees the change."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3)

        def forward(self, x: Any) -> Any:
            y = self.conv(x)
            if change == "copy_":
                y.copy_(y * 0.0 - 1.0)
            elif change == "fill_":
                y.fill_(-1.0)
            elif change == "numpy" and n < 16:  # lanes are not shared with NumPy
                y.numpy()[...] = -1.0
            elif change == "setitem":
                y[...] = -1.0
            elif change == "data":
                y.data = fc.zeros(*y.shape) - 1.0
            else:
                y = y * 0.0 - 1.0
            return F.relu(y)

    recorded = fc.record(Net())
    for _ in range(3):
        assert not recorded(images(n)).numpy().any()


@pytest.mark.parametrize("n", BATCHES)
def test_inputs_changed_between_neighbours(n: int) -> None:
    """What a convolution read may be overwritten before its ReLU comes."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3)

        def forward(self, x: Any) -> Any:
            h = x * 1.0
            y = self.conv(h)
            h.fill_(0.0)
            return F.relu(y)

    fc.manual_seed(0)
    model = Net()
    x = images(n)
    right = F.relu(model.conv(Tensor(x))).numpy()
    recorded = fc.record(model)
    for _ in range(3):
        np.testing.assert_allclose(recorded(x).numpy(), right, rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------ before backward
def changes(t: Tensor) -> dict[str, Callable[[], Any]]:
    """Ways to change a tensor."""

    def plus() -> None:
        with fc.no_grad():
            t.__iadd__(1.0)

    def numpy() -> None:
        t.detach().numpy()[...] += 1

    def array() -> None:
        np.asarray(t)[...] += 1

    def slot() -> None:
        t.detach()[0] = 7.0

    def step() -> None:
        optimizer = optim.SGD([t], lr=1.0)
        t.grad = fc.ones(*t.shape)
        optimizer.step()
        t.grad = None

    return {
        "+=": plus,
        "copy_": lambda: t.detach().copy_(t.numpy() * 2),
        "fill_": lambda: t.detach().fill_(9.0),
        "zero_ of data": lambda: t.data.zero_(),
        "numpy": numpy,
        "np.asarray": array,
        "item": slot,
        "optimizer": step,
    }


WAYS = tuple(changes(fc.zeros(1)))
UNARY: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    # name in the message, operation of x (N, 4, 6, 6) and w (4, 4, 3, 3)
    "conv2d": ("conv2d", lambda x, w: F.conv2d(x, w)),
    "conv and relu": ("conv2d", lambda x, w: F.relu(F.conv2d(x, w))),
    "conv_transpose2d": ("conv_transpose2d", lambda x, w: F.conv_transpose2d(x, w)),
    "linear": ("linear", lambda x, w: F.linear(x.reshape(-1, 36), w.reshape(4, 36))),
    "matmul": ("matmul", lambda x, w: x.reshape(-1, 36) @ w.reshape(36, 4)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("n", [1, 16])
@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("which", [0, 1], ids=["input", "weight"])
def test_backward_raises_where_an_operand_was_changed(
    name: str, n: int, which: int, way: str
) -> None:
    op, function = UNARY[name]

    def operands() -> list[Tensor]:
        return [Tensor(images(n), requires_grad=True), nn.Parameter(images(4)[:, :, :3, :3])]

    changed, same = operands(), operands()
    y = function(*changed)
    function(*same).sum().backward()
    changes(changed[which])[way]()
    copied = (name, which) == ("matmul", 1) or (n == 16 and which == 0)  # transposed, or in lanes
    if copied and not (name in ("matmul", "conv_transpose2d") and which == 0):
        y.sum().backward()
        for t, right in zip(changed, same, strict=True):
            np.testing.assert_array_equal(t.grad.numpy(), right.grad.numpy())
        return
    with pytest.raises(RuntimeError, match=rf"\[backward\] the gradient of {op} needs"):
        y.sum().backward()


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "mul": lambda x: x * x,
    "div": lambda x: 2.0 / x,
    "pow": lambda x: x**3,
    "log": lambda x: x.log(),
    "abs": lambda x: x.abs(),
    "clamp": lambda x: x.clamp(0.0, 3.0),
    "max": lambda x: x.max(),
    "norm": lambda x: x.norm(),
    "prod": lambda x: x.prod(1),
    "leaky_relu": lambda x: F.leaky_relu(x),
    "local_response_norm": lambda x: F.local_response_norm(x, 3),
    "where": lambda x: np.maximum(x, 2.0),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("n", [1, 17])
@pytest.mark.parametrize("name", OPERATIONS)
def test_backward_raises_or_is_right_where_an_input_was_changed(
    name: str, n: int, way: str
) -> None:
    x, same = (Tensor(images(n), requires_grad=True) for _ in range(2))
    y = OPERATIONS[name](x)
    OPERATIONS[name](same).sum().backward()
    changes(x)[way]()
    try:
        y.sum().backward()
    except RuntimeError as error:
        assert "changed in place" in str(error)  # noqa: PT017
    else:  # the operation had a copy of its own, in lanes
        np.testing.assert_array_equal(x.grad.numpy(), same.grad.numpy())
        assert name in ("local_response_norm",) and n == 17


RESULTS: dict[str, Callable[[Any], Any]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "sigmoid": F.sigmoid,
    "tanh": F.tanh,
    "softmax": lambda x: F.softmax(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, 1),
    "exp": lambda x: x.exp(),
    "sqrt": lambda x: x.sqrt(),
}


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("name", RESULTS)
def test_results_that_a_gradient_needs_may_be_changed_by_operators(name: str, n: int) -> None:
    """The tensor then gets storage of its own, and the gradient is right."""
    x, same = (Tensor(images(n), requires_grad=True) for _ in range(2))
    y, right = RESULTS[name](x), RESULTS[name](same)
    y += x
    y *= 2.0
    right = (right + same) * 2.0
    np.testing.assert_array_equal(y.numpy(), right.numpy())
    y.sum().backward()
    right.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), same.grad.numpy())


@pytest.mark.parametrize("name", RESULTS)
def test_results_that_a_gradient_needs_changed_through_numpy(name: str) -> None:
    x = Tensor(images(3), requires_grad=True)
    y = RESULTS[name](x)
    y.numpy()[0] = 5.0
    with pytest.raises(RuntimeError, match=f"gradient of {name} needs"):
        y.sum().backward()


def test_a_view_that_is_only_read_changes_nothing() -> None:
    x = Tensor(images(3), requires_grad=True)
    before = x.numpy()
    y = (x * x).sum()
    during = x.numpy()
    assert before.sum() == during.sum()
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * during)


def test_a_view_from_before_is_watched_while_it_lives() -> None:
    x = Tensor(images(3), requires_grad=True)
    view = x.numpy()[1:]
    y = (x * x).sum()
    view[0, 0, 0, 0] += 1
    with pytest.raises(RuntimeError, match="gradient of mul needs"):
        y.backward()
    y = (x * x).sum()  # of the new values
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.numpy())


def test_an_array_of_the_users_own_is_watched() -> None:
    """Functions read NumPy arrays where they lie."""
    x = images(3)
    w = nn.Parameter(images(4)[:, :, :3, :3])
    y = F.conv2d(x, w).sum()
    x *= 2
    with pytest.raises(RuntimeError, match="gradient of conv2d needs"):
        y.backward()


def test_weights_changed_between_two_losses() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 1)
    optimizer = optim.SGD(second.parameters(), lr=1.0)
    out = second(first(np.ones((2, 3), np.float32)))
    out.sum().backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"linear needs an array of shape \(1, 3\)"):
        (out * out).sum().backward()


def test_weights_may_change_after_backward() -> None:
    model = nn.Linear(3, 3)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        model(np.ones((2, 3), np.float32)).sum().backward()
        optimizer.step()


def test_running_statistics_saved_by_an_evaluation() -> None:
    norm = nn.BatchNorm2d(4)
    x = Tensor(images(2), requires_grad=True)
    y = norm.eval()(x).sum()
    norm.train()(Tensor(images(5)))  # moves the running statistics
    with pytest.raises(RuntimeError, match="gradient of batch_norm needs"):
        y.backward()


# ----------------------------------------------------------------------------- what += means
@pytest.mark.parametrize("n", BATCHES)
def test_other_names_of_the_same_values_see_the_change(n: int) -> None:
    """As in PyTorch, whatever the layout: in place is in place."""
    with fc.no_grad():
        y = F.conv2d(images(n), nn.Parameter(images(4)[:, :, :3, :3]))
        name, flat = y, y.flatten(1)
        right = y.numpy() + 1
        y += 1.0
    assert name is y
    np.testing.assert_array_equal(y.numpy(), right)
    np.testing.assert_array_equal(flat.numpy(), right.reshape(n, -1))


def test_a_leaf_that_requires_gradients_is_refused() -> None:
    x = fc.ones(2, requires_grad=True)
    for change in (lambda: x.__iadd__(1.0), lambda: x.fill_(2.0), lambda: x.__setitem__(0, 2.0)):
        with pytest.raises(RuntimeError, match=r"only under fc.no_grad\(\)"):
            change()
    np.testing.assert_array_equal(x.numpy(), [1, 1])


def test_shapes_in_place() -> None:
    x = fc.ones(2, 3)
    x += np.float32([1, 2, 3])
    np.testing.assert_array_equal(x.numpy(), [[2, 3, 4]] * 2)
    with pytest.raises(ValueError, match="in place"):
        x += np.ones((4, 2, 3), np.float32)
    np.testing.assert_array_equal(x.numpy(), [[2, 3, 4]] * 2)


@pytest.mark.parametrize("n", [1, 16])
@pytest.mark.parametrize(
    "index", [0, (slice(None), 1), (0, slice(1, 3)), ([0, 0],), (slice(None), (1, 2)), "mask"]
)
def test_item_assignment_and_its_gradient(index: Any, n: int) -> None:
    values = images(n)
    index = values > 3 if index == "mask" else index
    x = Tensor(values, requires_grad=True)
    v = fc.Tensor(2.5, requires_grad=True)
    y = x * 1.0
    y[index] = v
    right = values.copy()
    right[index] = 2.5
    np.testing.assert_array_equal(y.numpy(), right)
    weights = np.arange(values.size, dtype=np.float32).reshape(values.shape)
    (y * weights).sum().backward()
    dx = weights.copy()
    dx[index] = 0
    np.testing.assert_array_equal(x.grad.numpy(), dx)
    np.testing.assert_allclose(v.grad.numpy(), weights[index].sum(), rtol=1e-6)


# ------------------------------------------------------------------------------- reshapes
def weighted(t: Tensor, phase: float) -> Tensor:
    weights = np.cos(np.arange(t.numel()) + phase).astype(np.float32).reshape(t.shape)
    return (t * t * weights).sum()


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("shape", [(-1,), ("n", -1), ("n", 36, 4)], ids=str)
@pytest.mark.parametrize("change", ["+=", "*=", "item", "of the whole"])
def test_reshapes_change_together_and_so_do_their_gradients(
    change: str, shape: tuple[Any, ...], n: int
) -> None:
    """Whether they share memory (plain) or not (lanes that were joined with the batch)."""
    sizes = tuple(n if size == "n" else size for size in shape)
    x, other = (Tensor(images(n), requires_grad=True) for _ in range(2))
    factor, same = (Tensor([1.5], requires_grad=True) for _ in range(2))
    whole = x * 1.0
    view = whole.reshape(*sizes)
    if change == "+=":
        view += factor
        right = other * 1.0 + same
    elif change == "*=":
        view *= factor
        right = other * 1.0 * same
    elif change == "item":
        view[0] = factor
        mask = np.zeros(right_shape := (n, 4, 6, 6), np.float32)
        mask.reshape(view.shape)[0] = 1
        right = other * (1 - mask) + same.reshape(1, 1, 1, 1) * mask
        assert right.shape == right_shape
    else:
        whole *= factor
        right = other * 1.0 * same
    np.testing.assert_array_equal(whole.numpy(), right.numpy())
    np.testing.assert_array_equal(view.numpy(), right.numpy().reshape(view.shape))
    (weighted(whole, 0.0) + weighted(view, 1.0)).backward()
    (weighted(right, 0.0) + weighted(right.reshape(*sizes), 1.0)).backward()
    np.testing.assert_allclose(x.grad.numpy(), other.grad.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(factor.grad.numpy(), same.grad.numpy(), rtol=1e-4)


@pytest.mark.parametrize("n", [1, 16])
def test_a_constant_that_is_written_through_a_reshape(n: int) -> None:
    w = Tensor([2.0], requires_grad=True)
    canvas = fc.zeros(n, 4)
    canvas.reshape(-1)[1:3] = w
    assert canvas.requires_grad
    (canvas * 3.0).sum().backward()
    assert w.grad.tolist() == [6.0]


def test_a_reshape_of_a_leaf_that_requires_gradients_is_refused() -> None:
    x = fc.ones(2, 2, requires_grad=True)
    flat = x.reshape(-1)
    with pytest.raises(RuntimeError, match=r"only under fc.no_grad\(\)"):
        flat += 1.0
    np.testing.assert_array_equal(x.numpy(), np.ones((2, 2)))


def test_families_forget_those_who_have_gone() -> None:
    x = fc.ones(2, 2)
    for _ in range(1000):
        x.reshape(-1)
    assert x._family is not None
    assert len(x._family) < 20
