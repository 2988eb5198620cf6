"""The other end of worker.py: starts contestants in their own processes, and asks them in turn."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from .cases import Array, Task

# Loads this package by its place, under another name: the interpreter need not have fastconv, and
# one that has another fastconv (compare.py) still runs this measuring code. Of a source tree the
# fastconv in it is taken, also where an editable install of another one answers before the path.
_BOOTSTRAP = """
import importlib.machinery, importlib.util, sys
sys.path[:] = [entry for entry in sys.path if entry]  # not the current folder
place, *tree = sys.argv[1:]
if tree:
    sys.path[:0] = tree
    sys.meta_path[:] = [
        finder for finder in sys.meta_path
        if finder is importlib.machinery.PathFinder or finder.find_spec("fastconv", None) is None]
spec = importlib.util.spec_from_file_location(
    "fastconv_benchmark", place + "/__init__.py", submodule_search_locations=[place])
sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
importlib.import_module("fastconv_benchmark.worker").main()
"""


class RemoteError(RuntimeError):
    """A worker answered with an error, or died. `kind` is the name of the exception there."""

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


class Remote:
    """A contestant's process. `label` names it in tables, `peer` says which file it runs; `tree` is
    the folder whose fastconv it imports, where that is not the interpreter's own."""

    def __init__(
        self,
        peer: str,
        threads: int,
        python: str = sys.executable,
        environment: dict[str, str] | None = None,
        label: str | None = None,
        tree: str | None = None,
    ) -> None:
        self.label = label or peer
        self.peer = peer
        self.patience: float | None = None  # seconds it may take to answer, after which it is ended
        self._given_up = False
        self.python = python
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (until close)
        threads_of_blas = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        settings = dict.fromkeys(threads_of_blas, str(threads))
        if python == sys.executable:  # finds what this process finds
            settings["PYTHONPATH"] = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self._process = subprocess.Popen(
            [python, "-c", _BOOTSTRAP, str(Path(__file__).parent), *([tree] if tree else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **settings, **(environment or {})},
            start_new_session=True,  # a group of its own: its children can be ended with it
        )
        self._send({"do": "start", "peer": peer, "threads": threads})
        self.libraries: dict[str, str] = {}

    def started(self) -> dict[str, str]:
        """Waits until its library is imported; the versions, or RemoteError where there is none."""
        self.libraries = self._receive()["libraries"]
        return self.libraries

    def configurations(self, task: Task, quick: bool) -> list[str]:
        reply = self._ask(do="configurations", task=task.id, quick=quick)
        return list(reply["configurations"])

    def prepare(self, task: Task, configuration: str) -> tuple[int, dict[str, Array]]:
        """A handle for burst(), and the answer."""
        reply = self._ask(do="prepare", task=task.id, configuration=configuration)
        return reply["handle"], {part: self._read(shape) for part, shape in reply["arrays"]}

    def burst(self, handle: int, seconds: float) -> tuple[list[float], bool]:
        """Seconds each timed call took, and whether the worker's threads came to rest after."""
        reply = self._ask(do="burst", handle=handle, seconds=seconds)
        return reply["times"], reply["idle"]

    def release(self) -> None:
        self._ask(do="release")

    def memory(self) -> dict[str, int]:
        """Bytes resident before the first task was prepared, and at most while bursts ran."""
        reply = self._ask(do="memory")
        return {"before": reply["before"], "peak": reply["peak"]}

    def describe(self) -> dict[str, str]:
        return dict(self._ask(do="describe")["description"])

    def peak(self, seconds: float) -> float:
        return float(self._ask(do="peak", seconds=seconds)["peak"])

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):  # it died with a request unread
                pipe.close()
        try:
            self._process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        self._log.close()

    def _kill(self) -> None:
        """Ends it and what it started, such as compilers."""
        if os.name == "posix":
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()

    # ------------------------------------------------------------------------------------ the line
    def _ask(self, **request: Any) -> dict[str, Any]:
        self._send(request)
        return self._receive()

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        timer = self._timer()
        line = self._process.stdout.readline()
        if timer is not None:
            timer.cancel()
        if not line:
            raise self._death()
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise RemoteError(reply["error"], reply["kind"])
        return reply

    def _timer(self) -> threading.Timer | None:
        """Kills the process when patience ends: nothing else stops a compiler."""
        if self.patience is None:
            return None

        def give_up() -> None:
            self._given_up = True
            self._kill()

        timer = threading.Timer(max(0.0, self.patience), give_up)
        timer.daemon = True
        timer.start()
        return timer

    def _read(self, shape: list[int]) -> Array:
        assert self._process.stdout is not None
        size = 4 * math.prod(shape)
        data = self._process.stdout.read(size)  # all of it, or less at the end of the stream
        if len(data) < size:
            raise self._death()
        return np.frombuffer(data, np.float32).reshape(shape)

    def _death(self) -> RemoteError:
        status = self._process.wait()
        if self._given_up:
            return RemoteError(f"no answer within {self.patience:g} s", "TimeLimit")
        self._log.seek(0)
        last = self._log.read().decode(errors="replace").strip().splitlines()[-1:]
        return RemoteError(f"its process ended with status {status}: {' '.join(last)}", "Died")
