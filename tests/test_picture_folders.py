"""Folders of pictures as they come: links, odd names and files, splits under every name."""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv import data
from fastconv.cli import main
from fastconv.data import BadImageWarning, ImageFolder, Preprocessing
from fastconv.data.splits import find_layout
from fastconv.untrusted import printable

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

BYTES = Preprocessing(size=8, resize=8, mean=(0.0,), std=(1.0,))


def save(path: Path | str, level: int = 90) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 9), (level, level, level)).save(path, "PNG")
    return path


def pets(root: Path, count: int = 3) -> Path:
    """cat/ with grey levels from 10, dog/ from 100."""
    for label, name in enumerate(("cat", "dog")):
        for i in range(count):
            save(root / name / f"{i}.png", 10 + 90 * label + i)
    return root


def levels(folder: ImageFolder) -> list[int]:
    x, _ = folder.arrays()
    return sorted(x[:, 0, 0, 0].tolist())


# ------------------------------------------------------------------------------------------ links


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    root = pets(tmp_path / "root")
    elsewhere = save(tmp_path / "elsewhere" / "deeper" / "x.png", 200)
    (root / "cat" / "file.png").symlink_to(elsewhere)
    (root / "dog" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "bird").symlink_to(tmp_path / "elsewhere")
    folder = ImageFolder(root, BYTES)
    assert folder.classes == ["bird", "cat", "dog"]
    assert np.bincount(folder.targets).tolist() == [1, 4, 4]
    assert levels(folder) == [10, 11, 12, 100, 101, 102, 200, 200, 200] and not folder.bad


def test_links_in_circles_count_nothing_twice(tmp_path: Path) -> None:
    """To itself, to the class, to the root, to what is around it, to a folder beside it."""
    root = pets(tmp_path / "root")
    save(root / "cat" / "b" / "x.png", 50)
    for place, target in (
        ("cat/self", "."),
        ("cat/a", "b"),
        ("cat/b/up", ".."),
        ("cat/root", "../.."),
        ("cat/outer", "../../.."),
        ("cat/top", "/"),
        ("dog/again", "../dog"),
        ("loop", "."),
        ("outer", ".."),
    ):
        (root / place).symlink_to(target)
    folder = ImageFolder(root, BYTES)
    assert folder.classes == ["cat", "dog"]
    with pytest.warns(BadImageWarning, match="a link"):
        assert levels(folder) == [10, 11, 12, 50, 100, 101, 102]
    assert {Path(path).name for path, _ in folder.bad} == {
        *("self", "a", "up", "root", "outer", "top", "again", "loop")
    }


@pytest.mark.parametrize("target", ["/nowhere/4.png", "4.png", "missing.png"])
def test_links_that_lead_nowhere_are_named(target: str, tmp_path: Path) -> None:
    """Away, to themselves, beside; a folder too."""
    root = pets(tmp_path)
    (root / "cat" / "4.png").symlink_to(target)
    (root / "dog" / "album").symlink_to("/nowhere")
    folder = ImageFolder(root, BYTES)
    with pytest.warns(BadImageWarning, match="2 pictures") as warned:
        assert len(folder.arrays()[0]) == 6
    assert "4.png: " in str(warned[0].message) and "album: a link" in str(warned[0].message)
    assert [Path(path).name for path, _ in folder.bad] == ["4.png", "album"]
    assert list(data.Loader(folder, batch_size=4)), "named once"


# -------------------------------------------------------------------------------------- odd files


@pytest.mark.skipif(os.name != "posix", reason="pipes and sockets in folders")
def test_what_is_no_file_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe would wait for a writer for ever."""
    root = pets(tmp_path)
    os.mkfifo(root / "cat" / "pipe.png")
    monkeypatch.chdir(root / "dog")  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.jpg")
        folder = ImageFolder(root, BYTES)
        with pytest.warns(BadImageWarning, match="2 pictures"):
            assert len(folder.arrays()[0]) == 6
    reasons = {Path(path).name: reason for path, reason in folder.bad}
    assert "a named pipe, no file" in reasons["pipe.png"]
    assert "a socket, no file" in reasons["socket.jpg"]
    done: list[str] = []

    def read() -> None:
        with pytest.raises(fc.CorruptFileError, match="a pipe, socket or device"):
            data.open_image(root / "cat" / "pipe.png")
        done.append("")

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(10)
    assert done


def test_kinds_that_are_not_read_are_named(tmp_path: Path) -> None:
    """Telephones' pictures and empty files; what is no picture by its name is passed over."""
    root = pets(tmp_path)
    for name in ("IMG_1.HEIC", "b.heif", "c.jxl", "d.CR2", "e.psd", "f.svg"):
        (root / "cat" / name).write_bytes(b"something")
    (root / "cat" / "empty.jpg").write_bytes(b"")
    for name in ("notes.txt", "Thumbs.db", "labels.csv", "IMG_1.MOV", "noextension"):
        (root / "cat" / name).write_bytes(b"something")
    folder = ImageFolder(root, BYTES)
    train, test = folder.split(0.34)
    for part in (folder, train, test):
        assert len(part.bad) == 7
    with pytest.warns(BadImageWarning, match="7 pictures") as warned:
        train.arrays()
    text = str(warned[0].message)
    assert "IMG_1.HEIC: HEIC is not read: save it as JPEG or PNG" in text and "and 2 more" in text
    test.arrays()  # all of them have been named
    assert "empty.jpg: the file is empty" in dict(folder.bad)[str(root / "cat" / "empty.jpg")]


