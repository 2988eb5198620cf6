"""fit, evaluate and predict from whatever gives batches; class weights, smoothing, clipping."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import data, nn, optim, train
from fastconv import functional as F
from tests.support import assert_close, assert_same_bits

Pair = tuple[np.ndarray, np.ndarray]


def samples(count: int = 100) -> Pair:
    rng = np.random.default_rng(0)
    y = np.arange(count) % 3
    x = rng.integers(0, 80, (count, 6, 6))
    for label in range(3):
        x[y == label, 2 * label : 2 * label + 2] += 90
    return x.astype(np.uint8), y


def model_of(channels: int = 1, **options: Any) -> nn.Sequential:
    fc.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    options.setdefault("metrics", ["accuracy"])
    model.compile(options.pop("optimizer", "adam"), **options)
    return model


def batches(x: np.ndarray, y: np.ndarray, size: int = 32) -> Iterator[Pair]:
    for begin in range(0, len(x), size):
        yield x[begin : begin + size], y[begin : begin + size]


def weights(model: nn.Module) -> np.ndarray:
    return np.concatenate([np.array(v).ravel() for v in model.state_dict().values()])


SOURCES = {
    "function": lambda x, y: lambda: batches(x, y),
    "list": lambda x, y: list(batches(x, y)),
    "lists": lambda x, y: iter([[a, b] for a, b in batches(x, y)] * 2),
    "loader": lambda x, y: data.Loader(x, y, batch_size=32),
    "loader's batches": lambda x, y: lambda: iter(data.Loader(x, y, batch_size=32)),
    "endless": lambda x, y: itertools.chain.from_iterable(batches(x, y) for _ in itertools.count()),
    "iterator": lambda x, y: iter([*batches(x, y), *batches(x, y)]),
    "floats": lambda x, y: lambda: ((a[:, None] / 255, b) for a, b in batches(x, y)),
    "tensors": lambda x, y: (
        lambda: ((fc.Tensor(a[:, None] / np.float32(255)), fc.Tensor(b)) for a, b in batches(x, y))
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_trains_alike(name: str) -> None:
    """The same batches, the last one smaller: the same weights as from arrays."""
    x, y = samples()
    expected, model = model_of(), model_of()
    whole = expected.fit(x, y, epochs=2, shuffle=False, verbose=0, validation_data=(x, y))
    source = SOURCES[name]
    steps = 4 if hasattr(source(x, y), "__next__") else None
    history = model.fit(
        source(x, y),
        epochs=2,
        steps_per_epoch=steps,
        validation_data=source(x, y),
        validation_steps=steps,
        verbose=0,
    )
    assert_close(weights(model), weights(expected), 1000)
    for key, values in whole.history.items():
        assert history.history[key] == pytest.approx(values, rel=1e-4)
    if name not in ("floats", "tensors"):
        assert_same_bits(weights(model), weights(expected))
    assert model.evaluate(source(x, y), steps=steps) == pytest.approx(model.evaluate(x, y))
    predicted = model.predict(source(x, y), steps=steps)
    assert_close(predicted, model.predict(x), 100)


@pytest.mark.parametrize("kind", [tuple, list, "batches", "batch"])
def test_validation_data_of_any_kind(kind: Any) -> None:
    x, y = samples(40)
    given: Any = {"batches": [(x[:20], y[:20]), (x[20:], y[20:])], "batch": [(x, y)]}.get(kind)
    if given is None:
        given = kind((x, y))
    model = model_of()
    history = model.fit(*samples(), validation_data=given, verbose=0).history
    assert history["val_loss"][0] == pytest.approx(model.evaluate(x, y)[0])


def test_validation_data_with_something_more() -> None:
    x, y = samples()
    with pytest.raises(ValueError, match=r"validation_data must be \(x, y\).*3 things"):
        model_of().fit(x, y, validation_data=(x, y, y), verbose=0)


def test_predict_takes_batches_without_targets() -> None:
    x, _ = samples()
    model = model_of()
    assert_same_bits(
        model.predict(x[begin : begin + 50] for begin in (0, 50)), model.predict(x, batch_size=50)
    )


def test_steps_of_arrays() -> None:
    """Part of the data in each epoch, shuffled anew."""
    x, y = samples()
    seen: list[int] = []
    model_of().fit(
        x,
        y,
        epochs=3,
        steps_per_epoch=2,
        verbose=0,
        callbacks=[type("Count", (), {"on_batch_end": lambda self, s, logs: seen.append(s)})()],
    )
    assert seen == list(range(6))


def test_progress_of_data_without_a_length(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = samples()
    model_of().fit(lambda: batches(x, y), epochs=2, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and "images/s" in lines[0] and "left" in lines[0]


def test_a_generator_that_ends_early_is_reported() -> None:
    x, y = samples()
    with pytest.warns(UserWarning, match=r"after 2 of 3 batches of epoch 2.*function"):
        history = model_of().fit(
            iter(list(batches(x, y, 20))), epochs=4, steps_per_epoch=3, verbose=0
        )
    assert history.epoch == [0, 1]


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        (lambda x, y: batches(x, y), {"epochs": 2}, ValueError, "steps_per_epoch"),
        (lambda x, y: batches(x[:0], y[:0]), {}, ValueError, "there is no batch: a generator"),
        (lambda x, y: iter([x, x]), {}, TypeError, "every batch must be .x, y., got a ndarray"),
        (lambda x, y: iter([(x, y, y)]), {}, TypeError, "got 3 things"),
        (lambda x, y: iter([(x, y[1:])]), {}, ValueError, "x has 100 samples, y has 99"),
        (lambda x, y: iter([(x, y + 1)]), {}, ValueError, r"0 to 2: y\[2\] is 3"),
        (lambda x, y: iter([(x / np.nan, y)]), {}, fc.TrainingDiverged, "NaN"),
        (lambda x, y: batches(x, y), {"y": [1]}, ValueError, "brings its targets"),
        (lambda x, y: batches(x, y), {"transform": data.RandomShift(1)}, ValueError, "transform"),
        (lambda x, y: batches(x, y), {"validation_split": 0.1}, ValueError, "validation_data"),
        (lambda x, y: batches(x, y), {"class_weight": "balanced"}, ValueError, "give the weights"),
        (lambda x, y: batches(x, y), {"steps_per_epoch": 0}, ValueError, "1 or more"),
        (lambda x, y: batches(x, y), {"steps_per_epoch": 1.5}, TypeError, "integer"),
        (lambda x, y: [(x, y)], {"validation_data": iter([])}, ValueError, "there is no batch"),
    ],
    ids=range(14),
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_bad_batches(
    source: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    before = model_of()
    with (
        pytest.raises(error, match=message),
        np.errstate(all="ignore"),
    ):
        before.fit(source(*samples()), verbose=0, **options)
    assert_same_bits(weights(before), weights(model_of()))


# ------------------------------------------------------------------------------------ preprocessing


class _Scaling:
    """What matters of a `data.Preprocessing`."""

    scale = np.array([1 / 60, 1 / 50, 1 / 40], np.float32)
    shift = np.array([-2.0, -1.5, -1.0], np.float32)


def test_bytes_are_scaled_as_the_model_says() -> None:
    x, y = samples()
    x = np.stack([x, x // 2, x // 3], axis=1)
    floats = x * _Scaling.scale[:, None, None] + _Scaling.shift[:, None, None]
    expected, model = model_of(3), model_of(3)
    model.preprocessing = _Scaling()
    expected.fit(floats, y, verbose=0, shuffle=False)
    model.fit(x, y, verbose=0, shuffle=False)
    assert_close(weights(model), weights(expected), 1000)
    assert_close(model.predict(x), model.predict(floats), 1000)
    assert_close(model.predict(iter([x])), model.predict(floats), 1000)
    assert model.evaluate(x, y) == pytest.approx(model.evaluate(floats, y), rel=1e-4)


# ------------------------------------------------------------- class weights, smoothing, clipping


def test_class_weight_is_the_mean_of_weighted_losses() -> None:
    """Steps of plain descent against the formula, Keras's: sum of w[y] * loss, divided by N."""
    x, y = samples(40)
    table = np.array([1.0, 4.0, 0.5], np.float32)
    expected, total = model_of(optimizer=optim.SGD), 0.0
    sgd = optim.SGD(expected.parameters())
    for images, labels in batches(x, y, 16):  # 16, 16 and 8
        sgd.zero_grad()
        logits = expected(fc.Tensor(images[:, None] / np.float32(255)))
        losses = F.cross_entropy(logits, labels, reduction="none") * fc.Tensor(table[labels])
        losses.mean().backward()
        total += losses.sum().item()
        sgd.step()
    for given in (table, {1: 4.0, 2: 0.5}):
        model = model_of(optimizer=optim.SGD)
        history = model.fit(
            x,
            y,
            class_weight=given,
            batch_size=16,
            shuffle=False,
            verbose=0,
            validation_data=(x, y),
        ).history
        assert_close(weights(model), weights(expected), 100)
        assert history["loss"][0] == pytest.approx(total / 40, rel=1e-5)
        # Validation counts every sample once.
        assert history["val_loss"][0] == pytest.approx(model.evaluate(x, y)[0], rel=1e-5)


