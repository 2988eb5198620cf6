"""Downloads of published files: from mirrors, checked by SHA-256, resumed where they broke off.

A file is written beside its final name and moved there when it is whole and its hash is right. What
a broken connection leaves behind waits as NAME.part for the next attempt.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from .bars import progress_bar
from .errors import DownloadError

__all__ = ["cache_folder", "download", "fetch", "sha256_of"]

CONNECT_SECONDS = 3.0  # how long an unreachable mirror may keep us waiting
READ_SECONDS = 20.0  # the longest silence within a download
ATTEMPTS = 5  # at one address, as long as each brings something
CHUNK = 1 << 16
SHOWN = 4  # files that an error names


class _WrongHashError(ValueError):
    """Whole, but not the published file."""


def cache_folder(kind: str) -> Path:
    """Where downloads of a kind ("mnist", "weights") are kept: in the user's cache.

    On Linux ~/.cache/fastconv, moved by $XDG_CACHE_HOME; the folder need not exist.
    """
    import pooch

    return Path(pooch.os_cache("fastconv")) / kind


def download(
    files: Mapping[str, str], mirrors: Sequence[str], folder: Path, *, what: str, hint: str
) -> None:
    """Brings files into a folder, each from the first mirror that delivers it; see `fetch`.

    Args:
        files: Names to SHA-256; a file that is there already with that hash is left alone.
        mirrors: Beginnings of addresses, which the names complete.
        folder: Made if need be.
        what: For the error: "mnist".
        hint: For the error: how to use files that were put somewhere else.

    Example::

        download({"digits.gz": "5f3c..."}, ["https://example.org/"], cache_folder("digits"),
                 what="digits", hint="or name their folder: --data DIR")
    """
    addresses = {
        name: (sha256, [mirror + name for mirror in mirrors]) for name, sha256 in files.items()
    }
    fetch(addresses, folder, what=what, hint=hint)


def fetch(
    files: Mapping[str, tuple[str, Sequence[str]]], folder: Path, *, what: str, hint: str
) -> None:
    """Brings files into a folder, each from the first of its addresses that delivers it.

    A progress bar is drawn where stderr is a terminal.

    Args:
        files: Names to (SHA-256, addresses).
        folder, what, hint: See `download`.

    Raises:
        DownloadError: No address delivered a file, or the folder cannot be written. Lists every
            address with its reason; on one line the hosts, where there is no network at all.
    """
    wanted = {n: file for n, file in files.items() if not _is_there(folder / n, file[0])}
    if not wanted:
        return
    listed = ", ".join(list(wanted)[:SHOWN])
    more = f" and {len(wanted) - SHOWN} more" if len(wanted) > SHOWN else ""
    by_hand = f"Put {listed}{more} into {folder}, {hint}"
    try:
        _check_writable(folder)
    except OSError as error:
        raise DownloadError(
            f"[{what}] cannot be kept in {folder}: {_reason(error)}. Choose another cache with "
            f"XDG_CACHE_HOME, {hint}"
        ) from None
    unreachable = _unreachable({url for _, urls in wanted.values() for url in urls})
    failed: dict[str, int] = {}  # hosts that did not deliver are the last choice for what follows
    for name, (sha256, urls) in wanted.items():
        failures: list[str] = []
        for url in sorted(urls, key=lambda url: failed.get(_host(url), 0)):
            reason = unreachable.get(_host(url)) or _bring(url, sha256, folder / name)
            if reason is None:
                break
            failures.append(f"{url}: {reason}")
            failed[_host(url)] = failed.get(_host(url), 0) + 1
        else:
            hosts = dict.fromkeys(_host(url) for url in urls)
            if hosts.keys() <= unreachable.keys():
                silent = "; ".join(f"{host}: {unreachable[host]}" for host in hosts)
                raise DownloadError(
                    f"[{what}] {name} could not be downloaded, no network ({silent}). {by_hand}"
                )
            lines = "\n  ".join(failures)
            raise DownloadError(f"[{what}] {name} could not be downloaded:\n  {lines}\n{by_hand}")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    import hashlib

    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _is_there(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256.lower()


def _check_writable(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".{os.getpid()}.{os.urandom(4).hex()}.probe"
    probe.touch()
    probe.unlink()


# ---------------------------------------------------------------------------------- one file


def _bring(url: str, sha256: str, path: Path) -> str | None:
    """One file from one address; None, or why not. What fails its hash is never left behind."""
    while True:
        part = path.with_name(f"{path.name}.part")
        mine = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.part")
        with contextlib.suppress(FileNotFoundError):
            os.replace(part, mine)  # of two processes one continues it, the other begins anew
        resumed = mine.exists()
        try:
            _download(url, mine)
            if sha256_of(mine) == sha256.lower():
                os.replace(mine, path)
                return None
            raise _WrongHashError("wrong SHA-256: not the published file")
        except _WrongHashError as error:
            mine.unlink()
            if not resumed:
                return str(error)
        except OSError as error:  # requests' exceptions are OSErrors
            return _reason(error)
        finally:
            if mine.exists():
                os.replace(mine, part) if mine.stat().st_size else mine.unlink()


def _download(url: str, part: Path) -> None:
    """Continues a download until it is complete, or until an attempt changes nothing."""
    for attempt in range(ATTEMPTS):
        before = part.stat().st_size if part.exists() else 0
        try:
            return _continue(url, part, before)
        except OSError:
            if attempt + 1 == ATTEMPTS or part.stat().st_size == before:
                raise


def _continue(url: str, part: Path, begin: int) -> None:
    """Asks for the bytes from `begin` on; begins anew where the server knows no ranges."""
    import pooch

    expected = 0
    with open(part, "ab") as file, _progress_bar(url) as bar:

        def heard(response: Any, **_: Any) -> None:
            nonlocal expected
            if response.status_code in (200, 416):  # 416: there is nothing from `begin` on
                file.seek(0)
                file.truncate()
            expected = file.tell() + int(response.headers.get("Content-Length", 0))
            bar.total, bar.n = expected, file.tell()

        whole_bytes = {"Accept-Encoding": "identity"}
        pooch.HTTPDownloader(
            chunk_size=CHUNK,
            headers=whole_bytes | ({"Range": f"bytes={begin}-"} if begin else {}),
            hooks={"response": heard},
            timeout=(CONNECT_SECONDS, READ_SECONDS),
        )(url, _Counted(file, bar), None)
    size = part.stat().st_size
    if size < expected:
        raise ConnectionError(f"the connection ended after {size:,} of {expected:,} bytes")


class _Counted:
    """A file that moves a progress bar by what is written."""

    def __init__(self, file: BinaryIO, bar: Any) -> None:
        self._file, self._bar = file, bar

    def write(self, content: bytes) -> None:
        self._bar.update(self._file.write(content))

    def flush(self) -> None:
        self._file.flush()


def _progress_bar(url: str) -> Any:
    """A bar on a terminal, which draws nothing elsewhere."""
    name = url.rpartition("/")[2]
    return progress_bar(desc=name, unit="B", unit_scale=True, ncols=79)


def _reason(error: Exception) -> str:
    """The innermost message of a chain of wrapped network errors, in one line."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"{response.status_code} {response.reason}"
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
    lines = (getattr(cause, "strerror", None) or str(cause)).strip().splitlines()
    return lines[0] if lines else type(cause).__name__


# ------------------------------------------------------------------------------------- hosts


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _unreachable(urls: set[str]) -> dict[str, str]:
    """The hosts that do not answer, with their reasons.

    A name server that never answers can hold a thread for half a minute, whatever the timeout of
    the connection, so each host is tried in a thread of its own that is not waited for. Behind a
    proxy nothing can be said from here.
    """
    import socket
    from urllib.parse import urlsplit
    from urllib.request import getproxies

    outcome: dict[str, str] = {}

    def knock(host: str) -> None:
        address = urlsplit(host)
        port = address.port or (80 if address.scheme == "http" else 443)
        try:
            socket.create_connection((address.hostname, port), CONNECT_SECONDS).close()
            outcome[host] = ""
        except OSError as error:
            outcome[host] = error.strerror or str(error) or type(error).__name__

    proxies = getproxies()
    hosts = sorted({_host(url) for url in urls if urlsplit(url).scheme not in proxies})
    threads = [threading.Thread(target=knock, args=(host,), daemon=True) for host in hosts]
    deadline = time.monotonic() + CONNECT_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    silent = f"no answer within {CONNECT_SECONDS:g} s"
    reasons = {host: outcome.get(host, silent) for host in hosts}
    return {host: reason for host, reason in reasons.items() if reason}
