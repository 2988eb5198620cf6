"""How much memory this process holds, and held at most; zeros where the system does not tell."""

from __future__ import annotations

import sys
from pathlib import Path


def resident() -> int:
    """Bytes now."""
    return _status("VmRSS")


def reset_peak() -> bool:
    """Lets `peak` begin anew from here; False where that cannot be done (it then counts all)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak() -> int:
    """Bytes at most since `reset_peak`, or since the process began."""
    return _status("VmHWM") or _maximum()


def _status(field: str) -> int:
    """A line of /proc/self/status, in bytes.

    >>> _status("no such field")
    0
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    values = (line.split()[1] for line in lines if line.startswith(field + ":"))
    return 1024 * int(next(values, 0))


def _maximum() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
