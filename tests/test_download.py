"""Downloads, from a server on this machine: mirrors, hashes, broken connections, no network."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv.download import cache_folder, download, fetch
from tests.server import Server

pytest.importorskip("pooch")

CONTENT = np.random.default_rng(0).bytes(1_000_000)
HASH = hashlib.sha256(CONTENT).hexdigest()
DEAD = "http://127.0.0.1:9/"  # nothing listens there


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    with Server({"f.bin": CONTENT, "wrong/f.bin": b"something else"}) as running:
        yield running


def get(folder: Path, *mirrors: str, sha256: str = HASH) -> None:
    download({"f.bin": sha256}, mirrors, folder, what="thing", hint="or so.")
    assert (folder / "f.bin").read_bytes() == CONTENT
    assert os.listdir(folder) == ["f.bin"], "nothing else is left"


def test_once(server: Server, tmp_path: Path) -> None:
    get(tmp_path / "new" / "folder", server.url)
    get(tmp_path / "new" / "folder", server.url, sha256=HASH.upper())
    assert server.requests == [("f.bin", None)], "the second time it is there"
    (tmp_path / "new" / "folder" / "f.bin").write_bytes(CONTENT[:-1])
    get(tmp_path / "new" / "folder", server.url)


def test_the_next_mirror(server: Server, tmp_path: Path) -> None:
    """Of a dead host, a missing file and one with another hash."""
    get(tmp_path, DEAD, server.url + "nowhere/", server.url + "wrong/", server.url)
    assert [name for name, _ in server.requests] == ["nowhere/f.bin", "wrong/f.bin", "f.bin"]


def test_all_mirrors_fail(server: Server, tmp_path: Path) -> None:
    with pytest.raises(fc.DownloadError) as caught:
        get(tmp_path, DEAD, server.url + "nowhere/", server.url + "wrong/")
    lines = str(caught.value).splitlines()
    assert lines[0] == "[thing] f.bin could not be downloaded:"
    assert lines[1].startswith(f"  {DEAD}f.bin: ") and "refused" in lines[1]
    assert lines[2] == f"  {server.url}nowhere/f.bin: 404 Not Found"
    assert lines[3] == f"  {server.url}wrong/f.bin: wrong SHA-256: not the published file"
    assert lines[4] == f"Put f.bin into {tmp_path}, or so."
    assert not os.listdir(tmp_path), "a file that fails its hash is not left behind"


def test_no_network_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(fc.DownloadError, match=r"\[thing\] f\.bin .*no network") as caught:
        get(tmp_path, DEAD, DEAD + "other/")
    assert str(caught.value).count("\n") == 0 and str(caught.value).count(DEAD[:-1]) == 1
    assert str(tmp_path) in str(caught.value)


def test_broken_connections_are_continued(server: Server, tmp_path: Path) -> None:
    """Within one call, while bytes come; then from what the last call left."""
    server.cut = 400_000
    get(tmp_path / "a", server.url)
    begins = [wanted for _, wanted in server.requests]
    assert begins[0] is None and len(begins) == 3 and all(begins[1:])
    server.cut = 70_000
    with pytest.raises(fc.DownloadError, match=r"f\.bin: "):
        get(tmp_path / "b", server.url)
    assert os.listdir(tmp_path / "b") == ["f.bin.part"]
    begun = (tmp_path / "b" / "f.bin.part").stat().st_size
    server.cut = None
    server.requests.clear()
    get(tmp_path / "b", server.url)
    assert server.requests == [("f.bin", f"bytes={begun}-")]


@pytest.mark.parametrize("begun", [CONTENT[:1000], b"y" * 1000, b"y" * 2_000_000, CONTENT + b"y"])
@pytest.mark.parametrize("knows_ranges", [True, False])
def test_whatever_was_begun(
    begun: bytes, knows_ranges: bool, server: Server, tmp_path: Path
) -> None:
    """The right bytes, wrong ones, too many; also where the server begins anew."""
    server.knows_ranges = knows_ranges
    (tmp_path / "f.bin.part").write_bytes(begun)
    get(tmp_path, server.url)


def test_a_cache_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(fc.DownloadError, match=r"cannot be kept in .*XDG_CACHE_HOME, or so"):
        get(tmp_path / "file" / "folder", server.url)
    assert not server.requests
    if os.name == "posix" and os.geteuid():
        get(tmp_path / "cache", server.url)
        (tmp_path / "cache").chmod(0o500)
        get(tmp_path / "cache", server.url)  # nothing to write
        (tmp_path / "cache").chmod(0o700)


def test_several_files(server: Server, tmp_path: Path) -> None:
    """The mirror that failed is asked last for what follows."""
    server.files |= {"good/a": b"a", "good/b": b"b", "bad/b": b"b"}
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("a", "b")}
    other = server.url.replace("127.0.0.1", "localhost")
    addresses = {n: (h, [f"{other}bad/{n}", f"{server.url}good/{n}"]) for n, h in hashes.items()}
    fetch(addresses, tmp_path, what="things", hint="")
    assert [name for name, _ in server.requests] == ["bad/a", "good/a", "good/b"]


def test_the_cache_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if os.name == "posix" and os.uname().sysname == "Linux":
        assert cache_folder("weights") == tmp_path / "fastconv" / "weights"
