"""Modules: parameters, names, initial values, modes, state dicts, what each layer computes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import functional as F
from fastconv import models, nn
from tests import reference
from tests.support import assert_close, assert_same_bits, uniform

# layer, its state dict (PyTorch's keys and shapes, in order), an input, the output's shape
LAYERS: list[
    tuple[Callable[[], nn.Module], dict[str, tuple[int, ...]], tuple[int, ...], tuple[int, ...]]
] = [
    (
        lambda: nn.Conv2d(3, 8, 5),
        {"weight": (8, 3, 5, 5), "bias": (8,)},
        (2, 3, 9, 8),
        (2, 8, 5, 4),
    ),
    (
        lambda: nn.Conv2d(4, 8, (3, 1), stride=2, padding=(1, 0), groups=2, bias=False),
        {"weight": (8, 2, 3, 1)},
        (17, 4, 9, 8),
        (17, 8, 5, 4),
    ),
    (
        lambda: nn.Conv2d(3, 6, 3, padding="same"),
        {"weight": (6, 3, 3, 3), "bias": (6,)},
        (2, 3, 7, 5),
        (2, 6, 7, 5),
    ),
    (lambda: nn.Conv1d(3, 5, 4), {"weight": (5, 3, 4), "bias": (5,)}, (2, 3, 10), (2, 5, 7)),
    (
        lambda: nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1),
        {"weight": (6, 4, 3, 3), "bias": (4,)},
        (2, 6, 5, 4),
        (2, 4, 10, 8),
    ),
    (lambda: nn.Linear(7, 3), {"weight": (3, 7), "bias": (3,)}, (5, 7), (5, 3)),
    (lambda: nn.Linear(7, 3, bias=False), {"weight": (3, 7)}, (5, 7), (5, 3)),
    (
        lambda: nn.BatchNorm2d(4),
        {
            "weight": (4,),
            "bias": (4,),
            "running_mean": (4,),
            "running_var": (4,),
            "num_batches_tracked": (),
        },
        (5, 4, 3, 3),
        (5, 4, 3, 3),
    ),
    (
        lambda: nn.BatchNorm1d(4),
        {
            "weight": (4,),
            "bias": (4,),
            "running_mean": (4,),
            "running_var": (4,),
            "num_batches_tracked": (),
        },
        (5, 4),
        (5, 4),
    ),
    (lambda: nn.MaxPool2d(2), {}, (2, 3, 7, 6), (2, 3, 3, 3)),
    (lambda: nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True), {}, (2, 3, 8, 6), (2, 3, 5, 4)),
    (lambda: nn.AvgPool2d(2), {}, (2, 3, 7, 6), (2, 3, 3, 3)),
    (lambda: nn.AdaptiveAvgPool2d((2, 1)), {}, (2, 3, 7, 6), (2, 3, 2, 1)),
    (lambda: nn.LocalResponseNorm(5), {}, (2, 8, 3, 3), (2, 8, 3, 3)),
    (lambda: nn.Dropout(0.5), {}, (2, 3), (2, 3)),
    (lambda: nn.Flatten(), {}, (2, 3, 4, 5), (2, 60)),
    (lambda: nn.ReLU(), {}, (2, 3), (2, 3)),
    (lambda: nn.ReLU6(), {}, (2, 3), (2, 3)),
    (lambda: nn.LeakyReLU(0.2), {}, (2, 3), (2, 3)),
    (lambda: nn.Sigmoid(), {}, (2, 3), (2, 3)),
    (lambda: nn.Tanh(), {}, (2, 3), (2, 3)),
    (lambda: nn.Softmax(dim=1), {}, (2, 3), (2, 3)),
    (lambda: nn.Upsample(scale_factor=2), {}, (2, 3, 4, 5), (2, 3, 8, 10)),
    (lambda: nn.Upsample(size=(7, 3), mode="bilinear"), {}, (2, 3, 4, 5), (2, 3, 7, 3)),
]
every_layer = pytest.mark.parametrize(
    ("make", "state", "x_shape", "y_shape"), LAYERS, ids=lambda v: repr(v()) if callable(v) else ""
)


def arrays(state: Any) -> dict[str, np.ndarray]:
    return {key: np.array(value) for key, value in state.items()}


@every_layer
def test_layer(
    make: Callable[[], nn.Module],
    state: dict[str, tuple[int, ...]],
    x_shape: tuple[int, ...],
    y_shape: tuple[int, ...],
    rng: np.random.Generator,
) -> None:
    layer = make()
    assert {key: np.shape(value) for key, value in layer.state_dict().items()} == state
    assert list(layer.state_dict()) == list(state), "in PyTorch's order"
    x = fc.Tensor(uniform(rng, *x_shape), requires_grad=True)
    y = layer(x)
    assert y.shape == y_shape
    y.sum().backward()
    assert x.grad is not None and x.grad.shape == x_shape
    for name, parameter in layer.named_parameters():
        assert parameter.requires_grad and parameter.grad is not None, name
        assert parameter.grad.shape == parameter.shape
    layer.eval()
    with fc.no_grad():
        few, many = layer(x), layer(fc.Tensor(np.concatenate([x.numpy()] * 9)))
    assert_close(many.numpy()[: x_shape[0]], few.numpy(), 100, c=4)
    assert isinstance(repr(layer), str) and type(layer).__name__ in repr(layer)


def test_initial_values_are_pytorchs() -> None:
    """Weights and biases of conv and dense layers: uniform within 1 / sqrt(fan in)."""
    fc.manual_seed(0)
    for layer, fan_in in (
        (nn.Conv2d(8, 50, 5), 200),
        (nn.Linear(300, 400), 300),
        (nn.Conv1d(6, 90, 7), 42),
        (nn.Conv2d(8, 64, 3, groups=4), 18),
    ):
        bound = 1 / math.sqrt(fan_in)
        for parameter in layer.parameters():
            values = parameter.numpy()
            assert np.abs(values).max() <= bound
            if values.size > 1000:
                assert np.abs(values).max() > 0.99 * bound
                assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)
                assert abs(values.mean()) < 0.05 * bound
    transposed = nn.ConvTranspose2d(30, 20, 5)  # PyTorch counts dimension 1: 20 * 25
    assert np.abs(transposed.weight.numpy()).max() == pytest.approx(1 / math.sqrt(500), rel=0.01)
    norm = arrays(nn.BatchNorm2d(3).state_dict())
    for key, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
        np.testing.assert_array_equal(norm[key], np.full(3, value, np.float32))


def test_manual_seed_repeats() -> None:
    fc.manual_seed(5)
    first = arrays(models.lenet5().state_dict())
    other = arrays(models.lenet5().state_dict())
    fc.manual_seed(5)
    again = arrays(models.lenet5().state_dict())
    for key in first:
        assert_same_bits(first[key], again[key])
        assert (first[key] != other[key]).any()


class Residual(nn.Module):
    """A module with everything nested: a child, a list in Sequential, a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU())
        self.scale = nn.Parameter(np.ones((1,), np.float32))
        self.head = nn.Linear(2, 3)

    def forward(self, x: fc.Tensor) -> fc.Tensor:
        x = x + self.body(x) * self.scale
        return self.head(x.mean((2, 3)))


