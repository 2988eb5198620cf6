"""Reads IDX, the file format of MNIST: http://yann.lecun.com/exdb/mnist/ (its last section).

    bytes 0-1   zero
    byte  2     element type: 0x08 uint8, 0x09 int8, 0x0B int16, 0x0C int32, 0x0D float32,
                0x0E float64
    byte  3     number of dimensions
    then        one big-endian uint32 a dimension, then the elements, big-endian, row by row

Nothing is allocated before the header agrees with the size of the file. A .gz file, of one member
or of several, is inflated on the way in as far as the header says, and its checksums are verified.
Bytes after the elements are an error.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptFileError

__all__ = ["read"]

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMS = 8
_GZIP_MAGIC = b"\x1f\x8b"
# Deflate packs at most 258 bytes into two bits, so no honest file grows further than this.
_MAX_INFLATION = 1032


def read(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Reads one IDX file, plain or gzip-compressed (told by its first bytes, not its name).

    Args:
        path: The file.

    Returns:
        An array of the shape and type in the header, in native byte order.

    Raises:
        CorruptFileError: The contents are not IDX, or not complete, or damaged.
        OSError: The file cannot be opened.

    >>> import tempfile, os
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     name = os.path.join(folder, "labels-idx1-ubyte")
    ...     with open(name, "wb") as file:
    ...         _ = file.write(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    ...     read(name)
    array([7, 2, 1], dtype=uint8)
    """
    name = os.path.expanduser(os.fspath(path))
    with open(name, "rb") as file:
        start = file.read(512)
        file.seek(0)
        if start[:2] != _GZIP_MAGIC:
            return _read_elements(file, name, stored=os.fstat(file.fileno()).st_size)
        packed = os.fstat(file.fileno()).st_size
        try:
            with gzip.GzipFile(fileobj=file) as inflated:
                return _read_elements(inflated, name, packed=packed)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise CorruptFileError(f"[idx] {name}: damaged gzip file ({error})") from None


def _read_elements(
    file: IO[bytes] | gzip.GzipFile,
    name: str,
    *,
    stored: int | None = None,  # size of a plain file
    packed: int = 0,  # size of a gzip file
) -> NDArray[Any]:
    dtype, shape, header = _read_header(file, name)
    count = math.prod(shape)  # Python integers: no overflow
    expected = header + count * dtype.itemsize
    sizes = "x".join(str(size) for size in shape)
    says = f"[idx] {name}: the header says {sizes} {dtype.name}, {expected:,} bytes in all"
    if stored is not None:
        if stored < expected:
            raise CorruptFileError(f"{says}, but the file has only {stored:,}: it was cut short")
        if stored > expected:
            raise CorruptFileError(f"{says}, but {stored - expected:,} more bytes follow")
    elif expected > packed * _MAX_INFLATION:
        raise CorruptFileError(f"{says}: more than {packed:,} compressed bytes can hold")

    try:
        array = np.empty(shape, dtype)
    except ValueError as error:  # a zero among sizes whose product NumPy cannot index
        raise CorruptFileError(f"{says}: {error}") from None
    buffer = memoryview(array.reshape(-1).view(np.uint8).data)
    filled = 0
    while filled < len(buffer):
        got = file.readinto(buffer[filled:])  # type: ignore[union-attr]
        if not got:
            raise CorruptFileError(f"{says}, but only {header + filled:,} could be read")
        filled += got
    # One byte further: also makes gzip verify its checksum.
    if file.read(1):
        raise CorruptFileError(f"{says}, but more bytes follow")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read_header(
    file: IO[bytes] | gzip.GzipFile, name: str
) -> tuple[np.dtype[Any], list[int], int]:
    magic = file.read(4)
    if magic.lstrip()[:1] == b"<":
        raise CorruptFileError(f"[idx] {name}: is a web page, not data (a failed download?)")
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise CorruptFileError(
            f"[idx] {name}: not an IDX file, it begins with {magic.hex(' ') or 'nothing'} "
            "(expected 00 00, an element type, a number of dimensions)"
        )
    code, ndim = magic[2], magic[3]
    if code not in _DTYPES:
        known = ", ".join(f"0x{known:02X}" for known in _DTYPES)
        raise CorruptFileError(
            f"[idx] {name}: unknown element type 0x{code:02X}, expected one of {known}"
        )
    if not 1 <= ndim <= _MAX_DIMS:
        raise CorruptFileError(f"[idx] {name}: {ndim} dimensions, expected 1 to {_MAX_DIMS}")
    sizes = file.read(4 * ndim)
    if len(sizes) < 4 * ndim:
        raise CorruptFileError(f"[idx] {name}: ends inside its header")
    shape = [int.from_bytes(sizes[i : i + 4], "big") for i in range(0, 4 * ndim, 4)]
    return np.dtype(_DTYPES[code]), shape, 4 + 4 * ndim
