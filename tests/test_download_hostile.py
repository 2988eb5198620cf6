"""Downloads from servers that send nonsense, too much or hardly anything; names that lead away;
parts that killed processes left."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import models
from fastconv.download import download, fetch, http, parts
from fastconv.models.weight_files import read
from fastconv.untrusted import check_file_name, printable
from tests.server import Server

pytest.importorskip("pooch")

CONTENT = np.random.default_rng(1).bytes(300_000)
HASH = hashlib.sha256(CONTENT).hexdigest()
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(CONTENT)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    with Server({"good/f.bin": CONTENT}) as running:
        yield running


def get(folder: Path, *mirrors: str, **options: Any) -> None:
    download({"f.bin": HASH}, mirrors, folder, what="thing", hint="or so.", **options)


def reason(server: Server, folder: Path, **options: Any) -> str:
    """Why the mirror bad/ alone does not deliver; with good/ behind it the file comes."""
    with pytest.raises(fc.DownloadError) as caught:
        get(folder, f"{server.url}bad/", **options)
    (folder / "f.bin.part").unlink(missing_ok=True)
    assert os.listdir(folder) == []
    get(folder, f"{server.url}bad/", f"{server.url}good/", **options)
    assert (folder / "f.bin").read_bytes() == CONTENT
    assert os.listdir(folder) == ["f.bin"]
    text = str(caught.value)
    assert printable(text, "\n") == text, "no control characters"
    return text.splitlines()[1].split("f.bin: ", 1)[1]


def forever(head: bytes, piece: bytes, pause: float = 0.0) -> Any:
    def pieces() -> Iterator[bytes]:
        yield head
        while True:
            yield piece
            time.sleep(pause)

    return pieces


NONSENSE: dict[str, tuple[bytes, str]] = {
    "a length that is no number": (
        OK + b"Content-Length: many\r\n\r\n",
        "Content-Length is 'many'",
    ),
    "a negative length": (OK + b"Content-Length: -5\r\n\r\n" + CONTENT, "Content-Length is '-5'"),
    "an endless number": (
        OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        "Content-Length is",
    ),
    "two lengths": (OK + LENGTH + b"Content-Length: 7\r\n\r\n" + CONTENT, ""),
    "another state": (b"HTTP/1.1 299 Perhaps\r\n\r\n" + CONTENT, "299 Perhaps"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", "204 No Content"),
    "a part nobody asked for": (
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 5-9/10\r\n\r\n12345",
        "206, a part",
    ),
    "nothing": (b"", ""),
    "an empty body": (OK + b"Content-Length: 0\r\n\r\n", "the server sent nothing"),
    "no status line": (b"\x00\x01\x02 hello\r\n\r\n", ""),
    "escape sequences": (
        b"HTTP/1.1 500 \x1b[2J\x1b]0;owned\x07\r\n\r\n",
        r"500 \x1b[2J\x1b]0;owned\x07",
    ),
    "a long status line": (b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\n\r\n", ""),
    "a thousand headers": (OK + b"".join(b"X-%d: 1\r\n" % i for i in range(1000)) + b"\r\n", ""),
    "a web page": (OK + b"\r\n<html>404</html>", "a web page"),
    "an encoded body": (
        OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(CONTENT, mtime=0),
        "wrong SHA-256",
    ),
    "broken chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n12345", ""),
    "an endless chunk size": (OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 100_000, ""),
    "a file": (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n", "file:///etc/passwd"),
    "another scheme": (b"HTTP/1.1 302 Found\r\nLocation: gopher://x/\r\n\r\n", "gopher://x/"),
    "nowhere": (b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n", ""),
    "a redirection without a target": (b"HTTP/1.1 302 Found\r\n\r\n", "302 Found"),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense_is_a_reason_for_the_next_mirror(
    case: str, server: Server, tmp_path: Path
) -> None:
    sent, expected = NONSENSE[case]
    server.raw["bad/f.bin"] = sent
    assert expected in reason(server, tmp_path)


def test_redirections_end(server: Server, tmp_path: Path) -> None:
    """In a circle; and where the body of one never ends, which nobody reads."""
    head = f"HTTP/1.1 302 Found\r\nLocation: {server.url}bad/f.bin\r\n\r\n".encode()
    server.raw["bad/f.bin"] = head
    assert "redirections" in reason(server, tmp_path / "circle")
    server.raw["good/f.bin"] = forever(
        f"HTTP/1.1 302 Found\r\nLocation: {server.url}target\r\n\r\n".encode(), bytes(1 << 16)
    )
    server.files["target"] = CONTENT
    get(tmp_path / "endless", f"{server.url}good/")


@pytest.mark.parametrize("chunked", [False, True])
def test_an_endless_body_ends(chunked: bool, server: Server, tmp_path: Path) -> None:
    piece = bytes(1 << 16)
    head = OK + b"\r\n"
    if chunked:
        head, piece = OK + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + piece + b"\r\n"
    server.raw["bad/f.bin"] = forever(head, piece)
    assert "1,000,000 bytes, the most" in reason(server, tmp_path, max_bytes=1_000_000)


def test_a_length_beyond_the_limit_is_refused_at_once(server: Server, tmp_path: Path) -> None:
    server.raw["bad/f.bin"] = OK + b"Content-Length: 5000000000\r\n\r\n" + CONTENT
    assert reason(server, tmp_path) == "5,000,000,000 bytes, at most 2,147,483,648 are expected"


def test_the_disk_is_not_filled(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 200_000
    monkeypatch.setattr(http, "_free", lambda part: free)
    with pytest.raises(fc.DownloadError, match=r"cannot be kept in .*300,000 bytes are missing"):
        get(tmp_path, f"{server.url}good/")
    server.raw["bad/f.bin"] = forever(OK + b"\r\n", bytes(1 << 16))
    with pytest.raises(fc.DownloadError, match=r"cannot be kept in .*the disk is full"):
        get(tmp_path, f"{server.url}bad/", f"{server.url}good/")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("where", ["body", "headers", "silence"])
def test_a_trickle_ends(
    where: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then keeps every single read alive; the next mirror is asked all the same."""
    monkeypatch.setattr(http, "LEAST_SECONDS", 0.5)
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.5)
    server.raw["bad/f.bin"] = {
        "body": forever(OK + LENGTH + b"\r\n" + CONTENT[:50_000], b"x", 0.02),
        "headers": forever(OK + b"X-Long: ", b"x", 0.02),
        "silence": forever(b"", b"", 0.02),
    }[where]
    began = time.monotonic()
    assert "too slow" in reason(server, tmp_path)
    assert time.monotonic() - began < 5