def test_a_class_without_pictures_says_what_to_do(tmp_path: Path) -> None:
    root = pets(tmp_path)
    (root / "bird").mkdir()
    with pytest.raises(FileNotFoundError, match=r"bird: no pictures, found nothing.*Delete"):
        ImageFolder(root, BYTES)
    assert ImageFolder(root, BYTES, classes=["cat", "dog"]).classes == ["cat", "dog"]
    (root / "bird" / "IMG_1.HEIC").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match=r"all 1 were left out.*HEIC is not read"):
        ImageFolder(root, BYTES)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    root = pets(tmp_path)
    save(root / "cat" / "locked" / "x.png")
    (root / "cat" / "0.png").chmod(0)
    (root / "cat" / "locked").chmod(0)
    try:
        folder = ImageFolder(root, BYTES)
        with pytest.warns(BadImageWarning, match="2 pictures"):
            assert len(folder.arrays()[0]) == 5
    finally:
        (root / "cat" / "locked").chmod(0o700)


def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pets(tmp_path)
    save(root / "cat" / "locked" / "x.png")
    listed = os.listdir

    def refusing(path: str) -> list[str]:
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "listdir", refusing)
    folder = ImageFolder(root, BYTES)
    assert len(folder) == 6
    assert folder.bad == [
        (str(root / "cat" / "locked"), f"[image] {root}/cat/locked: Permission denied")
    ]


