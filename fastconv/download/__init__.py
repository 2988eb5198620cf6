"""Downloads of published files: from mirrors, checked by SHA-256, resumed where they broke off.

* http.py   one file from one address, bounded in size and time
* parts.py  what is not whole yet, and whose it is
* hosts.py  which hosts answer at all

A file is written beside its final name and moved there when it is whole and its hash is right. What
a broken connection or a killed process leaves behind is taken up by the next call. Whatever else a
server sends counts as a reason to ask the next mirror.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DownloadError
from ..untrusted import check_file_name, printable

if TYPE_CHECKING:
    from .parts import Part

__all__ = ["MAX_BYTES", "cache_folder", "download", "fetch", "sha256_of"]

MAX_BYTES = 1 << 31  # of a file, unless the caller knows better
_SHOWN = 4  # files that an error names


def cache_folder(kind: str) -> Path:
    """Where downloads of a kind ("mnist", "weights") are kept: in the user's cache.

    On Linux ~/.cache/fastconv, moved by $XDG_CACHE_HOME; the folder need not exist.
    """
    import pooch

    return Path(pooch.os_cache("fastconv")) / kind


def download(
    files: Mapping[str, str],
    mirrors: Sequence[str],
    folder: Path,
    *,
    what: str,
    hint: str,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Brings files into a folder, each from the first mirror that delivers it; see `fetch`.

    Args:
        files: Names to SHA-256; a file that is there already with that hash is left alone.
        mirrors: Beginnings of addresses, which the names complete.
        folder: Made if need be.
        what: For the error: "mnist".
        hint: For the error: how to use files that were put somewhere else.
        max_bytes: The most that a file may have.

    Example::

        download({"digits.gz": "5f3c..."}, ["https://example.org/"], cache_folder("digits"),
                 what="digits", hint="or name their folder: --data DIR")
    """
    addresses = {
        name: (sha256, [mirror + name for mirror in mirrors]) for name, sha256 in files.items()
    }
    fetch(addresses, folder, what=what, hint=hint, max_bytes=max_bytes)


def fetch(
    files: Mapping[str, tuple[str, Sequence[str]]],
    folder: Path,
    *,
    what: str,
    hint: str,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Brings files into a folder, each from the first of its addresses that delivers it.

    A progress bar is drawn where stderr is a terminal. A mirror that is too slow, or sends more
    than `max_bytes` or than the disk has room for, counts as one that does not deliver.

    Args:
        files: Names to (SHA-256, addresses).
        folder, what, hint, max_bytes: See `download`.

    Raises:
        DownloadError: No address delivered a file, or the folder cannot be written. Lists every
            address with its reason; on one line the hosts, where there is no network at all.
        ValueError: A name that is none of a file in that folder.
    """
    for name in files:
        try:
            check_file_name(name)
        except ValueError as error:
            raise ValueError(f"[{what}] {error}; nothing is downloaded") from None
    wanted = {n: file for n, file in files.items() if not _is_there(folder / n, file[0])}
    if not wanted:
        return
    from .hosts import host_of, unreachable
    from .http import FolderError

    listed = ", ".join(list(wanted)[:_SHOWN])
    more = f" and {len(wanted) - _SHOWN} more" if len(wanted) > _SHOWN else ""
    by_hand = f"Put {listed}{more} into {folder}, {hint}"
    try:
        _check_writable(folder)
    except OSError as error:
        raise _unkept(what, folder, error, hint) from None
    silent = unreachable({url for _, urls in wanted.values() for url in urls})
    failed: dict[str, int] = {}  # hosts that did not deliver are the last choice for what follows
    for name, (sha256, urls) in wanted.items():
        failures: list[str] = []
        for url in sorted(urls, key=lambda url: failed.get(host_of(url), 0)):
            try:
                reason = silent.get(host_of(url)) or _bring(url, sha256, folder / name, max_bytes)
            except FolderError as error:
                raise _unkept(what, folder, error, hint) from None
            if reason is None:
                break
            failures.append(f"{printable(url)}: {reason}")
            failed[host_of(url)] = failed.get(host_of(url), 0) + 1
        else:
            hosts = dict.fromkeys(host_of(url) for url in urls)
            raise _undelivered(f"[{what}] {name}", failures, hosts, silent, by_hand)


def _undelivered(
    what: str, failures: list[str], hosts: Iterable[str], silent: Mapping[str, str], by_hand: str
) -> DownloadError:
    """No address delivered a file; `silent`: why hosts do not answer at all."""
    if all(host in silent for host in hosts):
        reasons = "; ".join(f"{printable(host)}: {silent[host]}" for host in hosts)
        return DownloadError(f"{what} could not be downloaded, no network ({reasons}). {by_hand}")
    lines = "\n  ".join(failures)
    return DownloadError(f"{what} could not be downloaded:\n  {lines}\n{by_hand}")


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


def _unkept(what: str, folder: Path, error: OSError, hint: str) -> DownloadError:
    from .http import reason_of

    return DownloadError(
        f"[{what}] cannot be kept in {folder}: {reason_of(error)}. Choose another cache with "
        f"XDG_CACHE_HOME, {hint}"
    )


def _bring(url: str, sha256: str, path: Path, max_bytes: int) -> str | None:
    """One file from one address; None, or why not. What fails its hash is never left behind."""
    from .http import FolderError, reason_of, transfer
    from .parts import claimed

    while True:
        try:
            part = claimed(path)
        except OSError as error:
            raise FolderError(error.errno, reason_of(error)) from None
        with part:
            resumed = part.size > 0
            reason = transfer(url, part, max_bytes) or _finish(part, sha256, path)
            if reason is None or not resumed or part.size:
                return reason
        # What an earlier call had begun was of no use: once more, from the first byte on.


def _finish(part: Part, sha256: str, path: Path) -> str | None:
    """Moves a part to its final name if its hash is right; empties it and says why otherwise."""
    if sha256_of(part.path) == sha256.lower():
        part.move(path)
        return None
    with open(part.path, "rb") as file:
        page = file.read(512).lstrip().startswith(b"<")
    part.clear()
    return "a web page, not the published file" if page else "wrong SHA-256: not the published file"
