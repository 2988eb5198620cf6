"""Confusion matrix, precision, recall and F1, against their definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import data, nn, train

NAMES = ["cat", "dog", "frog"]


def by_hand(targets: np.ndarray, predicted: np.ndarray, c: int) -> tuple[float, float, float]:
    """Precision, recall and F1 of class c."""
    hit = int(((targets == c) & (predicted == c)).sum())
    taken, there = int((predicted == c).sum()), int((targets == c).sum())
    precision = hit / taken if taken else 0.0
    recall = hit / there if there else 0.0
    both = precision + recall
    return precision, recall, 2 * precision * recall / both if both else 0.0


def test_numbers_follow_their_definitions(rng: np.random.Generator) -> None:
    targets = rng.integers(0, 6, 500)
    predicted = np.where(rng.random(500) < 0.6, targets, rng.integers(0, 5, 500))
    targets[targets == 4] = 3  # class 4 never occurs, class 5 is never taken
    predicted[predicted == 5] = 0
    report = train.classification_report(targets, predicted)
    for c in range(6):
        expected = by_hand(targets, predicted, c)
        found = (report.precision[c], report.recall[c], report.f1[c])
        assert found == pytest.approx(expected)
        assert report.support[c] == (targets == c).sum()
        for d in range(6):
            assert report.confusion[c, d] == ((targets == c) & (predicted == d)).sum()
    assert report.accuracy == pytest.approx((targets == predicted).mean())
    (true, taken, times), *_ = report.most_confused(1)
    assert times == (report.confusion - np.diag(np.diagonal(report.confusion))).max()
    assert report.confusion[int(true), int(taken)] == times


def test_text_has_a_line_a_class() -> None:
    text = str(train.classification_report([0, 1, 2, 2], [0, 1, 2, 1], NAMES))
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == NAMES
    assert lines[4].split() == ["frog", "1.0000", "0.5000", "0.6667", "2"]
    assert lines[-1] == "accuracy 0.7500: 3 of 4 right"
    assert len({len(line) for line in lines[:-1]}) == 1


def test_scores_count_by_their_largest() -> None:
    scores = np.array([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1]], np.float32)
    assert train.confusion_matrix([1, 2], scores).tolist() == [[0, 0, 0], [0, 1, 0], [1, 0, 0]]
    assert train.confusion_matrix([[0], [1]], np.array([0, 1], np.uint8)).tolist() == [
        [1, 0],
        [0, 1],
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0, 1], [0]), ValueError, "2 targets, 1 predictions"),
        (([0, -1], [0, 1]), ValueError, r"targets\[1\] is -1"),
        (([0, 1], [0, 2], 2), ValueError, r"0 to 1: predicted\[1\] is 2"),
        (([0.5, 1], [0, 1]), TypeError, "float64"),
        ((np.zeros((2, 2, 2), int), [0, 1]), ValueError, r"\(2, 2, 2\)"),
    ],
    ids=range(5),
)
def test_bad_labels(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        train.confusion_matrix(*arguments)


def test_names_must_fit() -> None:
    with pytest.raises(ValueError, match="3 names for 2 classes"):
        train.classification_report([0, 1], [0, 1], NAMES, num_classes=2)


def network(outputs: int) -> nn.Sequential:
    """Passes its inputs through."""
    model = nn.Sequential(nn.Linear(outputs, outputs))
    model.load_state_dict({"0.weight": np.eye(outputs), "0.bias": np.zeros(outputs)})
    return model


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "categorical_crossentropy"])
def test_report_of_a_model(loss: str) -> None:
    model = network(3)
    model.compile(loss=loss)
    x = np.eye(3, dtype=np.float32)[[0, 1, 2, 2, 0]]
    y = np.array([0, 1, 2, 1, 1])
    given = y if loss.startswith("sparse") else np.eye(3)[y]
    expected = train.confusion_matrix(y, [0, 1, 2, 2, 0], 3)
    model.classes = NAMES
    report = model.report(x, given)
    assert (report.confusion == expected).all()
    assert report.classes == tuple(NAMES)
    from_batches = model.report([(x[:2], given[:2]), (x[2:], given[2:])], classes=["a", "b", "c"])
    assert (from_batches.confusion == expected).all()
    assert from_batches.classes == ("a", "b", "c")
    model.classes = ["of", "another", "head", "altogether"]
    assert model.report(x, given).classes == ("0", "1", "2")


def test_names_of_a_folder(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        image.new("L", (1, 2), 255).save(tmp_path / name / "1.png")
    recipe = data.Preprocessing((2, 1), None, channels="L", mean=(0.0,), std=(1.0,))
    folder = data.ImageFolder(tmp_path, recipe)
    model = nn.Sequential(nn.Flatten(), *network(2))
    model.compile()
    report = model.report(folder)
    assert report.classes == ("cat", "dog")
    assert report.confusion.tolist() == [[1, 0], [1, 0]]


def test_report_of_a_yes_or_no_model() -> None:
    model = network(1)
    model.compile(loss="binary_crossentropy")
    x = np.array([[2.0], [-2.0], [3.0]], np.float32)
    assert model.report(x, np.array([1, 0, 0])).confusion.tolist() == [[1, 1], [0, 1]]


def test_report_leaves_out_ignored_labels() -> None:
    model = network(2)
    model.compile(loss=nn.CrossEntropyLoss(ignore_index=-1))
    x = np.eye(2, dtype=np.float32)
    assert model.report(x, np.array([0, -1])).confusion.tolist() == [[1, 0], [0, 0]]


def test_report_needs_classes() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1))
    model.compile(loss="mse")
    with pytest.raises(ValueError, match="one number a class"):
        model.report(np.zeros((2, 4, 4), np.float32), np.zeros((2, 1, 4, 4)))
    with pytest.raises(RuntimeError, match=r"\[report\] call compile"):
        network(2).report(fc.zeros(1, 2), [0])
