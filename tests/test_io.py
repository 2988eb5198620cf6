"""Weight files: round trips, hostile files, and that a file on disk is complete or absent."""

from __future__ import annotations

import json
import os
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import io, models
from tests.support import assert_same_bits, run_python, uniform


def state(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "conv.weight": uniform(rng, 4, 3, 3, 3),
        "scalar": np.array(3.5, np.float32),
        "count": np.array(7, np.int64),
        "bytes": np.arange(5, dtype=np.uint8),
        "empty": np.zeros((0, 3), np.float32),
        "strided": uniform(rng, 6, 4).T[::2],
    }


def test_round_trip(tmp_path: Path, rng: np.random.Generator) -> None:
    before = state(rng)
    fc.save(before, tmp_path / "x.safetensors")
    after = fc.load(tmp_path / "x.safetensors")
    assert list(after) == sorted(after) or set(after) == set(before)
    for key, value in before.items():
        assert_same_bits(np.asarray(after[key]), np.ascontiguousarray(value).reshape(value.shape))


def test_model_round_trip(tmp_path: Path, rng: np.random.Generator) -> None:
    fc.manual_seed(0)
    a, b = models.lenet5(), models.lenet5()
    fc.save(a.state_dict(), str(tmp_path / "modèle.safetensors"))
    b.load_state_dict(fc.load(str(tmp_path / "modèle.safetensors")))
    x = fc.Tensor(uniform(rng, 2, 1, 28, 28))
    assert_same_bits(a(x).numpy(), b(x).numpy())


KINDS = ["<i1", "<i2", "<i4", "<i8", "<u1", "<u2", "<u4", "<u8", "?", "<f2", "<f4", "<f8"]


@pytest.mark.parametrize("kind", [*KINDS, ">u2", ">i8", ">f4"])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3)])
def test_every_kind_of_number_can_be_loaded(
    tmp_path: Path, kind: str, shape: tuple[int, ...]
) -> None:
    """Floating point becomes float32; uint8 and bool uint8; other integers, with sign, int64."""
    dtype = np.dtype(kind)
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    if dtype.kind in "iu":
        ends = np.iinfo(dtype)
        values = np.where(values == 1, min(ends.max, 2**63 - 1), values)
        values = np.where(values == 2, ends.min, values).astype(dtype)
    fc.save({"a": values}, tmp_path / "x")
    loaded = fc.load(tmp_path / "x")["a"].numpy()
    expected = {"f": np.float32, "b": np.uint8}.get(dtype.kind, np.int64)
    if dtype == np.uint8:
        expected = np.uint8
    assert loaded.dtype == expected and loaded.shape == shape
    np.testing.assert_array_equal(loaded, values.astype(expected))


def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    """Numbers beyond int64, types without a name in the format, and its own key."""
    large = np.array([1, 2**63], np.uint64)
    with pytest.raises(ValueError, match=r"a holds 9223372036854775808, and int64 ends"):
        fc.save({"a": large}, tmp_path / "x")
    for bad in (np.zeros(1, np.longdouble), np.zeros(1, complex), np.zeros(1, "M8[s]")):
        with pytest.raises(TypeError, match="a has element type"):
            fc.save({"a": bad}, tmp_path / "x")
    with pytest.raises(TypeError, match="metadata must be names to texts, got 'epoch': 3"):
        fc.save({}, tmp_path / "x", {"epoch": 3})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="__metadata__"):
        fc.save({"__metadata__": np.zeros(1, np.float32)}, tmp_path / "x")
    assert not list(tmp_path.iterdir())
    (tmp_path / "x").write_bytes(raw({"a": entry([2], 0, 16, "U64")}, large.tobytes()))
    with pytest.raises(fc.CorruptFileError, match="a holds 9223372036854775808, and int64 ends"):
        fc.load(tmp_path / "x")


def test_readable_by_the_safetensors_package(tmp_path: Path, rng: np.random.Generator) -> None:
    from safetensors.numpy import load_file, save_file

    before = {"w": uniform(rng, 3, 4)}
    fc.save(before, tmp_path / "a.safetensors")
    assert_same_bits(load_file(tmp_path / "a.safetensors")["w"], before["w"])
    save_file(before, tmp_path / "b.safetensors")
    assert_same_bits(np.asarray(fc.load(tmp_path / "b.safetensors")["w"]), before["w"])


