"""Pieces that the figures of the experiments share."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sim.experiments.estimates import interval
from theory.shared.validation import Float


def new_figure(
    rows: int, columns: int, *, heights: Sequence[float] | None = None, width: float = 3.3
) -> tuple[Figure, Any]:
    """A figure and its axes, as a (rows, columns) array; call it, and draw, inside `style()`.

    Parameters
    ----------
    rows, columns : of axes.
    heights : of the rows, relative to a full one.
    width : of a column, in inches.
    """
    ratios = [1.0] * rows if heights is None else list(heights)
    figure = Figure(figsize=(width * columns, 2.7 * sum(ratios)))
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"height_ratios": ratios})
    return figure, axes


def figure_legend(row: Sequence[Axes], sources: Sequence[Axes]) -> None:
    """Fill a row of axes with the legend of each of `sources`, and nothing else."""
    for axes in row:
        axes.set_axis_off()
    for axes, source in zip(row, sources, strict=False):
        handles, labels = source.get_legend_handles_labels()
        axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(0, 1))


def style() -> Any:
    """Context in which the project's look holds."""
    sheet = resources.files("theory.shared") / "twoaxis.mplstyle"
    return matplotlib.rc_context(
        matplotlib.rc_params_from_file(str(sheet), use_default_template=False)
    )


def tint(index: int) -> str:
    """A color of the project's look; unlike "C0", it stays when the look's context ends."""
    cycle = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
    return str(cycle[index % len(cycle)])


def band(axes: Axes, time: Float, values: Float, color: int, marker: str, label: str) -> None:
    """Mean over members (rows) with its 95 % interval, against training time from step 1."""
    mean, half = interval(values)
    axes.semilogx(
        time[1:],
        mean[1:],
        color=tint(color),
        marker=marker,
        markersize=3,
        linestyle=("-", "--", "-.", ":")[color % 4],
        label=label,
    )
    low, high = (mean - half)[1:], (mean + half)[1:]
    axes.fill_between(time[1:], low, high, color=tint(color), alpha=0.2, linewidth=0)


def finite(values: Float) -> Float:
    """The finite entries."""
    kept: Float = values[np.isfinite(values)]
    return kept
