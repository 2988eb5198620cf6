"""fit runs recorded programs by itself: the bits of an eager fit, and nobody's code left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import functional as F
from fastconv import models, nn, optim
from fastconv.program import RecordedForward
from tests.support import assert_same_bits, uniform
from tests.test_program import ConvNet, assert_same_state, made, recordings

OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": lambda p: optim.SGD(p, 0.01),
    "momentum": lambda p: optim.SGD(p, 0.01, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "rmsprop": lambda p: optim.RMSprop(p, 1e-3, momentum=0.5, centered=True),
    "adam": lambda p: optim.Adam(p, 1e-3, amsgrad=True),
    "adamw": lambda p: optim.AdamW(p, 1e-3),
    "adagrad": lambda p: optim.Adagrad(p, 1e-2, lr_decay=0.1),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_fit_has_the_bits_of_an_eager_fit(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a last partial batch, validation, dropout, batch norm. A hook makes it run eagerly."""
    made_recordings = recordings(monkeypatch)
    rng = np.random.default_rng(0)
    x, y = uniform(rng, 50, 3, 12, 12), rng.integers(0, 10, 50)
    results = []
    for eager in (True, False):
        fc.manual_seed(7)
        model = nn.Sequential(*ConvNet(), nn.Softmax(dim=1))
        if eager:
            model.register_forward_hook(lambda module, inputs, output: None)
        model.compile(OPTIMIZERS[optimizer](model.parameters()), metrics=["accuracy"])
        del made_recordings[:]
        history = model.fit(
            x, y, epochs=3, batch_size=16, validation_data=(x[:20], y[:20]), verbose=0
        )
        if not eager:  # whole batches and the last one, of training; one of validation
            assert len(made_recordings) == 3
            assert all(recorded.reason is None for recorded in made_recordings)
        results.append((model, history.history, model.predict(x)))
    (a, history_a, outputs_a), (b, history_b, outputs_b) = results
    assert history_a == history_b
    assert_same_bits(outputs_a, outputs_b)
    assert_same_state(a, b)


def test_fit_runs_the_code_of_others_every_time() -> None:
    seen = []

    class Mine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x: fc.Tensor) -> fc.Tensor:
            seen.append(len(x))
            return self.layer(x)

    x, y = np.ones((40, 4), np.float32), np.arange(40) % 2
    model = Mine()
    model.compile("sgd")
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    assert seen.count(8) == 10
    losses = []

    def loss(outputs: fc.Tensor, targets: fc.Tensor) -> fc.Tensor:
        losses.append(len(targets))
        return F.cross_entropy(outputs, targets)

    model = nn.Sequential(nn.Linear(4, 2))
    model.compile("sgd", loss)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    assert losses.count(8) == 10


def test_nothing_is_recorded_for_a_single_use() -> None:
    forward = RecordedForward(made("lenet"), automatic=True)
    reasons = []
    for count in (17, 3, 17, 17):
        forward(fc.zeros(count, 1, 28, 28))
        reasons.append(forward.reason)
    first = "inputs of this form came for the first time"
    assert reasons == [first, first, None, None]


def test_googlenet_fits_with_its_auxiliary_heads() -> None:
    x = uniform(np.random.default_rng(0), 6, 3, 64, 64)
    model = made("googlenet")
    model.compile("sgd", models.GoogLeNetLoss(), ["accuracy"])
    history = model.fit(x, np.arange(6), batch_size=3, epochs=2, verbose=0).history
    assert len(history["loss"]) == 2 and np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_labels_of_any_whole_type_are_recorded(dtype: type) -> None:
    """data.mnist() and data.digits() give bytes."""
    model = nn.Sequential(nn.Linear(4, 3))
    step = fc.record_step(model, nn.CrossEntropyLoss())
    x, labels = np.ones((5, 4), np.float32), np.array([0, 1, 2, 1, 0], dtype)
    losses = {step(x, labels)[0].item() for _ in range(3)}
    losses.add(step(x, fc.Tensor(labels.astype(np.int64)))[0].item())
    if dtype is np.uint8:
        losses.add(step(x, fc.Tensor(labels))[0].item())
    assert step.reason is None
    assert len(losses) == 1
