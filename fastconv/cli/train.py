"""fastconv train MODEL: data in, one line an epoch, weights out, and what to type next."""

from __future__ import annotations

import argparse
import shlex
import tempfile
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _core
from ..convert import check_device
from .datasets import Digits, announce, load_digits
from .recipe import make_optimizer, make_schedules, recipe_for, resumed_recipe

if TYPE_CHECKING:
    from ..nn import Module
    from ..train.checkpoint import Checkpoint
    from ..train.run import Run

__all__ = ["train"]


def train(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    began = time.perf_counter()
    check_device(args.device)
    if args.threads:
        _core.set_num_threads(args.threads)
    save_path = Path(args.save or f"{args.model}.safetensors")
    _check_writable(save_path)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load_digits, args.data)
        session = _Session(args)  # imports and builds meanwhile
        digits = loading.result()
    announce(digits, "Training on")
    try:
        session.fit(digits)
    except KeyboardInterrupt:
        _keep_interrupted(session, save_path, digits)
        return 130

    loss, accuracy = session.model.evaluate(*digits.test)
    seconds = time.perf_counter() - began
    session.save(save_path)
    print(
        f"Test accuracy on {digits.name}: {100 * accuracy:.2f} % (loss {loss:.4f}, "
        f"{len(digits.test[0]):,} images); {seconds:.1f} s from start to finish."
    )
    if digits.reason:
        print("Mind: this network has seen the built-in digits only, not MNIST (see above).")
    print(f"Saved {save_path} ({save_path.stat().st_size / 1024:,.0f} kB). Next:")
    weights = ("--weights", save_path)
    print("  " + _command("evaluate", args.model, *weights, *_data_flag(digits)))
    print("  " + _command("predict", args.model, *weights, "IMAGE"))
    if args.until and 100 * accuracy < args.until:
        raise RuntimeError(
            f"{args.until:g} % was not reached in {session.recipe.epochs} epochs; allow more with "
            "--epochs N"
        )
    return 0


class _Session:
    """A network with its recipe, and one run of it."""

    def __init__(self, args: argparse.Namespace) -> None:
        from ..models import REGISTRY
        from ..random import manual_seed
        from ..train.checkpoint import Checkpoint

        self._until: float | None = args.until
        self._resumed = Checkpoint.load(args.resume) if args.resume else None
        if self._resumed is None:
            self.recipe = recipe_for(args)
        else:
            self.recipe = resumed_recipe(self._resumed.extra["recipe"], args)
        manual_seed(self.recipe.seed)
        self.model: Module = REGISTRY[args.model]().to(args.device)
        self._optimizer = make_optimizer(self.recipe, self.model)
        self.model.compile(self._optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        self._keeper: Any = None

    def fit(self, digits: Digits) -> None:
        """Trains; KeyboardInterrupt comes through, and `last_epoch` holds what is left then."""
        x, y = digits.train
        data = f"{digits.name}, labels {zlib.crc32(y.tobytes()):08x}"
        callbacks = make_schedules(self.recipe, self._optimizer, len(x))
        done = 0
        if self._resumed is not None:
            if self._resumed.extra["data"] != data:
                raise ValueError(
                    f"[resume] data: the interrupted run has {self._resumed.extra['data']}, "
                    f"this is {data}"
                )
            done = self._resumed.restore(self.model, callbacks)
            print(f"Going on after epoch {done}.")
        if self._until is not None:
            callbacks.append(_Until(self._until, digits))
        self._keeper = _Keeper({"recipe": asdict(self.recipe), "data": data})
        self.model.fit(
            x,
            y,
            epochs=self.recipe.epochs,
            batch_size=self.recipe.batch_size,
            callbacks=[*callbacks, self._keeper],
            initial_epoch=done,
        )

    @property
    def last_epoch(self) -> Checkpoint | None:
        """The state after the last whole epoch, or at the start."""
        checkpoint: Checkpoint | None = self._keeper.checkpoint if self._keeper else None
        return checkpoint

    def save(self, path: Path) -> None:
        from ..io import save

        try:
            save(self.model.state_dict(), path)
        except OSError as error:
            raise OSError(f"{path} could not be written: {error.strerror or error}") from None


class _Keeper:
    """Holds the state of the last whole epoch, from which an interrupted run can go on exactly."""

    def __init__(self, extra: dict[str, Any]) -> None:
        self._extra = extra
        self.checkpoint: Checkpoint | None = None

    def on_train_begin(self, run: Run) -> None:
        self._run = run
        self._keep(run.epoch)

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        self._keep(epoch + 1)

    def _keep(self, epochs: int) -> None:
        from ..train.checkpoint import Checkpoint

        self.checkpoint = Checkpoint.of(self._run, epochs, self._extra)


class _Until:
    """Stops the run at an accuracy on the test set, looking for it several times an epoch.

    The accuracy in training, then that on a part of the test set, tell when it is worth measuring.
    """

    CHECKS = 8  # an epoch
    TRAINING_MARGIN = 2.0  # percentage points: further below in the epoch so far, do not look
    PART, PART_MARGIN = 5, 0.4  # every fifth image; further below on these, do not look at all

    def __init__(self, percent: float, digits: Digits) -> None:
        self._percent = percent
        self._test = digits.test
        self._part = tuple(array[:: self.PART].copy() for array in digits.test)

    def on_train_begin(self, run: Run) -> None:
        self._run = run
        self._every = max(1, run.steps_per_epoch // self.CHECKS)

    def on_batch_end(self, step: int, logs: Any) -> None:
        if (step + 1) % self._every or 100 * logs[
            "accuracy"
        ] < self._percent - self.TRAINING_MARGIN:
            return
        if self._accuracy(self._part) < self._percent - self.PART_MARGIN:
            return
        if self._accuracy(self._test) >= self._percent:
            self._run.stop()

    def _accuracy(self, samples: Any) -> float:
        _, accuracy = self._run.model.evaluate(*samples)
        return 100 * float(accuracy)


def _keep_interrupted(session: _Session, save_path: Path, digits: Digits) -> None:
    checkpoint = session.last_epoch
    if checkpoint is None:
        print("Interrupted before training began; nothing is kept.")
        return
    path = save_path.with_suffix(".interrupted.safetensors")
    checkpoint.save(path)
    done = f"after epoch {checkpoint.epoch}" if checkpoint.epoch else "at the start"
    print(f"Interrupted. The state {done} is kept in {path}; to go on from it:")
    command = _command(
        "train", checkpoint.extra["recipe"]["model"], "--resume", path, *_data_flag(digits)
    )
    if (
        save_path.name != f"{checkpoint.extra['recipe']['model']}.safetensors"
        or save_path.parent != Path()
    ):
        command += " " + shlex.join(["--save", str(save_path)])
    print("  " + command, flush=True)


def _check_writable(path: Path) -> None:
    """Finds out before the training, not after it, whether its result can be written."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; --save needs the name of a file")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror or error}; see --save") from None


def _command(*words: object) -> str:
    return shlex.join(["fastconv", *map(str, words)])


def _data_flag(digits: Digits) -> tuple[str, ...]:
    """What makes the next command find the same data."""
    if digits.name != "MNIST":
        return ("--data", "digits")
    return ("--data", digits.argument) if digits.argument else ()