def raw(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


# The abuse cases of the safetensors repository (attacks/README.md) and of everyday life.
ATTACKS = {
    "empty": b"",
    "seven_bytes": b"1234567",
    "header_longer_than_the_file": raw({}, length=2**40),
    "header_length_overflows": raw({}, length=2**64 - 1),
    "not_json": raw(b"{]"),
    "not_utf8": raw(b'{"\xff": 1}'),
    "not_an_object": raw([1, 2]),
    "truncated_data": raw({"a": entry([4], 0, 16)}, b"\0" * 12),
    "trailing_data": raw({"a": entry([4], 0, 16)}, b"\0" * 20),
    "negative_offset": raw({"a": entry([4], -16, 0)}, b"\0" * 16),
    "offset_beyond_the_file": raw({"a": entry([4], 2**40, 2**40 + 16)}, b"\0" * 16),
    "overlapping": raw({"a": entry([4], 0, 16), "b": entry([4], 8, 24)}, b"\0" * 24),
    "hole": raw({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, b"\0" * 12),
    "shape_disagrees": raw({"a": entry([5], 0, 16)}, b"\0" * 16),
    "shape_overflows": raw({"a": entry([2**33, 2**33], 0, 16)}, b"\0" * 16),
    "unknown_dtype": raw({"a": entry([4], 0, 16, "F31")}, b"\0" * 16),
    "pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94." + b"\0" * 40,
    "zip": b"PK\x03\x04" + b"\0" * 60,
    "deep": raw(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "twice": raw(
        b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8",'
        b'"shape":[0],"data_offsets":[0,0]}}'
    ),
    "metadata_twice": raw(b'{"__metadata__":{},"__metadata__":{"a":"b"}}'),
    "metadata_number": raw({"__metadata__": {"a": 1}}),
    "web_page": b"<!DOCTYPE html><html>404 not found</html>" * 3,
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(name: str, tmp_path: Path) -> None:
    path = tmp_path / "attack.safetensors"
    path.write_bytes(ATTACKS[name])
    with pytest.raises(fc.CorruptFileError, match=r"attack\.safetensors"):
        fc.load(path)


def test_endless_devices_are_not_read_to_their_end() -> None:
    with pytest.raises(fc.CorruptFileError, match="header of 0 bytes"):
        fc.load("/dev/zero")
    with pytest.raises(IsADirectoryError):
        fc.load("/dev")


def test_a_pipe_can_be_loaded(tmp_path: Path) -> None:
    fc.save({"a": np.arange(50_000)}, tmp_path / "x")
    os.mkfifo(tmp_path / "pipe")
    content = (tmp_path / "x").read_bytes()
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(content,))
    writer.start()
    assert fc.load(tmp_path / "pipe")["a"].numpy()[-1] == 49_999
    writer.join()


def test_unsupported_dtypes_are_named(tmp_path: Path) -> None:
    """Half-precision weights are legal files: converted to float32, or refused with the reason."""
    path = tmp_path / "half.safetensors"
    path.write_bytes(raw({"a": entry([2], 0, 4, "F16")}, np.array([1, 2], np.float16).tobytes()))
    np.testing.assert_array_equal(np.asarray(fc.load(path)["a"], np.float32), [1, 2])


@pytest.mark.parametrize("name", ["weights.pt", "weights.pkl", "weights.npz"])
def test_other_formats_are_refused_with_a_way_out(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04" + b"\0" * 60)
    with pytest.raises(ValueError, match="safetensors"):
        fc.load(tmp_path / name)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fc.load(tmp_path / "nowhere.safetensors")


def test_save_refuses_what_it_cannot_store(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for bad in (np.array([object()]), "text"):
        with pytest.raises(TypeError, match="bad"):
            fc.save({"bad": bad}, path)
    with pytest.raises((TypeError, AttributeError)):
        fc.save([1, 2], path)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_save_into_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        fc.save({"a": np.zeros(1, np.float32)}, tmp_path / "missing" / "x.safetensors")
    with pytest.raises(OSError, match="directory"):
        fc.save({"a": np.zeros(1, np.float32)}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full at the last moment: the file of before is whole, nothing else is left."""
    path = tmp_path / "x.safetensors"
    fc.save({"a": np.ones(3, np.float32)}, path)
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for function in ("replace", "fsync"):
        with monkeypatch.context() as patched:
            patched.setattr(os, function, full)
            with pytest.raises(OSError, match="No space left"):
                fc.save({"a": np.zeros(1000, np.float32)}, path)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["x.safetensors"]


LIMIT = """
import resource, signal, sys, numpy as np, fastconv as fc
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
fc.save({"a": np.ones(10, "f4")}, sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    fc.save({"a": np.zeros(100_000, "f4")}, sys.argv[1])
except OSError as error:
    print("refused")
print(len(np.asarray(fc.load(sys.argv[1])["a"])))
"""


def test_disk_full(tmp_path: Path) -> None:
    """A real write that fails half way, by a limit on the size of files."""
    pytest.importorskip("resource")
    path = tmp_path / "x.safetensors"
    code = LIMIT.replace("sys.argv[1]", repr(str(path)))
    done = run_python(code)
    assert done.stdout.split() == ["refused", "10"], done.stderr
    assert os.listdir(tmp_path) == ["x.safetensors"]


KILLED = """
import os, sys, numpy as np, fastconv as fc
real = os.replace
os.replace = lambda *a: os.kill(os.getpid(), 9)
fc.save({"a": np.zeros(1000, "f4")}, PATH)
"""


def test_kill_while_saving(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    fc.save({"a": np.ones(3, np.float32)}, path)
    done = run_python(KILLED.replace("PATH", repr(str(path))))
    assert done.returncode == -9
    np.testing.assert_array_equal(np.asarray(fc.load(path)["a"]), np.ones(3))


def test_saved_file_has_ordinary_permissions(tmp_path: Path) -> None:
    """Not those of a private temporary file: a colleague can read the weights."""
    path = tmp_path / "x.safetensors"
    fc.save({"a": np.ones(3, np.float32)}, path)
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    fc.save({"a": fc.ones(2)}, "~/a.safetensors", {"format": "mine"})
    assert (tmp_path / "a.safetensors").is_file()
    assert fc.load(Path("~/a.safetensors"))["a"].tolist() == [1, 1]
    assert io.load_metadata("~/a.safetensors") == {"format": "mine"}
    models.save(models.lenet5(), "~/lenet5.safetensors")
    assert models.load("~/lenet5.safetensors").architecture == models.lenet5().architecture