def test_names_and_nesting() -> None:
    model = Residual()
    names = [name for name, _ in model.named_parameters()]
    assert names == [
        "scale",
        "body.0.weight",
        "body.0.bias",
        "body.1.weight",
        "body.1.bias",
        "head.weight",
        "head.bias",
    ]
    assert len(list(model.parameters())) == 7
    assert "body.1.running_var" in model.state_dict()
    assert len(list(model.body.children())) == 3 and model.body[0] is next(iter(model.body))


def test_every_parameter_of_a_branching_network_gets_its_gradient(rng: np.random.Generator) -> None:
    model = Residual()
    loss = nn.CrossEntropyLoss()(
        model(fc.Tensor(uniform(rng, 17, 2, 5, 5))), fc.Tensor(np.arange(17) % 3)
    )
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and np.isfinite(parameter.grad.numpy()).all(), name
        if name != "body.0.bias":  # before batch norm, which takes it away again
            assert parameter.grad.numpy().any(), name


def test_train_and_eval_reach_all_children(rng: np.random.Generator) -> None:
    model = Residual()
    assert model.training and model.body[1].training
    assert model.eval() is model and not model.body[1].training
    x = fc.Tensor(uniform(rng, 8, 2, 4, 4))
    before = arrays(model.state_dict())
    model(x)
    for key, value in arrays(model.state_dict()).items():
        assert_same_bits(value, before[key])
    model.train()(x)
    after = arrays(model.state_dict())
    assert (after["body.1.running_mean"] != before["body.1.running_mean"]).any()
    assert after["body.1.num_batches_tracked"] == 1


