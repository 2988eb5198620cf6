"""Pictures of a training run, drawn with matplotlib (`pip install fastconv[plot]`) into files.

Every function takes a path that ends in .png, .svg or .pdf; the file is complete, or not there. No
window is opened and no setting of matplotlib is changed, so that it works on any machine and beside
any other use of matplotlib.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .atomic import write_atomically
from .autograd import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .train import History, Report

__all__ = ["confusion", "curves", "images", "reconstructions"]

PathLike = str | os.PathLike[str]
Series = dict[str, list[float]]  # "epoch", and values by their names in the logs

_FORMATS = (".png", ".svg", ".pdf")
_PANEL = (4.8, 3.6)  # inches, one diagram
_TILE = 0.9  # inches, one small image
_COUNTED = 25  # classes up to which the cells of a confusion matrix have numbers


def curves(
    history: History | PathLike | Mapping[str, History | PathLike],
    path: PathLike,
    metrics: Sequence[str] | None = None,
) -> None:
    """Loss and metrics over the epochs, a diagram each; validation is dashed.

    Args:
        history: What `fit` returned, or the file of a `CSVLogger` or `JSONLogger`; or several of
            them by name, to compare runs.
        path: The picture.
        metrics: Which to draw, without "val_"; all when None.

    Raises:
        ValueError: There is nothing to draw, or an unknown metric.

    Example::

        transfer, scratch = a.fit(...), b.fit(...)
        plot.curves({"transfer": transfer, "from scratch": scratch}, "curves.png")
    """
    several = isinstance(history, Mapping)
    if isinstance(history, Mapping) and any(isinstance(run, list) for run in history.values()):
        raise TypeError(
            "[plot] history holds lists of numbers: give what fit returned, curves(history, path), "
            "not history.history"
        )
    named = history if isinstance(history, Mapping) else {"": history}
    runs = {name: _series(run) for name, run in named.items()}
    known = list(dict.fromkeys(n.removeprefix("val_") for run in runs.values() for n in run))
    known.remove("epoch")
    names = known if metrics is None else list(metrics)
    for name in names:
        if name not in known:
            raise ValueError(f"[plot] no metric {name!r}; there are {', '.join(known)}")
    if not names:
        raise ValueError("[plot] the history is empty: no epoch was finished")
    figure, axes = _panels(path, len(names))
    from matplotlib.ticker import MaxNLocator

    for metric, panel in zip(names, axes, strict=True):
        for number, (run_name, run) in enumerate(runs.items()):
            for prefix, style in (("", "-"), ("val_", "--")):
                values = run.get(prefix + metric)
                if values is None:
                    continue
                # A single epoch is a point, which a line alone would not show.
                marker = "o" if len(values) == 1 else None
                label = f"{run_name} {'validation' if prefix else 'training'}".strip()
                colour = f"C{number}" if several or not prefix else "C1"
                panel.plot(run["epoch"], values, style, color=colour, label=label, marker=marker)
        panel.set(xlabel="epoch", ylabel=metric)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
    _write(figure, path)


def confusion(
    matrix: Report | NDArray[Any], path: PathLike, classes: Sequence[str] | None = None
) -> None:
    """A confusion matrix: rows are the true classes, shades the shares of each row.

    Args:
        matrix: A `train.Report`, or counts (C, C).
        path: The picture.
        classes: Names; those of the report, or numbers, when None.

    Raises:
        ValueError: Not a square of counts, or another number of names.

    Example::

        plot.confusion(model.report(x_test, y_test), "confusion.png")
    """
    counts = np.asarray(getattr(matrix, "confusion", matrix))
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise ValueError(f"[plot] a confusion matrix is (C, C), got {counts.shape}")
    count = len(counts)
    given = getattr(matrix, "classes", range(count)) if classes is None else classes
    names = [str(name) for name in given]
    if len(names) != count:
        raise ValueError(f"[plot] {len(names)} names for {count} classes")
    side = max(4.0, min(20.0, 1.5 + 0.42 * count))
    figure, (panel,) = _panels(path, 1, (side, side))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if count <= _COUNTED:
        for (i, j), n in np.ndenumerate(counts):
            if n:
                dark = shares[i, j] > 0.5
                panel.text(
                    j, i, f"{n}", ha="center", va="center", color="w" if dark else "k", fontsize=8
                )
    panel.set_xticks(range(count), names, rotation=90 if max(map(len, names)) > 2 else 0)
    panel.set_yticks(range(count), names)
    panel.set(xlabel="taken for", ylabel="is")
    _write(figure, path)


def images(
    x: Any,
    path: PathLike,
    titles: Sequence[Any] | None = None,
    columns: int | None = None,
) -> None:
    """A grid of images.

    Args:
        x: (N, H, W), (N, 1, H, W) grey or (N, 3, H, W) colour; bytes, or floats: from 0 to 1 as
            they are, others stretched from the smallest to the largest of all. Also a Tensor.
        path: The picture.
        titles: N short texts.
        columns: How many stand side by side; about a square when None.

    Raises:
        ValueError: Another shape, or another number of titles.

    Example::

        wrong = np.flatnonzero(model.predict(x).argmax(axis=1) != y)[:25]
        plot.images(x[wrong], "wrong.png", titles=y[wrong])
    """
    tiles = _tiles(x)
    if titles is not None and len(titles) != len(tiles):
        raise ValueError(f"[plot] {len(titles)} titles for {len(tiles)} images")
    columns = columns or math.ceil(math.sqrt(len(tiles)))
    if columns < 1:
        raise ValueError(f"[plot] columns must be 1 or more, got {columns}")
    rows = -(-len(tiles) // columns)
    texts = [""] * len(tiles) if titles is None else [str(title) for title in titles]
    grid: list[list[tuple[Any, str]]] = [
        list(zip(tiles[r * columns :][:columns], texts[r * columns :][:columns], strict=True))
        for r in range(rows)
    ]
    _grid(grid, [""] * rows, path)


def reconstructions(
    x: Any, decoded: Any | Mapping[str, Any], path: PathLike, count: int = 10
) -> None:
    """Images above what an autoencoder makes of them.

    Args:
        x: The images, as for `images`.
        decoded: What `model.predict(x)` gave, of the same shape or flat (N, H*W); or several of
            these by name, to compare networks.
        path: The picture.
        count: How many to draw, the first ones.

    Raises:
        ValueError: Shapes that do not go together.

    Example::

        plot.reconstructions(x, {"dense": a.predict(x), "convolutional": b.predict(x)}, "both.png")
    """
    originals = _tiles(np.asarray(x)[:count])
    named = decoded if isinstance(decoded, Mapping) else {"decoded": decoded}
    grid = [[(tile, "") for tile in originals]]
    for name, images in named.items():
        made = np.asarray(images)[:count]
        if len(made) != len(originals) or made[0].size != originals[0].size:
            raise ValueError(
                f"[plot] {name}: {np.shape(images)} does not go with images {np.shape(x)}"
            )
        shape = np.asarray(x)[:count].shape
        # Values of a decoder without a final sigmoid may leave 0 .. 1 a little.
        made = made.reshape(shape) if made.dtype == np.uint8 else made.reshape(shape).clip(0, 1)
        grid.append([(tile, "") for tile in _tiles(made)])
    _grid(grid, ["original", *named], path)


def _series(run: History | PathLike) -> Series:
    if not isinstance(run, (str, os.PathLike)):
        return {"epoch": [epoch + 1 for epoch in run.epoch], **run.history}
    with open(run, newline="", encoding="utf-8") as file:
        text = file.read()
    rows: list[dict[str, Any]]
    try:
        if text.startswith("{"):
            rows = [json.loads(line) for line in text.splitlines()]
        else:
            rows = list(csv.DictReader(io.StringIO(text)))
        names = list(rows[0]) if rows else ["epoch"]
        series = {
            name: [math.nan if row[name] is None else float(row[name]) for row in rows]
            for name in names
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"[plot] {os.fspath(run)} is no log of a training run: {error}") from None
    if "epoch" not in series:
        raise ValueError(f"[plot] {os.fspath(run)} is no log of a training run: no epochs in it")
    return series


def _tiles(x: Any) -> list[NDArray[Any]]:
    """Each image as (H, W) or (H, W, 3), bytes or floats from 0 to 1."""
    x = x.numpy() if isinstance(x, Tensor) else np.asarray(x)
    channels = x.shape[1] if x.ndim == 4 else 1
    if x.ndim not in (3, 4) or channels not in (1, 3) or not x.size:
        raise ValueError(
            f"[plot] images are (N, H, W), (N, 1, H, W) or (N, 3, H, W), got {x.shape}"
        )
    if x.dtype != np.uint8:
        x = x.astype(np.float32)
        low, high = float(np.nanmin(x)), float(np.nanmax(x))
        if low < 0 or high > 1:
            x = (x - low) / max(high - low, 1e-12)
    if x.ndim == 4:
        x = x.transpose(0, 2, 3, 1) if channels == 3 else x[:, 0]
    return list(x)


def _grid(rows: list[list[tuple[Any, str]]], labels: Sequence[str], path: PathLike) -> None:
    columns = max(map(len, rows))
    titled = any(title for row in rows for _, title in row)
    height, width = rows[0][0][0].shape[:2]
    tall = _TILE * height / width
    size = (_TILE * columns + any(labels), (tall + 0.25 * titled) * len(rows))
    figure, axes = _panels(path, (len(rows), columns), size)
    for panel in axes:
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
    for r, (row, label) in enumerate(zip(rows, labels, strict=True)):
        axes[r * columns].set_ylabel(label)
        for panel, (image, title) in zip(axes[r * columns :], row, strict=False):
            limit = 255 if image.dtype == np.uint8 else 1
            panel.imshow(image, cmap="gray", vmin=0, vmax=limit)
            panel.set_title(title, fontsize=7, pad=2)
    _write(figure, path)


def _panels(
    path: PathLike, shape: int | tuple[int, int], size: tuple[float, float] | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure with diagrams, row by row; `size` in inches."""
    if Path(path).suffix.lower() not in _FORMATS:
        raise ValueError(f"[plot] {os.fspath(path)} must end in {', '.join(_FORMATS)}")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("[plot] needs matplotlib: pip install 'fastconv[plot]'") from None
    rows, columns = (1, shape) if isinstance(shape, int) else shape
    figure = Figure(size or (_PANEL[0] * columns, _PANEL[1] * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _write(figure: Figure, path: PathLike) -> None:
    """The same bytes for the same figure: no date, no random names."""
    import matplotlib

    kind = Path(path).suffix.lower()
    metadata = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    content = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "fastconv"}):
        figure.savefig(content, format=kind[1:], dpi=150, metadata=metadata[kind])
    write_atomically(path, content.getvalue())