def test_balanced_weights() -> None:
    y = np.array([0] * 60 + [1] * 30 + [2] * 10)
    x = samples()[0]
    one, two = model_of(), model_of()
    one.fit(x, y, class_weight="balanced", verbose=0, shuffle=False)
    exact = {0: 100 / 180, 1: 100 / 90, 2: 100 / 30}
    two.fit(x, y, class_weight=exact, verbose=0, shuffle=False)
    assert_same_bits(weights(one), weights(two))


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ({3: 1.0}, "label 3.*0 to 2"),
        ([1.0, 2.0], r"needs 3 weights.*\(2,\)"),
        ([1.0, 2.0, -1.0], "numbers from 0"),
        ("equal", '"balanced"'),
    ],
    ids=str,
)
def test_bad_class_weights(weight: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_of().fit(*samples(), class_weight=weight, verbose=0)


def test_class_weight_needs_classes() -> None:
    x, y = samples()
    with pytest.raises(ValueError, match="cross-entropy of class labels"):
        model_of(loss="mse").fit(x, np.eye(3)[y], class_weight={0: 2.0}, verbose=0)
    weighted = nn.CrossEntropyLoss(weight=np.ones(3, np.float32))
    with pytest.raises(ValueError, match="weights of its own"):
        model_of(loss=weighted).fit(x, y, class_weight={0: 2.0}, verbose=0)


@pytest.mark.parametrize("kind", ["sparse", "categorical"])
def test_label_smoothing_by_name(kind: str) -> None:
    x, y = samples()
    loss = "sparse_categorical_crossentropy" if kind == "sparse" else "categorical_crossentropy"
    model = model_of(loss=loss, label_smoothing=0.1)
    expected = model_of(loss=nn.CrossEntropyLoss(label_smoothing=0.1))
    model.fit(x, y if kind == "sparse" else np.eye(3)[y], verbose=0, shuffle=False)
    expected.fit(x, y, verbose=0, shuffle=False)
    assert_same_bits(weights(model), weights(expected))


def test_label_smoothing_goes_with_names_of_cross_entropies() -> None:
    for loss in ("mse", nn.CrossEntropyLoss()):
        with pytest.raises(ValueError, match="label_smoothing"):
            model_of(loss=loss, label_smoothing=0.1)
    with pytest.raises(ValueError, match="from 0 to 1"):
        model_of(label_smoothing=1.5)


def test_clip_norm_limits_the_step() -> None:
    x, y = samples()
    moved = []
    for clip_norm in (None, 0.01):
        model = model_of(optimizer=optim.SGD, clip_norm=clip_norm)
        before = weights(model)
        model.fit(x, y, batch_size=100, verbose=0)
        moved.append(float(np.linalg.norm(weights(model) - before)))
    assert moved[0] > 0.05 * 1e-3
    assert moved[1] == pytest.approx(0.01 * 1e-3, rel=1e-2)
    for wrong in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="clip_norm"):
            model_of(clip_norm=wrong)


