"""Rows of the table of `fuzz_readers`: weights files, checkpoints, models of TensorFlow.js."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import fastconv as fc
from fastconv import models, nn, optim, train
from fastconv.errors import TrainingDiverged
from fastconv.models.weight_files import read
from fastconv.optim import lr_scheduler
from fastconv.random import generator
from tests.fuzz_readers import Reader


def _written(write: Any) -> Mapping[str, bytes]:
    """What a function writes to the path that it is given."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        write(path)
        return {path.name: path.read_bytes()}


# ---------------------------------------------------------------------------------------- weights


def _types() -> Mapping[str, bytes]:
    """Tensors of several types, with strings in the header."""
    state = {
        "w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "half": np.ones(3, np.float16),
        "count": np.array(7, np.int64),
        "short": np.arange(3, dtype=np.uint16),
        "long": np.arange(2, dtype=np.uint64),
        "empty": np.zeros((0, 3), np.float32),
    }
    note = {"format": "pt", "note": '{"a": [1, 2.5]}'}
    return _written(lambda path: fc.save(state, path, note))


def _small() -> Any:
    return models.cifar_resnet20(num_classes=3, width=1)


def _network() -> Mapping[str, bytes]:
    from fastconv.data import Preprocessing

    model = _small()
    model.preprocessing = Preprocessing(32, None, mean=(0.5,), std=(0.25,))
    return _written(lambda path: models.save(model, path, classes=["a", "b", "c"]))


def _plain() -> Mapping[str, bytes]:
    return _written(lambda path: fc.save(_dense().state_dict(), path))


def _dense() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))


def _load_into(path: Path) -> None:
    """load_state_dict and load_weights: after a refusal the model is as it was."""
    model = _dense()
    before = _copied(model.state_dict())
    for load in (
        lambda: model.load_state_dict(fc.load(path)),
        lambda: train.load_weights(path, model),
    ):
        try:
            load()
        except BaseException:
            _assert_same(before, _copied(model.state_dict()))
            raise


def _tfjs() -> Mapping[str, bytes]:
    names = {"conv/kernel": (3, 3, 1, 2), "conv/bias": (2,), "out/kernel": (2, 5)}
    entries = [{"name": n, "shape": s, "dtype": "float32"} for n, s in names.items()]
    manifest = [
        {"paths": ["a1.bin", "a2.bin"], "weights": entries[:2]},
        {"paths": ["b.bin"], "weights": entries[2:]},
    ]
    rng = np.random.default_rng(0)
    return {
        "model.json": json.dumps({"weightsManifest": manifest}).encode(),
        "a1.bin": rng.bytes(48),
        "a2.bin": rng.bytes(32),
        "b.bin": rng.bytes(40),
    }


# ------------------------------------------------------------------------------------ checkpoints


class _Set:
    """A run that a checkpoint may continue."""

    def __init__(self, schedules: bool = False) -> None:
        fc.manual_seed(1)
        self.model = _dense()
        self.optimizer = optim.Adam(self.model.parameters(), lr=1e-3)
        self.model.compile(self.optimizer, metrics=["accuracy"])
        self.begun = False
        self.watchers: list[Any] = [
            train.EarlyStopping("loss", patience=9, restore_best_weights=True),
            train.ReduceLROnPlateau("loss", patience=9),
        ]
        if schedules:
            self.watchers = [
                train.StepScheduler(lr_scheduler.OneCycleLR(self.optimizer, 2e-3, total_steps=99)),
                train.StepScheduler(lr_scheduler.StepLR(self.optimizer, 2), every="epoch"),
            ]

    def on_batch_end(self, step: int, logs: Any) -> None:
        self.begun = True

    def fit(self, keeper: train.ModelCheckpoint, epochs: int, resume: Path | None = None) -> None:
        x = np.arange(64, dtype=np.float32).reshape(16, 4) / 64
        self.model.fit(
            x,
            np.arange(16) % 2,
            epochs=epochs,
            batch_size=4,
            verbose=0,
            callbacks=[*self.watchers, keeper, self],
            resume=resume,
        )

    def state(self) -> dict[str, Any]:
        return _copied(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "callbacks": [watcher.state_dict() for watcher in self.watchers],
                "random": generator().bit_generator.state,
            }
        )


def _checkpoint(schedules: bool, epochs: int, save_freq: int | str) -> Mapping[str, bytes]:
    def write(path: Path) -> None:
        keeper = train.ModelCheckpoint(path, everything=True, save_freq=save_freq)
        _Set(schedules).fit(keeper, epochs)

    return _written(write)


def _resume(path: Path, schedules: bool) -> None:
    """Goes on, unless nothing is changed; what goes on may diverge and not do anything worse."""
    run = _Set(schedules)
    before = run.state()
    with tempfile.TemporaryDirectory() as folder:
        keeper = train.ModelCheckpoint(f"{folder}/own", everything=True, save_freq=10**9)
        try:
            run.fit(keeper, 3, path)
        except TrainingDiverged:
            pass
        except ValueError as error:
            if run.begun:
                raise AssertionError("accepted, and then not usable") from error
            _assert_same(before, run.state())
            raise


def _by_hand(path: Path) -> None:
    run = _Set()
    before = run.state()
    keeper = train.ModelCheckpoint("own", everything=True)
    try:
        train.load_checkpoint(path, run.model, [*run.watchers, keeper])
    except ValueError:
        _assert_same(before, run.state())
        raise


# --------------------------------------------------------------------------------------- comparing


def _copied(value: Any) -> Any:
    if isinstance(value, (fc.Tensor, np.ndarray)):
        return np.array(value)
    if isinstance(value, Mapping):
        return {name: _copied(inner) for name, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _assert_same(before: Any, after: Any) -> None:
    if isinstance(before, dict):
        assert before.keys() == after.keys(), "changed by what was refused"
        for name in before:
            _assert_same(before[name], after[name])
    elif isinstance(before, list):
        assert len(before) == len(after), "changed by what was refused"
        for one, other in zip(before, after, strict=True):
            _assert_same(one, other)
    elif isinstance(before, np.ndarray):
        assert before.tobytes() == after.tobytes(), "changed by what was refused"
    else:
        assert before == after, "changed by what was refused"


READERS = {
    "load": Reader(_types, fc.load),
    "load_metadata": Reader(_types, fc.io.load_metadata),
    # Whole files may be of another network, which ValueError tells.
    "models_load": Reader(_network, models.load, (ValueError,)),
    "weights_of_a_file": Reader(
        _network, lambda path: models.cifar_resnet20(weights=path), (ValueError,)
    ),
    "load_state_dict": Reader(_plain, _load_into, (ValueError,)),
    "tfjs": Reader(_tfjs, read, (fc.CorruptFileError, FileNotFoundError)),
    "checkpoint": Reader(
        functools.partial(_checkpoint, False, 2, 6),
        functools.partial(_resume, schedules=False),
        (ValueError,),
    ),
    "checkpoint_schedules": Reader(
        functools.partial(_checkpoint, True, 2, 6),
        functools.partial(_resume, schedules=True),
        (ValueError,),
    ),
    "load_checkpoint": Reader(
        functools.partial(_checkpoint, False, 1, "epoch"), _by_hand, (ValueError,)
    ),
}
