"""Losses and metrics over a data set: one definition, whatever the batches; in float64 NumPy."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import data, nn, optim, train
from fastconv import functional as F
from tests import reference
from tests.support import uniform

BATCHES = (1, 7, 8, 15, 16, 17, 33, 100, 133)
N, CLASSES = 133, 3
WEIGHTS = np.array([1, 10, 0.25], np.float32)


def linear(outputs: int = CLASSES, features: int = 6) -> nn.Sequential:
    fc.manual_seed(0)
    return nn.Sequential(nn.Linear(features, outputs))


def samples(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return uniform(rng, N, 6), rng.choice(CLASSES, N, p=[0.8, 0.15, 0.05])


def logits_of(model: nn.Module, x: np.ndarray) -> np.ndarray:
    with fc.no_grad():
        return np.array(model(fc.Tensor(x)), np.float64)


def cross_entropy(
    z: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray | None = None,
    ignore: int = -100,
    smoothing: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """PyTorch's definition: what each label adds, and what it counts with."""
    counted = y != ignore
    w = np.ones(z.shape[1]) if weight is None else weight.astype(np.float64)
    minus_log = -reference.log_softmax(z, 1)
    label = np.where(counted, y, 0)
    rows = np.arange(len(y))
    own = w[label] * minus_log[rows, label]
    spread = (w * minus_log).sum(axis=1) / z.shape[1]
    return ((1 - smoothing) * own + smoothing * spread) * counted, w[label] * counted


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weight", [None, WEIGHTS])
@pytest.mark.parametrize("ignored", [None, -100, 2])
def test_cross_entropy(
    smoothing: float, weight: np.ndarray | None, ignored: int | None, rng: np.random.Generator
) -> None:
    x, y = samples(rng)
    if ignored == -100:
        y = np.where(rng.random(N) < 0.5, ignored, y)
    ignore = -100 if ignored is None else ignored
    model = linear()
    z = logits_of(model, x)
    parts, counts = cross_entropy(z, y, weight, ignore, smoothing)
    kept = y != ignore
    options = {"ignore_index": ignore, "label_smoothing": smoothing}
    weigh = None if weight is None else fc.Tensor(weight)
    for loss in (
        nn.CrossEntropyLoss(weigh, **options),
        functools.partial(F.cross_entropy, weight=weigh, **options),
    ):
        model.compile("sgd", loss, ["accuracy", lambda p, t: np.mean(p[np.arange(len(t)), t])])
        for batch in BATCHES:
            got, accuracy, chosen = model.evaluate(x, y, batch_size=batch)
            assert got == pytest.approx(parts.sum() / counts.sum(), rel=2e-5), batch
            assert accuracy == pytest.approx((z.argmax(axis=1) == y)[kept].mean()), batch
            right = reference.softmax(z, 1)[np.arange(N), np.where(kept, y, 0)][kept].mean()
            assert chosen == pytest.approx(right, rel=1e-5), batch


@pytest.mark.parametrize("batch", [7, 16, 33, 133])
def test_fit_logs_the_same_means(batch: int, rng: np.random.Generator) -> None:
    """loss of an epoch, val_loss; with a rate of 0 all of them are of the same network."""
    x, y = samples(rng)
    y = np.where(rng.random(N) < 0.3, -100, y)
    model = linear()
    parts, counts = cross_entropy(logits_of(model, x), y, WEIGHTS)
    right = parts.sum() / counts.sum()
    sgd = optim.SGD(model.parameters(), lr=0.0)
    model.compile(sgd, nn.CrossEntropyLoss(fc.Tensor(WEIGHTS)), ["accuracy"])
    logs = model.fit(x, y, batch_size=batch, validation_data=(x, y), verbose=0).history
    assert logs["loss"][0] == pytest.approx(right, rel=2e-5)
    assert logs["val_loss"][0] == pytest.approx(right, rel=2e-5)
    assert logs["accuracy"] == pytest.approx(logs["val_accuracy"])