# ----------------------------------------------------------------------------------- schedules


def test_rates_of_groups_keep_their_ratio() -> None:
    x, y = samples()
    model = model_of()
    groups = [
        {"params": list(model[0].parameters()), "lr": 1e-4},
        {"params": list(model[3].parameters()), "lr": 1e-2},
    ]
    optimizer = optim.SGD(groups)
    model.compile(optimizer)
    schedule = train.StepScheduler(optim.lr_scheduler.StepLR(optimizer, 1, 0.5), every="epoch")
    model.fit(x, y, epochs=3, verbose=0, callbacks=[schedule])
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([1e-4 / 8, 1e-2 / 8])


def test_reduce_on_plateau() -> None:
    """Nothing improves by 100: lower after every second epoch, but not below the floor."""
    x, y = samples()
    model = model_of()
    rates = []
    plateau = train.ReduceLROnPlateau(
        "loss", factor=0.1, patience=2, min_delta=100.0, cooldown=1, min_lr=5e-5
    )
    optimizer = model._compiled.optimizer

    def note(epoch: int, logs: Any) -> None:
        rates.append(optimizer.param_groups[0]["lr"])

    model.fit(x, y, epochs=9, verbose=0, callbacks=[plateau, note])
    # Epoch 1 is the first best; 2 and 3 are no better; 4 rests.
    assert rates == pytest.approx([1e-3] * 2 + [1e-4] * 3 + [5e-5] * 4)


def test_callbacks_that_come_last() -> None:
    called: list[str] = []

    def named(name: str, last: bool) -> Any:
        body = {"last": last, "on_epoch_end": lambda self, epoch, logs: called.append(name)}
        return type("Named", (), body)()

    model_of().fit(*samples(), verbose=0, callbacks=[named("a", True), named("b", False)])
    assert called == ["b", "a"]
