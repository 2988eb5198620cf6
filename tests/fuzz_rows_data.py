"""Rows of the table of `fuzz_readers`: data sets, registries, manifests, pictures, downloads."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import struct
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import fastconv as fc
from fastconv import data
from fastconv.cli.infer import _names
from fastconv.data import idx
from fastconv.data.cifar10 import cifar10
from fastconv.models import pretrained
from tests.fuzz_readers import Reader

RNG = np.random.default_rng(5)


# ----------------------------------------------------------------------------------------- arrays


def idx_file() -> Mapping[str, bytes]:
    values = RNG.integers(0, 256, (3, 4, 5), dtype=np.uint8)
    return {"x-idx3-ubyte": struct.pack(">HBB3I", 0, 8, 3, 3, 4, 5) + values.tobytes()}


def packed_idx() -> Mapping[str, bytes]:
    """In two members."""
    (content,) = idx_file().values()
    members = [gzip.compress(part, mtime=0) for part in (content[:20], content[20:])]
    return {"x-idx3-ubyte.gz": b"".join(members)}


def mnist_files() -> Mapping[str, bytes]:
    files = {}
    for prefix in ("train", "t10k"):
        images = RNG.integers(0, 256, (2, 28, 28), dtype=np.uint8)
        header = struct.pack(">HBB3I", 0, 8, 3, 2, 28, 28)
        files[f"{prefix}-images-idx3-ubyte"] = header + images.tobytes()
        labels = struct.pack(">HBBI2B", 0, 8, 1, 2, 3, 7)
        files[f"{prefix}-labels-idx1-ubyte"] = labels
    return files


def read_mnist(first: Path) -> None:
    (x, y), (x_test, y_test) = data.mnist(first.parent, download=False)
    assert x.dtype == y.dtype == np.uint8 and len(x) == len(y) and len(x_test) == len(y_test)


# -------------------------------------------------------------------------------------- CIFAR-10


def records(count: int) -> bytes:
    made = RNG.integers(0, 256, (count, 3073), dtype=np.uint8)
    made[:, 0] = np.arange(count) % 10
    return made.tobytes()


def archive(contents: Mapping[str, bytes], mode: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def cifar_archive() -> Mapping[str, bytes]:
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    contents = {f"cifar-10-batches-bin/{name}": records(1) for name in names}
    return {"cifar-10-binary.tar.gz": archive(contents, "w:gz")}


def cifar_plain_tar() -> Mapping[str, bytes]:
    """The tar archive without its compression, so that mutations reach its headers."""
    (content,) = cifar_archive().values()
    return {"cifar-10-binary.tar": gzip.decompress(content)}


def read_compressed(path: Path) -> None:
    packed = path.with_name("cifar-10-binary.tar.gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    try:
        cifar10(packed)
    finally:
        packed.unlink()


def cifar_records() -> Mapping[str, bytes]:
    return {
        "train_2.bin.gz": gzip.compress(records(2), 1, mtime=0),
        "test_2.bin.gz": gzip.compress(records(2), 1, mtime=0),
    }


def cifar_pictures() -> Mapping[str, bytes]:
    picture = encoded("JPEG", 32)
    names = [f"cifar/{split}/cat/{i}.jpg" for split in ("train", "test") for i in range(2)]
    return {"cifar-jpeg.tar.xz": archive(dict.fromkeys(names, picture), "w:xz")}


def one_jpeg() -> Mapping[str, bytes]:
    return {"1.jpg": encoded("JPEG", 32)}


def read_jpeg_folder(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for split in ("train", "test"):
            for name in ("airplane", "cat"):
                (Path(folder) / split / name).mkdir(parents=True)
                (Path(folder) / split / name / "1.jpg").write_bytes(path.read_bytes())
        (x, _), _ = cifar10(folder, variant="jpeg")
        assert x.shape == (2, 3, 32, 32)


def in_folder(read: Callable[[Path], object]) -> Callable[[Path], object]:
    """The reader takes the folder of the file."""
    return lambda path: read(path.parent)


# -------------------------------------------------------------------------------------- pictures


def encoded(kind: str, side: int = 12) -> bytes:
    from PIL import Image

    y, x = np.mgrid[:side, :side]
    pixels = np.stack([x * 7, y * 7, (x * y) % 256], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def picture(kind: str) -> Callable[[], Mapping[str, bytes]]:
    return lambda: {f"x.{kind.lower()}": encoded(kind)}


def read_frame(path: Path) -> None:
    frame = data.Preprocessing(size=8, resize=8).frame(path)
    assert frame.shape == (3, 8, 8) and frame.dtype == np.uint8


def read_folder(path: Path) -> None:
    """A damaged picture among good ones: it is read, or left out and named."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cat", "dog"):
            (Path(folder) / name).mkdir()
            (Path(folder) / name / "good.png").write_bytes(encoded("PNG"))
        bad = Path(folder) / "cat" / "x.png"
        bad.write_bytes(path.read_bytes())
        found = data.ImageFolder(folder, data.Preprocessing(size=8, resize=8))
        x, _ = found.arrays()
        assert len(x) + len(found.bad) == 3
        assert {path for path, _ in found.bad} <= {str(bad)}


# ----------------------------------------------------------------------- registries and manifests