def test_pixels_are_classified_too(rng: np.random.Generator) -> None:
    fc.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, CLASSES, 1))
    x, y = uniform(rng, 33, 1, 4, 5), rng.integers(0, CLASSES, (33, 4, 5))
    y[rng.random(y.shape) < 0.4] = -100
    y[5] = -100
    z = logits_of(model, x).transpose(0, 2, 3, 1).reshape(-1, CLASSES)
    parts, counts = cross_entropy(z, y.reshape(-1), WEIGHTS)
    kept = y.reshape(-1) >= 0
    model.compile("sgd", nn.CrossEntropyLoss(fc.Tensor(WEIGHTS)), ["accuracy"])
    for batch in (1, 7, 16, 33):
        loss, accuracy = model.evaluate(x, y, batch_size=batch)
        assert loss == pytest.approx(parts.sum() / counts.sum(), rel=2e-5)
        assert accuracy == pytest.approx((z.argmax(axis=1) == y.reshape(-1))[kept].mean())
    model.fit(x, y, batch_size=1, verbose=0)  # one batch has no label that counts
    with pytest.raises(ValueError, match=r"labels must be\s+integers \(N, 4, 5\).*Flatten"):
        model.evaluate(x, np.zeros(33, int))
    wrong = np.zeros((33, 4, 5), int)
    wrong[1, 2, 3] = 3
    with pytest.raises(ValueError, match=r"y\[1, 2, 3\] is 3"):
        model.evaluate(x, wrong)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", ["bce", "logits", "mse", "mae"])
def test_other_losses(kind: str, reduction: str, rng: np.random.Generator) -> None:
    """The mean over elements; a sum is a sum over the elements of a sample, a mean over samples."""
    x, y = uniform(rng, N, 6), (uniform(rng, N, 2) > 0).astype(np.float32)
    w, pos = np.float32([0.5, 2]), np.float32([3, 0.25])
    model = linear(2)
    if kind == "bce":
        model.append(nn.Sigmoid())
    z = logits_of(model, x)
    p = reference.sigmoid(z)
    each, loss = {
        "bce": (
            -w * np.where(y, np.log(z), np.log1p(-z)) if kind == "bce" else None,
            nn.BCELoss(fc.Tensor(w), reduction=reduction),
        ),
        "logits": (
            -w * np.where(y, pos * np.log(p), np.log1p(-p)),
            nn.BCEWithLogitsLoss(fc.Tensor(w), pos_weight=fc.Tensor(pos), reduction=reduction),
        ),
        "mse": ((z - y) ** 2, nn.MSELoss(reduction)),
        "mae": (np.abs(z - y), functools.partial(F.l1_loss, reduction=reduction)),
    }[kind]
    right = each.mean() if reduction == "mean" else each.sum(axis=1).mean()
    model.compile("sgd", loss)
    for batch in BATCHES:
        assert model.evaluate(x, y, batch_size=batch) == pytest.approx(right, rel=2e-5), batch


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("rows", ["labels", "one-hot", "soft"])
def test_class_weight_follows_keras(smoothing: float, rows: str, rng: np.random.Generator) -> None:
    """Each sample's loss times the weight of its class, and the plain mean of those."""
    x, y = samples(rng)
    share = 0.75 if rows == "soft" else 1.0
    table = share * np.eye(CLASSES) + (1 - share) / CLASSES
    model = linear()
    smooth = (1 - smoothing) * table[y] + smoothing / CLASSES
    losses = -(reference.log_softmax(logits_of(model, x), 1) * smooth).sum(axis=1)
    name = "sparse_categorical_crossentropy" if rows == "labels" else "categorical_crossentropy"
    targets = y if rows == "labels" else table[y].astype(np.float32)
    sgd = optim.SGD(model.parameters(), lr=0.0)
    model.compile(sgd, name, ["accuracy"], label_smoothing=smoothing)
    for batch in (7, 16, 133):
        logs = model.fit(x, targets, batch_size=batch, verbose=0, class_weight=WEIGHTS).history
        assert logs["loss"][0] == pytest.approx((losses * WEIGHTS[y]).mean(), rel=2e-5)


