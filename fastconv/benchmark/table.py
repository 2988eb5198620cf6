"""Aligned Markdown tables that can be read while they grow, and the figures in them."""

from __future__ import annotations

from collections.abc import Sequence


class Table:
    """Columns of fixed width: (title, width) pairs; text to the left, figures to the right.

    >>> table = Table([("case", 8), ("ms", -6)])
    >>> print(table.head()); print(table.row(["lenet.c1", "0.25"]))
    | case     |     ms |
    | -------- | -----: |
    | lenet.c1 |   0.25 |
    """

    def __init__(self, columns: Sequence[tuple[str, int]]) -> None:
        self._titles = [title for title, _ in columns]
        self._left = [width > 0 for _, width in columns]
        self._widths = [max(len(title), abs(width)) for title, width in columns]

    def head(self) -> str:
        rule = [
            "-" * width if left else "-" * (width - 1) + ":"
            for left, width in zip(self._left, self._widths, strict=True)
        ]
        return self.row(self._titles) + "\n" + self.row(rule)

    def row(self, cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if left else cell.rjust(width)
            for cell, left, width in zip(cells, self._left, self._widths, strict=True)
        ]
        return "| " + " | ".join(padded) + " |"


def milliseconds(seconds: float) -> str:
    """Three figures or more.

    >>> milliseconds(0.0000512), milliseconds(0.0123), milliseconds(2.5)
    ('0.051', '12.3', '2500')
    """
    ms = seconds * 1e3
    return (
        f"{ms:.3f}"
        if ms < 1
        else f"{ms:.2f}"
        if ms < 10
        else f"{ms:.1f}"
        if ms < 100
        else f"{ms:.0f}"
    )


def rate(value: float) -> str:
    """GFLOP/s or images a second.

    >>> rate(3.14159), rate(117.42), rate(22222.2)
    ('3.1', '117.4', '22,222')
    """
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def times(value: float) -> str:
    """A ratio.

    >>> times(0.8123), times(12.34)
    ('0.81x', '12.3x')
    """
    return f"{value:.2f}x" if value < 10 else f"{value:.1f}x"
