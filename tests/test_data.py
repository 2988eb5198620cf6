"""IDX files good and bad, the built-in digits, the loader and random transforms."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import struct
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv import data
from fastconv.data import idx
from tests.support import assert_close, assert_same_bits, run_python


def encoded(array: np.ndarray, code: int = 0x08) -> bytes:
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def write_mnist(folder: Path, train: int = 6, test: int = 4, packed: bool = True) -> None:
    """The four files of a data set in MNIST's format."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", train), ("t10k", test)):
        images = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            name = f"{prefix}-{kind}-ubyte"
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(encoded(content)))
            else:
                (folder / name).write_bytes(encoded(content))


# ------------------------------------------------------------------------------------------- IDX


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("code", "dtype"), [(8, "u1"), (9, "i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")]
)
def test_idx_round_trip(code: int, dtype: str, packed: bool, tmp_path: Path) -> None:
    x = np.arange(24).reshape(2, 3, 4).astype(dtype)
    content = encoded(x, code)
    (tmp_path / "x").write_bytes(gzip.compress(content) if packed else content)
    y = idx.read(tmp_path / "x")
    assert y.dtype.isnative and y.shape == x.shape
    np.testing.assert_array_equal(y, x)


GOOD = encoded(np.arange(20, dtype=np.uint8).reshape(2, 10))
PACKED = gzip.compress(GOOD)
BAD = {
    "nothing": b"",
    "one_byte": b"\0",
    "bad_magic": b"\1" + GOOD[1:],
    "unknown_type": b"\0\0\x0a" + GOOD[3:],
    "no_dimensions": b"\0\0\x08\0",
    "too_many_dimensions": b"\0\0\x08\xff" + b"\0\0\0\1" * 255,
    "ends_in_the_header": GOOD[:9],
    "one_element_short": GOOD[:-1],
    "one_element_more": GOOD + b"\0",
    "sizes_larger_than_the_file": b"\0\0\x08\x02" + struct.pack(">II", 2**31, 2**31) + b"\0" * 20,
    "sizes_overflow_63_bits": b"\0\0\x0e\x08" + b"\xff\xff\xff\xff" * 8,
    "zero_times_huge": b"\0\0\x08\x03" + struct.pack(">III", 0, 2**32 - 1, 2**32 - 1) + b"\0",
    "web_page": b"<!DOCTYPE html><html><body>404</body></html>",
    "gzip_cut": PACKED[:-9],
    "gzip_header_only": PACKED[:10],
    "gzip_wrong_checksum": PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:],
    "gzip_wrong_length": PACKED[:-1] + b"\1",
    "gzip_members_with_too_much": gzip.compress(GOOD) + gzip.compress(b"\0"),
    "gzip_members_with_too_little": gzip.compress(GOOD[:12]) + gzip.compress(GOOD[12:-1]),
    "gzip_and_something_else": PACKED + b"something else",
    "gzip_bomb_of_members": gzip.compress(GOOD) + gzip.compress(bytes(5_000_000)) * 20,
    "gzip_damaged": PACKED[:14] + bytes([PACKED[14] ^ 0xFF]) + PACKED[15:],
    "gzip_of_a_web_page": gzip.compress(b"<html>503</html>" * 9),
    "gzip_of_something_short": gzip.compress(GOOD[:-4]),
    "gzip_bomb": gzip.compress(b"\0\0\x08\x01\0\0\0\x05" + bytes(5_000_000)),
    "header_is_a_bomb": gzip.compress(b"\0\0\x08\x02" + struct.pack(">II", 2**31, 2**31)),
}


@pytest.mark.parametrize("name", BAD)
def test_idx_attacks(name: str, tmp_path: Path) -> None:
    """CorruptFileError naming the file; nothing large is allocated on the word of a header."""
    path = tmp_path / "attack-idx"
    path.write_bytes(BAD[name])
    with pytest.raises(fc.CorruptFileError, match="attack-idx"):
        idx.read(path)


@pytest.mark.parametrize("cuts", [(50,), (4, 8, 12), (3,), (12, 12, 13)])
def test_idx_in_several_gzip_members(cuts: tuple[int, ...], tmp_path: Path) -> None:
    """As parallel compressors and `cat` make them; zeros may fill up the last block."""
    x = np.arange(90, dtype=np.uint8).reshape(9, 10)
    places = (0, *cuts, len(encoded(x)))
    pieces = [encoded(x)[a:b] for a, b in itertools.pairwise(places)]
    for filling in (b"", b"\0" * 512):
        (tmp_path / "x").write_bytes(b"".join(map(gzip.compress, pieces)) + filling)
        assert_same_bits(idx.read(tmp_path / "x"), x)


