"""Files that are complete or absent: links, permissions, pipes, names, killed writers."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import atomic
from fastconv.atomic import check_writable, write_atomically
from tests.support import child_environment, run_python

ONE, TWO = {"a": np.ones(2, np.float32)}, {"a": np.full(2, 2, np.float32)}


def value(path: Path) -> float:
    return float(np.asarray(fc.load(path)["a"])[0])


def parts(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.endswith(".part")]


# --------------------------------------------------------------------------- what is there already


@pytest.mark.parametrize("there", [True, False])
def test_links_are_followed(tmp_path: Path, there: bool) -> None:
    """A relative link through another link; also one whose target is only now made."""
    (tmp_path / "big").mkdir()
    (tmp_path / "second").symlink_to("big/w.safetensors")
    link = tmp_path / "latest.safetensors"
    link.symlink_to("second")
    if there:
        fc.save(ONE, tmp_path / "big" / "w.safetensors")
    fc.save(TWO, link)
    assert link.is_symlink() and (tmp_path / "second").is_symlink()
    assert value(tmp_path / "big" / "w.safetensors") == 2
    assert not parts(tmp_path) and not parts(tmp_path / "big")


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match=r"symbolic links.*loop"):
        fc.save(ONE, tmp_path / "loop")
    (tmp_path / "lost").symlink_to("missing/w.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no folder .*missing: make it first"):
        fc.save(ONE, tmp_path / "lost")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755])
def test_permissions_stay(tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody who may not read the file may read it while it is written."""
    path = tmp_path / "x.safetensors"
    fc.save(ONE, path)
    path.chmod(mode)
    written: list[int] = []
    hand_over = atomic._hand_over

    def watching(file: int, before: os.stat_result) -> None:
        written.append(stat.S_IMODE(os.fstat(file).st_mode))  # all is written by now
        hand_over(file, before)

    monkeypatch.setattr(atomic, "_hand_over", watching)
    fc.save(TWO, path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert written and all(not during & ~mode for during in written)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_owner_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    fc.save(ONE, path)
    os.chown(path, 1234, 2345)
    path.chmod(0o640)
    fc.save(TWO, path)
    status = path.stat()
    assert (status.st_uid, status.st_gid) == (1234, 2345)
    assert stat.S_IMODE(status.st_mode) == 0o640


def test_a_group_that_cannot_stay_loses_its_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the old group might do is not for the group of whoever saves."""
    path = tmp_path / "x"
    for mode, expected in ((0o660, 0o600), (0o664, 0o644), (0o640, 0o600)):
        path.write_bytes(b"old")
        path.chmod(mode)

        def foreign(*_: int) -> None:
            raise PermissionError(1, "Operation not permitted")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fchown", foreign)
            patched.setattr(atomic.os, "fstat", lambda file: Other(FSTAT(file)))
            write_atomically(path, b"new")
        assert stat.S_IMODE(path.stat().st_mode) == expected


FSTAT = os.fstat


class Other:
    """A status of somebody else's file."""

    def __init__(self, status: os.stat_result) -> None:
        self._status = status
        self.st_uid, self.st_gid = status.st_uid + 1, status.st_gid + 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._status, name)


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    """More than it holds at once, to a reader that comes a little later."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []

    def read() -> None:
        time.sleep(0.2)
        got.append(pipe.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    state = {"a": np.arange(100_000, dtype=np.float32)}
    fc.save(state, pipe)
    reader.join(20)
    fc.save(state, tmp_path / "file")
    assert got[0] == (tmp_path / "file").read_bytes()
    assert stat.S_ISFIFO(pipe.stat().st_mode) and not parts(tmp_path)


def test_a_pipe_that_nobody_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_READER_WITHIN", 0.1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.warns(UserWarning, match="nobody reads the pipe .*pipe: nothing was written"):
        fc.save(ONE, tmp_path / "pipe")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_devices_are_written_to(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to("/dev/null")
    fc.save(ONE, tmp_path / "null")
    check_writable(tmp_path / "null")
    assert stat.S_ISCHR((tmp_path / "null").stat().st_mode)
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device.*full"):
        fc.save(ONE, tmp_path / "full")
    assert sorted(os.listdir(tmp_path)) == ["full", "null"]


def test_standard_output(tmp_path: Path) -> None:
    """/dev/stdout, a pipe without a name of its own and a file that a shell has opened."""
    code = "import numpy as np, fastconv as fc\nfc.save({'a': np.ones(2, 'f4')}, '/dev/stdout')"
    fc.save(ONE, tmp_path / "expected")
    expected = (tmp_path / "expected").read_bytes()
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stdout=subprocess.PIPE, env=child_environment(), check=True)
    assert done.stdout == expected
    with open(tmp_path / "out", "wb") as file:
        subprocess.run(command, stdout=file, env=child_environment(), check=True)
    assert (tmp_path / "out").read_bytes() == expected


# -------------------------------------------------------------------------------- names and folders


@pytest.mark.parametrize("length", [240, 255])
def test_long_names(tmp_path: Path, length: int) -> None:
    path = tmp_path / ("é" * 10 + "n" * (length - 20))
    fc.save(ONE, path)
    fc.save(TWO, path)
    assert value(path) == 2
    with pytest.raises(OSError, match=r"File name too long.*nnn"):
        fc.save(ONE, tmp_path / ("n" * 256))
    assert os.listdir(tmp_path) == [path.name]


def test_folders_are_named_as_the_user_wrote_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for use in (lambda path: fc.save(ONE, path), check_writable):
        with pytest.raises(FileNotFoundError, match=r"no folder runs: make it first.*'runs/x'"):
            use("runs/x")
        (tmp_path / "file").touch()
        with pytest.raises(NotADirectoryError, match=r"'file/x'"):
            use("file/x")
        for folder in (".", "..", "there/", ""):
            with pytest.raises(IsADirectoryError, match="directory"):
                use(folder)
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_may_not_be_written_to() -> None:
    folder = tempfile.mkdtemp()
    try:
        os.chmod(folder, 0o555)
        done = run_python(
            "import os, numpy as np, fastconv as fc, safetensors.numpy\n"
            "if os.geteuid() == 0: os.setuid(65534)\n"
            f"try: fc.save({{'a': np.ones(2, 'f4')}}, {folder + '/x'!r})\n"
            "except PermissionError as error: print(error)\n"
        )
        assert f"the folder {folder} may not be written to: choose another" in done.stdout, done
    finally:
        shutil.rmtree(folder)


def test_trying_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    check_writable(path)
    assert not os.listdir(tmp_path)
    fc.save(ONE, path)
    before = path.stat()
    check_writable(path)
    assert path.stat() == before and os.listdir(tmp_path) == [path.name]


# ------------------------------------------------------------------------------------------- parts

HELD = """
import os, sys, time, numpy as np, fastconv as fc
real = os.replace
def held(*names):
    print("ready", flush=True)
    sys.stdin.readline()
    real(*names)
