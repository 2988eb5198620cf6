"""The progress display of `fit`: one line per epoch.

On a terminal (or in a notebook) the running epoch is a bar that updates in place and becomes a line
when the epoch ends. Anywhere else (a file, a pipe, TERM=dumb) only whole lines are written, without
control characters: one per epoch, and one every half minute within a long epoch.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

__all__ = ["Progress", "format_duration", "format_logs"]

_REFRESH_SECONDS = 0.1  # between two drawings of the bar
_REPORT_SECONDS = 30.0  # between two lines within an epoch, where there is no bar


class Progress:
    """Writes the progress of one `fit`.

    Args:
        verbose: 0 nothing, 1 a bar where there is a terminal, 2 only whole lines.
        epochs: Of the whole run.
        samples: In one epoch; None while unknown.
        done_epochs: Finished before this run (when it resumes one).
        unit: What a sample is called: "images".
        stream: Where to write; standard output when None.
    """

    def __init__(
        self,
        verbose: int,
        epochs: int,
        samples: int | None,
        done_epochs: int = 0,
        unit: str = "images",
        stream: TextIO | None = None,
    ) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._enabled = bool(verbose) and self._stream is not None
        self._with_bar = self._enabled and verbose == 1 and _can_redraw(self._stream)
        self._epochs, self._samples, self._unit = epochs, samples, unit
        self._bar: Any = None  # a tqdm
        self._epoch = done_epochs
        self._seen = 0  # samples trained on in this run, over all epochs
        self._busy = 0.0  # seconds spent on them
        self._begin = self._epoch_begin = self._last = time.perf_counter()

    def epoch_begin(self, epoch: int, done: int = 0) -> None:
        """`done`: samples of this epoch that an earlier run has trained on."""
        self._epoch, self._before, self._done = epoch, done, 0
        if self._with_bar:
            title = f"Epoch {epoch + 1}/{self._epochs}"
            self._bar = _make_bar(self._samples, title, self._stream, done)
        self._epoch_begin = self._last = time.perf_counter()

    def batch_end(self, samples: int, logs: Mapping[str, float]) -> None:
        """`samples` more are done; `logs` are the means so far in this epoch."""
        self._done += samples
        if not self._enabled:
            return
        now = time.perf_counter()
        if now - self._last < (_REFRESH_SECONDS if self._bar is not None else _REPORT_SECONDS):
            return
        self._last = now
        text = f"{format_logs(logs)} - {self._speed(now)}{self._time_left(now)}"
        seen = self._before + self._done
        part = f" ({100 * seen // self._samples}%)" if self._samples else ""
        if not part:
            text = f"{seen:,} {self._unit} - {text}"
        if self._bar is not None:
            self._bar.text = text
            self._guarded(self._bar.update, seen - self._bar.n)
        else:
            self._line(f"Epoch {self._epoch + 1}/{self._epochs}{part} - {text}")

    def training_end(self) -> None:
        """The epoch's steps are done; validation follows and does not count as speed."""
        now = time.perf_counter()
        self._speed_text = self._speed(now)
        self._seen += self._done
        self._busy += now - self._epoch_begin
        if self._samples is None:
            self._samples = self._before + self._done

    def epoch_end(self, logs: Mapping[str, float], last: bool = False) -> None:
        """Writes the epoch's line. `last`: nothing follows, though epochs would be left."""
        self._close_bar()
        now = time.perf_counter()
        left = 0 if last else self._epochs - self._epoch - 1
        # A finished epoch is the best estimate of another, validation included.
        ahead = left * (now - self._epoch_begin)
        ending = (
            f"{format_duration(ahead)} left"
            if left
            else f"{format_duration(now - self._begin)} in all"
        )
        done = f"Epoch {self._epoch + 1}/{self._epochs} - {format_logs(logs)}"
        self._line(f"{done} - {self._speed_text} - {ending}")

    def close(self) -> None:
        """Leaves the terminal clean, also in the middle of an epoch."""
        self._close_bar()

    def _speed(self, now: float) -> str:
        return f"{self._done / max(now - self._epoch_begin, 1e-9):,.0f} {self._unit}/s"

    def _time_left(self, now: float) -> str:
        if self._samples is None:
            return ""
        seen, busy = self._seen + self._done, self._busy + now - self._epoch_begin
        left = max(0, (self._epochs - self._epoch) * self._samples - self._before - self._done)
        return f" - {format_duration(left * busy / max(seen, 1))} left"

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._guarded(self._bar.close)
            self._bar = None

    def _line(self, text: str) -> None:
        if self._enabled:
            self._guarded(lambda: print(text, file=self._stream, flush=True))

    def _guarded(self, write: Any, *args: Any) -> None:
        """Writes; a closed pipe or stream ends the display, not the training."""
        try:
            write(*args)
        except (OSError, ValueError):
            self._enabled = self._with_bar = False
            self._bar = None


def format_logs(logs: Mapping[str, float]) -> str:
    """As Keras prints them: four decimals, and powers of ten for smaller numbers.

    >>> format_logs({"loss": 0.07314, "accuracy": 0.97721, "lr": 0.0001})
    'loss: 0.0731 - accuracy: 0.9772 - lr: 1.0000e-04'
    """
    return " - ".join(f"{name}: {_format_number(value)}" for name, value in logs.items())


def _format_number(value: float) -> str:
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.4e}"


def format_duration(seconds: float) -> str:
    """
    >>> [format_duration(s) for s in (0.31, 7.4, 42, 65, 3723)]
    ['0.3 s', '7.4 s', '42 s', '1:05', '1:02:03']
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return (
        f"{minutes}:{rest:02d}"
        if minutes < 60
        else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
    )


def _can_redraw(stream: TextIO) -> bool:
    if "ipykernel" in sys.modules:
        return True
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):  # not a real stream, or closed
        return False


def _make_bar(total: int | None, title: str, stream: TextIO, done: int) -> Any:
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        monitor_interval = 0  # no watching thread: batch_end alone redraws
        text = ""

        @property
        def format_dict(self) -> dict[str, Any]:
            return {**super().format_dict, "text": self.text}

    return Bar(
        total=total,
        initial=done,
        desc=title,
        bar_format="{desc} |{bar:20}| {text}",
        file=stream,
        dynamic_ncols=True,
        leave=False,
        mininterval=0,
        miniters=1,
    )
