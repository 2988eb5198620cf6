"""Nearest to any size, padding with the image itself, and convolutions that pad so: as PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import functional as F
from fastconv import nn
from fastconv.autograd import wrap
from tests.support import uniform

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
BATCHES = [1, 7, 8, 15, 16, 17, 33]
MODES = ["reflect", "replicate", "circular"]
PADS = [(0, 0, 0, 0), (1, 2, 3, 4), (4, 0, 0, 3), (-1, 2, 1, -2), (-2, -1, 0, 0), (3, -2, -1, 4)]


def compare(function: Any, theirs: Any, x: np.ndarray, exact: bool = True) -> None:
    """Values and gradients; as given, and behind an operation that leaves lanes."""
    t = torch.from_numpy(x).requires_grad_()
    right = theirs(t)
    dy = np.random.default_rng(1).uniform(-1, 1, tuple(right.shape)).astype(np.float32)
    right.backward(torch.from_numpy(dy))
    for before in (lambda a: a, lambda a: a * 1.0, lambda a: wrap(a._array.to_lanes())):
        given = fc.Tensor(x, requires_grad=True)
        a = before(given)
        if a is not given and not a.requires_grad:
            a.requires_grad_()
            given = a
        y = function(a)
        assert y.shape == tuple(right.shape)
        y.backward(fc.Tensor(dy))
        if exact:
            np.testing.assert_array_equal(y.numpy(), right.detach().numpy())
        else:
            np.testing.assert_allclose(y.numpy(), right.detach().numpy(), rtol=1e-4, atol=1e-5)
        assert given.grad is not None
        np.testing.assert_allclose(given.grad.numpy(), t.grad.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(function(x), right.detach().numpy(), rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------------- interpolate
@pytest.mark.parametrize("N", BATCHES)
@pytest.mark.parametrize(
    "size", [(7, 9), (4, 6), (8, 12), (1, 1), (3, 5), (13, 2), 5, (41, 97)], ids=str
)
def test_nearest_to_a_size(N: int, size: Any, rng: np.random.Generator) -> None:
    x = uniform(rng, N, 3, 4, 6)
    compare(
        lambda a: F.interpolate(a, size=size),
        lambda a: torch.nn.functional.interpolate(a, size=size),
        x,
    )


@pytest.mark.parametrize("N", [1, 15, 16, 17])
@pytest.mark.parametrize(
    "factor", [0.5, 2.5, 2, 3, 1.0, 0.34, 1.7, (0.5, 2.5), (3, 1), (1.3, 0.6)], ids=str
)
@pytest.mark.parametrize("shape", [(5, 7), (10, 3)], ids=str)
def test_nearest_by_a_factor(
    N: int, factor: Any, shape: tuple[int, int], rng: np.random.Generator
) -> None:
    x = uniform(rng, N, 2, *shape)
    compare(
        lambda a: F.interpolate(a, scale_factor=factor),
        lambda a: torch.nn.functional.interpolate(a, scale_factor=factor),
        x,
    )


def test_nearest_positions_round_as_in_pytorch() -> None:
    """Every pair of sizes up to 64, and factors whose reciprocal is not exact."""
    for size in range(1, 65, 3):
        x = np.arange(size, dtype=np.float32)[None, None, None]
        t = torch.from_numpy(x)
        for count in range(1, 65):
            right = torch.nn.functional.interpolate(t, size=(1, count)).numpy()
            np.testing.assert_array_equal(F.interpolate(x, size=(1, count)), right)
        for factor in np.arange(1, 60) / 13:
            if int(size * factor) >= 1:
                given = (1.0, float(factor))
                right = torch.nn.functional.interpolate(t, scale_factor=given).numpy()
                np.testing.assert_array_equal(F.interpolate(x, scale_factor=given), right)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf"), 0.1, (2.0,), (1, 2, 3)])
def test_factors_that_leave_nothing(factor: Any) -> None:
    with pytest.raises(ValueError, match=r"^\[interpolate\] scale_factor"):
        F.interpolate(np.ones((1, 1, 4, 4), np.float32), scale_factor=factor)


def test_bilinear_still_needs_whole_sizes() -> None:
    with pytest.raises(ValueError, match="does not give whole sizes: use size="):
        F.interpolate(np.ones((1, 1, 3, 3), np.float32), scale_factor=2.5, mode="bilinear")


def test_upsample_layer(rng: np.random.Generator) -> None:
    x = uniform(rng, 2, 3, 5, 4)
    for options in ({"scale_factor": 2.5}, {"size": (3, 9)}, {"scale_factor": (0.5, 3)}):
        right = torch.nn.Upsample(**options)(torch.from_numpy(x)).numpy()
        np.testing.assert_array_equal(nn.Upsample(**options)(x), right)


# ------------------------------------------------------------------------------------------ pad
@pytest.mark.parametrize("N", BATCHES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pads", PADS, ids=str)
def test_pad_images(N: int, mode: str, pads: tuple[int, ...], rng: np.random.Generator) -> None:
    x = uniform(rng, N, 3, 5, 6)
    compare(
        lambda a: F.pad(a, pads, mode=mode),
        lambda a: torch.nn.functional.pad(a, pads, mode=mode),
        x,
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("shape", "pads"),
    [((5, 9), (3, 2)), ((17, 4, 9), (2, 3)), ((3, 6, 7), (1, 2, 3, 4)), ((1, 1, 3), (2, 2))],
    ids=str,
)
def test_pad_without_a_batch_and_in_one_dimension(
    mode: str, shape: tuple[int, ...], pads: tuple[int, ...], rng: np.random.Generator
) -> None:
    x = uniform(rng, *shape)
    compare(
        lambda a: F.pad(a, pads, mode=mode),
        lambda a: torch.nn.functional.pad(a, pads, mode=mode),
        x,
    )


@pytest.mark.parametrize(
    ("shape", "pads", "mode"),
    [
        ((1, 1, 4, 4), (4, 0, 0, 0), "reflect"),
        ((1, 1, 4, 4), (0, 0, 0, 4), "reflect"),
        ((1, 1, 4), (0, 5), "reflect"),
        ((1, 1, 4, 4), (5, 0, 0, 0), "circular"),
        ((1, 1, 4, 4), (-2, -2, 0, 0), "replicate"),
        ((1, 1, 4, 4), (-4, 3, 0, 0), "circular"),
        ((1, 1, 4, 4), (1, 1), "reflect"),
        ((1, 4, 4), (1, 1, 1), "reflect"),
        ((4,), (1, 1), "replicate"),
        ((1, 1, 4, 4), (1, 1, 1, 1, 1, 1), "circular"),
    ],
)
def test_pads_that_do_not_fit(shape: tuple[int, ...], pads: tuple[int, ...], mode: str) -> None:
    """PyTorch refuses most of them too; some it answers with nothing, or with chance."""
    x = np.ones(shape, np.float32)
    with pytest.raises(fc.ShapeError, match=r"^\[pad\] "):
        F.pad(x, pads, mode=mode)


def test_reflect_as_far_as_it_goes(rng: np.random.Generator) -> None:
    x = uniform(rng, 1, 1, 4, 4)
    assert F.pad(x, (3, 3, 3, 3), mode="reflect").shape == (1, 1, 10, 10)
    assert F.pad(x, (4, 4, 4, 4), mode="circular").shape == (1, 1, 12, 12)


def test_modes_are_named() -> None:
    x = np.ones((1, 1, 4, 4), np.float32)
    with pytest.raises(ValueError, match='"reflect", "replicate" or "circular", got \'mirror\''):
        F.pad(x, (1, 1, 1, 1), mode="mirror")
    with pytest.raises(ValueError, match="takes no value"):
        F.pad(x, (1, 1, 1, 1), mode="reflect", value=1.0)


# ---------------------------------------------------------------------------------- convolutions
def twins(make: Any, theirs: Any) -> tuple[Any, Any]:
    fc.manual_seed(3)
    layer, other = make(), theirs()
    other.load_state_dict({k: torch.from_numpy(v.numpy()) for k, v in layer.state_dict().items()})
    return layer, other


@pytest.mark.parametrize("N", BATCHES)
@pytest.mark.parametrize("mode", ["zeros", *MODES])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (3, 5), "padding": (2, 1), "stride": (2, 1), "groups": 2},
        {"kernel_size": (2, 4), "padding": "same", "dilation": (2, 1)},
        {"kernel_size": 3, "padding": "valid", "bias": False},
    ],
    ids=str,
)
def test_conv2d(N: int, mode: str, options: dict[str, Any], rng: np.random.Generator) -> None:
    layer, other = twins(
        lambda: nn.Conv2d(4, 6, padding_mode=mode, **options),
        lambda: torch.nn.Conv2d(4, 6, padding_mode=mode, **options),
    )
    compare(layer, other, uniform(rng, N, 4, 7, 6), exact=False)


@pytest.mark.parametrize("N", [1, 15, 16, 17])
@pytest.mark.parametrize("mode", ["zeros", *MODES])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 5, "padding": 2, "stride": 2},
        {"kernel_size": 4, "padding": "same", "dilation": 2},
    ],
    ids=str,
)
def test_conv1d(N: int, mode: str, options: dict[str, Any], rng: np.random.Generator) -> None:
    layer, other = twins(
        lambda: nn.Conv1d(4, 6, padding_mode=mode, **options),
        lambda: torch.nn.Conv1d(4, 6, padding_mode=mode, **options),
    )
    compare(layer, other, uniform(rng, N, 4, 11), exact=False)


def test_modes_of_layers() -> None:
    assert repr(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")).endswith(
        "padding=(1, 1), padding_mode=circular)"
    )
    for make in (nn.Conv1d, nn.Conv2d):
        with pytest.raises(ValueError, match="padding_mode must be one of zeros, reflect"):
            make(1, 1, 3, padding_mode="mirror")
    with pytest.raises(ValueError, match="padding_mode must be one of zeros, got 'reflect'"):
        nn.ConvTranspose2d(1, 1, 3, padding_mode="reflect")


@pytest.mark.parametrize("N", [1, 7, 16, 17])
@pytest.mark.parametrize("mode", MODES)
def test_recorded(N: int, mode: str, rng: np.random.Generator) -> None:
    """A network with such a border and an odd enlargement, in steps written down and by hand."""
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, padding_mode=mode),
        nn.ReLU(),
        nn.Upsample(size=(7, 5)),
        nn.Conv2d(4, 3, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    loss = nn.CrossEntropyLoss()
    step = fc.record_step(model, loss)
    forward = fc.record(model)
    labels = np.arange(N) % 3
    for _ in range(4):
        x = uniform(rng, N, 2, 6, 6)
        model.zero_grad()
        right = model(fc.Tensor(x))
        value = loss(right, fc.Tensor(labels))
        value.backward()
        grads = [np.array(p.grad) for p in model.parameters()]
        model.zero_grad()
        came, outputs = step(fc.Tensor(x), fc.Tensor(labels))
        np.testing.assert_allclose(float(came), value.item(), rtol=1e-6)
        np.testing.assert_allclose(np.array(outputs), np.array(right), rtol=1e-5, atol=1e-6)
        for p, grad in zip(model.parameters(), grads, strict=True):
            np.testing.assert_allclose(np.array(p.grad), grad, rtol=1e-4, atol=1e-6)
        with fc.no_grad():
            np.testing.assert_allclose(np.array(forward(x)), np.array(right), rtol=1e-5, atol=1e-6)
    assert not step.reason, step.reason
    assert not forward.reason, forward.reason
