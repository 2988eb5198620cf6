"""fastconv info: what this installation is and what it found."""

from __future__ import annotations

import argparse
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from .. import _core

__all__ = ["info"]


def info(args: argparse.Namespace) -> int:
    active, available = _core.isa(), _core.available_isas()
    devices = _core.cuda_devices() if _core.cuda_available() else []
    rows = {
        "fastconv": _core.__version__,
        "instruction set": f"{active} (this machine can run: {', '.join(available)})",
        "threads": f"{_core.get_num_threads()} (this process may use {_core.default_num_threads()})",
        "CUDA devices": ", ".join(devices) or "none",
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
    }
    rows |= {f"build: {name}": value for name, value in _core.build_config().items()}
    for package in ("numpy", "safetensors", "pooch", "tqdm", "pillow", "matplotlib"):
        rows[package] = _version(package)
    width = max(map(len, rows))
    for name, value in rows.items():
        sys.stdout.write(f"{name:<{width}}  {value}\n")
    return 0


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
