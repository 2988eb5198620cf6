"""What this fastconv is and runs on: instruction set, threads, devices, build."""

from __future__ import annotations

from . import _core
from ._core import get_num_threads, isa, set_num_threads

__all__ = ["get_num_threads", "isa", "set_num_threads", "show_config"]


def show_config() -> None:
    """Prints version, instruction set, threads, CUDA devices and how the core was compiled."""
    rows = {
        "fastconv": _core.__version__,
        "instruction set": f"{_core.isa()} (available: {', '.join(_core.available_isas())})",
        "threads": f"{_core.get_num_threads()} (default: {_core.default_num_threads()})",
        "CUDA devices": ", ".join(_core.cuda_devices()) or "none",
    }
    rows.update({f"build: {key}": value for key, value in _core.build_config().items()})
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:{width}}  {value}")
