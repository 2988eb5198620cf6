"""MNIST: 60,000 + 10,000 handwritten digits, 28x28 grey bytes (LeCun, Cortes and Burges, 1998)."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..download import cache_folder
from ..download import download as fetch
from ..errors import CorruptFileError
from . import idx

__all__ = ["mnist"]

Images = NDArray[np.uint8]
Labels = NDArray[np.uint8]
Split = tuple[Images, Labels]

# The files, without .gz, in the order in which they are loaded, and the SHA-256 of each .gz file.
FILES = {
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_MAX_BYTES = 1 << 25  # of a file that is downloaded; the largest has 9,912,422

# Where the files may lie under a folder: torchvision keeps them in MNIST/raw.
_INSIDE = ("", "mnist", "MNIST", "raw", "MNIST/raw", "mnist/raw")


def mnist(path: str | os.PathLike[str] | None = None, download: bool = True) -> tuple[Split, Split]:
    """Loads MNIST, downloading it once when it is nowhere on this machine.

    Looked for in `path`, `$FASTCONV_DATA/mnist`, the user's cache; then fetched into the cache from
    its mirrors, each file checked by SHA-256.

    Args:
        path: A folder with the four IDX files, gzip-compressed or plain, or with a `mnist` folder
            in it; torchvision's `MNIST/raw` and what is around it are such folders. "~" is the
            user's home. When given, no other place is tried. Any data set in MNIST's format will
            do.
        download: False: never touch the network.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: uint8 (60000, 28, 28) with 0 background and 255 ink,
        uint8 (60000,) labels 0-9; and the same for the 10,000 test digits.

    Raises:
        FileNotFoundError: `path` lacks a file; or nothing was found and `download` is False.
        CorruptFileError: A file is there but damaged.
        DownloadError: No mirror could deliver.

    Example::

        (x_train, y_train), (x_test, y_test) = fastconv.data.mnist()
    """
    folder = find(path)
    if folder is None:
        folder = cache_folder("mnist")
        if not download:
            raise FileNotFoundError(
                f"[mnist] not found in $FASTCONV_DATA/mnist nor {folder}, and download=False"
            )
        _download(folder, _missing(folder))
    try:
        return load(folder)
    except CorruptFileError:
        if path is not None or not download or folder != cache_folder("mnist"):
            raise
        _download(folder, list(FILES))  # in the cache: brings anew what fails its hash
        return load(folder)


def find(path: str | os.PathLike[str] | None = None) -> Path | None:
    """The folder MNIST would be read from, or None when it has to be downloaded."""
    if path is not None:
        given = Path(os.path.expanduser(path))
        if found := _found_in(given):
            return found
        missing = ", ".join(_missing(given))
        raise FileNotFoundError(
            f"[mnist] {os.fspath(path)}: no {missing} (nor under mnist/ or MNIST/raw/)"
        )
    root = os.environ.get("FASTCONV_DATA")
    if root and (found := _found_in(Path(os.path.expanduser(root)) / "mnist")):
        return found
    cache = cache_folder("mnist")
    return None if _missing(cache) else cache


def load(folder: Path) -> tuple[Split, Split]:
    """Reads the four files of one folder; inflating runs beside each other (zlib frees the GIL)."""
    with ThreadPoolExecutor(len(FILES)) as pool:
        arrays = list(pool.map(lambda name: idx.read(_file(folder, name) or folder / name), FILES))
    train, test = (arrays[0], arrays[1]), (arrays[2], arrays[3])
    for (images, labels), prefix in ((train, "train"), (test, "t10k")):
        _check(images, labels, f"{folder}{os.sep}{prefix}-*")
    return train, test


def _check(images: NDArray[Any], labels: NDArray[Any], where: str) -> None:
    if images.ndim != 3 or images.dtype != np.uint8:
        raise CorruptFileError(
            f"[mnist] {where}: images are {images.shape} {images.dtype}, expected (N, H, W) uint8"
        )
    if labels.ndim != 1 or labels.dtype != np.uint8:
        raise CorruptFileError(
            f"[mnist] {where}: labels are {labels.shape} {labels.dtype}, expected (N,) uint8"
        )
    if len(images) != len(labels):
        raise CorruptFileError(
            f"[mnist] {where}: {len(images):,} images but {len(labels):,} labels"
        )


def _file(folder: Path, name: str) -> Path | None:
    """`name` in the folder, compressed or not; some copies have it as train-images.idx3-ubyte."""
    names = (f"{name}.gz", name, name.replace("-idx", ".idx"))
    return next((folder / n for n in names if (folder / n).is_file()), None)


def _found_in(folder: Path) -> Path | None:
    """The folder itself or one of those in it, whichever has all four files."""
    return next((folder / name for name in _INSIDE if not _missing(folder / name)), None)


def _missing(folder: Path) -> list[str]:
    return [name for name in FILES if _file(folder, name) is None]


def _download(folder: Path, names: list[str]) -> None:
    hint = (
        "from any copy of MNIST, or name their folder: data.mnist(path), --data DIR, or "
        "$FASTCONV_DATA with a mnist folder in it."
    )
    files = {f"{name}.gz": FILES[name] for name in names}
    fetch(files, MIRRORS, folder, what="mnist", hint=hint, max_bytes=_MAX_BYTES)
