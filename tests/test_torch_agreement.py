"""Agreement with PyTorch, where it is installed: every operation and gradient on random shapes, the
optimisers, the schedules, state dicts, and whole training steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from fastconv import functional as F
from fastconv import models, nn, optim
from tests.shapes import CONVS, Conv
from tests.strategies import BATCHES, SEEDS, generator
from tests.support import uniform

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
TF = pytest.importorskip("torch.nn.functional")


def close(actual: Any, expected: Any, tolerance: float = 1e-4) -> None:
    """Both are float32: equal up to `tolerance` of the largest value."""
    expected = expected.detach().numpy() if hasattr(expected, "detach") else np.asarray(expected)
    actual = actual.numpy() if isinstance(actual, fc.Tensor) else np.asarray(actual)
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def agree(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    *operands: np.ndarray,
    tolerance: float = 1e-4,
) -> None:
    """Same values, and same gradients of sum(y * g) by every operand for a random g."""
    a = [fc.Tensor(x, requires_grad=True) for x in operands]
    b = [torch.tensor(x, requires_grad=True) for x in operands]
    y, z = ours(*a), theirs(*b)
    assert y.shape == tuple(z.shape)
    close(y, z, tolerance)
    g = uniform(np.random.default_rng(0), *y.shape)
    y.backward(g)
    z.backward(torch.tensor(g))
    for mine, other in zip(a, b, strict=True):
        assert mine.grad is not None
        close(mine.grad, other.grad, tolerance)
    with fc.no_grad():
        close(ours(*a), z, tolerance)


@pytest.mark.parametrize(
    "case",
    [c for c in CONVS if c.pads[0] == c.pads[1] and c.pads[2] == c.pads[3]],
    ids=lambda c: c.name,
)
def test_conv2d(case: Conv, rng: np.random.Generator) -> None:
    x, w, b = uniform(rng, *case.x), uniform(rng, *case.w), uniform(rng, case.OC)
    options = (case.stride, (case.pads[0], case.pads[2]), case.dilation, case.groups)
    agree(lambda *o: F.conv2d(*o, *options), lambda *o: TF.conv2d(*o, *options), x, w, b)


@pytest.mark.filterwarnings("ignore:Using padding=:UserWarning")
@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding(size: int, kernel: int, dilation: int, rng: np.random.Generator) -> None:
    x, w = uniform(rng, 3, 2, size, size + 3), uniform(rng, 4, 2, kernel, kernel)
    agree(
        lambda x, w: F.conv2d(x, w, padding="same", dilation=dilation),
        lambda x, w: TF.conv2d(x, w, padding="same", dilation=dilation),
        x,
        w,
    )


def test_strided_same_padding_is_tensorflows(rng: np.random.Generator) -> None:
    """output = ceil(input / stride); of an odd total the extra row at the bottom, right alike."""
    x, w = uniform(rng, 17, 2, 7, 10), uniform(rng, 3, 2, 3, 4)
    y = F.conv2d(fc.Tensor(x), fc.Tensor(w), stride=(2, 3), padding="same")
    padded = TF.pad(
        torch.tensor(x), (1, 2, 1, 1)
    )  # widths: (4-1)*3+4-10 = 3; heights: (4-1)*2+3-7 = 2
    close(y, TF.conv2d(padded, torch.tensor(w), stride=(2, 3)))
    assert y.shape[2:] == (4, 4)


images = st.tuples(BATCHES, st.integers(1, 6), st.integers(4, 12), st.integers(4, 12))
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(images, pairs, pairs, pairs, st.booleans(), SEEDS)
def test_max_pool(
    shape: Any, kernel: Any, stride: Any, dilation: Any, ceil: bool, seed: int
) -> None:
    if any(d * (k - 1) >= s for d, k, s in zip(dilation, kernel, shape[2:], strict=True)):
        return
    padding = (kernel[0] // 2, kernel[1] // 2)
    x = uniform(generator(seed), *shape)
    options = (kernel, stride, padding, dilation, ceil)
    agree(lambda x: F.max_pool2d(x, *options), lambda x: TF.max_pool2d(x, *options), x)
    _, mine = F.max_pool2d(x, *options, return_indices=True)
    _, other = TF.max_pool2d(torch.tensor(x), *options, return_indices=True)
    np.testing.assert_array_equal(mine, other.numpy())


@given(images, pairs, pairs, st.booleans(), st.booleans(), st.sampled_from([None, 3]), SEEDS)
def test_avg_pool(
    shape: Any, kernel: Any, stride: Any, ceil: bool, count: bool, divisor: int | None, seed: int
) -> None:
    padding = (kernel[0] // 2, kernel[1] // 2)
    options = (kernel, stride, padding, ceil, count, divisor)
    x = uniform(generator(seed), *shape)
    agree(lambda x: F.avg_pool2d(x, *options), lambda x: TF.avg_pool2d(x, *options), x)


@given(images, st.tuples(st.integers(1, 9), st.integers(1, 9)), SEEDS)
def test_adaptive_avg_pool(shape: Any, out: Any, seed: int) -> None:
    x = uniform(generator(seed), *shape)
    agree(lambda x: F.adaptive_avg_pool2d(x, out), lambda x: TF.adaptive_avg_pool2d(x, out), x)


@given(images, pairs, pairs, pairs, st.integers(0, 2), st.sampled_from([1, 2]), SEEDS)
def test_conv_transpose(
    shape: Any, kernel: Any, stride: Any, dilation: Any, padding: int, groups: int, seed: int
) -> None:
    shape = (shape[0], shape[1] * groups, *shape[2:])
    padding = min(padding, kernel[0] - 1, kernel[1] - 1)
    extra = (stride[0] - 1, stride[1] - 1)
    options = (stride, padding, extra, groups, dilation)
    rng = generator(seed)
    x, w, b = uniform(rng, *shape), uniform(rng, shape[1], 3, *kernel), uniform(rng, 3 * groups)
    agree(
        lambda *o: F.conv_transpose2d(*o, *options),
        lambda *o: TF.conv_transpose2d(*o, *options),
        x,
        w,
        b,
    )


@given(BATCHES, st.integers(1, 5), st.integers(5, 20), st.integers(1, 4), st.integers(1, 3), SEEDS)
def test_conv1d(N: int, C: int, L: int, kernel: int, stride: int, seed: int) -> None:
    rng = generator(seed)
    x, w, b = uniform(rng, N, C, L), uniform(rng, 3, C, kernel), uniform(rng, 3)
    agree(lambda *o: F.conv1d(*o, stride, 1), lambda *o: TF.conv1d(*o, stride, 1), x, w, b)


@given(BATCHES, st.integers(1, 90), st.integers(1, 90), SEEDS)
def test_linear(N: int, I: int, O: int, seed: int) -> None:
    rng = generator(seed)
    agree(F.linear, TF.linear, uniform(rng, N, I), uniform(rng, O, I), uniform(rng, O))


ELEMENTWISE: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "relu": (F.relu, TF.relu),
    "relu6": (lambda x: F.relu6(x * 5), lambda x: TF.relu6(x * 5)),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.3), lambda x: TF.leaky_relu(x, 0.3)),
    "sigmoid": (F.sigmoid, torch.sigmoid),
    "tanh": (F.tanh, torch.tanh),
    "softmax_1": (lambda x: F.softmax(x, 1), lambda x: TF.softmax(x, 1)),
    "softmax_0": (lambda x: F.softmax(x, 0), lambda x: TF.softmax(x, 0)),
    "log_softmax": (lambda x: F.log_softmax(x, -1), lambda x: TF.log_softmax(x, -1)),
    "flatten": (lambda x: F.flatten(x, 1), lambda x: torch.flatten(x, 1)),
    "pad": (
        lambda x: F.pad(x, (1, 2, -1, 3), value=0.5),
        lambda x: TF.pad(x, (1, 2, -1, 3), value=0.5),
    ),
    "cat": (lambda x: F.cat([x, x * 2], 1), lambda x: torch.cat([x, x * 2], 1)),
    "cat_samples": (lambda x: F.cat([x, x * 2], 0), lambda x: torch.cat([x, x * 2], 0)),
    "local_response_norm": (
        lambda x: F.local_response_norm(x, 5, 0.1, 0.75, 2.0),
        lambda x: TF.local_response_norm(x, 5, 0.1, 0.75, 2.0),
    ),
    "nearest": (nn.Upsample(scale_factor=3), torch.nn.Upsample(scale_factor=3)),
    "bilinear": (
        nn.Upsample(size=(9, 13), mode="bilinear"),
        torch.nn.Upsample(size=(9, 13), mode="bilinear"),
    ),
    "bilinear_corners": (
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
    ),
    "arithmetic": (lambda x: x * x + 2 / (x + 3) - x / 4, lambda x: x * x + 2 / (x + 3) - x / 4),
    "mean": (lambda x: x.mean((2, 3)), lambda x: x.mean((2, 3))),
    "sum": (lambda x: x.sum(1, keepdim=True), lambda x: x.sum(1, keepdim=True)),
    "index": (lambda x: x[:, 1:, ::2], lambda x: x[:, 1:, ::2]),
    "permute": (lambda x: x.permute(0, 2, 3, 1), lambda x: x.permute(0, 2, 3, 1)),
    "exp_log": (lambda x: (x.exp() + 1).log(), lambda x: (x.exp() + 1).log()),
}


@pytest.mark.parametrize("N", [1, 16, 17])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(name: str, N: int, isa: str, rng: np.random.Generator) -> None:
    ours, theirs = ELEMENTWISE[name]
    agree(ours, theirs, uniform(rng, N, 6, 7, 5))


@pytest.mark.parametrize("shape", [(17, 5), (16, 5, 7), (33, 5, 4, 3), (2, 5, 4, 3)], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(
    shape: tuple[int, ...], training: bool, isa: str, rng: np.random.Generator
) -> None:
    x, w, b = uniform(rng, *shape), uniform(rng, 5), uniform(rng, 5)
    mean, var = uniform(rng, 5), uniform(rng, 5) + np.float32(2)
    mine, other = (mean.copy(), var.copy()), (torch.tensor(mean), torch.tensor(var))
    y = F.batch_norm(x, *mine, w, b, training=training)
    z = TF.batch_norm(torch.tensor(x), *other, torch.tensor(w), torch.tensor(b), training)
    close(y, z)
    for one, two in zip(mine, other, strict=True):
        close(one, two)
    agree(
        lambda x, w, b: F.batch_norm(x, mean.copy(), var.copy(), w, b, training),
        lambda x, w, b: TF.batch_norm(x, torch.tensor(mean), torch.tensor(var), w, b, training),
        x,
        w,
        b,
        tolerance=1e-3,
    )


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("shape", [(17, 5), (3, 5, 4, 2)], ids=str)
def test_cross_entropy(
    shape: tuple[int, ...], smoothing: float, reduction: str, rng: np.random.Generator
) -> None:
    labels = rng.integers(0, 5, (shape[0], *shape[2:]))
    labels.flat[0] = -100
    weight = uniform(rng, 5) + np.float32(2)
    options: dict[str, Any] = {"reduction": reduction, "label_smoothing": smoothing}
    agree(
        lambda x: F.cross_entropy(x, fc.Tensor(labels), fc.Tensor(weight), **options),
        lambda x: TF.cross_entropy(x, torch.tensor(labels), torch.tensor(weight), **options),
        uniform(rng, *shape),
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    "name", ["mse_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits"]
)
def test_losses(name: str, reduction: str, rng: np.random.Generator) -> None:
    x, target = np.abs(uniform(rng, 17, 5)), np.abs(uniform(rng, 17, 5))
    agree(
        lambda x: getattr(F, name)(x, fc.Tensor(target), reduction=reduction),
        lambda x: getattr(TF, name)(x, torch.tensor(target), reduction=reduction),
        x * np.float32(0.9) + np.float32(0.05),
    )


# -------------------------------------------------------------------------------------- networks


def torch_lenet5() -> Any:
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 5, padding=2),
        torch.nn.BatchNorm2d(6),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(6, 16, 5),
        torch.nn.ReLU(),
        torch.nn.AvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(400, 120),
        torch.nn.Tanh(),
        torch.nn.Linear(120, 10),
    )


def our_lenet5() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.Tanh(),
        nn.Linear(120, 10),
    )


OPTIMISERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3, "nesterov": True}),
    ("SGD", {"lr": 0.05}),
    ("RMSprop", {"lr": 1e-3, "momentum": 0.5, "centered": True, "eps": 1e-3}),
    ("Adam", {"lr": 1e-3, "amsgrad": True, "weight_decay": 0.01, "eps": 1e-4}),
    ("AdamW", {"lr": 1e-3, "weight_decay": 0.1, "eps": 1e-4}),
    ("Adagrad", {"lr": 1e-2, "lr_decay": 0.1, "eps": 1e-3}),
]


@pytest.mark.parametrize(("name", "options"), OPTIMISERS, ids=str)
def test_training_steps(name: str, options: dict[str, Any], rng: np.random.Generator) -> None:
    """Five steps from the same weights on the same batches (epsilons large enough that a gradient
    of rounding errors alone does not become a step of full length)."""
    theirs, ours = torch_lenet5(), our_lenet5()
    state = {key: value.numpy().copy() for key, value in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict(state)
    step, torch_step = (
        getattr(optim, name)(ours.parameters(), **options),
        getattr(torch.optim, name)(theirs.parameters(), **options),
    )
    for batch in (20, 32, 16, 17, 48):
        x, labels = uniform(rng, batch, 1, 28, 28), rng.integers(0, 10, batch)
        step.zero_grad()
        loss = nn.CrossEntropyLoss()(ours(fc.Tensor(x)), fc.Tensor(labels))
        loss.backward()
        step.step()
        torch_step.zero_grad()
        torch_loss = torch.nn.CrossEntropyLoss()(theirs(torch.tensor(x)), torch.tensor(labels))
        torch_loss.backward()
        torch_step.step()
        close(loss, torch_loss, 1e-3)
    for key, value in theirs.state_dict().items():
        close(np.asarray(ours.state_dict()[key]), value, 2e-3)


SCHEDULES: list[tuple[str, dict[str, Any]]] = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("CosineAnnealingLR", {"T_max": 15, "eta_min": 0.01}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 30}),
    (
        "OneCycleLR",
        {"max_lr": 0.5, "total_steps": 30, "pct_start": 0.4, "anneal_strategy": "linear"},
    ),
]


@pytest.mark.filterwarnings("ignore:Detected call of:UserWarning")
@pytest.mark.parametrize(("name", "options"), SCHEDULES, ids=str)
def test_schedules(name: str, options: dict[str, Any]) -> None:
    ours = optim.SGD([nn.Parameter(np.zeros(1, np.float32))], lr=0.1)
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    mine = getattr(optim.lr_scheduler, name)(ours, **options)
    other = getattr(torch.optim.lr_scheduler, name)(theirs, **options)
    for _ in range(29):
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-9)
        mine.step()
        theirs.step()
        other.step()


CONSTRUCTORS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("Conv2d", (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}),
    ("Conv1d", (4, 6, 3), {"bias": False}),
    ("ConvTranspose2d", (4, 6, 3), {"stride": 2, "output_padding": 1}),
    ("Linear", (5, 7), {}),
    ("BatchNorm1d", (5,), {}),
    ("BatchNorm2d", (5,), {"affine": False}),
    ("BatchNorm2d", (5,), {"track_running_stats": False}),
]


@pytest.mark.parametrize(("name", "arguments", "options"), CONSTRUCTORS, ids=str)
def test_state_dicts(name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Keys, shapes, order and number types; and PyTorch's values load."""
    ours, theirs = (getattr(m, name)(*arguments, **options) for m in (nn, torch.nn))
    mine, other = ours.state_dict(), theirs.state_dict()
    assert [(k, np.shape(v)) for k, v in mine.items()] == [
        (k, tuple(v.shape)) for k, v in other.items()
    ]
    ours.load_state_dict({key: value.numpy() for key, value in other.items()})


def test_zero_copy_exchange() -> None:
    t = torch.arange(6.0).reshape(2, 3)
    a = fc.from_dlpack(t)
    t[0, 0] = 100
    assert a.numpy()[0, 0] == 100
    back = torch.from_dlpack(a)
    back[1, 1] = -7
    assert t[1, 1] == -7
    assert torch.as_tensor(np.asarray(fc.Tensor([1.0, 2.0]))).tolist() == [1, 2]


def test_models_count_as_pytorch_counts() -> None:
    model = models.lenet5()
    names = {name.rsplit(".", 1)[-1] for name in model.state_dict()}
    assert names <= {"weight", "bias"}