def test_class_weight_leaves_ignored_labels_out(rng: np.random.Generator) -> None:
    x, y = samples(rng)
    y = np.where(rng.random(N) < 0.4, -100, y)
    model = linear()
    parts, counts = cross_entropy(logits_of(model, x), y)
    sgd = optim.SGD(model.parameters(), lr=0.0)
    model.compile(sgd, nn.CrossEntropyLoss())
    right = (parts * WEIGHTS[np.maximum(y, 0)]).sum() / counts.sum()
    for batch in (7, 16, 133):
        logs = model.fit(x, y, batch_size=batch, verbose=0, class_weight=WEIGHTS).history
        assert logs["loss"][0] == pytest.approx(right, rel=2e-5)
    model.fit(x, y, verbose=0, class_weight="balanced")


# -------------------------------------------------------------------------- nothing that counts


def test_a_batch_without_labels_that_count_changes_nothing(rng: np.random.Generator) -> None:
    x, y = uniform(rng, 64, 6), np.full(64, -100)
    y[:32] = np.arange(32) % 3
    both, half = linear(), linear()
    for model, n in ((both, 64), (half, 32)):
        adam = optim.Adam(model.parameters(), weight_decay=0.1)  # which moves without gradients
        model.compile(adam, nn.CrossEntropyLoss(), ["accuracy"])
        model.fit(x[:n], y[:n], batch_size=32, shuffle=False, verbose=0)
    assert both.history.history == half.history.history
    for a, b in zip(both.parameters(), half.parameters(), strict=True):
        assert np.array_equal(a.detach().numpy(), b.detach().numpy())


def test_a_data_set_without_labels_that_count_is_told(rng: np.random.Generator) -> None:
    x, y = uniform(rng, 40, 6), np.full(40, -100)
    model = linear()
    model.compile("sgd", nn.CrossEntropyLoss())
    before = np.array(model[0].weight)
    stream = [(x[:20], y[:20]), (x[20:], y[20:])]
    for job in (
        lambda: model.fit(x, y, verbose=0),
        lambda: model.evaluate(x, y),
        lambda: model.fit(stream, verbose=0),
        lambda: model.evaluate(stream),
    ):
        with pytest.raises(ValueError, match="no label counts"):
            job()
    assert np.array_equal(model[0].weight, before)


def test_report_leaves_ignored_labels_out(rng: np.random.Generator) -> None:
    x, y = samples(rng)
    model = linear()
    for ignore in (-100, 1):
        labels = np.where(y == 1, ignore, y)
        model.compile("sgd", nn.CrossEntropyLoss(ignore_index=ignore), ["accuracy"])
        report = model.report(x, labels)
        assert report.support.tolist() == [(y == 0).sum(), 0, (y == 2).sum()]
        assert report.accuracy == pytest.approx(model.evaluate(x, labels)[1])


# --------------------------------------------------------------------------------- what metrics get


@pytest.mark.parametrize("batch", [1, 7, 16, 33])
def test_metrics_get_rows_as_they_were_given(batch: int, rng: np.random.Generator) -> None:
    x, y = uniform(rng, 33, 6), np.eye(3, dtype=np.float32)[rng.integers(0, 3, 33)]

    def largest(p: np.ndarray, t: np.ndarray) -> float:
        assert p.shape == t.shape
        assert set(np.unique(t)) <= {0, 1}
        return float(np.abs(p - t).max(axis=1).mean())

    model = linear()
    model.compile("sgd", "categorical_crossentropy", ["accuracy", "mse", "mae", largest])
    p = reference.softmax(logits_of(model, x), 1)
    got = model.evaluate(x, y, batch_size=batch)[1:]
    error = np.abs(p - y)
    right = [(p.argmax(1) == y.argmax(1)).mean(), (error**2).mean(), error.mean()]
    assert got == pytest.approx([*right, error.max(axis=1).mean()], rel=1e-5)