def test_idx_random_damage(tmp_path: Path) -> None:
    """Any byte changed, plain or packed: the right error or different data, no crash."""
    path = tmp_path / "x"
    for content in (GOOD, PACKED):
        for at in range(len(content)):
            path.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
            with contextlib.suppress(fc.CorruptFileError):
                assert idx.read(path).nbytes < 10**6


# ----------------------------------------------------------------------------------------- MNIST


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("where", ["argument", "parent", "environment"])
def test_mnist_is_found(
    where: str, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(tmp_path / "mnist", packed=packed)
    monkeypatch.delenv("FASTCONV_DATA", raising=False)
    if where == "environment":
        monkeypatch.setenv("FASTCONV_DATA", str(tmp_path))
        (x, y), (xt, yt) = data.mnist()
    else:
        (x, y), (xt, yt) = data.mnist(tmp_path / "mnist" if where == "argument" else tmp_path)
    assert x.shape == (6, 28, 28) and x.dtype == np.uint8 and y.tolist() == [0, 1, 2, 3, 4, 5]
    assert xt.shape == (4, 28, 28) and yt.dtype == np.uint8


@pytest.mark.parametrize("given", ["", "MNIST", "MNIST/raw", "~", "~/MNIST", "$"])
@pytest.mark.parametrize("packed", [False, True])
def test_mnist_as_torchvision_keeps_it(
    given: str, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MNIST/raw, from its root, from in between, in the user's home, in $FASTCONV_DATA/mnist."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.delenv("FASTCONV_DATA", raising=False)
    if given == "$":
        write_mnist(tmp_path / "mnist" / "MNIST" / "raw", packed=packed)
        monkeypatch.setenv("FASTCONV_DATA", "~")
        (x, _), _ = data.mnist(download=False)
    else:
        write_mnist(tmp_path / "MNIST" / "raw", packed=packed)
        where = given if given.startswith("~") else str(tmp_path / given)
        (x, _), _ = data.mnist(where, download=False)
    assert x.shape == (6, 28, 28)


def test_mnist_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="train-images"):
        data.mnist(tmp_path)
    monkeypatch.setenv("FASTCONV_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError, match="download=False"):
        data.mnist(download=False)


def test_mnist_files_must_fit_together(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(encoded(np.zeros(5, np.uint8)))
    )
    with pytest.raises(fc.CorruptFileError, match=r"6 images.*5 labels"):
        data.mnist(tmp_path)
    write_mnist(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(
        gzip.compress(encoded(np.zeros((4, 784), np.uint8)))
    )
    with pytest.raises(fc.CorruptFileError, match=r"\(4, 784\)"):
        data.mnist(tmp_path)


def test_mnist_download_failure_names_every_address(tmp_path: Path) -> None:
    """No network: an error that lists the mirrors with their reasons and the manual way."""
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise OSError('network is down')\n"
        "socket.create_connection = socket.getaddrinfo = refuse\n"
        "from fastconv import data\n"
        "from fastconv.data import mnist as module\n"
        "import fastconv\n"
        "try: data.mnist()\n"
        "except fastconv.DownloadError as error: print(error)\n"
    )
    done = run_python(code, XDG_CACHE_HOME=str(tmp_path), https_proxy="")
    assert done.stdout.count("https://") >= 2 and "train-images-idx3-ubyte.gz" in done.stdout, (
        done.stderr
    )
    assert str(tmp_path) in done.stdout
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


# ---------------------------------------------------------------------------------------- digits


def test_digits() -> None:
    (x, y), (xt, yt) = data.digits(600, 200, seed=3)
    assert x.shape == (600, 28, 28) and xt.shape == (200, 28, 28)
    assert x.dtype == y.dtype == xt.dtype == yt.dtype == np.uint8
    assert np.bincount(y, minlength=10).tolist() == [60] * 10
    assert x.max() > 200 and (x == 0).mean() > 0.5, "ink on an empty ground"
    assert x[:, :2].mean() < 5 and x[:, 9:19, 9:19].mean() > 30, "in the middle, as in MNIST"
    assert len(np.unique(x.reshape(600, -1), axis=0)) == 600


def test_digits_are_reproducible() -> None:
    (a, la), _ = data.digits(300, 10, seed=1)
    (b, lb), _ = data.digits(300, 10, seed=1)
    (c, _), _ = data.digits(300, 10, seed=2)
    assert_same_bits(a, b)
    assert_same_bits(la, lb)
    assert (a != c).any()
    np.random.seed(0)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    data.digits(10, 10)
    assert (np.random.get_state()[1] == state).all(), "NumPy's global generator is the user's"  # noqa: NPY002


def test_digits_teach_something() -> None:
    """The nearest class mean of 2,000 digits reads most of 500 others: classes are alike inside."""
    (x, y), (xt, yt) = data.digits(2000, 500, seed=0)
    means = np.stack([x[y == c].mean(axis=0) for c in range(10)]).reshape(10, -1)
    distance = ((xt.reshape(500, 1, -1) - means) ** 2).sum(-1)
    assert (distance.argmin(1) == yt).mean() > 0.6


# ---------------------------------------------------------------------------------------- loader


def test_loader_passes_every_sample_once() -> None:
    fc.manual_seed(0)
    x = np.arange(100, dtype=np.float32)[:, None]
    loader = data.Loader(x, np.arange(100), batch_size=32, shuffle=True)
    assert len(loader) == 4
    orders = []
    for _ in range(2):
        batches = list(loader)
        assert [len(t) for _, t in batches] == [32, 32, 32, 4]
        seen = np.concatenate([t for _, t in batches])
        np.testing.assert_array_equal(np.concatenate([b.numpy()[:, 0] for b, _ in batches]), seen)
        assert sorted(seen) == list(range(100))
        orders.append(seen.tolist())
    assert orders[0] != orders[1], "shuffled anew"
    fc.manual_seed(0)
    assert [int(v) for _, t in loader for v in t] == orders[0], "and repeatable"


def test_loader_scales_bytes() -> None:
    x = np.arange(256, dtype=np.uint8).repeat(4).reshape(256, 2, 2)
    (batch, _), *_ = data.Loader(x, batch_size=256)
    assert batch.shape == (256, 1, 2, 2) and batch.numpy().dtype == np.float32
    assert_close(batch.numpy()[:, 0, 0, 0], np.arange(256) / 255)
    (batch, _), *_ = data.Loader(
        x, batch_size=256, scale=1 / (255 * 0.3081), shift=-0.1307 / 0.3081
    )
    assert_close(batch.numpy()[:, 0, 0, 0], (np.arange(256) / 255 - 0.1307) / 0.3081, 2, c=4)


def test_loader_drop_last() -> None:
    loader = data.Loader(np.zeros((10, 3), np.float32), batch_size=4, drop_last=True)
    assert len(loader) == 2 and [len(b) for b, _ in loader] == [4, 4]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((np.zeros((0, 3), np.float32),), {}, ValueError, "no samples"),
        ((np.zeros(3, np.float32),), {}, ValueError, r"\(3,\)"),
        ((np.zeros((3, 2), np.float32), np.zeros(4)), {}, ValueError, r"3 samples.*\(4,\)"),
        ((np.zeros((3, 2), np.float32),), {"batch_size": 0}, ValueError, "batch_size"),
        ((np.zeros((3, 2), np.float32),), {"batch_size": 2.0}, TypeError, "batch_size"),
        ((np.zeros((3, 2), np.int64),), {}, TypeError, "int64"),
        ((np.array([["a"]]),), {}, TypeError, "<U1"),
    ],
    ids=range(7),
)
def test_loader_errors(
    arguments: tuple[np.ndarray, ...],
    options: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        data.Loader(*arguments, **options)  # type: ignore[arg-type]


def test_loader_with_transform_is_repeatable_and_ends_its_thread() -> None:
    import threading

    x = np.random.default_rng(0).integers(0, 256, (50, 28, 28)).astype(np.uint8)
    loader = data.Loader(
        x, batch_size=16, shuffle=True, transform=[data.RandomShift(2), data.RandomRotation(10)]
    )
    results = []
    for _ in range(2):
        fc.manual_seed(4)
        results.append(np.concatenate([b.numpy() for b, _ in loader]))
    assert_same_bits(*results)
    before = threading.active_count()
    for _ in loader:
        break
    assert threading.active_count() <= before


def test_loader_passes_errors_of_a_transform_on() -> None:
    def broken(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        raise ZeroDivisionError("in the background")

    with pytest.raises(ZeroDivisionError, match="in the background"):
        list(data.Loader(np.zeros((4, 8, 8), np.uint8), transform=broken))


def test_random_shift_moves_whole_pixels() -> None:
    x = np.zeros((200, 9, 9), np.uint8)
    x[:, 4, 4] = 200
    y = data.RandomShift(2)(x, np.random.default_rng(0))
    places = np.argwhere(y)[:, 1:]
    assert len(places) == 200 and y.max() == 200
    assert places.min() == 2 and places.max() == 6
    assert len(np.unique(places, axis=0)) == 25


def test_random_rotation_keeps_the_middle_and_the_mass() -> None:
    x = np.zeros((50, 21, 21), np.float32)
    x[:, 8:13, 10] = 1
    y = data.RandomRotation(45)(x, np.random.default_rng(0))
    assert_close(y[:, 10, 10], np.ones(50), 4)
    np.testing.assert_allclose(y.sum((1, 2)), 5, rtol=0.3)
    assert np.abs(y - x).max() > 0.5
    assert_close(data.RandomRotation(0)(x, np.random.default_rng(0)), x)
