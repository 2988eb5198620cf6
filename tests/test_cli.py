"""The fastconv command, as a process: results, wrong usage, interruption, odd terminals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from tests.support import child_environment
from tests.test_data import write_mnist


def start(*arguments: str, cwd: Path, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fastconv", *arguments],
        cwd=cwd,
        env=child_environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    process = start(*arguments, cwd=cwd, **env)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.fixture(scope="module")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set in MNIST's format: 300 + 60 of the built-in digits, as files."""
    import gzip

    from tests.test_data import encoded

    folder = tmp_path_factory.mktemp("mnist")
    (x, y), (xt, yt) = fc.data.digits(300, 60, seed=0)
    for prefix, images, labels in (("train", x, y), ("t10k", xt, yt)):
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(encoded(images)))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(encoded(labels)))
    return folder


@pytest.fixture(scope="module")
def trained(digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `fastconv train lenet5` has run."""
    folder = tmp_path_factory.mktemp("trained")
    done = run("train", "lenet5", "--data", str(digits_folder), "--epochs", "3", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "output").write_text(done.stdout + done.stderr)
    return folder


def test_train_shows_a_line_an_epoch_and_what_comes_next(trained: Path) -> None:
    text = (trained / "output").read_text()
    assert len(re.findall(r"^Epoch [123]/3 .*loss: .*accuracy: .*images/s", text, re.M)) == 3
    assert re.search(r"[Tt]est accuracy.*\d %", text)
    assert "lenet5.safetensors" in text
    assert "fastconv evaluate lenet5" in text and "fastconv predict lenet5" in text
    assert "\x1b" not in text and "\r" not in text
    assert (trained / "lenet5.safetensors").stat().st_size > 100_000
    assert not list(trained.glob("*.part"))


def test_evaluate_agrees_with_train(trained: Path, digits_folder: Path) -> None:
    done = run(
        "evaluate",
        "lenet5",
        "--weights",
        "lenet5.safetensors",
        "--data",
        str(digits_folder),
        cwd=trained,
    )
    assert done.returncode == 0, done.stderr
    (accuracy,) = re.findall(r"([\d.]+) %", done.stdout)[:1]
    assert f"{accuracy} %" in (trained / "output").read_text()


def test_predict(trained: Path, tmp_path: Path) -> None:
    """Classes and probabilities of image files; what is no image is named, the rest goes on."""
    image = pytest.importorskip("PIL.Image")
    (x, _), _ = fc.data.digits(3, 10, seed=9)
    image.fromarray(x[0]).save(tmp_path / "a.png")
    image.fromarray(255 - x[1]).convert("RGB").resize((90, 120)).save(tmp_path / "b.jpg")
    (tmp_path / "c.png").write_bytes(b"not an image")
    weights = str(trained / "lenet5.safetensors")
    done = run("predict", "lenet5", "--weights", weights, "a.png", "b.jpg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("a.png") and lines[1].startswith("b.jpg")
    assert re.search(r"\b\d +\d+\.\d %", lines[0])
    done = run("predict", "lenet5", "--weights", weights, "c.png", "a.png", cwd=tmp_path)
    assert done.returncode == 1 and "c.png" in done.stderr and done.stdout.startswith("a.png")


def test_same_seed_same_file(digits_folder: Path, tmp_path: Path) -> None:
    files = []
    for name, threads in (("a", "1"), ("b", "3")):
        target = tmp_path / f"{name}.safetensors"
        arguments = (
            "--data",
            str(digits_folder),
            "--epochs",
            "1",
            "--seed",
            "5",
            "--save",
            str(target),
        )
        done = run("train", "lenet5", *arguments, cwd=tmp_path, FASTCONV_NUM_THREADS=threads)
        assert done.returncode == 0, done.stderr
        files.append(fc.load(target))
    for key in files[0]:
        np.testing.assert_array_equal(files[0][key], files[1][key])


def test_until_stops_early_or_fails(digits_folder: Path, tmp_path: Path) -> None:
    arguments = ("train", "keras_mlp", "--data", str(digits_folder), "--epochs", "9")
    done = run(*arguments, "--until", "15", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^Epoch ", done.stdout + done.stderr, re.M)) < 9
    done = run(*arguments[:-1], "1", "--until", "100", cwd=tmp_path)
    assert done.returncode == 1, "exit status 0 only when the job is done"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "COMMAND"),
        (("fly",), "fly"),
        (("train",), "MODEL"),
        (("train", "lenet6"), "lenet6"),
        (("train", "lenet5", "--epochs", "0"), "--epochs"),
        (("train", "lenet5", "--epochs", "many"), "many"),
        (("train", "lenet5", "--batch-size", "-4"), "--batch-size"),
        (("train", "lenet5", "--until", "101"), "--until"),
        (("train", "lenet5", "--optimizer", "magic"), "magic"),
        (("train", "lenet5", "--seed", "x"), "--seed"),
        (("train", "lenet5", "--device", "tpu"), "tpu"),
        (("train", "lenet5", "--wrong"), "--wrong"),
        (("predict", "lenet5"), "IMAGE"),
        (("evaluate",), "MODEL"),
        (("train", "lenet"), "did you mean lenet"),
        (("train", "lenet5", "--width", "-1"), "--width"),
        (("finetune", "mobilenet_v1"), "--weights"),
        (("finetune", "mobilenet_v1", "--weights", "imagenet"), "--data"),
        (("models", "lenet5"), "lenet5"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: tuple[str, ...], word: str, tmp_path: Path
) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and not done.stdout
    assert len(done.stderr.splitlines()) == 1 and word in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("evaluate", "lenet5", "--data", "digits"), "fastconv train lenet5"),
        (("evaluate", "lenet5", "--weights", "broken.safetensors"), "broken.safetensors"),
        (("train", "lenet5", "--data", "nowhere"), "nowhere"),
        (("train", "lenet5", "--data", "damaged"), "damaged"),
        (("train", "lenet5", "--save", "missing/x.safetensors", "--data", "digits"), "missing"),
    ],
    ids=" ".join,
)
def test_failures_are_one_line_and_status_1(
    arguments: tuple[str, ...], word: str, tmp_path: Path
) -> None:
    """No traceback, and what cannot work is found before anything is computed."""
    (tmp_path / "broken.safetensors").write_bytes(b"nonsense" * 9)
    write_mnist(tmp_path / "damaged")
    path = tmp_path / "damaged" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    began = time.monotonic()
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and word in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 60


def test_interrupt_keeps_a_checkpoint_to_resume_from(digits_folder: Path, tmp_path: Path) -> None:
    """Ctrl-C: status 130, no traceback, a complete file, and the command that goes on with it."""
    process = start(
        "train", "lenet5", "--data", str(digits_folder), "--epochs", "400", cwd=tmp_path
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Epoch 2/"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    (kept,) = tmp_path.glob("*interrupted*.safetensors")
    assert kept.name in out + err and "--resume" in out + err
    assert len(fc.load(kept)) >= 10
    assert not (tmp_path / "lenet5.safetensors").exists()
    assert [p.name for p in tmp_path.iterdir()] == [kept.name], "no temporary files"


def test_resume_continues_exactly(digits_folder: Path, tmp_path: Path) -> None:
    """A run that was interrupted and resumed ends in the bits of one that was not."""
    common = ("train", "lenet5", "--data", str(digits_folder), "--epochs", "40", "--save")
    whole = run(*common, "whole.safetensors", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    process = start(*common, "parts.safetensors", cwd=tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Epoch 3/"):
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("the run was over before the signal arrived")
    (kept,) = tmp_path.glob("*interrupted*.safetensors")
    rest = run(*common, "parts.safetensors", "--resume", str(kept), cwd=tmp_path)
    assert rest.returncode == 0, rest.stderr
    a, b = (fc.load(tmp_path / f"{name}.safetensors") for name in ("whole", "parts"))
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])


def test_info(tmp_path: Path) -> None:
    done = run("info", cwd=tmp_path)
    assert done.returncode == 0
    for word in (fc.__version__, fc.isa(), "threads", "CUDA"):
        assert word in done.stdout


def test_version_and_help(tmp_path: Path) -> None:
    assert run("--version", cwd=tmp_path).stdout.strip() == f"fastconv {fc.__version__}"
    for arguments in (("--help",), ("train", "--help")):
        done = run(*arguments, cwd=tmp_path)
        assert done.returncode == 0 and "usage" in done.stdout


def test_reader_that_leaves(tmp_path: Path) -> None:
    """fastconv info | head -c1: no traceback."""
    process = start("info", cwd=tmp_path)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)
    assert "Traceback" not in err and "Exception ignored" not in err


def test_console_script_is_installed(tmp_path: Path) -> None:
    """pip puts `fastconv` beside the Python that runs it."""
    script = Path(sys.executable).with_name("fastconv")
    if not script.exists():
        pytest.skip("fastconv is imported from its sources, not installed")
    done = subprocess.run(
        [script, "--version"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0 and fc.__version__ in done.stdout, done.stderr
    assert os.access(script, os.X_OK)
