"""Signals that end training: in `fit`, and in the command, once, twice, and at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import interrupt, train
from fastconv.interrupt import Signals, signals_held
from tests.support import assert_same_bits, child_environment
from tests.test_cli import digits_folder, start  # noqa: F401  a fixture
from tests.test_resume import EPOCHS, STEPS, Setting

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
ENDS = {
    "SIGINT": (KeyboardInterrupt, 130),
    "SIGTERM": (SystemExit, 143),
    "SIGHUP": (SystemExit, 129),
}
every_signal = pytest.mark.parametrize("name", list(ENDS))


class Clock:
    """The time as `interrupt` sees it."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(interrupt, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def _handlers_are_put_back() -> Iterator[None]:
    before = {name: signal.getsignal(getattr(signal, name)) for name in ENDS}
    yield
    after = {name: signal.getsignal(getattr(signal, name)) for name in ENDS}
    assert before == after and Signals._open is None


def send(*names: str) -> None:
    for name in names:
        signal.raise_signal(getattr(signal, name))


class At:
    """Calls a function at one event of the run."""

    def __init__(self, event: str, number: int, act: Callable[[], None]) -> None:
        self._number, self._act = number, act
        setattr(self, event, self._call)

    def _call(self, *arguments: Any) -> None:
        self._number -= 1
        if self._number == 0:
            self._act()


def stopped(setting: Setting, path: Path, *callbacks: Any) -> BaseException:
    keeper = train.ModelCheckpoint(path, everything=True)
    with pytest.raises((KeyboardInterrupt, SystemExit)) as caught:
        setting.fit(keeper, *callbacks)
    return caught.value


def assert_resumes(make: Callable[[], Setting], path: Path) -> None:
    """To the end of a run that was never stopped."""
    whole, rest = make(), make()
    options: dict[str, Any] = {"everything": True}
    expected = whole.fit(train.ModelCheckpoint(path.with_name("whole.safetensors"), **options))
    history = rest.fit(train.ModelCheckpoint(path, **options), resume=path)
    assert history == expected
    after = rest.state()
    for name, value in whole.state().items():
        assert_same_bits(after[name], value)


