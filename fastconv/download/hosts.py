"""Which of the hosts of some addresses answer at all."""

from __future__ import annotations

import threading
import time
from urllib.parse import urlsplit

from ..untrusted import printable
from .http import CONNECT_SECONDS

__all__ = ["host_of", "unreachable"]


def host_of(url: str) -> str:
    """https://example.org of an address there; the whole of what is no address."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return f"{parts.scheme}://{parts.netloc}"


def unreachable(urls: set[str]) -> dict[str, str]:
    """The hosts that do not answer, with their reasons.

    A name server that never answers can hold a thread for half a minute, whatever the timeout of
    the connection, so each host is tried in a thread of its own that is not waited for. Behind a
    proxy nothing can be said from here.
    """
    import socket
    from urllib.request import getproxies

    outcome: dict[str, str] = {}

    def knock(host: str) -> None:
        try:
            address = urlsplit(host)
            port = address.port or (80 if address.scheme == "http" else 443)
            socket.create_connection((address.hostname, port), CONNECT_SECONDS).close()
            outcome[host] = ""
        except OSError as error:
            outcome[host] = printable(error.strerror or error) or type(error).__name__
        except ValueError as error:  # of the address: a port that is no number, a name too long
            outcome[host] = printable(error)

    proxies = getproxies()
    web = [scheme for scheme in ("http", "https") if scheme not in proxies]
    hosts = {host_of(url) for url in urls}
    hosts = {host for host in hosts if any(host.startswith(f"{scheme}://") for scheme in web)}
    threads = [threading.Thread(target=knock, args=(host,), daemon=True) for host in sorted(hosts)]
    deadline = time.monotonic() + CONNECT_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    silent = f"no answer within {CONNECT_SECONDS:g} s"
    reasons = {host: outcome.get(host, silent) for host in hosts}
    return {host: reason for host, reason in reasons.items() if reason}