ODD = [b"caf\xe9.png", b"new\nline.png", b"\x1b[2J.png", "été 🐱.png".encode(), b" .png", b"-.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_odd_names_are_read_and_shown_safely(tmp_path: Path) -> None:
    root = pets(tmp_path)
    for number, name in enumerate(ODD):
        save(os.fsdecode(os.path.join(os.fsencode(root / "cat"), name)), 20 + number)
        bad = os.path.join(os.fsencode(root / "dog"), name)
        with open(bad, "wb") as file:
            file.write(b"no picture")
    folder = ImageFolder(root, BYTES)
    with pytest.warns(BadImageWarning, match="6 pictures") as warned:
        assert levels(folder) == [10, 11, 12, *range(20, 26), 100, 101, 102]
    text = str(warned[0].message)
    assert printable(text, "\n") == text and text.count("\n") == 6
    assert r"caf\xe9.png" in text


# -------------------------------------------------------------------------------------- the splits

SPLITS = [
    ("train", "test"),
    ("Train", "TEST"),
    ("training", "testing"),
    ("training_set", "test_set"),
    ("Training Set", "Test-Set"),
    ("training_set/training_set", "test_set/test_set"),
    ("seg_train", "seg_test"),
    ("seg_train/seg_train", "seg_test/seg_test"),
    ("train", "val"),
    ("train", "valid"),
    ("train", "validation"),
    ("train", "dev"),
    ("trainset", "testset"),
    ("train2017", "val2017"),
    ("data/train", "data/test"),
    ("data/inner/seg_train/seg_train", "data/inner/seg_test/seg_test"),
    ("train/images", "test/images"),
]


@pytest.mark.parametrize("names", SPLITS, ids=["+".join(names) for names in SPLITS])
def test_splits_are_recognised(names: tuple[str, str], tmp_path: Path) -> None:
    for name in names:
        pets(tmp_path / name)
    layout = find_layout(tmp_path)
    assert (layout.train, layout.test) == tuple(tmp_path / name for name in names)
    assert not layout.unused


@pytest.mark.parametrize("around", ["flower_photos", "a/b/c", "data"])
def test_one_folder_around_all_classes(around: str, tmp_path: Path) -> None:
    pets(tmp_path / around)
    layout = find_layout(tmp_path)
    assert layout.train == tmp_path / around and layout.test is None
    assert find_layout(tmp_path / around).train == tmp_path / around


def test_of_three_parts_the_test_set_is_measured(tmp_path: Path) -> None:
    for name in ("train", "val", "test"):
        pets(tmp_path / name)
    save(tmp_path / "single_prediction" / "1.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.txt").write_text("")
    layout = find_layout(tmp_path)
    assert (layout.train.name, layout.test and layout.test.name) == ("train", "test")
    assert layout.unused == ["single_prediction", "val"]


def test_a_test_set_without_labels_does_not_count(tmp_path: Path) -> None:
    """As competitions have it; validation pictures have classes."""
    pets(tmp_path / "train")
    save(tmp_path / "test" / "1.png")
    layout = find_layout(tmp_path)
    assert layout.train.name == "train" and layout.test is None and layout.unused == ["test"]
    pets(tmp_path / "val")
    assert find_layout(tmp_path).test == tmp_path / "val"


def test_classes_may_be_called_like_parts(tmp_path: Path) -> None:
    """A train is a vehicle; what holds pictures is a class."""
    for name in ("bus", "train", "test_tube", "dev"):
        save(tmp_path / name / "1.png")
    assert find_layout(tmp_path).train == tmp_path
    assert ImageFolder(tmp_path, BYTES).classes == ["bus", "dev", "test_tube", "train"]
    for name in ("cat/indoor", "cat/outdoor", "dog/indoor", "dog/outdoor"):
        save(tmp_path / "pets" / name / "1.png")
    assert find_layout(tmp_path / "pets").train == tmp_path / "pets"


REFUSED = {
    "pictures in the parts": ["train/1.png", "test/1.png"],
    "a part beside classes": ["bus/1.png", "car/1.png", "train/a/1.png", "train/b/1.png"],
    "a test set beside classes": ["cat/1.png", "dog/1.png", "test/cat/1.png", "test/dog/1.png"],
    "test sets alone": ["test/cat/1.png", "test/dog/1.png"],
    "folds": ["fold1/cat/1.png", "fold1/dog/1.png", "fold2/cat/1.png", "fold2/dog/1.png"],
    "parts in the classes": [f"{c}/{p}/1.png" for c in ("cat", "dog") for p in ("train", "test")],
    "two of a kind": [f"{p}/{c}/1.png" for p in ("train_a", "train_b", "test") for c in "xy"],
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_looks_like_a_split_is_refused(case: str, tmp_path: Path) -> None:
    for name in REFUSED[case]:
        save(tmp_path / name)
    with pytest.raises(ValueError, match=r"train/cat/1\.jpg test/cat/1\.jpg"):
        find_layout(tmp_path)


def test_test_pictures_are_enough_to_measure(tmp_path: Path) -> None:
    pets(tmp_path / "test")
    layout = find_layout(tmp_path, test_only=True)
    assert layout.train == layout.test == tmp_path / "test"


def test_image_folder_does_not_take_parts_for_classes(tmp_path: Path) -> None:
    for names in (("train", "test"), ("seg_train/seg_train", "seg_test/seg_test")):
        root = tmp_path / names[0].replace("/", "-")
        for name in names:
            pets(root / name)
        with pytest.raises(ValueError, match=r"are the parts of a split.*classes=\[...\]"):
            ImageFolder(root, BYTES)
        first = names[0].split("/", maxsplit=1)[0]
        assert ImageFolder(root, BYTES, classes=[first]).classes == [first]
        assert ImageFolder(root / names[0], BYTES).classes == ["cat", "dog"]


# --------------------------------------------------------------------------------- on the command


def train(folder: Path, tmp_path: Path, *more: str) -> int:
    words = ["train", "tiny_vgg", "--data", str(folder), "--epochs", "1", "--batch-size", "4"]
    return main([*words, "--save", str(tmp_path / "w.safetensors"), *more])


def test_the_command_says_what_it_uses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "d"
    for name in ("seg_train/seg_train", "seg_test/seg_test"):
        pets(root / name)
    save(root / "seg_pred" / "1.png")
    assert train(root, tmp_path) == 0
    out = capsys.readouterr().out
    assert "6 training and 6 test images (not used: seg_pred); 2 classes: cat, dog." in out


def test_a_single_class_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to learn; a network that knows more classes may be measured on one."""
    root = pets(tmp_path / "d")
    (root / "dog").rename(tmp_path / "dog")
    assert train(root, tmp_path) == 1
    assert "holds one class only, cat, and there is nothing" in capsys.readouterr().err
    assert not (tmp_path / "w.safetensors").exists()
    (tmp_path / "dog").rename(root / "dog")
    assert train(root, tmp_path) == 0
    (root / "dog").rename(tmp_path / "dog")
    weights = ("--weights", str(tmp_path / "w.safetensors"))
    assert main(["evaluate", "tiny_vgg", *weights, "--data", str(root)]) == 0
