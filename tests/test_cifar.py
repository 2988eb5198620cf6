"""CIFAR-10 in each of its forms, found, read, downloaded, and refused when it is damaged."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import importlib
import io
import lzma
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv import data
from tests.support import assert_same_bits

module = importlib.import_module("fastconv.data.cifar10")


def records(count: int, seed: int) -> np.ndarray:
    """(count, 3073) as in the binary version."""
    rng = np.random.default_rng(seed)
    made = rng.integers(0, 256, (count, 3073)).astype(np.uint8)
    made[:, 0] = np.arange(count) % 10
    return made


PARTS = {f"data_batch_{i}.bin": records(4, i) for i in range(1, 6)} | {
    "test_batch.bin": records(6, 9)
}


def write_archive(path: Path, contents: dict[str, bytes], mode: str) -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def original(folder: Path) -> Path:
    contents = {f"cifar-10-batches-bin/{name}": part.tobytes() for name, part in PARTS.items()}
    contents["cifar-10-batches-bin/readme.html"] = b"<html>"
    return write_archive(folder / "cifar-10-binary.tar.gz", contents, "w:gz")


def check(splits: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> None:
    (x, y), (x_test, y_test) = splits
    whole = np.concatenate([PARTS[f"data_batch_{i}.bin"] for i in range(1, 6)])
    assert_same_bits(x, whole[:, 1:].reshape(-1, 3, 32, 32))
    assert_same_bits(y, whole[:, 0])
    assert_same_bits(x_test, PARTS["test_batch.bin"][:, 1:].reshape(-1, 3, 32, 32))
    assert y_test.tolist() == [0, 1, 2, 3, 4, 5] and y_test.dtype == np.uint8


def test_original_as_archive_and_as_files(tmp_path: Path) -> None:
    archive = original(tmp_path)
    check(data.cifar10(archive))
    check(data.cifar10(tmp_path))
    for folder in ("files", "unpacked/cifar-10-batches-bin", "parent/cifar10"):
        place = tmp_path / folder
        place.mkdir(parents=True)
        for name, part in PARTS.items():
            (place / name).write_bytes(part.tobytes())
        check(data.cifar10(tmp_path / folder.split("/")[0]))


def test_reduced(tmp_path: Path) -> None:
    (tmp_path / "train_4_lossless.bin.gz").write_bytes(gzip.compress(records(4, 1).tobytes()))
    (tmp_path / "test_6.bin.gz").write_bytes(gzip.compress(records(6, 9).tobytes()))
    (x, y), (x_test, _) = data.cifar10(tmp_path)
    assert_same_bits(x, records(4, 1)[:, 1:].reshape(-1, 3, 32, 32))
    assert y.tolist() == [0, 1, 2, 3] and len(x_test) == 6
    with pytest.raises(FileNotFoundError, match="data_batch_1"):
        data.cifar10(tmp_path, variant="original")


def jpegs() -> dict[str, bytes]:
    """Two pictures a class and split, each of one colour."""
    image = pytest.importorskip("PIL.Image")
    contents = {}
    for split in ("test", "train"):
        for label, name in enumerate(module.CLASSES):
            for number in (1, 0):
                colour = (20 * label, 100 * number, 200 if split == "test" else 0)
                buffer = io.BytesIO()
                image.new("RGB", (32, 32), colour).save(buffer, "jpeg", quality=95)
                contents[f"{split}/{name}/{number:04}.jpg"] = buffer.getvalue()
    return contents


def test_jpegs_in_an_archive_and_in_folders(tmp_path: Path) -> None:
    contents = jpegs()
    archive = write_archive(tmp_path / "cifar10-jpeg.tar.xz", contents, "w:xz")
    for name, content in contents.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(content)
    for place in (archive, tmp_path, tmp_path / "tree"):
        (x, y), (x_test, _) = data.cifar10(place)
        assert x.shape == x_test.shape == (20, 3, 32, 32) and x.flags.c_contiguous
        assert y.tolist() == 2 * list(range(10)), "by number, then class"
        assert np.abs(x[:10, 0, 5, 5] - 20.0 * np.arange(10)).max() < 9
        assert x[:10, 1].max() < 20 and x[10:, 1].min() > 80 and x_test[:, 2].min() > 170


def test_variants_in_one_folder(tmp_path: Path) -> None:
    write_archive(tmp_path / "my-jpeg.tar.xz", jpegs(), "w:xz")
    (tmp_path / "train_1.bin.gz").write_bytes(gzip.compress(records(4, 1).tobytes()))
    (tmp_path / "test_1.bin.gz").write_bytes(gzip.compress(records(4, 1).tobytes()))
    assert len(data.cifar10(tmp_path)[0][0]) == 20
    assert len(data.cifar10(tmp_path, variant="reduced")[0][0]) == 4
    original(tmp_path)
    check(data.cifar10(tmp_path))
    assert len(data.cifar10(tmp_path, variant="jpeg")[0][0]) == 20


def test_what_is_damaged_or_missing(tmp_path: Path) -> None:
    whole = original(tmp_path).read_bytes()
    bad = tmp_path / "bad.tar.gz"
    for content in (b"", b"no archive", whole[:2000], whole[:-20], whole[:500] + bytes(50)):
        bad.write_bytes(content)
        with pytest.raises(fc.CorruptFileError, match=r"bad\.tar\.gz"):
            data.cifar10(bad)
    batches = {name: part.tobytes() for name, part in PARTS.items()}
    for change, message in (
        ({"data_batch_3.bin": bytes(3072)}, "3,072 bytes are no whole number"),
        ({"data_batch_3.bin": b""}, "0 bytes"),
        ({"test_batch.bin": b"\x0b" + bytes(3072)}, "record 0 has label 11"),
    ):
        write_archive(bad, batches | change, "w:gz")
        with pytest.raises(fc.CorruptFileError, match=message):
            data.cifar10(bad)
    del batches["data_batch_5.bin"]
    write_archive(bad, batches, "w:gz")
    with pytest.raises(fc.CorruptFileError, match=r"no data_batch_5\.bin"):
        data.cifar10(bad)
    contents = jpegs()
    for name, content, message in (
        ("train/cat/0000.jpg", b"text", "damaged"),
        ("train/cat/0000.jpg", contents["test/cat/0000.jpg"][:400], "damaged"),
    ):
        archive = write_archive(tmp_path / "x-jpeg.tar.xz", contents | {name: content}, "w:xz")
        with pytest.raises(fc.CorruptFileError, match=message):
            data.cifar10(archive)
    (tmp_path / "python" / "cifar-10-batches-py").mkdir(parents=True)
    (tmp_path / "python" / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"pickle")
    with pytest.raises(FileNotFoundError, match="binary version"):
        data.cifar10(tmp_path / "python")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        data.cifar10(tmp_path / "missing")
    with pytest.raises(ValueError, match="'reduced'"):
        data.cifar10(variant="small")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serves tmp_path/served; gives its address."""
    (tmp_path / "served").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}/"
        running.shutdown()
        thread.join()


