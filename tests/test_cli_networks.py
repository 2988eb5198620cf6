"""The fastconv command with pictures, CIFAR-10, autoencoders and weights from elsewhere."""

from __future__ import annotations

import gzip
import io
import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv import models
from fastconv.cli import arguments, fitting
from fastconv.cli.datasets import Dataset, load_dataset
from fastconv.models.catalogue import ARCHITECTURES
from fastconv.models.cost import cost_of
from tests.test_cli import run, start

SMALL = [name for name in arguments.MODELS if not re.match("vgg|alexnet|resnet[135]", name)]


def paint(folder: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """Class folders of noisy pictures, each class with a colour of its own."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(seed)
    for label, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = rng.integers(0, 100, (40, 48, 3))
            pixels[..., label % 3] += 120
            image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and test/ with three classes."""
    folder = tmp_path_factory.mktemp("pictures")
    paint(folder / "train", {"red": 24, "green": 24, "blue": 24})
    paint(folder / "test", {"red": 6, "green": 6, "blue": 6}, seed=1)
    return folder


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow "pretrained" network with two other classes."""
    path = tmp_path_factory.mktemp("backbone") / "backbone.safetensors"
    fc.manual_seed(3)
    model = models.cifar_resnet20(num_classes=2, width=4)
    model.preprocessing = fitting.wanted("cifar_resnet20")
    models.save(model, path, classes=["old", "older"])
    return path


# ------------------------------------------------------------------------------- fastconv models


def test_models_lists_all_with_their_costs(tmp_path: Path) -> None:
    done = run("models", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(arguments.MODELS)
    (vgg,) = [line for line in lines if line.startswith("vgg16 ")]
    assert "138,357,544" in vgg and "15,470 M" in vgg and "3 x 224 x 224" in vgg
    done = run("models", "--filter", "CIFAR", cwd=tmp_path)
    assert len(done.stdout.splitlines()) == 6
    done = run("models", "--filter", "transformer", cwd=tmp_path)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


def test_the_command_knows_the_catalogue() -> None:
    assert set(arguments.MODELS) == set(ARCHITECTURES)


@pytest.mark.parametrize("name", ["lenet5", "conv_autoencoder", "googlenet", "mobilenet_v1"])
def test_cost_agrees_with_the_network(name: str) -> None:
    entry = ARCHITECTURES[name]
    counted = cost_of(entry.build, entry.input_shape)
    model = models.build(name)
    assert counted.parameters == sum(p.numel() for p in model.parameters())
    lines: list[str] = []
    model.summary(entry.input_shape, print_fn=lines.append)
    assert f"{counted.macs:,}" in next(line for line in lines if "Multiply-adds" in line)
    assert np.isfinite(next(iter(models.lenet5().parameters())).numpy()).all(), "patches are gone"


# --------------------------------------------------------------------------- any data, any network


@pytest.mark.parametrize("kind", ["digits", "cifar10", "pictures"])
@pytest.mark.parametrize("name", SMALL)
def test_every_network_takes_every_kind_of_data(name: str, kind: str, pictures: Path) -> None:
    """Sizes and colours are made to fit, and the network has as many outputs as classes."""
    y = np.arange(4, dtype=np.uint8)
    if kind == "pictures":
        dataset = load_dataset(str(pictures), lambda: fitting.wanted(name))
    else:
        shape = (4, 28, 28) if kind == "digits" else (4, 3, 32, 32)
        split = (np.zeros(shape, np.uint8), y)
        dataset = Dataset(kind, split, split, kind)
    built = models.build(name, **fitting.arguments_for(name, dataset, None)).eval()
    built.preprocessing = fitting.preprocessing_for(name, dataset)
    loader = fitting.make_loader(dataset, "test", built, 2, augment=kind == "pictures")
    x, targets = next(iter(loader))
    with fc.no_grad():
        outputs = built(x)
    if name.endswith("autoencoder"):
        assert outputs.shape == targets.shape == x.shape and targets.dtype == np.float32
    else:
        assert outputs.shape == (2, 3 if kind == "pictures" else 10)


def test_train_evaluate_predict_pictures(pictures: Path, tmp_path: Path) -> None:
    """Names of the classes travel with the weights; predict shows them."""
    common = ("--data", str(pictures))
    done = run("train", "tiny_vgg", *common, "--epochs", "6", "--batch-size", "8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "72 training and 18 test images; 3 classes: blue, green, red" in done.stdout
    (accuracy,) = re.findall(r"Test accuracy.*: ([\d.]+) %", done.stdout)
    assert float(accuracy) > 90
    assert models.load(tmp_path / "tiny_vgg.safetensors").classes == ["blue", "green", "red"]

    done = run("evaluate", "tiny_vgg", *common, cwd=tmp_path)
    assert f"{accuracy} %" in done.stdout, done.stderr
    done = run("evaluate", "tiny_vgg", *common, "--report", cwd=tmp_path)
    assert "precision" in done.stdout and f"{accuracy} %" in done.stdout, done.stderr

    (tmp_path / "bad.png").write_bytes(b"no picture")
    red = str(pictures / "test" / "red" / "0.png")
    done = run("predict", "tiny_vgg", "--weights", "tiny_vgg.safetensors", red, cwd=tmp_path)
    assert done.returncode == 0 and re.match(r"\S+0\.png  red +\d+\.\d %", done.stdout), done.stderr
    assert len(re.findall("%", done.stdout)) == 3
    done = run("predict", "tiny_vgg", "bad.png", "none.png", red, "--top", "1", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout.count("%") == 1
    bad, missing = done.stderr.splitlines()
    assert "bad.png: not an image" in bad and "none.png: No such file" in missing

    (tmp_path / "names.txt").write_text("azure\nemerald\nruby\n")
    done = run("predict", "tiny_vgg", red, "--classes", "names.txt", cwd=tmp_path)
    assert "ruby" in done.stdout
    (tmp_path / "names.txt").write_text("azure\nemerald\n")
    done = run("predict", "tiny_vgg", red, "--classes", "names.txt", cwd=tmp_path)
    assert done.returncode == 1 and "2 classes" in done.stderr


def test_class_folders_without_a_test_folder_are_split(tmp_path: Path) -> None:
    paint(tmp_path / "all", {"a": 10, "b": 20})
    dataset = load_dataset(str(tmp_path / "all"), lambda: fitting.wanted("tiny_vgg"))
    assert np.bincount(dataset.labels("train")).tolist() == [8, 16]
    assert np.bincount(dataset.labels("test")).tolist() == [2, 4]
    again = load_dataset(str(tmp_path / "all"), lambda: fitting.wanted("tiny_vgg"))
    assert dataset.test.paths == again.test.paths, "evaluate must see the pictures that train kept"
    assert not set(dataset.train.paths) & set(dataset.test.paths)


def test_folders_take_the_numbers_of_a_trained_network(pictures: Path) -> None:
    """A network that knows more classes, in another order, can be measured on some of them."""
    names = ["yellow", "red", "green", "blue"]
    dataset = load_dataset(str(pictures), lambda: fitting.wanted("tiny_vgg"), names)
    assert dataset.classes == names
    for path, label in zip(dataset.test.paths, dataset.test.targets, strict=True):
        assert Path(path).parent.name == names[label]
    with pytest.raises(ValueError, match="knows no class green, red"):
        load_dataset(str(pictures), lambda: fitting.wanted("tiny_vgg"), ["blue", "black"])


def test_cifar10(tmp_path: Path) -> None:
    """The reduced files of CIFAR-10, chosen as DIR:reduced."""
    rng = np.random.default_rng(0)
    for name, count in (("train_64", 64), ("test_32", 32)):
        records = rng.integers(0, 256, (count, 3073), np.uint8)
        records[:, 0] = np.arange(count) % 10
        (tmp_path / f"{name}.bin.gz").write_bytes(gzip.compress(records.tobytes()))
    options = ("--width", "4", "--epochs", "1", "--log", "log.csv")
    done = run("train", "cifar_resnet20", "--data", ".:reduced", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "CIFAR-10" in done.stdout and "64 training and 32 test" in done.stdout
    header, row = (tmp_path / "log.csv").read_text().splitlines()
    assert header == "epoch,loss,accuracy,val_loss,val_accuracy" and row.startswith("1,")
    model = models.load(tmp_path / "cifar_resnet20.safetensors")
    assert model.classes[3] == "cat" and model.preprocessing.size == (32, 32)
    done = run("evaluate", "cifar_resnet20", "--data", ".", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_autoencoders(tmp_path: Path) -> None:
    split = fc.data.digits(64, 32, seed=0)
    assert split[0][0].shape == (64, 28, 28)
    done = run("train", "dense_autoencoder", "--until", "9", "--data", "digits", cwd=tmp_path)
    assert done.returncode == 1 and "no accuracy" in done.stderr
    paint(tmp_path / "pictures", {"a": 10, "b": 10})
    options = ("--data", "pictures", "--epochs", "2")
    done = run("train", "dense_autoencoder", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"Test error .* 0\.\d+ \(mean square, 4 images\)", done.stdout)
    assert "predict" not in done.stdout
    done = run("evaluate", "dense_autoencoder", "--data", "pictures", cwd=tmp_path)
    assert "mean square" in done.stdout, done.stderr
    done = run("predict", "dense_autoencoder", "x.png", cwd=tmp_path)
    assert done.returncode == 1 and "knows no classes" in done.stderr


# ---------------------------------------------------------------------------------------- finetune


def finetune(backbone: Path, pictures: Path, *options: str) -> tuple[str, ...]:
    return (
        *("finetune", "cifar_resnet20", "--weights", str(backbone), "--data", str(pictures)),
        *("--batch-size", "8", *options),
    )


def test_finetune_frozen_then_everything(backbone: Path, pictures: Path, tmp_path: Path) -> None:
    before = models.load(backbone).state_dict()
    done = run(*finetune(backbone, pictures, "--frozen", "--save", "a.safetensors"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Test accuracy with frozen features" in done.stdout
    frozen = models.load(tmp_path / "a.safetensors")
    assert frozen.classes == ["blue", "green", "red"] and frozen.preprocessing is not None
    for name, value in frozen.state_dict().items():
        if not name.startswith("linear."):
            np.testing.assert_array_equal(value, before[name])

    part = finetune(backbone, pictures, "--epochs", "1", "--unfreeze", "layer3", "--no-augment")
    done = run(*part, "--save", "b.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    tuned = models.load(tmp_path / "b.safetensors").state_dict()
    changed = {n for n, value in tuned.items() if not np.array_equal(value, before.get(n))}
    assert {n.split(".")[0] for n in changed} == {"layer3", "linear"}
    assert not any("bn" in n for n in changed), "batch norms keep their statistics"
    done = run("predict", "cifar_resnet20", "--weights", "b.safetensors",
               str(pictures / "test" / "blue" / "0.png"), cwd=tmp_path)  # fmt: skip
    assert "blue" in done.stdout and done.stdout.count("%") == 3


def test_finetune_with_cached_features_is_the_same(
    backbone: Path, pictures: Path, tmp_path: Path
) -> None:
    states = []
    for name in ("first", "second"):  # the second run finds the features of the first
        path = f"{name}.safetensors"
        options = ("--epochs", "1", "--cache", "cache", "--save", path)
        done = run(*finetune(backbone, pictures, *options), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        states.append(fc.load(tmp_path / path))
    assert len(list((tmp_path / "cache").iterdir())) == 2, "one a split, used again"
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name])


def test_finetune_resumes_exactly(backbone: Path, pictures: Path, tmp_path: Path) -> None:
    """Ctrl-C in the middle of an epoch; the rest ends in the bits of an undisturbed run."""
    command = finetune(backbone, pictures, "--epochs", "30")
    whole = run(*command, "--save", "whole.safetensors", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    process = start(*command, "--save", "parts.safetensors", cwd=tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Epoch 2/"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("the run was over before the signal arrived")
    assert process.returncode == 130 and "--resume" in out, err
    (kept,) = tmp_path.glob("*interrupted*")
    rest = run(*command, "--save", "parts.safetensors", "--resume", str(kept), cwd=tmp_path)
    assert rest.returncode == 0, rest.stderr
    a, b = (fc.load(tmp_path / f"{name}.safetensors") for name in ("whole", "parts"))
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])
    other = run(*finetune(backbone, pictures, "--epochs", "9"), "--resume", str(kept), cwd=tmp_path)
    assert other.returncode == 1 and "--epochs" in other.stderr


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--frozen", "--unfreeze", "layer3"), "--frozen"),
        (("--unfreeze", "layer9"), "layer3"),
        (("--freeze", "nothing.like.it"), "nothing.like.it"),
        (("--width", "2.5"), "--width"),
        (("--save", "missing/x.safetensors"), "missing"),
        (("--log", "log.txt"), ".csv"),
        (("--resume", "none.safetensors"), "none.safetensors"),
    ],
    ids=" ".join,
)
def test_finetune_failures_are_one_line(
    options: tuple[str, ...], word: str, backbone: Path, pictures: Path, tmp_path: Path
) -> None:
    done = run(*finetune(backbone, pictures, *options), cwd=tmp_path)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert word in done.stderr and "Traceback" not in done.stderr


def test_weights_of_another_network_are_named(backbone: Path, tmp_path: Path) -> None:
    for weights, word in (
        (str(backbone), "cifar_resnet20"),
        ("imagenet", "imagenet"),
        ("nowhere.safetensors", "nowhere.safetensors"),
    ):
        done = run("evaluate", "lenet5", "--weights", weights, "--data", "digits", cwd=tmp_path)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert word in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("make", "word"), [("empty", "class folders"), ("file", "folder"), ("flat", "class folders")]
)
def test_folders_that_hold_no_data(make: str, word: str, tmp_path: Path) -> None:
    target = tmp_path / "data"
    if make == "file":
        target.write_text("hello")
    else:
        target.mkdir()
        if make == "flat":
            (target / "a.jpg").write_bytes(b"")
    done = run("train", "tiny_vgg", "--data", "data", cwd=tmp_path)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert word in done.stderr, done.stderr


def test_curves_and_confusion_matrix(pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    options = ("--data", str(pictures), "--epochs", "2", "--curves", "curves.png")
    done = run("train", "tiny_vgg", *options, "--log", "log.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in io.StringIO((tmp_path / "log.jsonl").read_text())]
    assert [row["epoch"] for row in rows] == [1, 2] and "val_accuracy" in rows[0]
    done = run(
        *("evaluate", "tiny_vgg", "--data", str(pictures), "--confusion", "matrix.png"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for name in ("curves.png", "matrix.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_bad_pictures_are_named_and_left_out(tmp_path: Path) -> None:
    paint(tmp_path / "all" / "train", {"a": 5, "b": 5})
    paint(tmp_path / "all" / "test", {"a": 3, "b": 3})
    (tmp_path / "all" / "train" / "a" / "empty.jpg").touch()
    (tmp_path / "all" / "test" / "b" / "text.png").write_text("hello")
    done = run("train", "tiny_vgg", "--data", "all", "--epochs", "1", cwd=tmp_path)
    assert done.returncode == 0
    assert "empty.jpg: the file is empty" in done.stderr and "text.png: not an" in done.stderr
    assert "warnings.warn" not in done.stderr and "6 images)" in done.stdout