def test_a_slow_line_is_patiently_waited_for(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the least rate a download may take as long as it needs."""
    monkeypatch.setattr(http, "LEAST_SECONDS", 0.4)
    monkeypatch.setattr(http, "LEAST_BYTES", 20_000)

    def pieces() -> Iterator[bytes]:
        yield OK + LENGTH + b"\r\n"
        for begin in range(0, len(CONTENT), 30_000):
            yield CONTENT[begin : begin + 30_000]
            time.sleep(0.1)

    server.raw["slow/f.bin"] = pieces
    get(tmp_path, f"{server.url}slow/")
    assert (tmp_path / "f.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("claims", ["bytes 7-9/10", "bytes */9", "lines 1-2/3", "bytes 1000-1/9"])
def test_a_wrong_range_is_not_appended(claims: str, server: Server, tmp_path: Path) -> None:
    (tmp_path / "f.bin.part").write_bytes(CONTENT[:1000])
    head = f"HTTP/1.1 206 Partial\r\nContent-Range: {claims}\r\n\r\n".encode()
    server.raw["bad/f.bin"] = head + CONTENT[1000:]
    get(tmp_path, f"{server.url}bad/", f"{server.url}good/")
    assert (tmp_path / "f.bin").read_bytes() == CONTENT and os.listdir(tmp_path) == ["f.bin"]


@pytest.mark.parametrize(
    "url", ["file:///etc/hostname", "ftp://127.0.0.1/f", "http://[", "http://127.0.0.1:no/f", "f"]
)
def test_an_address_that_is_none(url: str, server: Server, tmp_path: Path) -> None:
    fetch({"f.bin": (HASH, [url, f"{server.url}good/f.bin"])}, tmp_path, what="thing", hint="")
    with pytest.raises(fc.DownloadError):
        fetch({"g.bin": (HASH, [url])}, tmp_path, what="thing", hint="")


# ----------------------------------------------------------------------------------------- names

AWAY = [
    *("../f", "a/../../f", "ABSOLUTE", "a/b", "a\\b", "..\\f", "C:f", "C:\\f", "\\\\host\\f"),
    *("", ".", "..", ".bashrc", "a\0b", "a\nb", "\x1b[2J", "a\u202eb", " f", "f ", "f.", "NUL"),
    *("com1.txt", "x" * 300, "\udce9"),
]


@pytest.mark.parametrize("name", AWAY, ids=range(len(AWAY)))
def test_names_that_are_no_files_in_the_folder(
    name: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused by a download, and by the registry before anything is asked for."""
    name = str(tmp_path / "f") if name == "ABSOLUTE" else name
    with pytest.raises(ValueError, match=r"\[thing\] the file name"):
        fetch({name: (HASH, [f"{server.url}good/f.bin"])}, tmp_path / "c", what="thing", hint="")
    registry = tmp_path / "registry.json"
    monkeypatch.setenv("FASTCONV_WEIGHTS", str(registry))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    good = {"architecture": "lenet5", "name": "mine", "files": {"f": HASH}}
    good["mirrors"] = [f"{server.url}good/f.bin?"]
    files = {"files": {name: HASH}}
    entries: list[tuple[str, dict[str, Any]]] = [
        (r"lenet5 'mine': .*file name", {"weights": [{**good, **files}]}),
        (r"classes 'toys': .*file name", {"weights": [], "classes": {"toys": files}}),
    ]
    if name not in ("", ".", "..", " f", "f ", "f.", "NUL", "com1.txt", "C:f", ".bashrc"):
        bad = {**good, "arguments": {"width": name}}
        entries.append((r"lenet5 'mine': .*file name", {"weights": [bad]}))
    for number, (message, content) in enumerate(entries):
        registry.write_text(json.dumps(content))
        os.utime(registry, ns=(number, number))
        with pytest.raises(fc.CorruptFileError, match=message) as caught:
            models.lenet5(weights="mine")
        assert str(registry) in str(caught.value)
        assert printable(caught.value) == str(caught.value)
    assert not server.requests and not (tmp_path / "cache").exists()
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "group1-shard1of1", "a b.bin", "été.txt"])
def test_plain_names_stay(name: str) -> None:
    assert check_file_name(name) == name


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "../lenet5"},
        {"architecture": ["lenet5"]},
        {"architecture": ".lenet5"},
        {"name": "a/b"},
        {"name": 3},
        {"arguments": {"../x": 1}},
        {"arguments": {"width": [1]}},
        {"arguments": [1]},
        {"files": {}},
        {"files": ["f"]},
        {"files": {"f": "abc"}},
        {"files": {"f": 7}},
        {"mirrors": "http://x/"},
        {"mirrors": ["file:///etc/"]},
        {"mirrors": [7]},
        {"rename": [["a"]]},
        {"rename": [["a", 3]]},
        {"classes": "none"},
        {"classes": [1, 2]},
        {"classes": 7},
        {"preprocessing": {"size": -1}},
        {"source": 3},
        {"unknown": 1},
        {"folder": "x"},
    ],
    ids=str,
)
def test_registries_are_checked_when_they_are_read(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"architecture": "lenet5", "name": "mine", "files": {"f": HASH}, **change}
    (tmp_path / "r.json").write_text(json.dumps({"weights": [entry]}))
    monkeypatch.setenv("FASTCONV_WEIGHTS", str(tmp_path / "r.json"))
    with pytest.raises(fc.CorruptFileError, match=r"r\.json is no registry of weights: "):
        models.available()