def test_batch_norm_uses_running_statistics_when_evaluating(rng: np.random.Generator) -> None:
    norm = nn.BatchNorm2d(3)
    x = uniform(rng, 33, 3, 4, 4) + np.float32(2)
    for _ in range(200):
        norm(fc.Tensor(x))
    norm.eval()
    mean, var = reference.batch_statistics(x)
    unbiased = var * x.size / 3 / (x.size / 3 - 1)
    expected = reference.batch_norm(x, np.ones(3), np.zeros(3), mean, unbiased, 1e-5)
    assert_close(norm(fc.Tensor(x)).numpy(), expected, 500)


def test_dropout_only_while_training() -> None:
    fc.manual_seed(0)
    layer, x = nn.Dropout(0.5), fc.Tensor(np.ones((100, 100), np.float32))
    first, second = layer(x).numpy(), layer(x).numpy()
    assert set(np.unique(first)) == {0, 2} and (first != second).any()
    layer.eval()
    np.testing.assert_array_equal(layer(x), np.ones((100, 100)))


def test_dropout_sends_the_gradient_through_the_same_mask() -> None:
    x = fc.Tensor(np.ones((17, 3, 5, 5), np.float32), requires_grad=True)
    y = F.dropout(F.max_pool2d(x, 1), 0.5)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, y)


def test_state_dict_round_trip(rng: np.random.Generator) -> None:
    fc.manual_seed(1)
    a, b = Residual(), Residual()
    a(fc.Tensor(uniform(rng, 17, 2, 4, 4)))
    b.load_state_dict(a.state_dict())
    x = fc.Tensor(uniform(rng, 3, 2, 4, 4))
    assert_same_bits(a.eval()(x).numpy(), b.eval()(x).numpy())
    assert int(b.state_dict()["body.1.num_batches_tracked"]) == 1


def test_load_state_dict_refuses_what_does_not_fit() -> None:
    """All mismatches in one message, and the model as it was."""
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    before = arrays(model.state_dict())
    state = arrays(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).state_dict())
    del state["0.bias"]
    state["extra"] = np.zeros(1, np.float32)
    state["2.weight"] = np.zeros((2, 4), np.float32)
    with pytest.raises(ValueError, match=r"(?s)0\.bias") as caught:
        model.load_state_dict(state)
    for word in ("0.bias", "extra", "2.weight", "(2, 4)", "(2, 3)"):
        assert word in str(caught.value)
    for key, value in arrays(model.state_dict()).items():
        assert_same_bits(value, before[key])
    state["2.weight"] = np.zeros((2, 3), np.float32)
    model.load_state_dict(state, strict=False)
    assert not np.array(model.state_dict()["2.weight"]).any()


