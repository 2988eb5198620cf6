"""Saving and loading tensors as safetensors: a format that cannot run code.

A file is written beside its final name and moved there when it is complete, so that whatever
happens there is either the old file or the new one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .convert import from_numpy
from .errors import CorruptFileError
from .tensor import Tensor, wrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["load", "load_metadata", "save", "write_atomically"]

PathLike = str | os.PathLike[str]

# How each element type of the format is read, and what it becomes: float32, int64 or uint8.
READ_AS = {
    "F64": ("<f8", np.float32),
    "F32": ("<f4", np.float32),
    "F16": ("<f2", np.float32),
    "BF16": ("<u2", np.float32),
    "I64": ("<i8", np.int64),
    "I32": ("<i4", np.int64),
    "I16": ("<i2", np.int64),
    "I8": ("<i1", np.int64),
    "U8": ("<u1", np.uint8),
    "BOOL": ("<u1", np.uint8),
}


def save(
    state_dict: Mapping[str, Any], path: PathLike, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes named tensors to a safetensors file, all or nothing.

    Args:
        state_dict: names to Tensors or NumPy arrays, as from `module.state_dict()`.
        path: the file; its folder must exist.
        metadata: strings that go into the header.

    Raises:
        OSError: the file cannot be written; an earlier one of that name is untouched.

    Example:
        >>> import tempfile, fastconv as fc
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     fc.save({"weight": fc.ones(2)}, f"{folder}/x.safetensors")
        ...     fc.load(f"{folder}/x.safetensors")
        {'weight': Tensor([1., 1.])}
    """
    from safetensors import numpy as safetensors

    arrays: dict[str, NDArray[Any]] = {}
    for name, value in state_dict.items():
        if not isinstance(name, str) or not isinstance(value, (Tensor, np.ndarray, np.generic)):
            raise TypeError(
                f"[save] expected names to Tensors or NumPy arrays, got {name!r}: "
                f"{type(value).__name__}"
            )
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"[save] {name} has element type {array.dtype}: numbers are expected")
        arrays[name] = array if array.flags.c_contiguous else array.copy()
    write_atomically(path, safetensors.save(arrays, dict(metadata) if metadata else None))


def write_atomically(path: PathLike, content: bytes) -> None:
    """Writes a file that is complete, or not there."""
    folder, name = os.path.split(os.fspath(path))
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.{os.urandom(4).hex()}.part")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def load(path: PathLike) -> dict[str, Tensor]:
    """Reads the tensors of a safetensors file.

    Floating point of any width becomes float32, integers int64 (uint8 stays).

    Raises:
        CorruptFileError: the file is damaged, cut off, or not safetensors.
        FileNotFoundError: there is none.
    """
    return {name: wrap(from_numpy(_decode(path, name, info))) for name, info in _read(path)}


def load_metadata(path: PathLike) -> dict[str, str]:
    """The strings in the header of a safetensors file.

    Raises:
        CorruptFileError: the file is damaged, cut off, or not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    with open(path, "rb") as file:
        _refuse_others(path, file.read(16))
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise CorruptFileError(_corrupt(path, error)) from None


def _read(path: PathLike) -> list[tuple[str, dict[str, Any]]]:
    from safetensors import SafetensorError, deserialize

    with open(path, "rb") as file:
        content = file.read()
    _refuse_others(path, content)
    try:
        entries: list[tuple[str, dict[str, Any]]] = deserialize(content)  # type: ignore[no-untyped-call]
        return entries
    except SafetensorError as error:
        raise CorruptFileError(_corrupt(path, error)) from None


def _corrupt(path: PathLike, error: Exception) -> str:
    return f"[load] {os.fspath(path)} is damaged or not a safetensors file: {error}"


def _decode(path: PathLike, name: str, info: dict[str, Any]) -> NDArray[Any]:
    kind = info["dtype"]
    if kind not in READ_AS:
        raise CorruptFileError(
            f"[load] {os.fspath(path)}: {name} has element type {kind}, which fastconv cannot hold"
        )
    stored, target = READ_AS[kind]
    values: NDArray[Any] = np.frombuffer(info["data"], stored)
    if kind == "BF16":  # the upper half of a float32
        values = (values.astype(np.uint32) << 16).view(np.float32)
    shape: list[int] = info["shape"]
    return values.astype(target).reshape(shape)


def _refuse_others(path: PathLike, start: bytes) -> None:
    """PyTorch's .pt and .pth files, and other pickles, can run any code when they are read.

    Keras's .h5 and .keras files cannot be read either, without Keras.
    """
    name = os.fspath(path)
    zipped = start[:4] == b"PK\x03\x04"
    if start[:8] == b"\x89HDF\r\n\x1a\n" or (zipped and name.endswith(".keras")):
        raise CorruptFileError(
            f"[load] {name} is a file of Keras's. Convert it once where Keras is installed:\n"
            '  python -c "import keras; from safetensors.numpy import save_file; '
            f"m = keras.models.load_model('{name}'); "
            "save_file({w.path: w.numpy() for w in m.weights}, 'weights.safetensors')\"\n"
            "models.from_keras, and weights= of a network, take its names and layouts"
        )
    # In a safetensors file the length of the header comes first, then the header, which is JSON.
    pickled = start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5")
    if not zipped and not (pickled and start[8:9] != b"{"):
        return
    raise CorruptFileError(
        f"[load] {name} is a pickle (or zip) file, which could run any code: fastconv does not "
        "read it. Convert it once where PyTorch is installed:\n"
        '  python -c "import torch; from safetensors.torch import save_file; '
        f"d = torch.load('{name}', weights_only=True); d = d.get('state_dict', d); "
        "save_file({k: v.contiguous() for k, v in d.items()}, 'weights.safetensors')\""
    )
