"""Pretrained weights on real data, where $FASTCONV_DATA has them: accuracies, photographs."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import functional as F
from fastconv import models, nn

# The networks' own implementations, evaluated with PyTorch on the same files.
CIFAR = {
    "cifar_resnet20": ("cifar10_resnet20-12fca82f", 0.915),
    "cifar_resnet32": ("cifar10_resnet32-d509ac18", 0.928),
}
PHOTOS = {
    "cat": {"tiger cat": 0.540, "Egyptian cat": 0.255, "tabby": 0.078, "lynx": 0.042},
    "dog": {"malamute": 0.332, "bicycle-built-for-two": 0.272, "Tibetan mastiff": 0.064},
    "eagle": {"hen": 0.364, "kite": 0.358, "bald eagle": 0.186, "ruddy turnstone": 0.040},
    "giraffe": {"zebra": 0.962, "prairie chicken": 0.015},
    "samoyed": {"Samoyed": 0.861, "Pomeranian": 0.038, "Arctic fox": 0.018},
    "zebra": {"zebra": 1.000},
}


@pytest.fixture(scope="module")
def weights(data_folder: Path) -> Path:
    folder = data_folder / "weights"
    if not folder.is_dir():
        pytest.skip("real data: $FASTCONV_DATA has no weights/")
    return folder


@pytest.fixture(scope="module")
def cifar10(data_folder: Path) -> tuple[np.ndarray, np.ndarray]:
    path = data_folder / "cifar10" / "test_1000_lossless.bin.gz"
    if not path.is_file():
        pytest.skip("real data: $FASTCONV_DATA has no cifar10/")
    records = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8).reshape(-1, 3073)
    pixels = records[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / 255
    mean, std = np.float32([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    return (pixels - mean) / std, records[:, 0]


@pytest.mark.parametrize("name", CIFAR)
def test_cifar_resnets(name: str, weights: Path, cifar10: Any) -> None:
    file, accuracy = CIFAR[name]
    model = getattr(models, name)(weights=weights / f"{file}.safetensors")
    assert not model.training
    x, labels = cifar10
    probabilities = model.predict(x)
    assert (probabilities.argmax(axis=1) == labels).mean() == pytest.approx(accuracy, abs=1.5e-3)
    with fc.no_grad():
        own = fc.functional.softmax(model(fc.Tensor(x[:2])), dim=1).numpy()
    np.testing.assert_allclose(own, probabilities[:2], rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def mobilenet(data_folder: Path, weights: Path) -> Any:
    """Found in $FASTCONV_DATA/weights by its name; the width comes with the weights."""
    pytest.importorskip("PIL", reason="Pillow is not installed")
    model = models.mobilenet_v1(weights="imagenet").eval()
    assert model.architecture[1]["width"] == 0.75
    return model


def test_mobilenet_v1_names_photographs(data_folder: Path, mobilenet: Any) -> None:
    x = mobilenet.preprocessing(*(data_folder / "photos" / f"{name}.jpg" for name in PHOTOS))
    with fc.no_grad():
        probabilities = F.softmax(mobilenet(x), dim=1).numpy()
    for expected, row in zip(PHOTOS.values(), probabilities, strict=True):
        best = row.argsort()[::-1][: len(expected)]
        assert [mobilenet.classes[i] for i in best] == list(expected)
        np.testing.assert_allclose(row[best], list(expected.values()), rtol=0, atol=0.02)


@pytest.mark.slow
def test_mobilenet_v1_names_imagenet(data_folder: Path, mobilenet: Any) -> None:
    """One photograph of every tenth class; the file names begin with the class's number."""
    paths = sorted((data_folder / "photos" / "imagenet-samples").glob("*.jpg"))
    if len(paths) != 100:
        pytest.skip("real data: $FASTCONV_DATA has no photos/imagenet-samples/")
    labels = np.array([int(path.name.split("_")[0]) for path in paths])
    frames = np.stack([mobilenet.preprocessing.frame(path) for path in paths])
    order = mobilenet.predict(frames).argsort(axis=1)  # bytes: scaled as the weights say
    assert (order[:, -1] == labels).sum() >= 80
    assert (order[:, -5:] == labels[:, None]).sum() >= 93


def test_weights_are_recognised_by_their_hash(weights: Path) -> None:
    """Whatever the file is called, and however it is named."""
    path = weights / "cifar10_resnet20-12fca82f.safetensors"
    model = models.load(path)
    assert model.architecture[0] == "cifar_resnet20" and model.classes[3] == "cat"
    assert model.preprocessing == fc.data.preprocessing.CIFAR10
    with pytest.raises(ValueError, match=r"\[resnet18\] .* holds the weights of cifar_resnet20"):
        models.resnet18(weights=path)
    with pytest.raises(ValueError, match=r"Only linear differs"):
        models.cifar_resnet20(num_classes=2, weights=path)
    with pytest.raises(fc.CorruptFileError, match=r"pickle .*Convert it once(?s:.*)torch\.load"):
        models.cifar_resnet20(weights=path.with_suffix(".th"))


def test_caffes_lenet_reads_mnist(weights: Path, mnist: Any) -> None:
    """Average of 10,000 digits: 99.05 %. Caffe's LeNet has no activation behind convolutions."""
    _, (images, labels) = mnist
    model = nn.Sequential(
        {
            "conv1": nn.Conv2d(1, 20, 5),
            "pool1": nn.MaxPool2d(2),
            "conv2": nn.Conv2d(20, 50, 5),
            "pool2": nn.MaxPool2d(2),
            "flatten": nn.Flatten(),
            "ip1": nn.Linear(800, 500),
            "relu1": nn.ReLU(),
            "ip2": nn.Linear(500, 10),
        }
    )
    model.load_state_dict(fc.load(weights / "lenet_mnist_caffe.safetensors"))
    logits = model.predict(images[:, None].astype(np.float32) / 256)
    assert (logits.argmax(axis=1) == labels).mean() == pytest.approx(0.9905, abs=2e-4)
