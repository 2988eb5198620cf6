"""compile, fit, evaluate, predict: Keras's verbs, their defaults, callbacks, bad input."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import data, models, nn, optim, train
from tests import reference
from tests.support import assert_close, assert_same_bits


def blobs(count: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three classes of 8x8 images that a small network tells apart within a few epochs."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 3
    x = rng.normal(0, 0.3, (count, 8, 8))
    for label in range(3):
        x[y == label, 2 * label : 2 * label + 3] += 1
    return x.astype(np.float32), y


def network(*, softmax: bool = False) -> nn.Sequential:
    fc.manual_seed(1)
    head = [nn.Softmax(dim=1)] if softmax else []
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3), *head
    )


def compiled(optimizer: Any = "adam", **options: Any) -> nn.Sequential:
    model = network(**options)
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def test_fit_learns_and_history_tells() -> None:
    x, y = blobs()
    model = compiled()
    history = model.fit(x, y, epochs=12, batch_size=32, validation_data=blobs(90, 1), verbose=0)
    assert list(history.history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert all(len(values) == 12 for values in history.history.values())
    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]
    assert history.history["val_accuracy"][-1] > 0.95
    loss, accuracy = model.evaluate(*blobs(90, 1))
    assert loss == pytest.approx(history.history["val_loss"][-1], rel=1e-5)
    assert accuracy == pytest.approx(history.history["val_accuracy"][-1])


def test_predict_gives_probabilities_and_evaluate_their_loss() -> None:
    x, y = blobs(50)
    model = compiled()
    p = model.predict(x)
    assert p.shape == (50, 3) and p.dtype == np.float32
    logits = model.eval()(fc.Tensor(x[:, None])).numpy()
    assert_close(p, reference.softmax(logits, 1), 10)
    loss, accuracy = model.evaluate(x, y)
    assert loss == pytest.approx(float(reference.cross_entropy(logits, y)[0]), rel=1e-5)
    assert accuracy == pytest.approx((logits.argmax(1) == y).mean())


def test_results_do_not_depend_on_the_batch_size_of_evaluation() -> None:
    x, y = blobs(53)
    model = compiled()
    for batch in (1, 7, 16, 53, 1000):
        assert_close(model.predict(x, batch_size=batch), model.predict(x), 40)
        assert model.evaluate(x, y, batch_size=batch) == pytest.approx(
            model.evaluate(x, y), rel=1e-5
        )


def test_a_final_softmax_is_trained_through_the_stable_form() -> None:
    """Same numbers with and without nn.Softmax at the end."""
    x, y = blobs()
    results = []
    for softmax in (False, True):
        model = compiled(softmax=softmax)
        history = model.fit(x, y, epochs=2, verbose=0, shuffle=False)
        results.append((history.history["loss"], model.predict(x), model.evaluate(x, y)))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    assert_close(results[0][1], results[1][1], 40)
    outputs = compiled(softmax=True)(fc.Tensor(x[:4, None])).numpy()
    assert_close(outputs.sum(1), np.ones(4), 4)


KERAS = {
    "sgd": ("SGD", {"lr": 0.01, "momentum": 0}),
    "rmsprop": ("RMSprop", {"lr": 1e-3, "alpha": 0.9, "eps": 1e-7}),
    "adam": ("Adam", {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-7}),
    "adamw": ("AdamW", {"lr": 1e-3, "weight_decay": 0.004, "eps": 1e-7}),
    "adagrad": ("Adagrad", {"lr": 1e-3, "eps": 1e-7}),
}


@pytest.mark.parametrize("name", KERAS)
def test_strings_have_kerass_defaults(name: str) -> None:
    model = compiled(name)
    kind, options = KERAS[name]
    optimizer = model._compiled.optimizer
    assert type(optimizer).__name__ == kind
    group = optimizer.param_groups[0]
    assert {key: group[key] for key in options} == options


def test_one_step_of_rmsprop_is_kerass() -> None:
    """v = 0.9 v + 0.1 g^2; p -= 1e-3 g / sqrt(v + 1e-7): epsilon inside the root, as in Keras."""
    x, y = blobs(48)
    model = network()
    before = {k: np.array(v) for k, v in model.state_dict().items()}
    nn.CrossEntropyLoss()(model(fc.Tensor(x[:, None])), fc.Tensor(y)).backward()
    grads = {k: p.grad.numpy().copy() for k, p in model.named_parameters()}
    model.compile("rmsprop")
    model.fit(x, y, batch_size=48, shuffle=False, verbose=0)
    for key, p in model.state_dict().items():
        g = grads[key].astype(np.float64)
        expected = before[key] - 1e-3 * g / np.sqrt(0.1 * g**2 + 1e-7)
        np.testing.assert_allclose(np.array(p), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        ("sparse_categorical_crossentropy", lambda y: y.astype(np.uint8)),
        ("sparse_categorical_crossentropy", lambda y: y[:, None]),
        ("categorical_crossentropy", lambda y: np.eye(3)[y]),
        ("categorical_crossentropy", lambda y: np.eye(3, dtype=np.float32)[y] * 0.7 + 0.1),
        ("binary_crossentropy", lambda y: np.eye(3)[y]),
        ("mse", lambda y: np.eye(3)[y]),
        (nn.CrossEntropyLoss(), lambda y: y),
        (nn.MSELoss(), lambda y: np.eye(3, dtype=np.float32)[y]),
        (lambda out, t: ((out - t) ** 2).mean(), lambda y: np.eye(3, dtype=np.float32)[y]),
    ],
    ids=range(9),
)
def test_losses_by_name_and_object(loss: Any, targets: Any) -> None:
    x, y = blobs()
    model = network()
    model.compile("adam", loss, metrics=["accuracy"])
    history = model.fit(x, targets(y), epochs=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert history["accuracy"][-1] > 0.7


def test_validation_split_and_channels() -> None:
    x, y = blobs(100)
    history = compiled().fit(x[:, None], y, validation_split=0.2, verbose=0).history
    assert "val_loss" in history


def test_last_short_batch_counts_by_its_samples() -> None:
    """The epoch's loss is the mean over samples, not over batches."""
    x, y = blobs(33)
    model = compiled("sgd")
    model._compiled.optimizer.param_groups[0]["lr"] = 0.0
    history = model.fit(x, y, batch_size=32, verbose=0, shuffle=False).history
    loss, accuracy = model.evaluate(x, y)
    assert history["loss"][0] == pytest.approx(loss, rel=1e-5)
    assert history["accuracy"][0] == pytest.approx(accuracy)