def test_shards_stay_beside_their_manifest(tmp_path: Path) -> None:
    """Names that lead away are refused, links too; where the manifest is a link, as in caches of
    downloads, the shards lie beside its target."""
    values = np.arange(6, dtype=np.float32)
    (tmp_path / "secret").write_bytes(values.tobytes())
    folder = tmp_path / "model"
    folder.mkdir()

    def write(name: str) -> Path:
        weights = [{"name": "a/bias", "shape": [6], "dtype": "float32"}]
        manifest = {"weightsManifest": [{"paths": [name], "weights": weights}]}
        (folder / "model.json").write_text(json.dumps(manifest))
        return folder / "model.json"

    (folder / "link").symlink_to("../secret")
    for name in ("../secret", str(tmp_path / "secret"), "link", ".", "model.json/../../secret"):
        with pytest.raises(fc.CorruptFileError, match=r"model\.json is no TensorFlow\.js model"):
            read(write(name))
    (folder / "shard").write_bytes(values.tobytes())
    np.testing.assert_array_equal(read(write("shard")).tensors["a/bias"], values)
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for name in ("model.json", "shard"):
        (snapshot / name).symlink_to(f"../model/{name}")
    np.testing.assert_array_equal(read(snapshot / "model.json").tensors["a/bias"], values)


