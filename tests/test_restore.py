"""A checkpoint from anybody: it restores wholly or not at all, and chooses nothing but values."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import data, models, nn, optim, train
from fastconv.io import read_file
from fastconv.random import generator
from tests.support import child_environment

X = np.random.default_rng(0).standard_normal((32, 6)).astype(np.float32)
Y = np.arange(32) % 3


class Counter:
    """A callback of the user's own, which takes what it is given, or refuses it."""

    def __init__(self, refuses: bool = False) -> None:
        self.value, self.refuses = 0, refuses

    def on_batch_end(self, step: int, logs: Any) -> None:
        self.value += 1

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]
        if self.refuses and self.value:
            raise ValueError("[Counter] refused")


class Run:
    """A model with everything that has a state."""

    def __init__(self, path: Path, refuses: bool = False, width: int = 5) -> None:
        fc.manual_seed(0)
        self.model = nn.Sequential(
            nn.Linear(6, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 3)
        )
        self.optimizer = optim.Adam(self.model.parameters(), lr=1e-2)
        self.model.compile(self.optimizer, metrics=["accuracy"])
        self.log = path.with_suffix(".csv")
        self.callbacks = [
            train.StepScheduler(optim.lr_scheduler.ExponentialLR(self.optimizer, 0.9)),
            train.EarlyStopping("loss", patience=5, restore_best_weights=True),
            train.ReduceLROnPlateau("loss"),
            Counter(refuses),
            train.CSVLogger(self.log),
            train.ModelCheckpoint(path, everything=True, save_freq=3),
        ]

    def fit(self, epochs: int = 2, resume: Any = None) -> None:
        self.model.fit(
            X, Y, epochs=epochs, batch_size=8, verbose=0, callbacks=self.callbacks, resume=resume
        )

    def state(self) -> Any:
        return copied(
            [
                self.model.state_dict(),
                self.optimizer.state_dict(),
                [c.state_dict() for c in self.callbacks if hasattr(c, "state_dict")],
                generator().bit_generator.state,
                self.log.read_text() if self.log.exists() else None,
            ]
        )


def copied(value: Any) -> Any:
    if isinstance(value, (fc.Tensor, np.ndarray)):
        return np.array(value).tolist()
    if isinstance(value, dict):
        return {name: copied(inner) for name, inner in value.items()}
    return [copied(inner) for inner in value] if isinstance(value, (list, tuple)) else value


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """After six of eight steps."""
    path = tmp_path / "theirs.safetensors"
    Run(path).fit()
    assert train.Checkpoint.load(path).where == "after 2 batches of epoch 2"
    return path


