"""CIFAR-10: 50,000 + 10,000 photographs of ten classes, 32x32 RGB (Krizhevsky, 2009).

    cifar-10-binary.tar.gz      the published archive; or its files, data_batch_1.bin ...
    train_*.bin.gz, test_*      some of its records, compressed: a small set with original pixels
    *jpeg*.tar.xz               all images as JPEG: train/<class>/<number>.jpg; or that as a folder

A record of the binary version is a label byte and 3 x 32 x 32 bytes, red, green and blue, row by
row: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..download import cache_folder, fetch
from ..errors import CorruptFileError
from ..progress_bar import progress_bar
from ..untrusted import printable
from .images import eight_bits, pillow

__all__ = ["CLASSES", "cifar10"]

Bytes: TypeAlias = NDArray[np.uint8]
Split: TypeAlias = tuple[Bytes, Bytes]

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
ARCHIVE = "cifar-10-binary.tar.gz"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
ADDRESSES = (
    f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}",
    f"https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/{ARCHIVE}",
)

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
_TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_TEST_FILES = ("test_batch.bin",)
_MAX_ARCHIVE = 1 << 28  # bytes; it has 170,052,171
_MAX_RECORDS = 50_000 * (1 + _PIXELS)  # bytes of a file of records
_MAX_INSIDE = 1 << 30  # bytes of an archive when it is unpacked; the original has 184,400,000
_MAX_JPEG = 1 << 20  # of a picture in an archive: honest ones have about 1,000


def cifar10(
    path: str | os.PathLike[str] | None = None,
    download: bool = True,
    *,
    variant: str | None = None,
) -> tuple[Split, Split]:
    """Loads CIFAR-10, downloading it once (170 MB) when it is nowhere on this machine.

    Looked for in `path`, `$FASTCONV_DATA/cifar10`, the user's cache; then fetched into the cache
    and checked by SHA-256.

    Args:
        path: A folder with the data set in one of its forms (or with a `cifar10` folder in it), or
            an archive. When given, no other place is tried.
        download: False: never touch the network.
        variant: "original" pixels, all of them; "jpeg": all images, compressed with loss (reading
            takes some seconds); "reduced": a part with original pixels. None: the first of these
            three that is found.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: uint8 (N, 3, 32, 32) RGB, uint8 (N,) labels 0-9 in
        the order of `CLASSES`. The JPEGs come ordered by number, then class, so that any stretch of
        them holds all classes.

    Raises:
        FileNotFoundError: `path` has no such data; or nothing was found and `download` is False.
        CorruptFileError: A file is there but damaged.
        DownloadError: No mirror could deliver.
        ValueError: An unknown variant.

    Example::

        (x_train, y_train), (x_test, y_test) = fastconv.data.cifar10()
    """
    if variant not in (None, *_FORMS):
        raise ValueError(
            f"[cifar10] variant must be one of {', '.join(map(repr, _FORMS))} or None, "
            f"got {variant!r}"
        )
    found = find(path, variant)
    if found is None:
        folder = cache_folder("cifar10")
        if not download or variant not in (None, "original"):
            what = "the data set" if variant is None else f"variant {variant!r}"
            raise FileNotFoundError(
                f"[cifar10] {what} is not in $FASTCONV_DATA/cifar10 nor {folder}"
                + ("; only the original can be downloaded" if download else ", and download=False")
            )
        hint = (
            "or name its folder: data.cifar10(path), --data DIR, or $FASTCONV_DATA with a cifar10 "
            "folder in it."
        )
        files = {ARCHIVE: (SHA256, ADDRESSES)}
        fetch(files, folder, what="cifar10", hint=hint, max_bytes=_MAX_ARCHIVE)
        found = folder / ARCHIVE, _read_archive
    place, read = found
    return read(place)


Reader: TypeAlias = Callable[[Path], tuple[Split, Split]]


def find(
    path: str | os.PathLike[str] | None = None, variant: str | None = None
) -> tuple[Path, Reader] | None:
    """Where CIFAR-10 would be read from, and how; None when it has to be downloaded."""
    if path is not None:
        given = Path(os.path.expanduser(path))
        for folder in (given, given / "cifar10"):
            if found := _look(folder, variant):
                return found
        raise FileNotFoundError(_nothing_in(given, variant))
    root = os.environ.get("FASTCONV_DATA")
    if root and (found := _look(Path(os.path.expanduser(root)) / "cifar10", variant)):
        return found
    return _look(cache_folder("cifar10"), variant)


def _look(folder: Path, variant: str | None) -> tuple[Path, Reader] | None:
    """The first form of the data set in a folder."""
    for name, form in _FORMS.items():
        if variant in (None, name) and (found := form(folder)):
            return found
    return None


def _nothing_in(path: Path, variant: str | None) -> str:
    if not path.exists():
        return f"[cifar10] {path}: no such file or folder"
    wanted = {
        "original": f"{ARCHIVE}, {_TRAIN_FILES[0]} ... {_TEST_FILES[0]}",
        "jpeg": "*jpeg*.tar.xz, train/airplane and test/airplane",
        "reduced": "train_*.bin.gz and test_*.bin.gz",
    }
    expected = "; ".join(wanted[name] for name in ([variant] if variant else wanted))
    hint = ""
    if any(path.glob("cifar-10-python*")) or any(path.glob("**/data_batch_1")):
        hint = (
            ". The Python version is not read, its pickles could run any code: get the binary "
            f"version, {ADDRESSES[0]}"
        )
    return f"[cifar10] {path}: expected one of {expected}{hint}"


# ------------------------------------------------------------------------------------ the forms


def _original(folder: Path) -> tuple[Path, Reader] | None:
    for place in (folder, folder / "cifar-10-batches-bin"):
        if all((place / name).is_file() for name in (*_TRAIN_FILES, *_TEST_FILES)):
            return place, _read_files
    return next(((f, _read_archive) for f in (folder, folder / ARCHIVE) if _is(f, ".tar.gz")), None)


def _jpeg(folder: Path) -> tuple[Path, Reader] | None:
    if all((folder / split / CLASSES[0]).is_dir() for split in ("train", "test")):
        return folder, _read_pictures
    archives = [folder] if folder.is_file() else sorted(folder.glob("*jpeg*.tar.xz"))
    return next(((f, _read_pictures) for f in archives if _is(f, ".tar.xz")), None)


def _reduced(folder: Path) -> tuple[Path, Reader] | None:
    if any(folder.glob("train_*.bin.gz")) and any(folder.glob("test_*.bin.gz")):
        return folder, _read_reduced
    return None


_FORMS: dict[str, Callable[[Path], tuple[Path, Reader] | None]] = {
    "original": _original,
    "jpeg": _jpeg,
    "reduced": _reduced,
}


def _is(file: Path, ending: str) -> bool:
    return file.name.endswith(ending) and file.is_file()


def _read_files(folder: Path) -> tuple[Split, Split]:
    def read(names: tuple[str, ...]) -> Split:
        return _join([_records((folder / n).read_bytes(), str(folder / n)) for n in names])

    return read(_TRAIN_FILES), read(_TEST_FILES)


def _read_reduced(folder: Path) -> tuple[Split, Split]:
    def read(file: Path) -> Split:
        try:
            with gzip.open(file) as packed:
                content = packed.read(_MAX_RECORDS + 1)
                if len(content) > _MAX_RECORDS:
                    raise CorruptFileError(f"[cifar10] {file}: more than {_MAX_RECORDS:,} bytes")
                return _records(content, str(file))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise CorruptFileError(f"[cifar10] {file}: damaged gzip file ({error})") from None

    train, test = ([read(f) for f in sorted(folder.glob(f"{s}_*.bin.gz"))] for s in _SPLITS)
    return _join(train), _join(test)


def _read_archive(archive: Path) -> tuple[Split, Split]:
    wanted = (*_TRAIN_FILES, *_TEST_FILES)
    parts = {
        Path(name).name: _records(content, f"{archive}: {name}")
        for name, content in _members(archive, ".bin", _MAX_RECORDS)
        if Path(name).name in wanted
    }
    missing = [name for name in wanted if name not in parts]
    if missing:
        raise CorruptFileError(f"[cifar10] {archive}: no {', '.join(missing)} in it")
    return _join([parts[name] for name in _TRAIN_FILES]), parts[_TEST_FILES[0]]


def _records(content: bytes, where: str) -> Split:
    """Images and labels of a file of the binary version."""
    if not content or len(content) % (1 + _PIXELS):
        raise CorruptFileError(
            f"[cifar10] {where}: {len(content):,} bytes are no whole number of records of "
            f"{1 + _PIXELS:,} bytes"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + _PIXELS)
    labels = records[:, 0].copy()
    if labels.max() >= len(CLASSES):
        first = int(np.argmax(labels >= len(CLASSES)))
        raise CorruptFileError(
            f"[cifar10] {where}: record {first} has label {labels[first]}, expected 0 to 9"
        )
    return records[:, 1:].reshape(-1, 3, _SIDE, _SIDE), labels


def _join(parts: list[Split]) -> Split:
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


# ------------------------------------------------------------------------------------- pictures

_SPLITS = ("train", "test")


def _read_pictures(place: Path) -> tuple[Split, Split]:
    """All JPEGs of an archive or folder: pixels compressed with loss.

    One thread: such small pictures cost more in Python than in the decoder.
    """
    found: dict[str, list[tuple[str, int, Bytes]]] = {split: [] for split in _SPLITS}
    pictures = _members(place, ".jpg", _MAX_JPEG) if place.is_file() else _files(place)
    for name, content in progress_bar(pictures, total=60_000, desc="cifar10", unit=" images"):
        parts = name.split("/")
        if len(parts) >= 3 and parts[-3] in found and parts[-2] in CLASSES:
            label = CLASSES.index(parts[-2])
            found[parts[-3]].append((parts[-1], label, _decode(content, f"{place}: {name}")))
    for split, images in found.items():
        if not images:
            raise CorruptFileError(f"[cifar10] {place}: no pictures in {split}/<class>/")
        images.sort(key=lambda image: image[:2])
    train, test = (
        (np.stack([pixels for *_, pixels in images]), np.array([y for _, y, _ in images], np.uint8))
        for images in found.values()
    )
    return train, test


def _decode(content: bytes, where: str) -> Bytes:
    Image = pillow()
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "MPO")) as image:
            if image.size != (_SIDE, _SIDE):
                raise CorruptFileError(
                    f"[cifar10] {where}: {image.width} x {image.height} pixels, expected 32 x 32"
                )
            pixels = np.asarray(eight_bits(image))
    except (CorruptFileError, MemoryError):
        raise
    except Exception as error:  # whatever the decoder stumbled over
        raise CorruptFileError(f"[cifar10] {where}: damaged image ({error})") from None
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for split in _SPLITS:
        for file in sorted((folder / split).glob("*/*.jpg")):
            if not file.is_file() or file.stat().st_size > _MAX_JPEG:
                raise CorruptFileError(f"[cifar10] {file}: no file of at most {_MAX_JPEG:,} bytes")
            yield f"{split}/{file.parent.name}/{file.name}", file.read_bytes()


def _members(archive: Path, ending: str, largest: int) -> Iterator[tuple[str, bytes]]:
    """(name, contents) of the files in a compressed tar archive, read from front to back."""
    import lzma
    import tarfile

    unpack = lzma.open if archive.name.endswith(".xz") else gzip.open
    try:
        with unpack(archive) as whole:
            bounded: Any = _Bounded(whole, str(archive))
            with tarfile.open(fileobj=bounded, mode="r:") as tar:
                for member in tar:
                    if not member.isfile() or not member.name.endswith(ending):
                        continue
                    if member.size > largest:
                        raise CorruptFileError(
                            f"[cifar10] {archive}: {printable(member.name)} claims "
                            f"{member.size:,} bytes"
                        )
                    file = tar.extractfile(member)
                    content = file.read() if file is not None else b""
                    if len(content) < member.size:
                        raise CorruptFileError(
                            f"[cifar10] {archive}: ends within {printable(member.name)}"
                        )
                    yield printable(member.name), content
            while bounded.read(1 << 20):
                pass  # to the end, where the checksum is
    except CorruptFileError:
        raise
    except (
        *(tarfile.TarError, lzma.LZMAError, EOFError, zlib.error, gzip.BadGzipFile),
        *(ValueError, OverflowError),  # numbers and names in damaged headers
    ) as error:
        reason = printable(error)
        raise CorruptFileError(f"[cifar10] {archive}: damaged archive ({reason})") from None


class _Bounded:
    """What is in a compressed archive, up to a size that no honest one has.

    A few kilobytes can unpack to any number of bytes, as members that are skipped or as headers.
    """

    def __init__(self, whole: Any, name: str) -> None:
        self._whole, self._name = whole, name

    def read(self, count: int) -> bytes:
        self._check(self.tell() + count)
        content: bytes = self._whole.read(count)
        return content

    def seek(self, place: int) -> int:
        self._check(place)
        reached: int = self._whole.seek(place)
        return reached

    def tell(self) -> int:
        place: int = self._whole.tell()
        return place

    def _check(self, end: int) -> None:
        if end > _MAX_INSIDE:
            raise CorruptFileError(
                f"[cifar10] {self._name}: unpacks to more than {_MAX_INSIDE:,} bytes"
            )