# ----------------------------------------------------------------------------------------- parts


def test_links_are_replaced_and_never_followed(server: Server, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    folder = tmp_path / "cache"
    folder.mkdir()
    for name in ("f.bin", "f.bin.part", ".f.bin.1.aa.part"):
        (folder / name).symlink_to(victim)
    get(folder, f"{server.url}good/")
    assert victim.read_bytes() == b"mine" and not (folder / "f.bin").is_symlink()
    assert os.listdir(folder) == ["f.bin"]


def test_hidden_parts_of_the_dead_are_taken_up(server: Server, tmp_path: Path) -> None:
    """The largest goes on, the others are removed; what other files have is left alone."""
    (tmp_path / ".f.bin.99.aa.part").write_bytes(CONTENT[:200_000])
    (tmp_path / ".f.bin.98.bb.part").write_bytes(CONTENT[:100_000])
    (tmp_path / "f.bin.part").write_bytes(CONTENT[:1000])
    (tmp_path / ".other.bin.98.bb.part").write_bytes(b"another file's")
    get(tmp_path, f"{server.url}good/")
    assert server.requests == [("good/f.bin", "bytes=200000-")]
    assert sorted(os.listdir(tmp_path)) == [".other.bin.98.bb.part", "f.bin"]


def test_parts_that_somebody_writes_are_left_alone(server: Server, tmp_path: Path) -> None:
    with parts.claimed(tmp_path / "f.bin") as held:
        held.append(CONTENT[:150_000])
        get(tmp_path, f"{server.url}good/")
        assert server.requests == [("good/f.bin", None)]
        assert (tmp_path / "f.bin").read_bytes() == CONTENT
        assert held.path.read_bytes() == CONTENT[:150_000]


@pytest.mark.skipif(os.name != "posix", reason="kill")
def test_a_killed_download_goes_on(server: Server, tmp_path: Path) -> None:
    """SIGKILL in the middle, three times: every call begins where the last one was stopped."""
    arrived = threading.Event()
    begins: list[int] = []

    def pieces() -> Iterator[bytes]:
        _, wanted = server.requests[-1]
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        begins.append(begin)
        size = len(CONTENT)
        head = f"Content-Length: {size - begin}\r\n"
        if begin:
            head += f"Content-Range: bytes {begin}-{size - 1}/{size}\r\n"
        yield (b"HTTP/1.1 206 Partial\r\n" if begin else OK) + head.encode() + b"\r\n"
        yield CONTENT[begin : begin + 60_000]
        arrived.set()
        while True:
            yield b""
            time.sleep(0.01)

    server.raw["stuck/f.bin"] = pieces
    code = textwrap.dedent(f"""
        from pathlib import Path
        from fastconv.download import download
        download({{"f.bin": "{HASH}"}}, ["{server.url}stuck/"], Path({str(tmp_path)!r}),
                 what="thing", hint="")
    """)
    for _ in range(3):
        arrived.clear()
        with subprocess.Popen([sys.executable, "-c", code]) as process:
            assert arrived.wait(60)
            deadline = time.monotonic() + 30
            while sum(p.stat().st_size for p in tmp_path.iterdir()) < begins[-1] + 40_000:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
    assert begins[0] == 0 and begins[1] >= 40_000 and begins[2] >= begins[1] + 40_000
    server.requests.clear()
    get(tmp_path, f"{server.url}good/")
    ((_, wanted),) = server.requests
    assert wanted is not None and int(wanted[6:-1]) >= begins[2] + 40_000
    assert (tmp_path / "f.bin").read_bytes() == CONTENT and os.listdir(tmp_path) == ["f.bin"]


def test_several_at_once(server: Server, tmp_path: Path) -> None:
    """Threads that want the same file, with something begun: each ends with the whole of it."""
    for round_ in range(5):
        folder = tmp_path / str(round_)
        folder.mkdir()
        (folder / "f.bin.part").write_bytes(CONTENT[:5000])
        errors: list[BaseException] = []

        def one(folder: Path = folder, errors: list[BaseException] = errors) -> None:
            try:
                get(folder, f"{server.url}good/")
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=one) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert (folder / "f.bin").read_bytes() == CONTENT
        get(folder, f"{server.url}good/")
        assert os.listdir(folder) == ["f.bin"]