def changed(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Path:
    """The checkpoint after `change(state, arrays)`."""
    header, arrays = read_file(path)
    state = json.loads(header["state"])
    change(state, arrays)
    other = path.with_name("other.safetensors")
    fc.save(arrays, other, {**header, "state": json.dumps(state)})
    return other


def put(*way: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """Sets, or adds, what the way leads to: ("callbacks", 0, "state", "path", value)."""

    def change(state: dict[str, Any], arrays: dict[str, Any]) -> None:
        *steps, last, value = way
        inner: Any = state
        for step in steps:
            inner = inner[step]
        inner[last] = value

    return change


def drop(name: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda state, arrays: arrays.pop(name)


GROUP = ("optimizer", "state", "param_groups", 0)
SLOTS = ("optimizer", "state", "state", "0")
DAMAGES: dict[str, Callable[[dict[str, Any], dict[str, Any]], None]] = {
    # callbacks: early stopping is the second, the plateau the third, the checkpoint the last
    "path": put("callbacks", 4, "state", "path", "/etc/passwd"),
    "monitor": put("callbacks", 1, "state", "monitor", "x"),
    "run": put("callbacks", 2, "state", "run", None),
    "class": put("callbacks", 1, "state", "__class__", "x"),
    "method": put("callbacks", 4, "state", "on_train_end", "x"),
    "best": put("callbacks", 1, "state", "best", "low"),
    "best_bool": put("callbacks", 1, "state", "best", True),
    "waited": put("callbacks", 1, "state", "_waited", -1),
    "waited_float": put("callbacks", 2, "state", "_waited", 1.5),
    "resting": put("callbacks", 2, "state", "_resting", 10**40),
    "weights": put("callbacks", 1, "state", "_weights", {"0.weight": 3}),
    "weights_misfit": put("callbacks", 1, "state", "_weights", {}),
    "weights_lost": drop("callbacks.1._weights.0.weight"),
    "state_list": put("callbacks", 1, "state", []),
    "no_best": put("callbacks", 1, "state", {}),
    "kind": put("callbacks", 0, "kind", "\x1b[2J"),
    "kind_list": put("callbacks", 0, "kind", ["StepScheduler"]),
    "one_less": lambda state, arrays: state["callbacks"].pop(),
    # where it was
    "epoch": put("epoch", -1),
    "epoch_text": put("epoch", "1"),
    "epoch_bool": put("epoch", True),
    "batches": put("batches", 7),
    "batches_alone": put("step", 1),
    "step": put("step", 10**30),
    "steps_per_epoch": put("steps_per_epoch", 0.5),
    "stopped": put("stopped", 1),
    "unknown": put("arrays", {}),
    # optimiser
    "optimizer_kind": put("optimizer", "kind", "SGD"),
    "optimizer_list": put("optimizer", []),
    "no_state": put("optimizer", "state", {}),
    "groups": put("optimizer", "state", "param_groups", []),
    "params": put(*GROUP, "params", ["0"]),
    "slots": put(*SLOTS, 3),
    "slot_text": put(*SLOTS, "exp_avg", "x"),
    "slot_shape": lambda state, arrays: arrays.update(
        {"optimizer.state.0.exp_avg": np.zeros(3, np.float32)}
    ),
    "slot_elsewhere": put(*SLOTS, "exp_avg", {"$array": "model.0.weight"}),
    "slot_lost": drop("optimizer.state.0.exp_avg"),
    "number": put("optimizer", "state", "state", "x", {}),
    # the rest
    "random": put("random", {}),
    "random_kind": put("random", "bit_generator", "MT19937"),
    "random_state": put("random", "state", "state", 2**200),
    "random_float": put("random", "state", "inc", 1.5),
    "random_negative": put("random", "uinteger", -1),
    "epoch_random": put("epoch_random", "state", None),
    "means_sums": put("means", "sums", None),
    "means_samples": put("means", "samples", "9"),
    "means_value": put("means", "sums", "loss", "x"),
    "means_other": put("means", "sums", {"loss": 1.0}),
    "means_bool": put("means", "sums", "accuracy", True),
    "history": put("history", {}),
    "history_epoch": put("history", "epoch", ["x"]),
    "history_loss": put("history", "history", "loss", [None]),
    "weight_lost": drop("model.0.weight"),
    "weight_shape": lambda state, arrays: arrays.update({"model.3.bias": np.zeros(4, "f4")}),
    "weight_nan_count": lambda state, arrays: arrays.update(
        {"model.1.num_batches_tracked": np.array(np.nan, np.float32)}
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused_and_nothing_is_changed(damage: str, saved: Path) -> None:
    """Model, optimiser, callbacks, random numbers and log are those of before."""
    path = changed(saved, DAMAGES[damage])
    mine = Run(saved.with_name("mine.safetensors"))
    mine.fit()
    before = mine.state()
    with pytest.raises(ValueError, match=r"\S") as caught:
        mine.fit(3, path)
    assert mine.state() == before
    assert "\x1b" not in str(caught.value)


def test_a_file_never_chooses_where_to_write(saved: Path, tmp_path: Path) -> None:
    victim = tmp_path / "profile"
    victim.write_text("mine")
    mine = Run(tmp_path / "mine.safetensors")
    with pytest.raises(ValueError, match=r"\[ModelCheckpoint\] the state holds 'path'"):
        mine.fit(3, changed(saved, put("callbacks", 4, "state", "path", str(victim))))
    assert victim.read_text() == "mine"
    for callback in (mine.callbacks[-1], mine.callbacks[1], mine.callbacks[2]):
        state = callback.state_dict()
        kept = dict(vars(callback))
        for name in ("path", "run", "monitor", "last", "_extra", "__dict__"):
            with pytest.raises(ValueError, match=f"the state holds '{name}'"):
                callback.load_state_dict({**state, name: "x"})
        assert vars(callback) == kept


def test_a_callback_that_refuses_takes_all_back(saved: Path) -> None:
    """Also what callbacks before it have taken, and the rates that a schedule has set."""
    mine = Run(saved.with_name("mine.safetensors"), refuses=True)
    before = mine.state()
    with pytest.raises(ValueError, match=r"\[Counter\] refused"):
        mine.fit(3, saved)
    after = mine.state()
    assert after[:4] == before[:4]
    mine = Run(saved.with_name("mine.safetensors"))
    with pytest.raises(
        fc.CorruptFileError, match=r"callbacks cannot be read \(KeyError: \"'value'"
    ):
        mine.fit(3, changed(saved, put("callbacks", 3, "state", {})))
    assert mine.state()[:4] == before[:4]


def test_an_optimizer_of_other_parameters_changes_nothing(saved: Path) -> None:
    mine = Run(saved.with_name("mine.safetensors"), width=4)
    before = mine.state()
    with pytest.raises(ValueError, match="nothing was loaded"):
        mine.fit(3, saved)
    assert mine.state() == before


def test_by_hand_it_is_all_or_nothing_too(tmp_path: Path) -> None:
    run = Run(tmp_path / "x.safetensors")
    run.callbacks[-1] = train.ModelCheckpoint(tmp_path / "x.safetensors", everything=True)
    run.fit()
    path = changed(tmp_path / "x.safetensors", put("random", {}))
    other = Run(tmp_path / "y.safetensors")
    before = other.state()
    with pytest.raises(fc.CorruptFileError, match="random"):
        train.load_checkpoint(path, other.model, other.callbacks)
    assert other.state() == before


# ----------------------------------------------------------------------------- one open, one file


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that Python opens to read, and those that safetensors opens."""
    import builtins

    import safetensors

    names: list[str] = []
    real, real_safe = builtins.open, safetensors.safe_open

    def noted(path: Any, *args: Any, **kwargs: Any) -> Any:
        names.append(str(path))
        return real(path, *args, **kwargs)

    def noted_safe(path: Any, *args: Any, **kwargs: Any) -> Any:
        names.append(str(path))
        return real_safe(path, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", noted)
    monkeypatch.setattr(safetensors, "safe_open", noted_safe)
    return names


def test_one_open_for_one_file(saved: Path, tmp_path: Path, opened: list[str]) -> None:
    network = models.lenet1(2)
    plain, described = tmp_path / "plain.safetensors", tmp_path / "network.safetensors"
    fc.save(network.state_dict(), plain)
    models.save(network, described)
    uses: list[tuple[Path, Callable[[Path], Any]]] = [
        (saved, train.Checkpoint.load),
        (saved, lambda path: Run(tmp_path / "mine.safetensors").fit(3, path)),
        (saved, lambda path: train.load_weights(path, Run(tmp_path / "mine").model)),
        (plain, lambda path: train.load_weights(path, models.lenet1(2))),
        (plain, lambda path: models.lenet1(2, weights=path)),
        (plain, fc.load),
        (described, models.load),
        (described, lambda path: models.lenet1(weights=path)),
    ]
    for path, use in uses:
        opened.clear()
        use(path)
        assert opened.count(str(path)) == 1


WRITER = """
import sys, numpy as np, fastconv as fc
from fastconv import models
from fastconv.train import Checkpoint
i, m = 0, models.lenet1(2)
while True:
    i += 1
    Checkpoint(
        {"model.w": np.full(1000, float(i), "f4")}, 0, 0, i, None, {}, [], {}, {}, {}, {}
    ).save(sys.argv[1])
    for tensor in m.state_dict().values():
        tensor.numpy()[...] = i
    models.save(m, sys.argv[2], classes=[str(i), "x"])
"""


def test_read_while_replaced(tmp_path: Path) -> None:
    """Header and arrays are of one file, whoever replaces it meanwhile."""
    run, network = tmp_path / "run", tmp_path / "network"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, run, network], env=child_environment())
    try:
        while not network.exists():
            time.sleep(0.02)
            assert writer.poll() is None
        for _ in range(250):
            checkpoint = train.Checkpoint.load(run)
            assert (checkpoint.arrays["model.w"] == checkpoint.step).all()
            loaded = models.load(network)
            number = float(loaded.classes[0])
            assert all((t.numpy() == number).all() for t in loaded.state_dict().values())
    finally:
        writer.kill()
        writer.wait()


# --------------------------------------------------------------------------- formats, old and new


def test_checkpoints_in_memory_are_checked_as_well(saved: Path) -> None:
    checkpoint = train.Checkpoint.load(saved)
    broken = copy.copy(checkpoint)
    broken.random = {"bit_generator": "PCG64"}
    mine = Run(saved.with_name("mine.safetensors"))
    before = mine.state()
    with pytest.raises(fc.CorruptFileError, match="random"):
        mine.fit(3, broken)
    assert mine.state() == before
    mine.fit(3, checkpoint)
    assert len(mine.model.history.history["loss"]) == 3


def test_numpy_numbers_are_saved_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    extra = {"seed": np.int64(3)}
    Run(path).model.fit(
        X, Y, verbose=0, callbacks=[train.ModelCheckpoint(path, everything=True, extra=extra)]
    )
    assert train.Checkpoint.load(path).extra == {"seed": 3}
    keeper = train.ModelCheckpoint(path, everything=True, extra={"now": object()})
    with pytest.raises(TypeError, match=r"\[checkpoint\] object cannot be kept: numbers, texts"):
        Run(path).model.fit(X, Y, verbose=0, callbacks=[keeper])
    assert train.Checkpoint.load(path).extra == {"seed": 3}


def test_a_schedule_and_a_plateau_go_on(saved: Path, tmp_path: Path) -> None:
    """The rate that was saved is the one in force, whatever the schedules make of theirs."""
    mine = Run(tmp_path / "mine.safetensors")
    checkpoint = train.Checkpoint.load(saved)
    groups = checkpoint.optimizer["state"]["param_groups"]
    rates: list[float] = []

    class Watch:
        def on_batch_end(self, step: int, logs: Any) -> None:
            rates.append(mine.optimizer.param_groups[0]["lr"])

    mine.callbacks.insert(0, Watch())
    mine.fit(2, checkpoint)
    assert rates[0] == groups[0]["lr"]


# ------------------------------------------------------------------- ModelCheckpoint, beforehand


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing/x.safetensors", "no folder .*missing: make it first"),
        ("n" * 256, "name too long"),
        (".", "directory"),
    ],
)
def test_a_file_that_cannot_be_written_is_told_before_training(
    name: str, message: str, tmp_path: Path
) -> None:
    epochs: list[int] = []
    for options in ({}, {"everything": True}, {"save_freq": 2}):
        keeper = train.ModelCheckpoint(f"{tmp_path}/{name}", **options)  # type: ignore[arg-type]
        run = Run(tmp_path / "own.safetensors")
        with pytest.raises(OSError, match=message):
            run.model.fit(X, Y, verbose=0, callbacks=[lambda e, _: epochs.append(e), keeper])
    keeper = train.ModelCheckpoint(f"{tmp_path}/{name}", on_error="warn")
    with pytest.warns(UserWarning, match=message):
        run.model.fit(X, Y, verbose=0, callbacks=[lambda e, _: epochs.append(e), keeper])
    assert epochs == [0]


@pytest.mark.parametrize(
    "name", ["run{1}.st", "run{}.st", "run{", "{epoch:q}", "{loss:d}", "{epoch.x}", "{loss[0]}"]
)
def test_names_that_cannot_be_formatted_are_told_before_training(name: str, tmp_path: Path) -> None:
    epochs: list[int] = []

    def fit() -> None:
        keeper = train.ModelCheckpoint(tmp_path / name)
        Run(tmp_path / "own").model.fit(
            X, Y, verbose=0, callbacks=[lambda e, _: epochs.append(e), keeper]
        )

    with pytest.raises(ValueError, match=r"\[ModelCheckpoint\] .* cannot be formatted"):
        fit()
    assert not epochs


def test_names_that_will_be_known_are_not_refused(tmp_path: Path) -> None:
    """Numbers of validation and of other callbacks; folders that depend on the epoch."""
    for epoch in (1, 2):
        (tmp_path / f"e{epoch}").mkdir()

    def score(epoch: int, logs: dict[str, Any]) -> None:
        logs["score"] = 7

    keeper = train.ModelCheckpoint(
        f"{tmp_path}/e{{epoch}}/{{{{x}}}}-{{val_loss:.0f}}-{{score:03d}}.st"
    )
    Run(tmp_path / "own").model.fit(
        X, Y, epochs=2, validation_data=(X, Y), verbose=0, callbacks=[score, keeper]
    )
    assert [len(list((tmp_path / f"e{n}").glob("{x}-*-007.st"))) for n in (1, 2)] == [1, 1]


def test_it_goes_through_links_in_training_too(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "best.st").symlink_to("disk/best.st")
    keeper = train.ModelCheckpoint(tmp_path / "best.st", everything=True)
    Run(tmp_path / "own").model.fit(X, Y, epochs=2, verbose=0, callbacks=[keeper])
    assert (tmp_path / "best.st").is_symlink()
    assert train.Checkpoint.load(tmp_path / "disk" / "best.st").epoch == 2


def test_generators_are_put_back_as_arrays_are(tmp_path: Path) -> None:
    """A refused resume leaves the run that is there able to go on as if nothing had been."""
    path = tmp_path / "x.safetensors"
    Run(path).fit()
    broken = changed(path, put("epoch_random", {}))

    def losses(interrupted: bool) -> list[float]:
        run = Run(tmp_path / "own.safetensors")
        if interrupted:
            with pytest.raises(ValueError, match="random"):
                run.fit(2, broken)
        loader = data.Loader(X, Y, batch_size=8, shuffle=True)
        return run.model.fit(loader, verbose=0).history["loss"]

    assert losses(True) == losses(False)
