"""The contestants: one file each, the same small interface, each in a process of its own.

    NAME                                   what tables call it
    start(threads) -> {library: version}   imports it, sets its threads; ImportError when missing
    configurations(task, quick) -> [...]   the ways it can do the task, [] when it cannot
    prepare(task, configuration) -> Work   data resident, compiled; nothing is timed here

A file here imports its library inside start(), and of fastconv only this package: the interpreter
it runs in need not have the rest.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ..cases import Array, Task


@dataclass
class Work:
    """A task made ready. `answer` is called once, before the first `run`.

    answer: float32 arrays to compare: {"y": ...} for a layer (NCHW or OIHW), {"logits": ...} for
    inference, cases.training_answer() for training. run: does the work `units` times, to the end
    (nothing left running).
    """

    run: Callable[[], object]
    answer: Callable[[], dict[str, Array]]
    units: int = 1


class Peer(Protocol):
    NAME: str

    def start(self, threads: int) -> dict[str, str]: ...
    def configurations(self, task: Task, quick: bool) -> list[str]: ...
    def prepare(self, task: Task, configuration: str) -> Work: ...


_FILES = {
    "fastconv": "ours",
    "numpy": "numpy_im2col",
    "torch": "pytorch",
    "jax": "jax_xla",
    "keras": "keras_tensorflow",
}
OURS = "fastconv"
NAMES = tuple(name for name in _FILES if name != OURS)


def load(name: str) -> Any:  # a Peer; modules are not checked against protocols at run time
    return importlib.import_module(f".{_FILES[name]}", __name__)