def test_an_error_of_labels_is_refused(rng: np.random.Generator) -> None:
    model = linear()
    model.compile("sgd", metrics=["mse"])
    with pytest.raises(ValueError, match=r"\[mse\] compares numbers with numbers"):
        model.evaluate(uniform(rng, 4, 6), [0, 1, 2, 0])


LOSSES_OF_ONES_OWN = {
    "broadcasts": lambda o, t: ((o - t) ** 2).mean(),
    "takes a column": lambda o, t: ((o[:, 0] - t) ** 2).mean(),
    "flattens both": lambda o, t: ((o.reshape(-1) - t.reshape(-1)) ** 2).mean(),
    "one of functional": lambda o, t: F.mse_loss(o.flatten(), t.flatten()),
}


@pytest.mark.parametrize("n", [1, 7, 33])
@pytest.mark.parametrize("name", LOSSES_OF_ONES_OWN)
def test_targets_of_one_output_are_never_paired_with_all(
    name: str, n: int, rng: np.random.Generator
) -> None:
    x, y = uniform(rng, n, 6), uniform(rng, n)

    def metric(p: np.ndarray, t: np.ndarray) -> float:
        return float(((p - t) ** 2).mean())

    model = linear(1)
    right = ((logits_of(model, x)[:, 0] - y) ** 2).mean()
    model.compile("sgd", LOSSES_OF_ONES_OWN[name], [metric, "mse"])
    assert model.evaluate(x, y) == pytest.approx([right] * 3, rel=1e-5)


@pytest.mark.parametrize(
    ("function", "module"),
    [
        (F.cross_entropy, nn.CrossEntropyLoss()),
        (F.mse_loss, nn.MSELoss()),
        (F.l1_loss, nn.L1Loss()),
        (fc.functional.binary_cross_entropy_with_logits, nn.BCEWithLogitsLoss()),
        (F.binary_cross_entropy, nn.BCELoss()),
        (F.nll_loss, nn.NLLLoss()),
    ],
)
def test_functions_are_known_as_the_losses(
    function: Any, module: nn.Module, rng: np.random.Generator
) -> None:
    x, labels = uniform(rng, 33, 6), rng.integers(0, 2, 33)
    classes = function in (F.cross_entropy, F.nll_loss)
    outputs = 2 if classes else 1
    end = {F.binary_cross_entropy: nn.Sigmoid(), F.nll_loss: nn.LogSoftmax(dim=1)}
    results = []
    for loss in (function, module):
        model = linear(outputs)
        if function in end:
            model.append(end[function])
        model.compile("sgd", loss, ["accuracy", "mae"] if not classes else ["accuracy"])
        model.fit(x, labels, epochs=2, shuffle=False, verbose=0)
        results.append((model.evaluate(x, labels), model.predict(x).tobytes()))
    assert results[0] == results[1]


# -------------------------------------------------------------------------------- words and orders


def test_predict_of_a_shuffled_loader_keeps_the_order(rng: np.random.Generator) -> None:
    x, model = uniform(rng, 37, 6), linear()
    model.compile("sgd")
    loader = data.Loader(x, np.zeros(37, int), batch_size=8, shuffle=True)
    np.testing.assert_allclose(model.predict(loader), model.predict(x), atol=1e-6)
    assert loader.shuffle


@pytest.mark.parametrize("n", [1, 7, 8, 16, 17])
def test_floats_that_a_transform_makes_are_not_scaled(n: int) -> None:
    x = np.full((n, 1, 4, 4), 255, np.uint8)

    def to_float(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return images.astype(np.float32) / 255

    seen = [images.numpy() for images, _ in data.Loader(x, transform=to_float)]
    assert np.all(np.concatenate(seen) == 1)
    half = data.Loader(x, transform=to_float, scale=0.5, shift=1.0)  # asked for
    assert np.all(next(iter(half))[0].numpy() == 1.5)
    plain = data.Loader(x, transform=lambda images, rng: images)
    assert np.allclose(next(iter(plain))[0].numpy(), 1)


def test_a_recipe_is_of_bytes_alone() -> None:
    model, seen = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), []
    model.preprocessing = data.Preprocessing((4, 4), channels="L", mean=(0.5,), std=(0.5,))
    model.register_forward_pre_hook(lambda _, inputs: seen.append(np.array(inputs[0])))
    model.compile("sgd")
    x, y = np.full((4, 1, 4, 4), 255, np.uint8), [0, 1, 0, 1]
    model.fit(x, y, verbose=0, transform=lambda im, rng: (im / 255).astype(np.float32) * 3)
    assert np.allclose(seen[-1], 3)
    model.fit(x, y, verbose=0)
    assert np.allclose(seen[-1], 1)


