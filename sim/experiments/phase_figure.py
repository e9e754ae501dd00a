"""The figure of a phase diagram."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from sim.experiments.plotting import new_figure, style
from theory.shared.validation import Float

if TYPE_CHECKING:
    from sim.experiments.phases import Parameter, Phase


def draw_phase(phase: Phase, x: Parameter, y: Parameter, threshold: float) -> Figure:
    """Four panels; hatched where the axes do not end up separated."""
    with style():
        figure, axes = new_figure(2, 2, heights=(1.1, 1.1), width=4.2)
        panels = (
            ("simulated end coupling", phase.end, phase.end),
            ("predicted end coupling", phase.predicted_end, phase.predicted_end),
        )
        for place, (title, values, shown) in zip(axes[0], panels, strict=True):
            image = _map(place, phase, values, x, y, limits=(-1.0, 1.0))
            _boundary(place, phase, shown, threshold)
            place.set_title(title)
        figure.colorbar(image, ax=axes[0].tolist(), label="rank coupling of $I_X$ and $I_T$")
        with np.errstate(divide="ignore"):
            when = np.log10(np.where(phase.time > 0, phase.time, np.nan))
            left = np.log10(np.maximum(phase.loss, 1e-12))
        image = _map(axes[1, 0], phase, when, x, y)
        axes[1, 0].set_facecolor("0.85")
        axes[1, 0].set_title("separation time (grey: at once, or never)")
        figure.colorbar(image, ax=axes[1, 0], label="log10 of steps × learning rate")
        image = _map(axes[1, 1], phase, left, x, y)
        axes[1, 1].set_title("share of excess loss left")
        figure.colorbar(image, ax=axes[1, 1], label="log10 of share")
        _boundary(axes[1, 0], phase, phase.end, threshold)
    return figure


def _map(
    axes: Axes,
    phase: Phase,
    values: Float,
    x: Parameter,
    y: Parameter,
    limits: tuple[float | None, float | None] = (None, None),
) -> ScalarMappable:
    low, high = limits
    image = axes.pcolormesh(
        phase.x_values, phase.y_values, values, vmin=low, vmax=high, shading="nearest"
    )
    axes.set_xlabel(x.label)
    axes.set_ylabel(y.label)
    axes.grid(False)
    if x.logarithmic:
        axes.set_xscale("log")
    if y.logarithmic:
        axes.set_yscale("log")
    return image


def _boundary(axes: Axes, phase: Phase, values: Float, threshold: float) -> None:
    """Hatch what does not separate, and draw the line between."""
    if min(values.shape) < 2:
        return
    known = np.nan_to_num(values, nan=1.0)
    grid = phase.x_values, phase.y_values
    for levels in ((-2.0, -threshold), (threshold, 2.0)):
        axes.contourf(*grid, known, levels=levels, colors="none", hatches=["////"])
    lines = [level for level in (-threshold, threshold) if known.min() < level < known.max()]
    if lines:
        axes.contour(*grid, known, levels=lines, colors="white", linewidths=1.5, linestyles="solid")
