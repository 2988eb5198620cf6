"""Logs of a training run, one line per epoch, as CSV or as JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from ..atomic import write_atomically
from .callbacks import Callback

if TYPE_CHECKING:
    from .run import Run

__all__ = ["CSVLogger", "JSONLogger"]

Logs = Mapping[str, float]


class CSVLogger(Callback):
    """Writes one row per epoch, with a header row: epoch, loss, accuracy, ...

    A run that `fit(resume=...)` continues also continues its log: rows of epochs that it repeats
    are dropped first, so the log is that of a run without a stop.

    Args:
        path: The file; an existing one is replaced.
        append: Keep an existing file and append to it.

    Example::

        model.fit(x, y, epochs=10, callbacks=[train.CSVLogger("log.csv")])
        plot.curves("log.csv", "curves.png")
    """

    def __init__(self, path: str | os.PathLike[str], append: bool = False) -> None:
        self.path, self._append = os.path.expanduser(path), append
        self._file: IO[str] | None = None

    def on_train_begin(self, run: Run) -> None:
        super().on_train_begin(run)
        if run.resumed and os.path.exists(self.path):
            self._drop_after(run.epochs_done)
        mode = "a" if self._append or run.resumed else "w"
        self._file = open(self.path, mode, newline="", encoding="utf-8")  # noqa: SIM115

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        assert self._file is not None
        self._write(self._file, epoch + 1, logs)
        self._file.flush()

    def on_train_end(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, file: IO[str], epoch: int, logs: Logs) -> None:
        import csv

        writer = csv.writer(file)
        if file.tell() == 0:
            writer.writerow(["epoch", *logs])
        writer.writerow([epoch, *logs.values()])

    def _drop_after(self, epochs: int) -> None:
        """Drops the lines of later epochs at the end."""
        with open(self.path, newline="", encoding="utf-8") as file:
            lines = file.readlines()
        kept = len(lines)
        while kept and self._epoch_of(lines[kept - 1]) > epochs:
            kept -= 1
        if kept < len(lines):
            write_atomically(self.path, "".join(lines[:kept]).encode())

    def _epoch_of(self, line: str) -> float:
        """The epoch of a line, from 1; 0 for the header, infinity for a line that was cut off."""
        first = line.partition(",")[0]
        if first == "epoch":
            return 0
        return int(first) if first.isdecimal() and line.endswith("\n") else math.inf


class JSONLogger(CSVLogger):
    """Writes one JSON object per line and epoch: {"epoch": 1, "loss": 0.25, "accuracy": 0.92}.

    Otherwise as `CSVLogger`.
    """

    def _write(self, file: IO[str], epoch: int, logs: Logs) -> None:
        # NaN is not JSON
        finite = {k: v if math.isfinite(v) else None for k, v in logs.items()}
        file.write(json.dumps({"epoch": epoch, **finite}) + "\n")

    def _epoch_of(self, line: str) -> float:
        try:
            entry: Any = json.loads(line)
            return int(entry["epoch"])
        except (ValueError, KeyError, TypeError):
            return math.inf
