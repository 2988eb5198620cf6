"""Networks that return probabilities: trained on their logits, wherever the activation was."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import functional as F
from fastconv import models, nn, optim
from tests import reference
from tests.support import assert_close, uniform

SIZES = (1, 7, 8, 15, 16, 17, 33)


class Ends(nn.Module):
    """A dense layer, and what is done to its result."""

    def __init__(self, end: Callable[[Any], Any], outputs: int = 3) -> None:
        super().__init__()
        fc.manual_seed(0)
        self.fc, self.end = nn.Linear(6, outputs), end

    def forward(self, x: Any) -> Any:
        return self.end(self.fc(x))


SOFTMAX: dict[str, Callable[[Any], Any]] = {
    "layer": nn.Softmax(dim=1),
    "function": lambda z: F.softmax(z, dim=1),
    "last axis": lambda z: F.softmax(z, dim=-1),
    "flattened": lambda z: F.softmax(z.reshape(len(z), 3, 1, 1), dim=1).flatten(1),
    "batch and classes joined on the way": lambda z: (
        F.softmax(z, dim=1).reshape(-1).reshape(len(z), 3)
    ),
    "twice": lambda z: F.softmax(z * F.softmax(z, dim=1), dim=1),
    "and one beside it": lambda z: (F.softmax(z, dim=1), F.softmax(z * 2, dim=1))[0],
}


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("end", SOFTMAX)
def test_softmax_at_the_end(end: str, n: int, rng: np.random.Generator) -> None:
    x, y = uniform(rng, n, 6), np.arange(n) % 3
    model = Ends(SOFTMAX[end]).eval()
    own = model(fc.Tensor(x)).detach().numpy()
    model.compile("sgd", metrics=["accuracy"])
    np.testing.assert_allclose(model.predict(x, batch_size=16), own, atol=1e-6)
    loss, accuracy = model.evaluate(x, y, batch_size=16)
    assert loss == pytest.approx(-np.log(own[np.arange(n), y]).mean(), rel=1e-4)
    assert accuracy == pytest.approx((own.argmax(axis=1) == y).mean())


SIGMOID: dict[str, Callable[[Any], Any]] = {
    "layer": nn.Sigmoid(),
    "function": F.sigmoid,
    "twice": lambda z: F.sigmoid(z * F.sigmoid(z)),
    "more behind": lambda z: F.sigmoid(z.unsqueeze(1)).squeeze(1),
}


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("end", SIGMOID)
@pytest.mark.parametrize("outputs", [1, 2])
def test_sigmoid_at_the_end(end: str, outputs: int, n: int, rng: np.random.Generator) -> None:
    x, y = uniform(rng, n, 6), (uniform(rng, n, outputs) > 0).astype(np.float32)
    model = Ends(SIGMOID[end], outputs).eval()
    own = model(fc.Tensor(x)).detach().numpy()
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    np.testing.assert_allclose(model.predict(x, batch_size=16), own, atol=1e-6)
    loss, accuracy = model.evaluate(x, y, batch_size=16)
    assert loss == pytest.approx(-np.where(y, np.log(own), np.log1p(-own)).mean(), rel=1e-4)
    assert accuracy == pytest.approx(((own > 0.5) == y).mean())


@pytest.mark.parametrize("end", ["layer", "function", "twice"])
def test_fit_takes_the_gradient_of_the_whole_network(end: str, rng: np.random.Generator) -> None:
    """One step is that of a loss written out on the probabilities."""
    x, y = uniform(rng, 32, 6), np.arange(32) % 3
    model, twin = Ends(SOFTMAX[end]), Ends(SOFTMAX[end])
    model.compile(optim.SGD(model.parameters(), lr=0.5))
    model.fit(x, y, epochs=3, batch_size=32, shuffle=False, verbose=0)
    sgd = optim.SGD(twin.parameters(), lr=0.5)
    for _ in range(3):
        sgd.zero_grad()
        F.nll_loss(twin(fc.Tensor(x)).log(), y).backward()
        sgd.step()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), atol=1e-5)


def test_the_loss_is_stable_behind_a_softmax() -> None:
    x, y = np.float32([[1, 0]]) * 500, np.array([1])
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Softmax(dim=1))
    model.load_state_dict({"0.weight": np.eye(2, dtype=np.float32)})
    model.compile("sgd")
    assert model.evaluate(x, y) == pytest.approx(500)


def test_what_was_written_over_is_no_softmax(rng: np.random.Generator) -> None:
    def halved(z: Any) -> Any:
        y = F.softmax(z, dim=1)
        y *= 0.5
        return y

    model, x = Ends(halved).eval(), uniform(rng, 5, 6)
    with fc.no_grad():
        own = model(fc.Tensor(x)).numpy()
    model.compile("sgd")
    assert_close(model.predict(x), reference.softmax(own, 1), length=3)


@pytest.mark.parametrize(
    ("end", "outputs", "loss", "remedy"),
    [
        (lambda z: F.sigmoid(z).clamp(1e-6, 1 - 1e-6), 1, "binary_crossentropy", "BCELoss"),
        (lambda z: F.sigmoid(z)[:, :1], 2, "binary_crossentropy", "BCELoss"),
        (lambda z: F.softmax(z, dim=1).clamp(1e-6, 1.0), 3, None, "leave it out"),
        (lambda z: F.softmax(z, dim=1)[:, [2, 1, 0]], 3, None, "leave it out"),
    ],
)
def test_an_activation_too_many_is_told(
    end: Any, outputs: int, loss: str | None, remedy: str, rng: np.random.Generator
) -> None:
    x, y = uniform(rng, 16, 6), np.arange(16) % 2
    model = Ends(end, outputs)
    model.compile("sgd", loss or "sparse_categorical_crossentropy")
    for job in (
        lambda: model.fit(x, y, verbose=0),
        lambda: model.evaluate(x, y),
        lambda: model.predict(x),
    ):
        with pytest.warns(UserWarning, match=remedy) as caught:
            job()
        assert len(caught) == 1
        assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = model.predict(x)  # one rule for batches of any size
        np.testing.assert_allclose(model.predict(x, batch_size=9), rows, atol=1e-6)
        np.testing.assert_allclose(model.predict(x, batch_size=1), rows, atol=1e-6)


@pytest.mark.parametrize(
    ("end", "loss"),
    [
        (lambda z: z * F.sigmoid(z), "binary_crossentropy"),
        (lambda z: z.relu() if hasattr(z, "relu") else F.relu(z), "binary_crossentropy"),
        (lambda z: z * F.softmax(z, dim=1), "categorical_crossentropy"),
        (lambda z: F.sigmoid(z), "mse"),
        (lambda z: F.sigmoid(z).clamp(1e-6, 1.0), nn.BCELoss()),
        (nn.LogSoftmax(dim=1), nn.NLLLoss()),
    ],
)
def test_gates_inside_are_not_taken_for_heads(
    end: Any, loss: Any, rng: np.random.Generator
) -> None:
    x, y = uniform(rng, 16, 6), np.eye(3, dtype=np.float32)[np.arange(16) % 3]
    targets = y.argmax(axis=1) if isinstance(loss, nn.NLLLoss) else y
    model = Ends(end)
    model.compile("sgd", loss)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(x, targets, verbose=0)
        model.evaluate(x, targets)


# ------------------------------------------------------------- what a file of weights knows of it


def test_loaded_networks_evaluate_and_predict_probabilities(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path, x = tmp_path / "w.safetensors", uniform(rng, 5, 1, 28, 28)
    model = models.lenet5(num_classes=2)
    model.classes = ["cat", "dog"]
    model.compile("sgd")
    want = model.predict(x)
    models.save(model, path)
    for loaded in (models.load(path), models.lenet5(weights=path)):
        assert not any(module.training for module in loaded.modules())
        assert loaded.output_activation == "softmax"
        np.testing.assert_allclose(loaded.predict(x), want, atol=1e-6)
        loaded.compile("sgd", "mse")  # a loss that says otherwise goes first
        assert_close(loaded.predict(x), loaded(fc.Tensor(x)).detach().numpy(), length=1000)
    history = models.load(path)
    history.compile("sgd")
    history.fit(x, [0, 1, 0, 1, 0], verbose=0)
    assert not history.training


@pytest.mark.parametrize(
    ("loss", "activation"),
    [("binary_crossentropy", "sigmoid"), ("mse", None), (nn.BCELoss(), None)],
)
def test_files_keep_what_the_loss_says(loss: Any, activation: str | None, tmp_path: Path) -> None:
    model = models.lenet5(num_classes=2)
    model.compile("sgd", loss)
    models.save(model, tmp_path / "w.safetensors", classes=["no", "yes"])
    assert models.load(tmp_path / "w.safetensors").output_activation == activation


def test_files_without_the_key_and_damaged_ones() -> None:
    from fastconv.models.weight_files import Description

    assert Description.from_dict({"classes": ["a", "b"]}).output_activation == "softmax"
    assert Description.from_dict({}).output_activation is None
    with pytest.raises(ValueError, match="output_activation"):
        Description.from_dict({"output_activation": "training"})


def test_an_activation_is_not_applied_twice(rng: np.random.Generator) -> None:
    model = Ends(nn.Softmax(dim=1))
    model.output_activation = "softmax"
    x = uniform(rng, 7, 6)
    np.testing.assert_allclose(model.predict(x), model(fc.Tensor(x)).detach().numpy(), atol=1e-6)
