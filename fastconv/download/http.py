"""One file from one address: HTTP, with a limit to all that a server may do.

The body is read in a thread of its own, so that whoever waits for it can stop waiting: neither a
server that sends a byte now and then, nor one that never ends its headers, holds the caller.

=====================  =========================================================================
no answer              CONNECT_SECONDS for the connection, HEAD_SECONDS for the headers
silence                READ_SECONDS
a trickle              fewer than LEAST_BYTES within LEAST_SECONDS
an endless body        more than the caller's `max_bytes`, or than the disk has room for
nonsense               lengths and ranges that are none, other schemes, unknown states
=====================  =========================================================================
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shutil
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from ..progress_bar import progress_bar
from ..untrusted import printable
from .parts import Part

__all__ = ["CONNECT_SECONDS", "FolderError", "reason_of", "transfer"]

CONNECT_SECONDS = 3.0  # how long an unreachable mirror may keep us waiting
READ_SECONDS = 20.0  # the longest silence within a download
HEAD_SECONDS = 30.0  # from the question to the end of the headers of the answer
LEAST_BYTES, LEAST_SECONDS = 1 << 17, 60.0  # 2 kB a second: an old telephone line is quicker
ATTEMPTS = 5  # at one address, as long as each brings something
REDIRECTIONS = 5
CHUNK = 1 << 14
_SPARE = 1 << 26  # bytes of the disk that stay free where nobody knows how much will come
_SHOWN = 200  # characters of a reason


class FolderError(OSError):
    """The folder takes no more: no mirror can help."""


class _RefusedError(Exception):
    """The server answered something that does not bring the file; asking again will not help."""


def transfer(url: str, part: Part, max_bytes: int) -> str | None:
    """Continues a part until it is complete; None, or why it is not.

    Asks again where the connection broke off, as long as each attempt brings something.

    Raises:
        FolderError: what arrives cannot be written.
    """
    for attempt in range(ATTEMPTS):
        before = part.size
        try:
            _continue(url, part, max_bytes)
        except (FolderError, MemoryError):
            raise
        except _RefusedError as error:
            return str(error)
        except Exception as error:  # of sockets, TLS, HTTP, addresses: four libraries have theirs
            if attempt + 1 == ATTEMPTS or part.size == before:
                return reason_of(error)
        else:
            return None
    return None


def reason_of(error: BaseException) -> str:
    """The innermost message of a chain of wrapped network errors, in one line."""
    cause = error
    while inner := cause.__cause__ or cause.__context__:
        cause = inner
    lines = (getattr(cause, "strerror", None) or str(cause)).strip().splitlines()
    text = printable(lines[0]) if lines else type(cause).__name__
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


# ------------------------------------------------------------------------------- what is written


def _continue(url: str, part: Part, max_bytes: int) -> None:
    """Asks for the bytes that are missing; begins anew where the server knows no ranges."""
    begin = part.size
    with _Answer(url, begin) as answer, _bar(url) as bar:
        head = answer.head()
        if head.status == 416 and begin:  # there is nothing from `begin` on
            part.clear()
            raise ConnectionError("the server has no more than what is there, which is not it")
        expected = _expected(head, begin)
        if head.status == 200:
            part.clear()
        _check_room(part, expected, max_bytes)
        bar.total, bar.n = expected, part.size
        while piece := answer.piece():
            if part.size + len(piece) > max_bytes:
                part.clear()
                raise _RefusedError(f"it goes on after {max_bytes:,} bytes, the most it may have")
            _append(part, piece, known=expected is not None)
            bar.update(len(piece))
        if expected is not None and part.size != expected:
            raise ConnectionError(f"the connection ended after {part.size:,} of {expected:,} bytes")
        if part.size == 0:
            raise _RefusedError("the server sent nothing")


def _expected(head: _Head, begin: int) -> int | None:
    """The size of the whole file, as far as the server says it."""
    if head.status not in (200, 206):
        raise _RefusedError(f"{head.status} {head.reason}".strip())
    length = None
    if head.length is not None:
        if not re.fullmatch(r"[0-9]{1,18}", head.length):
            raise _RefusedError(f"Content-Length is {head.length!r}, no number of bytes")
        length = int(head.length)
    if head.status == 200:
        return length
    if not begin:
        raise _RefusedError("206, a part of the file, though all of it was asked for")
    if head.range is not None:
        found = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", head.range)
        first, last = (int(found[1]), int(found[2])) if found else (-1, -1)
        if first != begin or last < first or length not in (None, last - first + 1):
            raise _RefusedError(f"Content-Range is {head.range!r}, not that from {begin:,} on")
        length = last - first + 1
    return None if length is None else begin + length


def _check_room(part: Part, expected: int | None, max_bytes: int) -> None:
    if expected is None:
        return
    if expected > max_bytes:
        part.clear()
        raise _RefusedError(f"{expected:,} bytes, at most {max_bytes:,} are expected")
    missing, free = expected - part.size, _free(part)
    if missing > free:
        raise FolderError(f"{missing:,} bytes are missing, the disk has room for {free:,}")


def _append(part: Part, piece: bytes, known: bool) -> None:
    """Writes what came; a body without a known end must not fill the disk."""
    if not known and part.size % (_SPARE // 4) < len(piece) and _free(part) < _SPARE:
        part.clear()
        raise FolderError("the disk is full")
    try:
        part.append(piece)
    except OSError as error:
        part.clear()
        raise FolderError(error.errno, error.strerror or str(error)) from None


def _free(part: Part) -> int:
    return shutil.disk_usage(part.path.parent).free


def _bar(url: str) -> Any:
    """A bar on a terminal, which draws nothing elsewhere."""
    name = printable(url.rpartition("/")[2])
    return progress_bar(desc=name, unit="B", unit_scale=True, ncols=79)


# ---------------------------------------------------------------------------------- what arrives


@dataclass(frozen=True)
class _Head:
    """What the headers of an answer say, as texts that may be shown."""

    status: int
    reason: str
    length: str | None
    range: str | None


class _Answer:
    """The answer of a server, read in a thread that nobody has to wait for."""

    def __init__(self, url: str, begin: int) -> None:
        self._url, self._begin = url, begin
        self._arrived: queue.Queue[Any] = queue.Queue(maxsize=64)
        self._left = threading.Event()  # the caller has
        self._connection: socket.socket | None = None
        self._deadline, self._counted = 0.0, 0

    def __enter__(self) -> _Answer:
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._left.set()
        if self._connection is not None:
            with contextlib.suppress(OSError), self._connection as connection:
                connection.shutdown(socket.SHUT_RDWR)  # ends a read that is under way

    def head(self) -> _Head:
        """Waits for the headers."""
        head: _Head
        head, self._connection = self._next(
            time.monotonic() + HEAD_SECONDS, f"no answer within {HEAD_SECONDS:g} s"
        )
        self._deadline = time.monotonic() + LEAST_SECONDS
        return head

    def piece(self) -> bytes:
        """Waits for the next bytes; b"": there are no more."""
        slow = f"less than {LEAST_BYTES // 1024} kB within {LEAST_SECONDS:g} s"
        piece: bytes = self._next(self._deadline, slow)
        self._counted += len(piece)
        if self._counted >= LEAST_BYTES:
            self._deadline, self._counted = time.monotonic() + LEAST_SECONDS, 0
        return piece

    def _next(self, deadline: float, missing: str) -> Any:
        began = time.monotonic()
        try:
            arrived = self._arrived.get(timeout=max(0.0, deadline - began))
        except queue.Empty:
            raise _RefusedError(f"too slow: {missing}") from None
        if isinstance(arrived, BaseException):
            raise arrived
        return arrived

    # ------------------------------------------------------------------ in the thread

    def _read(self) -> None:
        try:
            from requests import Session

            with Session() as session, self._opened(session) as response:
                headers = response.headers
                head = _Head(
                    response.status_code,
                    printable(response.reason or "")[:_SHOWN],
                    _shown(headers.get("Content-Length")),
                    _shown(headers.get("Content-Range")),
                )
                self._put((head, _duplicate(response)))
                piece = b"-"
                while piece and not self._left.is_set():
                    piece = response.raw.read(CHUNK, decode_content=False)
                    self._put(piece)
        except BaseException as error:  # for the caller, who is in another thread
            self._put(error)

    def _put(self, arrived: Any) -> None:
        while not self._left.is_set():
            with contextlib.suppress(queue.Full):
                return self._arrived.put(arrived, timeout=0.2)

    def _opened(self, session: Any) -> Any:
        """Follows redirections, whose bodies nobody reads."""
        from requests import Request

        url = self._url
        headers = {"Accept-Encoding": "identity"}
        if self._begin:
            headers["Range"] = f"bytes={self._begin}-"
        for _ in range(REDIRECTIONS):
            if not url.startswith(("https://", "http://")):
                raise _RefusedError(f"{printable(url)[:_SHOWN]} is no address of the web")
            request = session.prepare_request(Request("GET", url, headers=headers))
            settings = session.merge_environment_settings(request.url, {}, True, None, None)
            response = session.get_adapter(request.url).send(
                request, timeout=(CONNECT_SECONDS, READ_SECONDS), **settings
            )
            target = session.get_redirect_target(response)
            if target is None:
                return response
            response.close()
            url = urljoin(url, target)
        raise _RefusedError(f"more than {REDIRECTIONS} redirections")


def _shown(header: str | None) -> str | None:
    return None if header is None else printable(header)[:_SHOWN]


def _duplicate(response: Any) -> socket.socket | None:
    """The connection of an answer, to end it from another thread; None where it has ended."""
    with contextlib.suppress(Exception):
        return socket.socket(fileno=os.dup(response.raw.fileno()))
    return None
