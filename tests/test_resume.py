"""A run that was stopped and resumed ends with the same bits as one that was never stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import data, nn, optim, train
from fastconv.optim import lr_scheduler
from tests.support import assert_same_bits, child_environment

EPOCHS, BATCH = 5, 24
COUNT = 100  # 5 batches an epoch, the last one small
STEPS = 5


def samples(seed: int = 0, count: int = COUNT) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 3
    x = rng.integers(0, 80, (count, 10, 10))
    for label in range(3):
        x[y == label, 3 * label : 3 * label + 3] += 60
    return x.astype(np.uint8), y


class Stop(Exception):  # noqa: N818
    """The power goes off."""


class StopAfter:
    """Ends the run with a jolt after so many steps."""

    def __init__(self, steps: int, how: Callable[[], None]) -> None:
        self.steps, self._how = steps, how

    def on_batch_end(self, step: int, logs: Any) -> None:
        if step + 1 == self.steps:
            self._how()


def power_cut() -> None:
    raise Stop


def control_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


class Setting:
    """One way to train: everything that `fit` is given, made anew for every run."""

    def __init__(self, optimizer: str = "adam", schedule: str = "", **options: Any) -> None:
        fc.manual_seed(3)
        self.model = nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.4),
            nn.Linear(256, 3),
        )
        first, rest = list(self.model[0].parameters()), list(self.model[1:].parameters())
        groups = [{"params": first, "lr": 2e-3}, {"params": rest}]
        made: dict[str, Callable[[Any], optim.Optimizer]] = {
            "adam": lambda p: optim.Adam(p, lr=5e-3),
            "adamw": lambda p: optim.AdamW(p, lr=5e-3, amsgrad=True),
            "sgd": lambda p: optim.SGD(p, lr=1e-2, momentum=0.9, nesterov=True),
            "rmsprop": lambda p: optim.RMSprop(p, lr=1e-3, centered=True, momentum=0.5),
            "adagrad": lambda p: optim.Adagrad(p, lr=1e-2, initial_accumulator_value=0.1),
        }
        self.optimizer = made[optimizer](groups)
        self.model.compile(self.optimizer, metrics=["accuracy"], clip_norm=1.0)
        schedules: dict[str, Callable[[], list[Any]]] = {
            "": list,
            "onecycle": lambda: [
                train.StepScheduler(
                    lr_scheduler.OneCycleLR(
                        self.optimizer, [4e-3, 8e-3], total_steps=EPOCHS * STEPS
                    )
                )
            ],
            "step": lambda: [
                train.StepScheduler(lr_scheduler.StepLR(self.optimizer, 2, 0.5), every="epoch")
            ],
            "keras": lambda: [train.LearningRateScheduler(lambda epoch, rate: 0.8 * rate)],
            "plateau": lambda: [train.ReduceLROnPlateau("loss", patience=1, min_delta=0.5)],
        }
        self.callbacks = schedules[schedule]()
        self.batch = BATCH
        self.options = {
            "x": samples(),
            "transform": [data.RandomShift(1), data.RandomRotation(5)],
            "validation_data": samples(1, 40),
            **options,
        }

    def fit(self, *callbacks: Any, resume: Any = None) -> train.History:
        options = dict(self.options)
        x = options.pop("x")
        return self.model.fit(
            *(x if isinstance(x, tuple) else (x,)),
            epochs=EPOCHS,
            batch_size=self.batch,
            verbose=0,
            callbacks=[*callbacks[:1], *self.callbacks, *callbacks[1:]],
            resume=resume,
            **options,
        )

    def state(self) -> dict[str, np.ndarray]:
        state = {name: np.array(value) for name, value in self.model.state_dict().items()}
        for number, slots in self.optimizer.state_dict()["state"].items():
            state |= {f"{number}.{name}": np.array(value) for name, value in slots.items()}
        state["lr"] = np.array([group["lr"] for group in self.optimizer.param_groups])
        return state


def assert_same_end(make: Callable[[], Setting], path: Path, steps: int, how: Any) -> None:
    """Trains without a stop; then with one after `steps` steps, resumed in a fresh set-up."""

    def keeper() -> train.ModelCheckpoint:
        return train.ModelCheckpoint(path, everything=True, save_freq=1)

    whole = make()
    expected = whole.fit(keeper())

    stopped = make()
    with pytest.raises((Stop, KeyboardInterrupt)):
        stopped.fit(keeper(), StopAfter(steps, how))

    resumed = make()
    fc.manual_seed(12345)  # what the new process happens to draw from does not matter
    history = resumed.fit(keeper(), resume=path)
    assert history == expected
    before, after = whole.state(), resumed.state()
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert_same_bits(after[name], value)


@pytest.mark.parametrize("steps", [1, 3, 5, 7, 10, 23])
def test_resumes_at_any_step(tmp_path: Path, steps: int) -> None:
    """The first and the last step of an epoch, and of the run, among them."""
    assert_same_end(
        lambda: Setting(schedule="onecycle"), tmp_path / "run.safetensors", steps, control_c
    )


def test_resumes_from_the_last_file_after_a_power_cut(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"

    class Late(StopAfter):
        last = True  # after the checkpoint

    def keeper() -> train.ModelCheckpoint:
        return train.ModelCheckpoint(path, everything=True, save_freq=4)

    whole = Setting()
    expected = whole.fit(keeper())
    stopped, resumed = Setting(), Setting()
    with pytest.raises(Stop):
        stopped.fit(keeper(), Late(14, power_cut))
    assert train.Checkpoint.load(path).where == "after 2 batches of epoch 3"
    assert resumed.fit(keeper(), resume=path) == expected
    for name, value in whole.state().items():
        assert_same_bits(resumed.state()[name], value)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop", "adagrad"])
def test_resumes_with_every_optimizer(tmp_path: Path, optimizer: str) -> None:
    path = tmp_path / "run.safetensors"
    assert_same_end(lambda: Setting(optimizer), path, 8, control_c)


@pytest.mark.parametrize("schedule", ["onecycle", "step", "keras", "plateau"])
@pytest.mark.parametrize("steps", [8, 10])
def test_resumes_with_every_schedule(tmp_path: Path, schedule: str, steps: int) -> None:
    path = tmp_path / "run.safetensors"
    assert_same_end(lambda: Setting(schedule=schedule), path, steps, control_c)


def stream() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches without end, from a generator of its own."""
    x, y = samples()
    rng = np.random.default_rng(5)
    while True:
        chosen = rng.integers(0, COUNT, BATCH)
        yield x[chosen], y[chosen]


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"x": stream(), "steps_per_epoch": STEPS},
        lambda: {"x": stream, "steps_per_epoch": STEPS},
        lambda: {"x": [(samples()[0][i::5], samples()[1][i::5]) for i in range(5)]},
        lambda: {"x": data.Loader(*samples(), batch_size=BATCH, shuffle=True)},
        lambda: {"x": samples(), "class_weight": "balanced", "shuffle": False},
        lambda: {"x": samples(), "steps_per_epoch": 4},
    ],
    ids=["generator", "function", "list", "loader", "weights", "part"],
)
def test_resumes_with_every_source(tmp_path: Path, make: Callable[[], dict[str, Any]]) -> None:
    path = tmp_path / "run.safetensors"
    assert_same_end(lambda: Setting(transform=None, **make()), path, 8, control_c)