# --------------------------------------------------------------------------------------- in fit
@every_signal
@pytest.mark.parametrize("times", [1, 2, 5])
def test_forwarded_signals_are_one(name: str, times: int, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    end = stopped(Setting(), path, At("on_batch_end", 8, lambda: send(*[name] * times)))
    kind, status = ENDS[name]
    assert type(end) is kind
    if isinstance(end, SystemExit):
        assert end.code == status
    assert train.Checkpoint.load(path).step == 8
    assert_resumes(Setting, path)


@pytest.mark.parametrize("names", [("SIGINT", "SIGTERM"), ("SIGHUP", "SIGINT", "SIGTERM")])
def test_different_signals_at_once_are_the_first(names: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    end = stopped(Setting(), path, At("on_batch_end", 8, lambda: send(*names)))
    assert type(end) is ENDS[names[0]][0]
    assert train.Checkpoint.load(path).step == 8


MOMENTS = {
    "before the first batch": ("on_train_begin", 1, 1),
    "as an epoch begins": ("on_epoch_begin", 2, STEPS + 1),
    "in the first batch": ("on_batch_end", 1, 1),
    "in the last batch of an epoch": ("on_batch_end", STEPS, STEPS),
    "between epochs": ("on_epoch_end", 2, 2 * STEPS),
    "in the last batch": ("on_batch_end", EPOCHS * STEPS, EPOCHS * STEPS),
    "at the very end": ("on_epoch_end", EPOCHS, EPOCHS * STEPS),
}


@pytest.mark.parametrize(("event", "number", "steps"), MOMENTS.values(), ids=list(MOMENTS))
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_at_every_event(name: str, event: str, number: int, steps: int, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    stopped(Setting(), path, At(event, number, lambda: send(name, name)))
    assert train.Checkpoint.load(path).step == steps
    assert_resumes(Setting, path)


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_while_data_are_made(name: str, part: str, tmp_path: Path) -> None:
    """Batches come from a generator of the user's, which runs in the main thread."""
    path = tmp_path / "run.safetensors"
    rng = np.random.default_rng(0)
    x, y = rng.random((40, 1, 10, 10)).astype(np.float32), rng.integers(0, 3, 40)

    class Batches:
        def __init__(self, which: str) -> None:
            self._which, self._passes = which, 0

        def __iter__(self) -> Iterator[Any]:
            self._passes += 1
            for begin in range(0, 40, 10):
                if sending and self._which == part and (self._passes, begin) == (2, 20):
                    send(name, name)
                yield x[begin : begin + 10], y[begin : begin + 10]

    def make() -> Setting:
        return Setting(x=Batches("train"), validation_data=Batches("validation"), transform=None)

    sending = True
    stopped(make(), path)
    sending = False
    assert train.Checkpoint.load(path).step in ((3, 7) if part == "train" else (4, 8))
    assert_resumes(make, path)


def test_a_later_second_signal_does_not_wait(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "run.safetensors"
    reached = []

    def twice() -> None:
        send("SIGINT")
        clock.now += 1.5
        send("SIGTERM")
        reached.append("after it")

    setting = Setting()
    end = stopped(setting, path, At("on_batch_end", 8, twice))
    assert isinstance(end, SystemExit) and end.code == 143 and not reached
    assert train.Checkpoint.load(path).step == STEPS  # of the first epoch; nothing newer is exact


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signals_while_a_checkpoint_is_written_wait(
    name: str, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every file: after an epoch, and after the interruption itself."""
    from fastconv.train import checkpoint

    path, saved = tmp_path / "run.safetensors", []
    write = checkpoint.save

    def disturbed(*arguments: Any) -> None:
        for _ in range(3):
            clock.now += 5.0
            send(name, "SIGINT")
        write(*arguments)
        send("SIGHUP")
        saved.append(train.Checkpoint.load(path).step)

    monkeypatch.setattr(checkpoint, "save", disturbed)
    end = stopped(Setting(), path)
    assert type(end) is ENDS[name][0]
    assert saved == [STEPS, STEPS], "after the epoch, then because of the signal"
    monkeypatch.undo()
    assert_resumes(Setting, path)


def test_signals_while_callbacks_put_things_away_wait(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "run.safetensors"

    def impatient() -> None:
        clock.now += 5.0
        send("SIGINT", "SIGTERM")

    stopped(
        Setting(),
        path,
        At("on_batch_end", 3, lambda: send("SIGINT")),
        At("on_train_end", 1, impatient),
    )
    assert train.Checkpoint.load(path).step == 3


def test_a_signal_after_the_last_step_is_not_lost() -> None:
    with pytest.raises(KeyboardInterrupt):
        Setting().fit(At("on_train_end", 1, lambda: send("SIGINT")))


def test_handlers_of_others_stay() -> None:
    came: list[int] = []

    def other(number: int, frame: Any) -> None:
        came.append(number)

    before = signal.signal(signal.SIGTERM, other)
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as after nohup
    try:
        Setting().fit(At("on_batch_end", 3, lambda: send("SIGTERM", "SIGHUP")))
        assert came == [signal.SIGTERM] and signal.getsignal(signal.SIGTERM) is other
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGHUP, ignored)


def test_a_handler_set_during_the_run_stays() -> None:
    def other(number: int, frame: Any) -> None:
        """Does nothing."""

    before = signal.getsignal(signal.SIGTERM)
    try:
        Setting().fit(At("on_batch_end", 3, lambda: signal.signal(signal.SIGTERM, other)))
        assert signal.getsignal(signal.SIGTERM) is other
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_change_nothing() -> None:
    seen: list[Any] = []
    setting = Setting()

    def look() -> None:
        seen.append([signal.getsignal(getattr(signal, name)) for name in ENDS])

    thread = threading.Thread(target=lambda: setting.fit(At("on_batch_end", 3, look)))
    thread.start()
    thread.join()
    assert seen == [[signal.getsignal(getattr(signal, name)) for name in ENDS]]


def test_a_fit_within_a_fit_leaves_signals_to_the_outer_one(tmp_path: Path) -> None:
    path, inner = tmp_path / "run.safetensors", Setting()
    state = fc.random.generator().bit_generator.state

    def fit_inside() -> None:
        before = fc.random.generator().bit_generator.state
        inner.fit(At("on_batch_end", 3, lambda: send("SIGINT")))
        fc.random.generator().bit_generator.state = before

    fc.random.generator().bit_generator.state = state
    stopped(Setting(), path, At("on_batch_end", 8, fit_inside))
    assert inner.model.history.epoch == list(range(EPOCHS)), "the inner one goes on to its end"
    assert train.Checkpoint.load(path).step == 8


def test_held_outside_of_training_changes_nothing() -> None:
    with pytest.raises(KeyboardInterrupt), signals_held():
        send("SIGINT")


def test_signals_raise_at_once_outside_of_fit(clock: Clock) -> None:
    """And what comes within a second of it belongs to it."""
    with Signals():
        with pytest.raises(SystemExit) as caught:
            send("SIGTERM")
        assert caught.value.code == 143
        send("SIGINT")
        clock.now += 1.5
        with pytest.raises(KeyboardInterrupt):
            send("SIGINT")
        clock.now += 1.5
        reached = []

        def hold() -> None:
            with signals_held():
                send("SIGINT", "SIGTERM")
                reached.append("the end")

        with pytest.raises(KeyboardInterrupt):
            hold()
        assert reached


# -------------------------------------------------------------------------------- the command
def begun(folder: Path, cwd: Path, *options: str) -> subprocess.Popen[str]:
    """fastconv train, in its second epoch."""
    process = start("train", "lenet5", "--data", str(folder), "--epochs", "4000", *options, cwd=cwd)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Epoch 2/"):
            break
    return process


@every_signal
def test_the_command_keeps_its_state(name: str, digits_folder: Path, tmp_path: Path) -> None:  # noqa: F811
    process = begun(digits_folder, tmp_path)
    for _ in range(40):  # a wrapper may forward it at any moment, also while the process ends
        process.send_signal(getattr(signal, name))
        time.sleep(0.005)
    out, err = process.communicate(timeout=60)
    assert process.returncode == ENDS[name][1], err
    assert "Traceback" not in err
    path = tmp_path / "lenet5.interrupted.safetensors"
    assert list(tmp_path.iterdir()) == [path]
    assert f"{path.name}; to go on from it:" in out
    assert f"--resume {path.name}" in out and "--checkpoint-minutes" not in out
    assert f"after step {train.Checkpoint.load(path).step:,}" in out


def test_the_command_before_training_began(tmp_path: Path) -> None:
    process = start("train", "lenet5", "--data", "digits", "--epochs", "9", cwd=tmp_path)
    time.sleep(2.0)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    if process.returncode == -signal.SIGTERM:
        pytest.skip("it had not even started")
    assert process.returncode in (143, 130), err
    assert "nothing is kept" in out and not list(tmp_path.iterdir())


def test_signals_at_random_moments(digits_folder: Path, tmp_path: Path) -> None:  # noqa: F811
    """What is there afterwards is whole, and the last line says what it is."""
    chance = random.Random(5)
    for number in range(6):
        cwd = tmp_path / str(number)
        cwd.mkdir()
        process = begun(digits_folder, cwd, "--checkpoint-minutes", "0.0005")
        time.sleep(chance.random())
        for _ in range(chance.randrange(1, 5)):
            process.send_signal(getattr(signal, chance.choice(list(ENDS))))
            time.sleep(chance.choice([0.0, 0.002, 0.05, 1.2]))
        out, err = process.communicate(timeout=60)
        assert process.returncode in (130, 143, 129), (out, err)
        assert "Traceback" not in err, err
        (path,) = cwd.iterdir()
        assert f"after step {train.Checkpoint.load(path).step:,}" in out.splitlines()[-2]


def test_the_command_keeps_its_state_by_itself(digits_folder: Path, tmp_path: Path) -> None:  # noqa: F811
    """A process that is killed leaves the last of them, from which --resume goes on exactly."""
    common = ("train", "lenet5", "--data", str(digits_folder), "--epochs", "40", "--save")
    whole = start(*common, "whole.safetensors", "--checkpoint-minutes", "0.0001", cwd=tmp_path)
    out, err = whole.communicate(timeout=120)
    assert whole.returncode == 0, err
    assert out.count("Keeping the state in whole.interrupted.safetensors every 0.0001 minutes") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["whole.safetensors"]

    killed = start(*common, "parts.safetensors", "--checkpoint-minutes", "0.0001", cwd=tmp_path)
    assert killed.stdout is not None
    for line in killed.stdout:
        if line.startswith("Epoch 3/"):
            break
    killed.kill()
    killed.communicate(timeout=60)
    kept = tmp_path / "parts.interrupted.safetensors"
    assert train.Checkpoint.load(kept).step > 0
    rest = start(*common, "parts.safetensors", "--resume", kept.name, cwd=tmp_path)
    _, err = rest.communicate(timeout=120)
    assert rest.returncode == 0, err
    a, b = (fc.load(tmp_path / f"{name}.safetensors") for name in ("whole", "parts"))
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])


def test_a_terminal_that_is_closed(digits_folder: Path, tmp_path: Path) -> None:  # noqa: F811
    """SIGHUP comes, and every print fails."""
    import pty

    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        arguments = ("train", "lenet5", "--data", str(digits_folder), "--epochs", "4000")
        os.execv(sys.executable, [sys.executable, "-m", "fastconv", *arguments])
    seen = b""
    while b"Epoch 2/" not in seen:
        seen += os.read(terminal, 10_000)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    assert train.Checkpoint.load(tmp_path / "lenet5.interrupted.safetensors").step > 0


LATE = """
import os, signal, sys, time
from fastconv.interrupt import Signals
for _ in range(2):
    try:
        with Signals(linger=True):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
    except KeyboardInterrupt:
        os.kill(os.getpid(), signal.SIGINT)  # what a wrapper forwards
        print("kept", flush=True)
    time.sleep(1.1)
os.kill(os.getpid(), getattr(signal, sys.argv[1]))
time.sleep(5)
"""


@pytest.mark.parametrize(("name", "ending"), [("SIGINT", "KeyboardInterrupt"), ("SIGTERM", "")])
def test_a_forwarded_signal_may_come_after_the_end_of_a_command(name: str, ending: str) -> None:
    """It is part of the first; one that comes later does what it always did."""
    done = subprocess.run(
        [sys.executable, "-c", LATE, name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=child_environment(),
    )
    assert done.stdout == "kept\nkept\n", done.stderr
    assert done.returncode == -getattr(signal, name)
    assert ending in done.stderr