def registry() -> Mapping[str, bytes]:
    sha256 = hashlib.sha256(b"x").hexdigest()
    content = {
        "weights": [
            {
                "architecture": "lenet5",
                "name": "mine",
                "arguments": {"num_classes": 3},
                "files": {"model.safetensors": sha256, "more": sha256},
                "mirrors": ["https://example.org/"],
                "rename": [["a.", "b."]],
                "preprocessing": {"size": 32, "resize": 40, "channels": "BGR", "mean": [0.5]},
                "classes": "toys",
                "top1": 91.5,
                "source": "https://example.org",
                "license": "MIT",
            }
        ],
        "classes": {
            "toys": ["car", "doll", "top"],
            "file": {"files": {"names.txt": sha256}, "mirrors": ["https://example.org/"]},
        },
    }
    return {"registry.json": json.dumps(content).encode()}


def read_registry(path: Path) -> None:
    """Whatever it says, its files lie in folders of their own below the cache."""
    pretrained._parsed.cache_clear()
    before = os.environ.get("FASTCONV_WEIGHTS")
    os.environ["FASTCONV_WEIGHTS"] = str(path)
    try:
        for entry in pretrained.available():
            for part in (entry, entry.classes):
                if isinstance(part, pretrained._Files):
                    _check_inside(part)
            entry.here()
    finally:
        del os.environ["FASTCONV_WEIGHTS"]
        if before is not None:
            os.environ["FASTCONV_WEIGHTS"] = before


def _check_inside(part: Any) -> None:
    cache = fc.download.cache_folder("weights").absolute()
    assert part.cache.absolute().parent == cache
    for name in part.files:
        place = Path(os.path.normpath(part.cache / name))
        assert place.parent == part.cache and not place.name.startswith(".")


def manifest() -> Mapping[str, bytes]:
    values = np.arange(12, dtype=np.float32).tobytes()
    weights = [
        {"name": "a/kernel", "shape": [2, 4], "dtype": "float32"},
        {"name": "a/bias", "shape": [4], "dtype": "float32"},
    ]
    groups = [{"paths": ["shard1", "shard2"], "weights": weights}]
    text = json.dumps({"format": "layers-model", "weightsManifest": groups})
    return {"model.json": text.encode(), "shard1": values[:20], "shard2": values[20:]}


# --------------------------------------------------------------------------- names and downloads


def names() -> Mapping[str, bytes]:
    return {"names.txt": "tench\ngoldfish\r\n  great white shark\né🐱\n".encode("utf-8-sig")}


BODY = bytes(range(250)) + b"the end of the published file and no more of it...."


def answer() -> Mapping[str, bytes]:
    lines = [
        b"HTTP/1.1 200 OK",
        b"Content-Type: application/octet-stream",
        b"Content-Length: %d" % len(BODY),
        b"Connection: close",
    ]
    return {"answer": b"\r\n".join([*lines, b"", BODY])}


def chunked_answer() -> Mapping[str, bytes]:
    chunks = b"64\r\n" + BODY[:100] + b"\r\n%x\r\n" % (len(BODY) - 100) + BODY[100:]
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return {"answer": head + chunks + b"\r\n0\r\n\r\n"}


def redirection() -> Mapping[str, bytes]:
    lines = [b"HTTP/1.1 302 Found", b"Location: /there", b"Content-Length: 2"]
    return {"answer": b"\r\n".join([*lines, b"", b"hi"])}


def read_download(path: Path) -> None:
    """A server that sends these bytes, whatever they are: the published file comes, or none."""
    from fastconv.download import download, http

    server = _server()
    server.raw["f"] = path.read_bytes()
    http.READ_SECONDS = http.HEAD_SECONDS = 3.0
    sha256 = hashlib.sha256(BODY).hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "f"
        try:
            download({"f": sha256}, [server.url], Path(folder), what="f", hint="", max_bytes=10_000)
            assert whole.read_bytes() == BODY and os.listdir(folder) == ["f"]
        except fc.DownloadError:
            assert set(os.listdir(folder)) <= {"f.part"}
            raise


_running: list[Any] = []


def _server() -> Any:
    """One server for all cases."""
    from tests.server import Server

    if not _running:
        os.environ["NO_PROXY"] = "*"
        _running.append(Server({"there": BODY}).__enter__())
    return _running[0]


def read_tfjs(path: Path) -> None:
    from fastconv.models.weight_files import read

    tensors = read(path).tensors
    assert sum(values.size for values in tensors.values()) <= 12


Refused = (fc.CorruptFileError, OSError, MemoryError)  # PNG may pack any number of pixels
READERS = {
    "idx": Reader(idx_file, idx.read),
    "idx.gz": Reader(packed_idx, idx.read),
    "mnist": Reader(mnist_files, read_mnist),
    "cifar10 archive": Reader(cifar_archive, cifar10),
    "cifar10 tar": Reader(cifar_plain_tar, read_compressed),
    "cifar10 records": Reader(cifar_records, in_folder(cifar10)),
    "cifar10 pictures": Reader(cifar_pictures, cifar10),
    "cifar10 folder": Reader(one_jpeg, read_jpeg_folder),
    **{
        f"picture {kind}": Reader(picture(kind), read_frame, Refused)
        for kind in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP", "PPM")
    },
    "picture folder": Reader(picture("PNG"), read_folder),
    "registry": Reader(registry, read_registry),
    "tfjs": Reader(manifest, read_tfjs, (fc.CorruptFileError, FileNotFoundError)),
    "class names": Reader(names, lambda path: _names(str(path)), (ValueError,)),
    "download": Reader(answer, read_download, (fc.DownloadError,)),
    "download chunked": Reader(chunked_answer, read_download, (fc.DownloadError,)),
    "download redirection": Reader(redirection, read_download, (fc.DownloadError,)),
}