def test_training_takes_the_fused_path_and_means_the_same(
    isa: str, rng: np.random.Generator
) -> None:
    """Sequential may fuse conv, bias, ReLU and pooling; layer by layer gives the same."""
    fc.manual_seed(0)
    layers = [
        nn.Conv2d(1, 3, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * 49, 5),
        nn.ReLU(),
        nn.Linear(5, 3),
    ]
    model = nn.Sequential(*layers)
    x = uniform(rng, 33, 1, 16, 16)
    labels = fc.Tensor(np.arange(33) % 3)
    results = []
    for separately in (False, True):
        for parameter in model.parameters():
            parameter.grad = None
        a = fc.Tensor(x, requires_grad=True)
        y = a
        if separately:
            for layer in layers:
                y = layer(y)
        else:
            y = model(y)
        nn.CrossEntropyLoss()(y, labels).backward()
        results.append([y.numpy(), a.grad.numpy(), *(p.grad.numpy() for p in model.parameters())])
    for fused, separate in zip(*results, strict=True):
        assert_close(fused, separate, 200)


def conv_norm_relu_layers() -> list[nn.Module]:
    """Two convolutions with batch normalisation, whose statistics are not the initial ones."""
    fc.manual_seed(0)
    layers = [
        *(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU6()),
        *(nn.Conv2d(8, 16, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(16)),
        *(nn.Conv2d(16, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
    ]
    nn.Sequential(*layers)(uniform(np.random.default_rng(0), 32, 3, 7, 7) + np.float32(1))
    return layers


@pytest.mark.parametrize("n", [1, 15, 16])
def test_evaluation_normalises_on_the_way(n: int, rng: np.random.Generator) -> None:
    layers = conv_norm_relu_layers()
    model = nn.Sequential(*layers).eval()
    x = fc.Tensor(uniform(rng, n, 3, 7, 7))
    with fc.no_grad():
        y = x
        for layer in layers:
            y = layer(y)
        assert_close(model(x).numpy(), y.numpy(), 20)
    recorded = model(x)
    assert recorded.requires_grad
    assert_close(recorded.numpy(), y.numpy(), 20)


def test_hooks_see_what_is_between_convolution_and_norm(rng: np.random.Generator) -> None:
    layers = conv_norm_relu_layers()
    model = nn.Sequential(*layers).eval()
    x, seen = fc.Tensor(uniform(rng, 1, 3, 7, 7)), []
    with fc.no_grad():
        expected = model(x)
        for layer in layers[3:5]:
            handle = layer.register_forward_hook(lambda _, inputs, y: seen.append(y.numpy()))
            assert_close(model(x).numpy(), expected.numpy(), 20)
            handle.remove()
        layers[3].forward = lambda x: seen.append(x) or nn.Conv2d.forward(layers[3], x)  # type: ignore[method-assign]
        assert_close(model(x).numpy(), expected.numpy(), 20)
    assert len(seen) == 3


def test_statistics_that_change_are_seen(rng: np.random.Generator) -> None:
    """By the next call, and by a recorded program."""
    layers = conv_norm_relu_layers()
    model = nn.Sequential(*layers).eval()
    x = fc.Tensor(uniform(rng, 2, 3, 7, 7))
    program = fc.record(model)
    for _ in range(3):
        with fc.no_grad():
            assert_same_bits(model(x).numpy(), program(x).numpy())
        assert program.reason is None
        layers[4].running_mean.numpy()[...] += 1
        model.train()(fc.Tensor(uniform(rng, 16, 3, 7, 7)))
        model.eval()


def test_an_error_between_convolution_and_norm_names_its_layer() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(3)).eval()
    with fc.no_grad(), pytest.raises(fc.ShapeError, match="in layer '1'"):
        model(np.zeros((1, 1, 5, 5), np.float32))
    with fc.no_grad(), pytest.raises(fc.ShapeError, match="in layer '0'"):
        model(np.zeros((1, 2, 5, 5), np.float32))


def test_pool_before_relu_is_relu_before_pool(rng: np.random.Generator) -> None:
    x = fc.Tensor(uniform(rng, 17, 2, 6, 6), requires_grad=True)
    a = nn.Sequential(nn.MaxPool2d(2), nn.ReLU())(x)
    b = F.relu(F.max_pool2d(x, 2))
    assert_same_bits(a.numpy(), b.numpy())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 0), "kernel_size"),
        (lambda: nn.Conv2d(3, 4, 3, stride=0), "stride"),
        (lambda: nn.Conv2d(3, 4, 3, padding=-1), "padding"),
        (lambda: nn.Conv2d(3, 4, 3, padding="full"), "padding"),
        (lambda: nn.Conv2d(3, 4, 3, dilation=0), "dilation"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "groups"),
        (lambda: nn.Conv2d(0, 4, 3), "in_channels"),
        (lambda: nn.Conv2d(3, 4, 2.5), "kernel_size"),  # type: ignore[arg-type]
        (lambda: nn.Linear(0, 4), "in_features"),
        (lambda: nn.Dropout(1.5), r"\bp\b"),
        (lambda: nn.MaxPool2d(0), "kernel_size"),
        (lambda: nn.BatchNorm2d(0), "num_features"),
    ],
    ids=range(12),
)
def test_wrong_arguments_are_found_at_construction(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_shape_errors_name_the_layer() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(100, 10))
    with pytest.raises(fc.ShapeError, match=r"100") as caught:
        model(fc.Tensor(np.zeros((32, 1, 8, 8), np.float32)))
    text = str(caught.value)
    assert "144" in text, "what came"
    assert "2" in text and "Linear" in text, "the layer, by position and type"


