"""One look for every figure: the project's style sheet, a sheet of axes, and what marks a series.

Importing this module loads matplotlib; modules that must import fast import it where they draw.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

MARKERS = "osD^vPX*"
"""Markers differ as colours do, so that figures read in greyscale."""


@contextmanager
def styled() -> Iterator[None]:
    """Hold the project's look: a context, and by ``@styled()`` a decorator of what draws in it.

    Global settings are as before afterwards.

    >>> with styled():
    ...     matplotlib.rcParams["axes.grid"]
    True
    """
    with style.context("theory.shared.twoaxis"):
        yield


def sheet(
    rows: int,
    columns: int,
    *,
    width: float = 9.0,
    height: float = 3.0,
    heights: Sequence[float] | None = None,
    **options: Any,
) -> tuple[Figure, NDArray[np.object_]]:
    """A figure outside pyplot's registry, and its (rows, columns) array of axes.

    Parameters
    ----------
    rows, columns : of axes.
    width : of the figure, in inches.
    height : of one row, in inches.
    heights : of the rows, relative to a full one.
    options : of `Figure.subplots`.
    """
    ratios = [1.0] * rows if heights is None else list(heights)
    figure = Figure(figsize=(width, height * sum(ratios)), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, height_ratios=ratios, **options)
    return figure, axes


def label(axes: Axes, x: str, y: str, title: str = "") -> None:
    """Name both axes, with their units, and the panel."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if title:
        axes.set_title(title)


def mark(index: int, **changed: Any) -> dict[str, Any]:
    """Color, line and marker of a figure's series, for `plot` or `errorbar`, with changes.

    The color is a value, not a name such as "C0": it stays when the look's context ends.

    >>> with styled():
    ...     mark(1), mark(0, linestyle="none")["linestyle"]
    ({'color': '#d1495b', 'linestyle': '--', 'marker': 's'}, 'none')
    """
    cycle = list(matplotlib.rcParams["axes.prop_cycle"])
    looks = {**cycle[index % len(cycle)], "marker": MARKERS[index % len(MARKERS)]}
    return looks | changed


def figure_legend(row: Iterable[Axes], sources: Iterable[Axes]) -> None:
    """Fill a row of axes with the legend of each of `sources`, and nothing else."""
    for axes in row:
        axes.set_axis_off()
    for axes, source in zip(row, sources, strict=False):
        handles, labels = source.get_legend_handles_labels()
        axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(0, 1))