NORMS: dict[str, list[nn.Module]] = {
    "1d": [nn.Flatten(), nn.Linear(16, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)],
    "1d with ReLU": [nn.Flatten(), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)],
    "2d of 1x1": [nn.Conv2d(1, 4, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)],
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("batch", [1, 8, 16, 32])
def test_a_last_batch_of_one_is_told_before_training(
    name: str, batch: int, rng: np.random.Generator
) -> None:
    x, y = uniform(rng, 33, 1, 4, 4), np.arange(33) % 3
    model = nn.Sequential(*NORMS[name])
    model.compile("sgd")
    before = {n: np.array(t) for n, t in model.state_dict().items()}
    for arguments in ((x, y), (data.Loader(x, y, batch_size=batch),)):
        with pytest.raises(ValueError, match=r"layer '\d' \(BatchNorm.d\).*drop_last=True"):
            model.fit(*arguments, batch_size=batch, verbose=0)
    for key, tensor in model.state_dict().items():
        assert np.array_equal(tensor, before[key])
    if batch > 1:
        model.fit(x, y, batch_size=batch, verbose=0, drop_last=True)
        model.fit(data.Loader(x, y, batch_size=batch, drop_last=True), verbose=0)
        model.fit(data.Loader(x, y, batch_size=batch), verbose=0, drop_last=True)
        model.fit(x, y, batch_size=batch, steps_per_epoch=1, verbose=0)
    with pytest.raises(ValueError, match=r"layer.*drop_last"):  # where nobody knows beforehand
        model.fit([(x[:8], y[:8]), (x[8:9], y[8:9])], verbose=0)


def test_norms_that_do_not_mind_single_samples(rng: np.random.Generator) -> None:
    x, y = uniform(rng, 33, 1, 4, 4), np.arange(33) % 3
    frozen = nn.Sequential(*NORMS["1d"])
    frozen[2].freeze()
    wide = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    for model in (frozen, wide):
        model.compile("sgd")
        model.fit(x, y, batch_size=16, verbose=0)


def test_drop_last_needs_a_whole_batch(rng: np.random.Generator) -> None:
    x, y = uniform(rng, 5, 6), np.arange(5) % 3
    model = linear()
    model.compile("sgd")
    with pytest.raises(ValueError, match="leaves no batch"):
        model.fit(x, y, batch_size=8, drop_last=True)
    with pytest.raises(ValueError, match="drop_last is for arrays and Loaders"):
        model.fit([(x, y)], drop_last=True)


@pytest.mark.parametrize("ending", ["epochs", "patience", "stopped"])
def test_best_weights_come_back_however_training_ends(
    ending: str, rng: np.random.Generator
) -> None:
    losses, kept = [3.0, 1.0, 2.0, 2.5, 2.2], []

    class Told(train.EarlyStopping):
        def on_epoch_end(self, epoch: int, logs: Any) -> None:
            super().on_epoch_end(epoch, {"v": losses[epoch]})

    def keep(epoch: int, logs: Any) -> None:
        kept.append(np.array(model[0].weight))

    class Stop(train.Callback):
        def on_epoch_end(self, epoch: int, logs: Any) -> None:
            if ending == "stopped" and epoch == 2:
                self.run.stop()

    model = linear()
    model.compile("adam")
    stop = Told("v", patience=2 if ending == "patience" else 10, restore_best_weights=True)
    x, y = uniform(rng, 33, 6), np.arange(33) % 3
    model.fit(x, y, epochs=5, verbose=0, callbacks=[keep, stop, Stop()])
    assert len(kept) == {"epochs": 5, "patience": 4, "stopped": 3}[ending]
    assert np.array_equal(model[0].weight, kept[1])