LOSSES: list[tuple[Any, Callable[[Any, Any], Any], str]] = [
    (nn.CrossEntropyLoss, reference.cross_entropy, "labels"),
    (nn.MSELoss, reference.mse_loss, "like"),
    (nn.BCELoss, reference.binary_cross_entropy, "like"),
    (nn.BCEWithLogitsLoss, reference.binary_cross_entropy_with_logits, "like"),
]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("make", "oracle", "kind"), LOSSES, ids=lambda v: getattr(v, "__name__", "")
)
def test_losses(
    make: Any, oracle: Any, kind: str, reduction: str, rng: np.random.Generator
) -> None:
    x = np.abs(uniform(rng, 17, 5)) * np.float32(0.9) + np.float32(0.05)
    target = np.arange(17) % 5 if kind == "labels" else np.abs(uniform(rng, 17, 5))
    a = fc.Tensor(x, requires_grad=True)
    loss = make(reduction=reduction)(a, fc.Tensor(target))
    right, gradient = oracle(x, target, reduction=reduction)
    assert_close(loss.numpy(), right, 85, c=4)
    (loss.sum() * 2).backward()
    assert_close(a.grad, 2 * gradient, 10, c=4)


def test_cross_entropy_options(rng: np.random.Generator) -> None:
    x, labels = uniform(rng, 17, 4), np.arange(17) % 4
    weight = np.array([1, 2, 0.5, 3], np.float32)
    loss = nn.CrossEntropyLoss(weight=fc.Tensor(weight), ignore_index=2, label_smoothing=0.1)
    right, _ = reference.cross_entropy(x, labels, weight, 2, 0.1)
    assert_close(loss(fc.Tensor(x), fc.Tensor(labels)).numpy(), right, 17, c=4)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("lenet5", None),
        ("lenet1", None),
        ("keras_mlp", 407050),
        ("keras_convnet", 104202),
        ("keras_convnet_no_pool", 712202),
    ],
)
def test_models(name: str, count: int | None, rng: np.random.Generator) -> None:
    model = getattr(models, name)()
    if count:
        assert sum(p.numel() for p in model.parameters()) == count
    assert model(fc.Tensor(uniform(rng, 2, 1, 28, 28))).shape == (2, 10)


def test_summary_of_the_keras_convnet(capsys: pytest.CaptureFixture[str]) -> None:
    text = models.keras_convnet().summary((1, 28, 28))
    text = f"{text or ''}{capsys.readouterr().out}"
    for number in ("320", "18,496", "73,856", "11,530", "104,202"):
        assert number in text
