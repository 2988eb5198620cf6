"""The command with other people's names and texts: any encoding, no escape sequence, files as they
come."""

from __future__ import annotations

import codecs
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv import models
from fastconv.cli import main
from fastconv.cli.infer import _names
from fastconv.train import ModelCheckpoint
from fastconv.untrusted import printable
from tests.test_data import write_mnist

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")


def one() -> Image.Image:
    """A picture of a digit: white on black, 28 x 28."""
    picture = Image.new("L", (28, 28))
    picture.paste(255, (12, 4, 15, 24))
    return picture


def weights_with(names: list[str], path: Path) -> Path:
    fc.manual_seed(0)
    models.save(models.lenet5(len(names)), path, classes=names)
    return path


def run(*words: str | bytes, encoding: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "fastconv", *words],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=False,
    )


# ------------------------------------------------------------------------------- what is printed


@linux
@pytest.mark.parametrize("encoding", ["utf-8:strict", "utf-8:surrogateescape", "ascii", "cp1252"])
def test_predict_looks_at_all_files(encoding: str, tmp_path: Path) -> None:
    """Latin-1 bytes, Chinese, a newline, an escape sequence; in names of classes too."""
    names = ["\x1b[2Jzero", "一", "h\udcfcnd", *"3456789"]
    weights = weights_with(names, tmp_path / "w.safetensors")
    files = [
        b"1.png",
        b"caf\xe9.png",
        "猫.png".encode(),
        b"a\nb.png",
        b"\x1b]0;x\x07.png",
        b"6.png",
    ]
    paths = [os.fsencode(tmp_path) + b"/" + name for name in files]
    for path in paths:
        with open(path, "wb") as file:
            one().save(file, "PNG")
    words = ("predict", "lenet5", "--weights", str(weights), "--top", "10")
    done = run(*words, *paths, b"missing\x1b[1m.png", encoding=encoding)
    lines = done.stdout.decode(encoding.partition(":")[0]).splitlines()
    assert done.returncode == 1 and len(lines) == len(files), done.stderr
    assert r"caf\xe9.png" in lines[1] and r"a\nb.png" in lines[3]
    assert r"h\xfcnd" in lines[0] and r"\x1b[2Jzero" in lines[0]
    assert b"\x1b" not in done.stdout + done.stderr
    assert rb"missing\x1b[1m.png: No such file" in done.stderr and done.stderr.count(b"\n") == 1
    assert run(*words, *paths, encoding=encoding).returncode == 0


@linux
@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii"])
def test_class_folders_of_any_name(encoding: str, tmp_path: Path) -> None:
    """Training, measuring and teaching go through; bad pictures among them are named."""
    root = os.fsencode(tmp_path / "d")
    for name in (b"h\xfcnd", b"\x1b[31mcat", "猫".encode()):
        os.makedirs(root + b"/" + name)
        for i in range(4):
            with open(root + b"/" + name + b"/%d\xff.png" % i, "wb") as file:
                Image.new("RGB", (64, 64), (40 * i, 90, 0)).save(file, "PNG")
        with open(root + b"/" + name + b"/bad\n.png", "wb") as file:
            file.write(b"no picture")
    weights = str(tmp_path / "w.safetensors")
    data = ("--data", root)
    few = ("--epochs", "1", "--batch-size", "8")
    for words in (
        ("train", "tiny_vgg", *data, *few, "--save", weights),
        ("evaluate", "tiny_vgg", *data, "--weights", weights, "--report"),
        ("finetune", "tiny_vgg", *data, "--weights", weights, "--frozen", "--save", weights),
    ):
        done = run(*words, encoding=encoding)
        assert done.returncode == 0, done.stderr
        assert rb"h\xfcnd" in done.stdout and b"\x1b" not in done.stdout + done.stderr
        assert rb"bad\n.png" in done.stderr