def test_first_layer_filters_receive_gradient_and_move() -> None:
    """Accuracy alone does not show it: a dense head learns on random filters too."""
    x, y = blobs()
    model = compiled()
    before = np.array(model.state_dict()["0.weight"])
    model.fit(x, y, epochs=1, verbose=0)
    moved = np.abs(np.array(model.state_dict()["0.weight"]) - before)
    assert (moved > 1e-5).all()


def test_shuffling_follows_the_seed() -> None:
    x, y = blobs()
    runs = []
    for seed in (0, 0, 1):
        model = compiled()
        fc.manual_seed(seed)
        model.fit(x, y, epochs=2, verbose=0)
        runs.append(np.array(model.state_dict()["4.weight"]))
    assert_same_bits(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


def test_fit_keeps_modes() -> None:
    x, y = blobs(40)
    model = compiled().eval()
    model.fit(x, y, verbose=0)
    assert not model.training and not model[0].training
    model.train()
    model.evaluate(x, y)
    model.predict(x)
    assert model.training


# -------------------------------------------------------------------------------------- callbacks


def test_callbacks_see_every_event() -> None:
    seen: list[str] = []

    class Watch(train.Callback):
        def on_train_begin(self, run: Any) -> None:
            seen.append("begin")

        def on_epoch_begin(self, epoch: int) -> None:
            seen.append(f"epoch {epoch}")

        def on_batch_end(self, step: int, logs: Any) -> None:
            seen.append(f"step {step}")
            assert logs["loss"] > 0

        def on_epoch_end(self, epoch: int, logs: Any) -> None:
            seen.append(f"end {epoch}")

        def on_train_end(self) -> None:
            seen.append("over")

    x, y = blobs(40)
    compiled().fit(
        x,
        y,
        epochs=2,
        batch_size=32,
        verbose=0,
        callbacks=[Watch(), lambda e, logs: seen.append("f")],
    )
    assert seen == [
        *["begin", "epoch 0", "step 0", "step 1", "end 0", "f"],
        *["epoch 1", "step 2", "step 3", "end 1", "f", "over"],
    ]


def test_early_stopping_restores_the_best_weights() -> None:
    x, y = blobs()
    model = compiled(optim.SGD)
    model._compiled.optimizer.param_groups[0]["lr"] = 0.1
    stop = train.EarlyStopping("val_loss", patience=1, restore_best_weights=True)
    worse = train.LearningRateScheduler(lambda epoch, rate: -0.5 if epoch == 3 else rate)  # uphill
    history = model.fit(
        x, y, epochs=30, validation_data=(x, y), verbose=0, callbacks=[worse, stop]
    ).history
    assert len(history["loss"]) < 30
    assert model.evaluate(x, y)[0] == pytest.approx(min(history["val_loss"]), rel=1e-4)


def test_checkpoints_and_logs(tmp_path: Path) -> None:
    x, y = blobs()
    model = compiled()
    model.fit(
        x,
        y,
        epochs=3,
        verbose=0,
        callbacks=[
            train.ModelCheckpoint(tmp_path / "w-{epoch:02d}.safetensors"),
            train.CSVLogger(tmp_path / "log.csv"),
            train.JSONLogger(tmp_path / "log.jsonl"),
        ],
    )
    assert sorted(p.name for p in tmp_path.glob("w-*")) == [
        f"w-0{i}.safetensors" for i in (1, 2, 3)
    ]
    saved = fc.load(tmp_path / "w-03.safetensors")
    for key, value in model.state_dict().items():
        assert_same_bits(np.asarray(saved[key]), np.asarray(value))
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert rows[0] == "epoch,loss,accuracy" and len(rows) == 4
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3] and all("loss" in line for line in lines)