def test_resumes_from_a_folder_of_pictures(tmp_path: Path) -> None:
    """Read in background threads, with random crops of its own and with a transform."""
    image = pytest.importorskip("PIL.Image")
    x, y = samples(count=40)
    for number, (picture, label) in enumerate(zip(x, y, strict=True)):
        folder = tmp_path / "pictures" / "abc"[label]
        folder.mkdir(parents=True, exist_ok=True)
        image.fromarray(np.kron(picture, np.ones((2, 2), np.uint8))).save(
            folder / f"{number:02}.png"
        )
    recipe = data.Preprocessing(10, None, channels="L", mean=(0.3,), std=(0.2,))

    def make() -> Setting:
        crop = data.RandomResizedCrop(10, scale=(0.6, 1.0))
        folder = data.ImageFolder(tmp_path / "pictures", recipe, augment=crop)
        setting = Setting(x=folder, transform=data.RandomHorizontalFlip())
        setting.model.preprocessing = recipe
        setting.batch = 8
        return setting

    assert_same_end(make, tmp_path / "run.safetensors", 8, control_c)


@pytest.mark.parametrize("keeper_first", [True, False])
def test_early_stopping_goes_on_where_it_was(tmp_path: Path, keeper_first: bool) -> None:
    """Also the best weights so far, and whichever of the two callbacks comes first."""
    path = tmp_path / "run.safetensors"

    def callbacks() -> list[Any]:
        stop = train.EarlyStopping("val_loss", patience=2, restore_best_weights=True)
        up = train.LearningRateScheduler(lambda epoch, rate: -0.1 if epoch else rate)  # gets worse
        keep = train.ModelCheckpoint(path, everything=True, save_freq=1)
        return [keep, up, stop] if keeper_first else [up, stop, keep]

    whole = Setting("sgd")
    expected = whole.fit(*callbacks())
    assert 2 < len(expected.epoch) < EPOCHS
    for steps in (8, 10):
        stopped, resumed = Setting("sgd"), Setting("sgd")
        with pytest.raises(KeyboardInterrupt):
            stopped.fit(*callbacks(), StopAfter(steps, control_c))
        assert resumed.fit(*callbacks(), resume=path) == expected
        for name, value in whole.state().items():
            assert_same_bits(resumed.state()[name], value)