def test_messages_show_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of exceptions, of warnings, of wrong usage."""
    evil = "\x1b[2J\x9bevil"
    weights = weights_with([evil, *"123456789"], tmp_path / "w.safetensors")
    one().save(tmp_path / "1.png")
    (tmp_path / "d" / "cat").mkdir(parents=True)
    (tmp_path / "d" / "dog").mkdir()
    for name in ("cat", "dog"):
        Image.new("RGB", (9, 9)).save(tmp_path / "d" / name / "1.png")
    words = ["--weights", str(weights)]
    assert main(["predict", "lenet5", *words, "--top", "10", str(tmp_path / "1.png")]) == 0
    assert main(["evaluate", "lenet5", *words, "--data", str(tmp_path / "d")]) == 1
    assert main(["evaluate", "lenet5", *words, "--data", f"missing{evil}"]) == 1
    assert main(["predict", "lenet5", "--weights", f"{evil}.safetensors", "x.png"]) == 1
    with pytest.raises(SystemExit):
        main(["train", "lenet5", "--epochs", evil])
    said = "".join(capsys.readouterr())
    assert said.count(r"\x1b[2J\x9bevil") >= 4 and printable(said, "\n") == said


# ------------------------------------------------------------------------------ names of classes

TEXTS = {
    "plain": (b"tench\ngoldfish\n", ["tench", "goldfish"]),
    "a byte-order mark": (codecs.BOM_UTF8 + b"tench\ngoldfish", ["tench", "goldfish"]),
    "windows": (b"tench\r\ngoldfish\r\n\r\n", ["tench", "goldfish"]),
    "old macs": (b"tench\rgoldfish", ["tench", "goldfish"]),
    "utf-16": ("tench\ngoldfish é".encode("utf-16"), ["tench", "goldfish é"]),
    "unicode line": (
        "ten\u2028ch\x85x\ngold\x1cfish".encode(),
        ["ten\u2028ch\x85x", "gold\x1cfish"],
    ),
    "blanks": (b"\n  tench \n\n\tgoldfish\n", ["tench", "goldfish"]),
}


@pytest.mark.parametrize("case", TEXTS)
def test_files_of_class_names(case: str, tmp_path: Path) -> None:
    content, names = TEXTS[case]
    (tmp_path / "n.txt").write_bytes(content)
    assert _names(str(tmp_path / "n.txt")) == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (codecs.BOM_UTF8 + b"\n \n", "empty"),
        (b"\x89PNG\r\n\x1a\n\0\0", "not a text file"),
        (b"caf\xe9", "not a text file"),
        (b"a\0b", "not a text file"),
        (codecs.BOM_UTF16_LE + b"\0", "not a text file"),
        (b"x\n" * 3_000_000, "more than 4,194,304 bytes"),
    ],
)
def test_files_that_hold_no_class_names(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "n.txt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"n\.txt: {message}.*one name a line"):
        _names(str(tmp_path / "n.txt"))


def test_a_file_without_an_end() -> None:
    if not os.path.exists("/dev/zero"):
        pytest.skip("no /dev/zero")
    with pytest.raises(ValueError, match="more than"):
        _names("/dev/zero")


# ---------------------------------------------------------------------------------------- "~"


def test_the_home_folder_in_every_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shells do not always say what "~" is: --data=~/d, or a path in a program."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for name in ("cat", "dog"):
        for i in range(3):
            (tmp_path / "d" / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 64), (90 * i, 0, 0)).save(tmp_path / "d" / name / f"{i}.png")
    words = ["train", "tiny_vgg", "--data", "~/d", "--epochs", "1", "--save", "~/w.safetensors"]
    assert main([*words, "--log", "~/log.csv"]) == 0
    assert {"w.safetensors", "log.csv"} <= set(os.listdir(tmp_path))
    (tmp_path / "names.txt").write_text("x\ny\n")
    weights = ["--weights", "~/w.safetensors"]
    classes = ["--classes", "~/names.txt"]
    assert main(["predict", "tiny_vgg", *weights, *classes, "~/d/cat/0.png"]) == 0
    assert fc.data.open_image("~/d/cat/0.png").size == (64, 64)
    assert len(fc.data.ImageFolder("~/d")) == 6
    assert models.tiny_vgg(weights="~/w.safetensors").classes == ["cat", "dog"]
    assert capsys.readouterr().err == ""


# ------------------------------------------------------------------- checkpoints of a callback


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Of ModelCheckpoint(everything=True): three classes, no word about the network."""
    x = np.zeros((48, 28, 28), np.uint8)
    x[np.arange(48), np.arange(48) % 3] = 255
    model = models.lenet5(3)
    model.compile("adam")
    path = tmp_path / "api.safetensors"
    model.fit(x, np.arange(48) % 3, verbose=0, callbacks=[ModelCheckpoint(path, everything=True)])
    return path


def test_a_callbacks_checkpoint_predicts(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one().save(tmp_path / "1.png")
    assert main(["predict", "lenet5", "--weights", str(checkpoint), str(tmp_path / "1.png")]) == 0
    assert capsys.readouterr().out.count("%") == 3, "as many classes as the last layer has"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "lenet5", "--data", "DATA", "--resume", "FILE"], "is not of `fastconv train`"),
        (
            ["finetune", "lenet5", "--data", "DATA", "--weights", "FILE", "--resume", "FILE"],
            "is not of `fastconv finetune`",
        ),
        (["evaluate", "lenet1", "--data", "DATA", "--weights", "FILE"], "9 entries do not fit"),
        (["predict", "cifar_resnet20", "--weights", "FILE", "x.png"], "do not fit"),
    ],
    ids=["train", "finetune", "evaluate", "predict"],
)
def test_a_callbacks_checkpoint_that_does_not_fit_is_one_line(
    words: list[str], message: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mnist(checkpoint.parent)
    places = {"FILE": str(checkpoint), "DATA": str(checkpoint.parent)}
    assert main([places.get(word, word) for word in words]) == 1
    said = capsys.readouterr().err
    assert message in said and str(checkpoint) in said
    assert said.count("\n") == 1 and len(said) < 700 + len(str(checkpoint))


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": "many"},
        {"batch_size": None},
        {"lr": [1]},
        {"augment": 3},
        {"optimizer": 7},
        {"unknown": 1},
        {"width": "x"},
    ],
    ids=str,
)
def test_damaged_recipes_are_one_line(
    change: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `--resume` finds in a file is checked before anything is built of it."""
    from fastconv.train.checkpoint import Checkpoint
    from fastconv.train.recipes import Recipe

    x, y = np.zeros((16, 28, 28), np.uint8), np.arange(16) % 10
    model = models.lenet5()
    model.compile("adam")
    path = tmp_path / "state.safetensors"

    class Keep:
        def on_epoch_end(self, epoch: int, logs: object) -> None:
            recipe = {**vars(Recipe("lenet5")), **change}
            Checkpoint.of(self.run, {"recipe": recipe, "data": "x"}).save(path)

        def on_train_begin(self, run: object) -> None:
            self.run = run

    model.fit(x, y, verbose=0, callbacks=[Keep()])
    write_mnist(tmp_path)
    words = ["train", "lenet5", "--data", str(tmp_path), "--resume", str(path)]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert f"damaged, '{next(iter(change))}' is" in said and said.count("\n") == 1