def test_checkpoints_of_a_known_network_build_it_again(tmp_path: Path) -> None:
    model = models.lenet1(3)
    model.compile()
    model.classes = ["a", "b", "c"]
    x = np.zeros((4, 28, 28), np.uint8)
    model.fit(x, np.arange(4) % 3, verbose=0, callbacks=[train.ModelCheckpoint(tmp_path / "w")])
    again = models.load(tmp_path / "w")
    assert again.classes == ["a", "b", "c"]
    again.compile()
    assert_same_bits(again.predict(x), model.predict(x))


def test_failing_checkpoint_can_warn_instead(tmp_path: Path) -> None:
    x, y = blobs(40)
    nowhere = tmp_path / "missing" / "w.safetensors"
    with pytest.raises(OSError, match="missing"):
        compiled().fit(x, y, verbose=0, callbacks=[train.ModelCheckpoint(nowhere)])
    with pytest.warns(UserWarning, match="was not written"):
        compiled().fit(x, y, verbose=0, callbacks=[train.ModelCheckpoint(nowhere, on_error="warn")])


def test_schedule_steps_every_batch() -> None:
    x, y = blobs(96)
    model = compiled("sgd")
    optimizer = model._compiled.optimizer
    schedule = optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.1)
    model.fit(x, y, epochs=2, batch_size=32, verbose=0, callbacks=[train.StepScheduler(schedule)])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * 0.1**3)


