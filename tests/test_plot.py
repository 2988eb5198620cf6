"""Pictures: the right things are drawn, files are whole or not there, nothing global changes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastconv import Tensor, train
from fastconv.train import History
from tests.support import run_python

matplotlib = pytest.importorskip("matplotlib")
plot = pytest.importorskip("fastconv.plot")

HISTORY = History(
    {
        "loss": [1.0, 0.5],
        "accuracy": [0.5, 0.8],
        "val_loss": [1.1, 0.7],
        "val_accuracy": [0.4, 0.7],
    },
    [0, 1],
)
REPORT = train.classification_report([0, 0, 1, 2, 2], [0, 1, 1, 2, 2], ["cat", "dog", "frog"])


def texts(path: Path) -> set[str]:
    """What an SVG says; matplotlib notes each text in a comment beside its glyphs."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    root = ET.parse(path, parser).getroot()
    return {str(e.text).strip() for e in root.iter() if e.tag is ET.Comment}


def pixels(path: Path) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB"))


def test_curves_of_a_history(tmp_path: Path) -> None:
    plot.curves(HISTORY, tmp_path / "a.svg")
    said = texts(tmp_path / "a.svg")
    assert {"epoch", "loss", "accuracy", "training", "validation"} <= said
    plot.curves(HISTORY, tmp_path / "b.svg", metrics=["loss"])
    assert "accuracy" not in texts(tmp_path / "b.svg")


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_curves_of_logs(tmp_path: Path, kind: str) -> None:
    lines = {
        "csv": "epoch,loss,val_loss\n1,1.0,1.1\n2,0.5,0.7\n",
        "jsonl": '{"epoch": 1, "loss": 1.0, "val_loss": 1.1}\n{"epoch": 2, "loss": 0.5, '
        '"val_loss": null}\n',
    }
    log = tmp_path / f"log.{kind}"
    log.write_text(lines[kind])
    plot.curves({"transfer": log, "scratch": HISTORY}, tmp_path / "a.svg")
    assert {"transfer training", "scratch validation"} <= texts(tmp_path / "a.svg")


def test_confusion(tmp_path: Path) -> None:
    plot.confusion(REPORT, tmp_path / "a.svg")
    assert {"cat", "dog", "frog", "1", "2", "is", "taken for"} <= texts(tmp_path / "a.svg")
    plot.confusion(np.eye(100, dtype=int), tmp_path / "b.png")
    assert pixels(tmp_path / "b.png").shape[0] > 500


@pytest.mark.parametrize(
    "x",
    [
        np.full((5, 8, 8), 255, np.uint8),
        np.ones((5, 1, 8, 8), np.float32),
        np.linspace(-2, 2, 5 * 3 * 64).reshape(5, 3, 8, 8),
        Tensor(np.ones((5, 8, 8), np.float32)),
    ],
    ids=["bytes", "grey", "colour", "tensor"],
)
def test_images(tmp_path: Path, x: Any) -> None:
    plot.images(x, tmp_path / "a.png", titles=["seven", 1, 2, 3, 4], columns=3)
    drawn = pixels(tmp_path / "a.png")
    assert drawn.shape[1] > drawn.shape[0]


def test_images_have_their_values(tmp_path: Path) -> None:
    """One black, one grey, one white."""
    x = np.stack([np.full((8, 8), v, np.float32) for v in (0, 0.5, 1)])
    plot.images(x, tmp_path / "a.png", columns=3)
    drawn = pixels(tmp_path / "a.png")
    middle = drawn[drawn.shape[0] // 2]
    third = len(middle) // 3
    levels = [int(middle[third // 2 + i * third, 0]) for i in range(3)]
    assert levels[0] == 0 and abs(levels[1] - 128) <= 2 and levels[2] == 255


def test_reconstructions(tmp_path: Path) -> None:
    x = np.arange(12 * 64).reshape(12, 8, 8).astype(np.uint8)
    decoded = {"dense": x.reshape(12, 64) / 255 + 0.01, "conv": (x / 255)[:, None]}
    plot.reconstructions(x, decoded, tmp_path / "a.svg", count=4)
    assert {"original", "dense", "conv"} <= texts(tmp_path / "a.svg")
    plot.reconstructions(x, x / 255, tmp_path / "a.png")


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda p: plot.curves(History(), p / "a.png"), "empty"),
        (lambda p: plot.curves(HISTORY, p / "a.png", ["f1"]), "f1.*loss, accuracy"),
        (lambda p: plot.curves(HISTORY, p / "a.gif"), "must end in .png"),
        (lambda p: plot.curves(Path(__file__), p / "a.png"), "no log"),
        (lambda p: plot.confusion(np.ones((2, 3)), p / "a.png"), r"\(2, 3\)"),
        (lambda p: plot.confusion(np.ones((2, 2)), p / "a.png", ["a"]), "1 names"),
        (lambda p: plot.images(np.ones((2, 5, 8, 8)), p / "a.png"), r"\(2, 5, 8, 8\)"),
        (lambda p: plot.images(np.ones((2, 8, 8)), p / "a.png", ["a"]), "1 titles"),
        (
            lambda p: plot.reconstructions(np.ones((2, 8, 8)), np.ones((2, 9)), p / "a.png"),
            r"\(2, 9\)",
        ),
    ],
    ids=range(9),
)
def test_bad_input_draws_nothing(tmp_path: Path, draw: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw(tmp_path)
    assert not list(tmp_path.iterdir())


def test_files_are_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "a.png"
    with pytest.raises(FileNotFoundError):
        plot.confusion(REPORT, path)
    first, second = tmp_path / "1.svg", tmp_path / "2.svg"
    for name in (first, second):
        plot.confusion(REPORT, name)
    assert first.read_bytes() == second.read_bytes()


def test_no_window_and_no_pyplot(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from fastconv import plot\n"
        "assert 'matplotlib' not in sys.modules\n"
        "plot.images(np.zeros((2, 4, 4)), 'a.png')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = run_python(code, cwd=tmp_path, MPLBACKEND="tkagg")
    assert done.returncode == 0, done.stderr


def test_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'fastconv\[plot\]'"):
        plot.confusion(REPORT, tmp_path / "a.png")