def test_an_error_leaves_the_last_weights(rng: np.random.Generator) -> None:
    class Fail(train.Callback):
        def on_epoch_end(self, epoch: int, logs: Any) -> None:
            self.last_weights = np.array(self.run.model[0].weight)
            if epoch == 2:
                raise RuntimeError("enough")

    model, fail = linear(), Fail()
    model.compile("adam")
    stop = train.EarlyStopping("loss", mode="max", patience=9, restore_best_weights=True)
    with pytest.raises(RuntimeError, match="enough"):
        model.fit(
            *(uniform(rng, 33, 6), np.arange(33) % 3),
            epochs=5,
            verbose=0,
            callbacks=[stop, fail],
        )
    assert np.array_equal(model[0].weight, fail.last_weights)


def test_report_is_for_classifiers(rng: np.random.Generator) -> None:
    x = uniform(rng, 33, 6)
    many = (uniform(rng, 33, 3) > 0).astype(np.float32)
    many[0] = 1
    for outputs, loss, y in (
        (3, "binary_crossentropy", many),
        (1, "mse", uniform(rng, 33) * 100),
        (3, "mse", many),
        (1, nn.L1Loss(), np.arange(33)),
    ):
        model = linear(outputs)
        model.compile("sgd", loss)
        with pytest.raises(ValueError, match=r"\[report\] needs"):
            model.report(x, y)
    for outputs, loss, y in (
        (1, "binary_crossentropy", many[:, 0]),
        (1, "mse", many[:, 0]),
        (3, "mse", np.eye(3)[np.arange(33) % 3]),
        (3, "categorical_crossentropy", np.eye(3)[np.arange(33) % 3]),
    ):
        model = linear(outputs)
        model.compile("sgd", loss)
        assert model.report(x, y).confusion.sum() == 33


SLIPS: list[tuple[str, Any]] = [
    (r"\[compile\].*loss=nn\.BCELoss\(\)", lambda m, x, y: m.compile("sgd", nn.BCELoss)),
    (r"metrics=\['accuracy'\]", lambda m, x, y: m.compile("sgd", metrics="accuracy")),
    (r"metrics=\[print\]", lambda m, x, y: m.compile("sgd", metrics=print)),
    (r"\[fit\].*fit\(x, y\)", lambda m, x, y: m.fit((x, y))),
    (r"\[fit\].*fit\(x, y\)", lambda m, x, y: m.fit([x, y])),
    (r"\[evaluate\].*evaluate\(x, y\)", lambda m, x, y: m.evaluate((x, y))),
    (r"\[predict\].*predict\(x\)", lambda m, x, y: m.predict((x, y))),
    (
        r"\[fit\] callbacks must be a list: callbacks=\[EarlyStopping",
        lambda m, x, y: m.fit(x, y, callbacks=train.EarlyStopping("loss")),
    ),
    (r"callbacks=\[print\]", lambda m, x, y: m.fit(x, y, callbacks=print)),
    (r"\[summary\].*got 4", lambda m, x, y: m.summary(4)),
    (r"\[ModelCheckpoint\]", lambda m, x, y: train.ModelCheckpoint("run{1}.st")),
    (r"\[ModelCheckpoint\]", lambda m, x, y: train.ModelCheckpoint("run{}.st")),
    (r"\[ModelCheckpoint\]", lambda m, x, y: train.ModelCheckpoint("run{epoch.st")),
    (r"\[ModelCheckpoint\]", lambda m, x, y: train.ModelCheckpoint("run{epoch:z}.st")),
]


@pytest.mark.parametrize(("words", "slip"), SLIPS)
def test_slips_are_named(words: str, slip: Any, rng: np.random.Generator) -> None:
    x, y = uniform(rng, 32, 6), np.arange(32) % 3
    model = linear()
    model.compile("sgd")
    with pytest.raises((TypeError, ValueError), match=words):
        slip(model, x, y)
