"""The process that one contestant lives in: answers one request a line, and is still in between.

    {"do": "start", "peer": "torch", "threads": 2}          {"libraries": {"torch": "2.13.0"}}
    {"do": "configurations", "task": ID, "quick": false}    {"configurations": ["nchw", ...]}
    {"do": "prepare", "task": ID, "configuration": "nchw"}  {"handle": 0, "arrays": [[part, shape]]}
                                                            and the arrays, float32, as bytes
    {"do": "burst", "handle": 0, "seconds": 0.05}           {"times": [...], "idle": true}
    {"do": "memory"}                                        {"before": B, "peak": B}, see Worker
    {"do": "release"}                                       {}
    {"do": "describe"}, {"do": "peak", "seconds": 0.1}      of fastconv only

A request that fails is answered with {"error": text, "kind": exception}. The end of the input ends
the process. remote.py starts it, also in interpreters that have no fastconv.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np

from . import memory, peers
from .cases import Array, find
from .timing import burst, wait_until_idle


class Worker:
    def __init__(self) -> None:
        self._peer: Any = None
        self._works: list[peers.Work] = []
        self._before = 0  # bytes resident before the first work was prepared
        self._measured = False

    def handle(self, request: dict[str, Any]) -> tuple[dict[str, Any], list[Array]]:
        """The reply, and arrays to send after it."""
        do = request["do"]
        if do == "start":
            self._peer = peers.load(request["peer"])
            return {"libraries": self._peer.start(request["threads"])}, []
        if do == "configurations":
            offered = self._peer.configurations(find(request["task"]), request["quick"])
            return {"configurations": offered}, []
        if do == "prepare":
            if not self._works:
                self._before = memory.resident()
            work = self._peer.prepare(find(request["task"]), request["configuration"])
            self._works.append(work)
            parts = {name: np.ascontiguousarray(a, np.float32) for name, a in work.answer().items()}
            shapes = [[name, array.shape] for name, array in parts.items()]
            return {"handle": len(self._works) - 1, "arrays": shapes}, list(parts.values())
        if do == "burst":
            work = self._works[request["handle"]]
            if not self._measured:
                self._measured = memory.reset_peak()
            times = [t / work.units for t in burst(work.run, request["seconds"])]
            return {"times": times, "idle": wait_until_idle()}, []
        if do == "memory":  # the peak is that of the bursts: preparing makes copies of its own
            return {"before": self._before, "peak": memory.peak()}, []
        if do == "release":
            self._works.clear()
            self._measured = False
            gc.collect()
            return {}, []
        if do == "describe":
            return {"description": self._peer.describe()}, []
        if do == "peak":
            return {"peak": self._peer.peak(request["seconds"])}, []
        raise ValueError(f"[worker] no such request: {do}")


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    worker = Worker()
    for line in requests:
        arrays: list[Array] = []
        try:
            reply, arrays = worker.handle(json.loads(line))
        except Exception as error:  # whatever a library throws belongs to the one who asked
            reply = {"error": str(error), "kind": type(error).__name__}
        replies.write(json.dumps(reply).encode() + b"\n")
        for array in arrays:
            replies.write(array.tobytes())
        replies.flush()


def main() -> None:
    # What libraries print must not get between the replies: it goes where errors go.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with suppress(KeyboardInterrupt, BrokenPipeError):
        serve(sys.stdin.buffer, replies)
