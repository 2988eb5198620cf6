"""fastconv info: what this installation is and what it found."""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import PackageNotFoundError, version

from ..settings import show_config

__all__ = ["info"]


def info(args: argparse.Namespace) -> int:
    """Prints it; returns the exit status."""
    show_config()
    print(f"\nPython {platform.python_version()} on {platform.platform()}")
    for package in ("numpy", "safetensors", "pooch", "tqdm", "pillow", "matplotlib"):
        print(f"{package:<12}{_version(package)}")
    return 0


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
