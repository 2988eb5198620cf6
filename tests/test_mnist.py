"""The real thing: MNIST from $FASTCONV_DATA, and networks that must learn to read it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv import models, optim, train

Labelled = tuple[np.ndarray, np.ndarray]
Mnist = tuple[Labelled, Labelled]

# MD5 of the unpacked files as their authors published them.
PIXELS = {"train": "6bbc9ace898e44ae57da46a324031adb", "test": "2646ac647ad5339dbf082846283269ea"}
HEADERS = {"train": (60000, "00000803"), "test": (10000, "00000803")}


def test_files(mnist: Mnist) -> None:
    (x, y), (xt, yt) = mnist
    assert x.shape == (60000, 28, 28) and xt.shape == (10000, 28, 28)
    assert x.dtype == y.dtype == xt.dtype == yt.dtype == np.uint8
    assert np.bincount(y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(yt).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert (x / np.float32(255)).mean() == pytest.approx(0.13066, abs=1e-5)
    for name, images in (("train", x), ("test", xt)):
        count, magic = HEADERS[name]
        header = bytes.fromhex(magic) + b"".join(n.to_bytes(4, "big") for n in (count, 28, 28))
        assert hashlib.md5(header + images.tobytes()).hexdigest() == PIXELS[name]


def test_found_through_the_environment(data_folder: Path, mnist: Mnist) -> None:
    (x, _), _ = fc.data.mnist()
    np.testing.assert_array_equal(x[:100], mnist[0][0][:100])


def test_lenet5_learns(mnist: Mnist) -> None:
    """One epoch of one-cycle Adam reads 97.5 of 100 test digits, and every filter has moved."""
    (x, y), (xt, yt) = mnist
    fc.manual_seed(0)
    model = models.lenet5()
    before = {key: np.array(value) for key, value in model.state_dict().items()}
    adam = optim.Adam(model.parameters(), lr=1e-3)
    model.compile(adam, "sparse_categorical_crossentropy", metrics=["accuracy"])
    cycle = optim.lr_scheduler.OneCycleLR(adam, 5e-3, total_steps=469)
    model.fit(x, y, epochs=1, batch_size=128, verbose=0, callbacks=[train.StepScheduler(cycle)])
    _, accuracy = model.evaluate(xt, yt)
    assert accuracy > 0.975
    for key, value in model.state_dict().items():
        if value.ndim == 4:  # filters; of the dense units some are dead from the start
            moved = np.abs(np.array(value) - before[key]).reshape(len(value), -1).max(axis=1)
            assert (moved > 1e-3).all(), f"{key}: filters {np.flatnonzero(moved <= 1e-3)} are still"


@pytest.mark.parametrize(
    ("name", "epochs", "accuracy"), [("keras_mlp", 5, 0.975), ("keras_convnet", 1, 0.975)]
)
def test_keras_networks_learn(name: str, epochs: int, accuracy: float, mnist: Mnist) -> None:
    """As the course trains them, RMSprop at batch 128: 98.1 % for the MLP after five epochs."""
    (x, y), (xt, yt) = mnist
    fc.manual_seed(0)
    model = getattr(models, name)()
    model.compile("rmsprop", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=epochs, batch_size=128, verbose=0)
    assert model.evaluate(xt, yt)[1] > accuracy


def test_built_in_digits_teach_mnist(mnist: Mnist) -> None:
    """LeNet-5 trained for two epochs on the generated digits alone reads real ones."""
    (x, y), _ = fc.data.digits(30_000, 10)
    fc.manual_seed(0)
    model = models.lenet5()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=2, batch_size=64, verbose=0)
    assert model.evaluate(*mnist[1])[1] > 0.85
