"""What the figures of the experiments share: a mean over networks with its interval."""

from __future__ import annotations

from matplotlib.axes import Axes

from sim.experiments.estimates import interval
from theory.shared.style import mark
from theory.shared.validation import Float


def band(axes: Axes, time: Float, values: Float, index: int, label: str) -> None:
    """Mean over members (rows) with its 95 % interval, against training time from step 1.

    `index` is the number of the series, which decides how it is marked.
    """
    mean, half = interval(values)
    look = mark(index)
    axes.semilogx(time[1:], mean[1:], markersize=3, label=label, **look)
    low, high = (mean - half)[1:], (mean + half)[1:]
    axes.fill_between(time[1:], low, high, color=look["color"], alpha=0.2, linewidth=0)