os.replace = held
fc.save({"a": np.full(2, 3, "f4")}, sys.argv[1])
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has written its part and not moved it yet."""
    process = subprocess.Popen(
        [sys.executable, "-c", HELD, str(tmp_path / "held.safetensors")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


def test_what_a_killed_writer_leaves_is_swept(
    tmp_path: Path, writer: subprocess.Popen[str]
) -> None:
    """By the next file that is written into the folder, whatever its name; also by a mere try."""
    assert len(parts(tmp_path)) == 1
    writer.kill()
    writer.wait()
    assert len(parts(tmp_path)) == 1
    fc.save(ONE, tmp_path / "other.safetensors")
    assert os.listdir(tmp_path) == ["other.safetensors"]


def test_what_a_living_writer_needs_stays(tmp_path: Path, writer: subprocess.Popen[str]) -> None:
    before = parts(tmp_path)
    for name in ("other.safetensors", "held.safetensors"):
        fc.save(ONE, tmp_path / name)
        check_writable(tmp_path / name)
    assert parts(tmp_path) == before and len(before) == 1
    writer.communicate("go\n", timeout=60)
    assert writer.returncode == 0
    assert value(tmp_path / "held.safetensors") == 3 and not parts(tmp_path)


def test_parts_of_other_machines_have_to_be_old(tmp_path: Path) -> None:
    """Where a lock may be known to the machine that took it and to no other."""
    foreign = tmp_path / ".fastconv-00000000-0123456789abcdef.part"
    strange = tmp_path / ".fastconv-mine.part"
    for path in (foreign, strange):
        path.write_bytes(b"half")
    fc.save(ONE, tmp_path / "x")
    assert foreign.exists()
    os.utime(foreign, (time.time() - 25 * 3600,) * 2)
    fc.save(ONE, tmp_path / "x")
    assert sorted(os.listdir(tmp_path)) == [strange.name, "x"], "and what is no part stays"


BUSY = """
import sys, numpy as np, fastconv as fc
for i in range(60):
    fc.save({"a": np.full(5000, float(sys.argv[2]), "f4")}, sys.argv[1])
"""


def test_two_processes_at_once(tmp_path: Path) -> None:
    """Each sweeps while the other writes; every reading finds one whole file."""
    path = tmp_path / "x.safetensors"
    fc.save({"a": np.zeros(5000, np.float32)}, path)
    writers = [
        subprocess.Popen([sys.executable, "-c", BUSY, path, str(n)], env=child_environment())
        for n in (1, 2)
    ]
    while any(process.poll() is None for process in writers):
        values = np.asarray(fc.load(path)["a"])
        assert values.shape == (5000,) and np.ptp(values) == 0
    assert [process.returncode for process in writers] == [0, 0]
    assert os.listdir(tmp_path) == [path.name]


def test_two_threads_at_once(tmp_path: Path) -> None:
    path, errors = tmp_path / "x", []

    def save(content: bytes) -> None:
        try:
            for _ in range(50):
                write_atomically(path, content)
                assert len(set(path.read_bytes())) == 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=save, args=(bytes([n]) * 9999,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and os.listdir(tmp_path) == ["x"]
