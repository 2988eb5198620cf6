"""A server of files on this machine, with the faults of real ones."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Serves `files`, address to content, from http://127.0.0.1; a context manager.

    Attributes:
        url: begins every address, and ends in "/".
        requests: (name, Range header) of what was asked for.
        knows_ranges: whether a download can be resumed.
        cut: after how many bytes every answer breaks off, or None.
        raw: address to what is sent there instead of an answer, bytes or pieces that take time.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.requests = files, list[tuple[str, str | None]]()
        self.knows_ranges, self.cut = True, None
        self.raw: dict[str, bytes | Callable[[], Iterable[bytes]]] = {}
        owner: Server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        serve = self._server.serve_forever
        self._thread = threading.Thread(target=serve, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    cut: int | None

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        name, wanted = request.path.lstrip("/"), request.headers.get("Range")
        self.requests.append((name, wanted))
        if name in self.raw:
            return self._send_raw(request, self.raw[name])
        if name not in self.files:
            return request.send_error(404)
        content, begin = self.files[name], 0
        if wanted and self.knows_ranges:
            begin = int(wanted.removeprefix("bytes=").rstrip("-"))
            if begin >= len(content):
                return request.send_error(416)
        request.send_response(206 if begin else 200)
        request.send_header("Content-Length", str(len(content) - begin))
        if begin:
            last, total = len(content) - 1, len(content)
            request.send_header("Content-Range", f"bytes {begin}-{last}/{total}")
        request.end_headers()
        end = len(content) if self.cut is None else begin + self.cut
        request.wfile.write(content[begin:end])

    def _send_raw(
        self, request: BaseHTTPRequestHandler, sent: bytes | Callable[[], Iterable[bytes]]
    ) -> None:
        with contextlib.suppress(OSError):  # the client has heard enough
            for piece in [sent] if isinstance(sent, bytes) else sent():
                request.wfile.write(piece)
                request.wfile.flush()

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