# --------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, y: (x, y[:-1]), ValueError, r"300.*299"),
        (lambda x, y: (x, y + 1), ValueError, r"0 to 2.*y\[2\] is 3"),
        (lambda x, y: (x, y - 1), ValueError, r"y\[0\] is -1"),
        (lambda x, y: (x, y + 0.5), ValueError, r"integers.*y\[0\] is 0.5"),
        (lambda x, y: (x, np.eye(3)[y]), ValueError, "one-hot"),
        (lambda x, y: (x[:0], y[:0]), ValueError, "no samples"),
        (lambda x, y: (x[..., None], y), fc.ShapeError, r"N, H, W, C"),
        (lambda x, y: (x.astype(np.int64), y), TypeError, "int64"),
        (lambda x, y: (x, None), ValueError, "y is missing"),
        (lambda x, y: (np.where(x > 1, np.nan, x), y), fc.TrainingDiverged, r"x\[\d+\] holds NaN"),
    ],
    ids=range(10),
)
def test_bad_data(change: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        compiled().fit(*change(*blobs()), verbose=0)


def test_divergence_stops_training() -> None:
    x, y = blobs()
    model = compiled(optim.SGD)
    model._compiled.optimizer.param_groups[0]["lr"] = 1e30
    with pytest.raises(fc.TrainingDiverged, match=r"loss became (nan|inf).*learning rate"):
        model.fit(x, y, epochs=5, verbose=0)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"optimizer": "adamm"}, ValueError),
        ({"loss": "crossentropy"}, ValueError),
        ({"metrics": ["precision"]}, ValueError),
        ({"optimizer": 3}, TypeError),
        ({"loss": None}, ValueError),
    ],
    ids=str,
)
def test_unknown_names_list_the_known(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"\[compile\]"):
        network().compile(**{"optimizer": "sgd", "loss": "mse", **options})


def test_fit_before_compile() -> None:
    with pytest.raises(RuntimeError, match=r"\[fit\] call compile"):
        network().fit(*blobs())


@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"batch_size": 0}, {"validation_split": 1.5}], ids=str
)
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="|".join(options)):
        compiled().fit(*blobs(), verbose=0, **options)


def test_interrupt_comes_between_steps() -> None:
    """Ctrl-C in the middle of a step: the step ends, callbacks are told, handlers are restored."""
    over: list[int] = []
    steps: list[int] = []

    class Interrupting(train.Callback):
        def on_batch_end(self, step: int, logs: Any) -> None:
            steps.append(step)
            if step == 1:
                os.kill(os.getpid(), signal.SIGINT)

        def on_train_end(self) -> None:
            over.append(1)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        compiled().fit(*blobs(), epochs=5, verbose=0, callbacks=[Interrupting()])
    assert steps == [0, 1] and over == [1]
    assert signal.getsignal(signal.SIGINT) is before


def test_fit_works_outside_the_main_thread() -> None:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(compiled().fit(*blobs(40), verbose=0)))
    thread.start()
    thread.join()
    assert math.isfinite(results[0].history["loss"][0])


# ----------------------------------------------------------------------------------------- progress


def test_progress_is_plain_lines_when_not_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    compiled().fit(*blobs(), epochs=2, verbose=1)
    out = capsys.readouterr()
    lines = (out.out + out.err).splitlines()
    assert len(lines) == 2
    for i, line in enumerate(lines):
        assert line.startswith(f"Epoch {i + 1}/2") and "\r" not in line and "\x1b" not in line
        for word in ("loss:", "accuracy:", "images/s"):
            assert word in line
    assert "left" in lines[0]
    compiled().fit(*blobs(40), verbose=0)
    assert capsys.readouterr().out == ""


def test_fit_survives_a_closed_stdout() -> None:
    from tests.support import run_python

    code = (
        "import os, sys, numpy as np\n"
        "from fastconv import nn\n"
        "m = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)); m.compile()\n"
        "x, y = np.zeros((40, 2, 2), 'f4'), np.arange(40) % 2\n"
        "for stream in (None, open(os.devnull)):\n"
        "    sys.stdout = stream\n"
        "    m.fit(x, y, epochs=2)\n"
        "sys.stderr.write('done')\n"
    )
    assert run_python(code).stderr.endswith("done")


def test_fit_from_a_loader() -> None:
    x, y = blobs()
    loader = data.Loader(x, y, batch_size=32, shuffle=True)
    history = compiled().fit(loader, epochs=2, validation_data=(x, y), verbose=0).history
    assert len(history["val_loss"]) == 2