def test_downloaded_once_into_the_cache(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = original(tmp_path / "served")
    monkeypatch.delenv("FASTCONV_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "ADDRESSES", (server + archive.name,))
    with pytest.raises(FileNotFoundError, match="download=False"):
        data.cifar10(download=False)
    with pytest.raises(FileNotFoundError, match="only the original"):
        data.cifar10(variant="jpeg")
    with pytest.raises(fc.DownloadError, match="SHA-256"):
        data.cifar10()
    monkeypatch.setattr(module, "SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    check(data.cifar10())
    archive.unlink()
    check(data.cifar10(download=False))


def test_the_shared_sets(data_folder: Path) -> None:
    """Label counts as the data's README has them; the JPEGs are the same pictures, with loss."""
    folder = data_folder / "cifar10"
    if not (folder / "train_4000_lossless.bin.gz").is_file():
        pytest.skip("real data: $FASTCONV_DATA has no cifar10/")
    (x, y), (_, y_test) = data.cifar10(folder, variant="reduced")
    assert np.bincount(y).tolist() == [396, 366, 420, 384, 422, 393, 414, 385, 407, 413]
    assert y[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert np.bincount(y_test).tolist() == [103, 89, 100, 103, 90, 86, 112, 102, 106, 109]
    assert 115 < x.mean() < 125


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
@pytest.mark.parametrize("where", ["a member to skip", "a long name", "behind the end"])
def test_archives_that_unpack_without_end(
    where: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few kilobytes of zeros: refused at a limit, in members, headers and behind the last one."""
    monkeypatch.setattr(module, "_MAX_INSIDE", 2_000_000)
    zeros = bytes(5_000_000)
    name = {"w:gz": "cifar-10-binary.tar.gz", "w:xz": "cifar-jpeg.tar.xz"}[mode]
    if where == "behind the end":
        plain = write_archive(tmp_path / "plain.tar", {"readme": b""}, "w").read_bytes()
        pack = gzip.compress if mode == "w:gz" else lzma.compress
        (tmp_path / name).write_bytes(pack(plain + zeros))
    elif where == "a long name":
        write_archive(tmp_path / name, {"x" * 5_000_000: b""}, mode)
    else:
        write_archive(tmp_path / name, {"readme": zeros}, mode)
    with pytest.raises(fc.CorruptFileError, match="unpacks to more than 2,000,000 bytes"):
        data.cifar10(tmp_path / name)


def test_members_that_are_no_files_are_passed_over(tmp_path: Path) -> None:
    """Links out of the archive, devices, folders and other files of records count for nothing."""
    contents = {f"c/{name}": part.tobytes() for name, part in PARTS.items()}
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as tar:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)):
            entry = tarfile.TarInfo(f"../../data_batch_{number + 1}.bin")
            entry.type, entry.linkname = kind, "/etc/passwd"
            tar.addfile(entry)
        for name, content in {**contents, "c/other.bin": records(3, 3).tobytes()}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    check(data.cifar10(tmp_path))


def test_reduced_sets_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_RECORDS", 3 * 3073)
    (tmp_path / "train_4.bin.gz").write_bytes(gzip.compress(records(4, 1).tobytes()))
    (tmp_path / "test_3.bin.gz").write_bytes(gzip.compress(records(3, 9).tobytes()))
    with pytest.raises(fc.CorruptFileError, match=r"train_4\.bin\.gz: more than 9,219 bytes"):
        data.cifar10(tmp_path)
