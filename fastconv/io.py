"""Saving and loading tensors as safetensors: a format that cannot run code."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .atomic import write_atomically
from .autograd import Tensor, from_numpy, wrap
from .errors import CorruptFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["load", "load_metadata", "parse_json", "read_bytes", "read_file", "read_tensors", "save"]

PathLike = str | os.PathLike[str]

_LONGEST_HEADER = 100_000_000  # bytes, as the format has it

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
    "U64": ("<u8", np.int64),
    "U32": ("<u4", np.int64),
    "U16": ("<u2", np.int64),
    "U8": ("<u1", np.uint8),
    "BOOL": ("<u1", np.uint8),
}


def save(
    state_dict: Mapping[str, Any], path: PathLike, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes named tensors to a safetensors file, all or nothing.

    What lies at `path` is replaced when the new file is complete: a symbolic link stays and leads
    to the new file, permissions stay as they are, and pipes and devices are written to.

    Args:
        state_dict: names to Tensors or NumPy arrays, as from `module.state_dict()`; floating point
            of up to 64 bits, integers or bool.
        path: the file; its folder must exist.
        metadata: strings that go into the header.

    Raises:
        OSError: the file cannot be written; an earlier one of that name is untouched.
        TypeError: a value is no array of numbers, or no text in metadata.
        ValueError: a number that `load` could not give back, of 2^63 or more.

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
        if name == "__metadata__":
            raise ValueError('[save] the format keeps the name "__metadata__" for its own use')
        array = np.asarray(value)
        if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
            raise TypeError(
                f"[save] {name} has element type {array.dtype}: floating point of up to 64 bits, "
                "integers or bool are expected"
            )
        if array.dtype.kind == "u" and array.dtype.itemsize == 8:
            _refuse_overflow(f"[save] {name}", array)
        arrays[name] = array if array.flags.c_contiguous else array.copy()
    for key, text in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise TypeError(f"[save] metadata must be names to texts, got {key!r}: {text!r}")
    write_atomically(path, safetensors.save(arrays, dict(metadata) if metadata else None))


def _refuse_overflow(where: str, values: NDArray[Any]) -> None:
    if values.size and values.max() > np.uint64(2**63 - 1):
        raise CorruptFileError(f"{where} holds {values.max()}, and int64 ends at 2^63 - 1")


# ---------------------------------------------------------------------------------------- reading


def load(path: PathLike) -> dict[str, Tensor]:
    """Reads the tensors of a safetensors file.

    Floating point of any width becomes float32, integers of any width int64, but uint8, which
    stays; bool becomes uint8.

    Raises:
        CorruptFileError: the file is damaged, cut off, or not safetensors.
        FileNotFoundError: there is none.
    """
    return {name: wrap(from_numpy(values)) for name, values in read_file(path)[1].items()}


def load_metadata(path: PathLike) -> dict[str, str]:
    """The strings in the header of a safetensors file.

    Raises:
        CorruptFileError: the file is damaged, cut off, or not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    path = os.path.expanduser(path)
    with open(path, "rb", buffering=0) as file:
        _look_at(path, file.read(16))
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise CorruptFileError(_corrupt(path, error)) from None


def read_file(path: PathLike) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """The strings and the arrays of a safetensors file, both of one reading.

    A file that is replaced meanwhile gives all of the old one or all of the new one.

    Raises:
        CorruptFileError: the file is damaged, cut off, or not safetensors.
    """
    return read_tensors(path, read_bytes(path))


def read_bytes(path: PathLike) -> bytes:
    """All of a safetensors file, once its first bytes look like one.

    Raises:
        CorruptFileError: they do not.
    """
    with open(os.path.expanduser(path), "rb", buffering=0) as file:
        start = file.read(16)
        _look_at(path, start)
        if not file.seekable():
            return start + file.readall()
        file.seek(0)
        return file.readall()


def read_tensors(path: PathLike, content: bytes) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """What `read_file` gives, of what `read_bytes` gave; `path` is for messages.

    Raises:
        CorruptFileError: the content is damaged, cut off, or not safetensors.
    """
    from safetensors import SafetensorError, deserialize

    _look_at(path, content[:16])
    try:
        entries: list[tuple[str, dict[str, Any]]] = deserialize(content)  # type: ignore[no-untyped-call]
        end = 8 + int.from_bytes(content[:8], "little")
        metadata = parse_json(content[8:end].decode()).get("__metadata__") or {}
        return metadata, {name: _decode(path, name, info) for name, info in entries}
    except CorruptFileError:
        raise
    except (SafetensorError, ValueError, OverflowError) as error:
        raise CorruptFileError(_corrupt(path, error)) from None


def parse_json(text: str, *, finite: bool = True) -> Any:
    """The value of an untrusted JSON text.

    Args:
        text: the JSON.
        finite: whether NaN and Infinity, which JSON does not have, are refused.

    Raises:
        ValueError: it is not JSON, an object has a key twice, or its lists are nested too deeply.
    """
    import json

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError(f"a key comes twice among {', '.join(name for name, _ in pairs[:9])}")
        return found

    def number(text: str) -> float:
        value = float(text)
        if finite and not math.isfinite(value):
            raise ValueError(f"{text} is no finite number")
        return value

    try:
        return json.loads(text, object_pairs_hook=once, parse_float=number, parse_constant=number)
    except RecursionError:
        raise ValueError("its lists and objects lie too deep in each other") from None


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
    if kind == "U64":
        _refuse_overflow(f"[load] {os.fspath(path)}: {name}", values)
    shape: list[int] = info["shape"]
    return values.astype(target).reshape(shape)


def _look_at(path: PathLike, start: bytes) -> None:
    """Refuses, by the first 16 bytes, what cannot be safetensors."""
    _refuse_others(path, start)
    length = int.from_bytes(start[:8], "little")
    if len(start) < 8 or not 2 <= length <= _LONGEST_HEADER:
        raise CorruptFileError(
            _corrupt(path, ValueError(f"a header of {length:,} bytes, after {len(start[:8])}"))
        )


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
