"""Rows of the table of `fuzz_readers`: weights files and checkpoints."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import fastconv as fc
from tests.fuzz_readers import Reader


def weights() -> Mapping[str, bytes]:
    """A small file of several types, with strings in its header."""
    state = {
        "w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "half": np.ones(3, np.float16),
        "count": np.array(7, np.int64),
        "short": np.arange(3, dtype=np.uint16),
        "empty": np.zeros((0, 3), np.float32),
    }
    with tempfile.TemporaryDirectory() as folder:
        fc.save(state, f"{folder}/x.safetensors", {"format": "pt", "note": '{"a": [1, 2.5]}'})
        return {"x.safetensors": Path(f"{folder}/x.safetensors").read_bytes()}


READERS = {
    "load": Reader(weights, fc.load),
    "load_metadata": Reader(weights, fc.io.load_metadata),
}