def test_control_c_saves_where_it_came(tmp_path: Path) -> None:
    """Without save_freq: the file of the last epoch, then, at Ctrl-C, that of the step."""
    path = tmp_path / "run.safetensors"

    def keeper() -> train.ModelCheckpoint:
        return train.ModelCheckpoint(path, everything=True, extra={"seed": 3})

    whole = Setting()
    expected = whole.fit(keeper())
    stopped, resumed = Setting(), Setting()
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(keeper(), StopAfter(13, control_c))
    checkpoint = train.Checkpoint.load(path)
    assert (checkpoint.epoch, checkpoint.batches, checkpoint.step) == (2, 3, 13)
    assert checkpoint.extra == {"seed": 3}
    assert resumed.fit(keeper(), resume=checkpoint) == expected
    for name, value in whole.state().items():
        assert_same_bits(resumed.state()[name], value)


def test_control_c_during_validation(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    runs: list[Any] = []

    def slow(predicted: np.ndarray, targets: np.ndarray) -> float:
        if len(targets) == 40 and len(runs) == 1:  # the validation batch of the second run
            control_c()
        return 0.0

    def make() -> Setting:
        setting = Setting()
        setting.model.compile(setting.optimizer, metrics=[slow])
        return setting

    keeper = train.ModelCheckpoint(path, everything=True)
    whole = make()
    expected = whole.fit(keeper)
    stopped, resumed = make(), make()
    runs.append(1)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(keeper)
    runs.append(2)
    assert train.Checkpoint.load(path).where == "after 5 batches of epoch 1"
    assert resumed.fit(keeper, resume=path) == expected
    for name, value in whole.state().items():
        assert_same_bits(resumed.state()[name], value)


def test_checkpoints_between_epochs_by_hand(tmp_path: Path) -> None:
    """load_checkpoint and initial_epoch, the same as resume but for the History."""
    path = tmp_path / "{epoch}.safetensors"
    whole = Setting(schedule="step")
    expected = whole.fit(train.ModelCheckpoint(path, everything=True))
    resumed = Setting(schedule="step")
    keeper = train.ModelCheckpoint(path, everything=True)
    done = train.load_checkpoint(
        tmp_path / "3.safetensors", resumed.model, [keeper, *resumed.callbacks]
    )
    assert done == 3
    resumed.options["initial_epoch"] = done
    history = resumed.fit(keeper)
    assert history.history["loss"] == expected.history["loss"][3:]
    for name, value in whole.state().items():
        assert_same_bits(resumed.state()[name], value)


def test_logs_go_on(tmp_path: Path) -> None:
    """Rows of epochs that are done again are not there twice."""
    path = tmp_path / "run.safetensors"

    def callbacks(folder: str) -> list[Any]:
        (tmp_path / folder).mkdir(exist_ok=True)
        return [
            train.ModelCheckpoint(path, everything=True, save_freq=7),
            train.CSVLogger(tmp_path / folder / "log.csv"),
            train.JSONLogger(tmp_path / folder / "log.jsonl"),
        ]

    Setting().fit(*callbacks("whole"))
    with pytest.raises(Stop):
        Setting().fit(*callbacks("stopped"), StopAfter(20, power_cut))
    for name in ("log.csv", "log.jsonl"):
        log = tmp_path / "stopped" / name
        assert len(log.read_text().splitlines()) == 3 + (name == "log.csv")
        log.write_text(log.read_text() + "4,0.1")  # the power went in the middle of a line
    Setting().fit(*callbacks("stopped"), resume=path)
    for name in ("log.csv", "log.jsonl"):
        logs = [(tmp_path / folder / name).read_text() for folder in ("whole", "stopped")]
        assert logs[0] == logs[1]
    assert json.loads(logs[0].splitlines()[-1])["epoch"] == EPOCHS


def test_a_process_that_was_killed_by_ctrl_c(tmp_path: Path) -> None:
    """SIGINT from outside at some moment; a new process ends where one without a stop does."""
    script = (
        "import sys, os, time, numpy as np, fastconv as fc\n"
        "from fastconv import nn, train, data\n"
        "fc.manual_seed(0)\n"
        "rng = np.random.default_rng(0)\n"
        "x, y = rng.integers(0, 255, (400, 8, 8)).astype(np.uint8), rng.integers(0, 3, 400)\n"
        "m = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 3))\n"
        "m.compile('adam')\n"
        "class Slow:\n"
        "    def on_batch_end(self, step, logs):\n"
        "        if step == 60 and sys.argv[1] == 'stop': print('ready', flush=True)\n"
        "        if sys.argv[1] == 'stop': time.sleep(0.002)\n"
        "keep = train.ModelCheckpoint('run.safetensors', everything=True)\n"
        "path = 'run.safetensors' if sys.argv[1] == 'go' else None\n"
        "m.fit(x, y, epochs=12, batch_size=16, transform=data.RandomShift(1), verbose=0,\n"
        "      callbacks=[Slow(), keep], resume=path)\n"
        "fc.save(m.state_dict(), sys.argv[1] + '.safetensors')\n"
    )

    def start(how: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", script, how],
            cwd=tmp_path,
            env=child_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    whole = start("whole")
    assert whole.wait(60) == 0
    whole.communicate()
    stopped = start("stop")
    assert stopped.stdout is not None
    assert stopped.stdout.readline() == "ready\n"
    stopped.send_signal(signal.SIGINT)
    _, errors = stopped.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    checkpoint = train.Checkpoint.load(tmp_path / "run.safetensors")
    assert 60 < checkpoint.step < 12 * 25
    resumed = start("go")
    _, errors = resumed.communicate(timeout=60)
    assert resumed.returncode == 0, errors
    one, two = fc.load(tmp_path / "whole.safetensors"), fc.load(tmp_path / "go.safetensors")
    for name, value in one.items():
        assert_same_bits(np.array(two[name]), np.array(value))


# --------------------------------------------------------------------------------- what goes wrong


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        Setting().fit(train.ModelCheckpoint(path, everything=True), StopAfter(8, control_c))
    return path


def test_other_set_ups_are_refused(checkpoint: Path) -> None:
    keeper = train.ModelCheckpoint(checkpoint, everything=True)
    cases: list[tuple[Setting, tuple[Any, ...], str]] = [
        (Setting("sgd"), (keeper,), "saved with Adam, this is SGD"),
        (Setting(schedule="step"), (keeper,), "saved with ModelCheckpoint; given .*StepScheduler"),
        (Setting(), (), "saved with ModelCheckpoint; given none"),
        (Setting(x=samples(count=60)), (keeper,), "after 3 of 5 batches, this run has 3"),
    ]
    for setting, callbacks, message in cases:
        before = setting.state()
        with pytest.raises(ValueError, match=message):
            setting.fit(*callbacks, resume=checkpoint)
        for name, value in before.items():
            assert_same_bits(setting.state()[name], value)


def test_middle_of_an_epoch_needs_resume(checkpoint: Path) -> None:
    setting = Setting()
    with pytest.raises(ValueError, match=r"middle of epoch 2: use\s+fit\(..., resume=PATH\)"):
        train.load_checkpoint(checkpoint, setting.model)
    train.load_weights(checkpoint, setting.model)
    setting.options["initial_epoch"] = 1
    with pytest.raises(ValueError, match="leave out initial_epoch"):
        setting.fit(resume=checkpoint)


def test_files_that_are_no_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    setting = Setting()
    weights = tmp_path / "weights.safetensors"
    fc.save(setting.model.state_dict(), weights)
    with pytest.raises(fc.CorruptFileError, match="load_weights"):
        setting.fit(resume=weights)
    weights.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(fc.CorruptFileError):
        setting.fit(resume=weights)
    with pytest.raises(FileNotFoundError):
        setting.fit(resume=tmp_path / "missing.safetensors")


def test_a_run_that_was_stopped_is_over(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    setting = Setting("sgd")

    def callbacks() -> list[Any]:
        keeper = train.ModelCheckpoint(path, everything=True)
        return [keeper, train.EarlyStopping("loss", patience=0, min_delta=100.0)]

    expected = setting.fit(*callbacks())
    assert len(expected.epoch) == 2
    again = Setting("sgd")
    with pytest.warns(UserWarning, match="stopped by a callback after epoch 2"):
        assert again.fit(*callbacks(), resume=path) == expected
    for name, value in setting.state().items():
        assert_same_bits(again.state()[name], value)


def test_save_freq_and_names(tmp_path: Path) -> None:
    path = tmp_path / "e{epoch}-s{step}.safetensors"
    Setting().fit(train.ModelCheckpoint(path, save_freq=10))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "e2-s10.safetensors",
        "e4-s20.safetensors",
    ]
    bad = train.ModelCheckpoint(tmp_path / "{val_loss}.safetensors", save_freq=1)
    with pytest.raises(ValueError, match=r"'val_loss'.*epoch, step, loss, accuracy"):
        Setting().fit(bad)
    for wrong in (0, "batch"):
        with pytest.raises(ValueError, match="save_freq"):
            train.ModelCheckpoint(path, save_freq=wrong)
