"""Phase diagrams: where training separates the two axes, and where it does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from sim.experiments.cells import THRESHOLD, phase_cell
from sim.experiments.estimates import median_interval, share_of
from sim.records import TARGETS
from sim.sweep import run_sweep
from theory.shared.findings import Estimate, Finding
from theory.shared.style import label, sheet, styled
from theory.shared.validation import Float, count, one_of


@dataclass(frozen=True)
class Parameter:
    """One parameter that a phase diagram can vary.

    Attributes
    ----------
    label : with its unit, for the axis of a figure.
    low, high : default range.
    logarithmic : whether the range is log-spaced.
    whole : whether only whole numbers are meant.
    default : value where another parameter is varied.
    """

    label: str
    low: float
    high: float
    default: float
    logarithmic: bool = False
    whole: bool = False

    def grid(self, points: int) -> list[float]:
        """`points` values over the range; fewer where whole numbers coincide."""
        space = np.geomspace if self.logarithmic else np.linspace
        values = space(self.low, self.high, points)
        grid = np.unique(values.round() if self.whole else values.round(12))
        return [float(value) for value in grid]


PARAMETERS: dict[str, Parameter] = {
    "exponent": Parameter("spectrum exponent", 0.0, 3.0, 2.0),
    "alignment": Parameter("alignment of target with spectrum", -1.0, 2.0, 0.0),
    "width": Parameter("channels", 16, 256, 64, logarithmic=True, whole=True),
    "scale": Parameter("initialization scale", 0.1, 2.0, 1.0, logarithmic=True),
    "noise": Parameter("label noise (standard deviation)", 0.0, 2.0, 0.0),
    "outputs": Parameter("outputs", 1, 12, 1, logarithmic=True, whole=True),
}


@dataclass(frozen=True, eq=False)
class Phase:
    """A phase diagram over two parameters, (Y, X) arrays; means over seeds.

    Attributes
    ----------
    x, y : names of the parameters.
    x_values, y_values : their grids.
    target : of the task axis, "output" or "label".
    start, end : Spearman coupling of I_X and I_T at the first and last step.
    end_half : half width of the 95 % interval of `end`.
    predicted_start, predicted_end : the same from the settings alone, by the exact law.
    predicted_half : half width of the 95 % interval of `predicted_end`, over its own draws.
    static : corr(D, q) of the label over random channels, which knows nothing of training; NaN
        for several outputs.
    time : training time from which the coupling stays nearer its end than its start
        (`theory.settling_time`); NaN where they are less than 0.2 apart.
    predicted_time : the same of the predicted curve.
    loss : share of the initial excess loss that is left.
    """

    x: str
    y: str
    x_values: Float
    y_values: Float
    target: str
    start: Float
    end: Float
    end_half: Float
    predicted_start: Float
    predicted_end: Float
    predicted_half: Float
    static: Float
    time: Float
    predicted_time: Float
    loss: Float

    @property
    def separated(self) -> Float:
        """(Y, X) True where the end coupling is below the threshold in absolute value."""
        return np.asarray(np.abs(self.end) < THRESHOLD)

    def findings(self) -> list[Finding]:
        """Sentences worded from the numbers."""
        cells = int(np.isfinite(self.end).sum())
        coupled = int((self.end >= THRESHOLD).sum())
        inverted = int((self.end <= -THRESHOLD).sum())
        return [
            Finding(
                "Of {cells} settings over {x} and {y}, training ends with the axes separated "
                "(|coupling| < {threshold}) in {separated}, still coupled in {coupled}, and "
                "inverted (channels of high power say less about the target) in {inverted}.",
                {
                    "cells": cells,
                    "x": PARAMETERS[self.x].label,
                    "y": PARAMETERS[self.y].label,
                    "threshold": THRESHOLD,
                    "separated": int(self.separated.sum()),
                    "coupled": coupled,
                    "inverted": inverted,
                },
            ),
            *self._agreement(),
            self._times(),
            Finding(
                "At the end {unfinished} of {cells} settings still have more than 5 % of their "
                "initial excess loss: there the coupling is that of a network still learning.",
                {"unfinished": int((self.loss > 0.05).sum()), "cells": cells},
            ),
        ]

    def _agreement(self) -> list[Finding]:
        """How often the law, the static rule and the majority name the outcome, where coupled."""
        known = np.isfinite(self.end)
        error = (self.predicted_end - self.end)[known]
        middle = median_interval(error)
        found = [
            Finding(
                "The law's end coupling less the simulated one: median {middle:+.3f}, off by "
                "{size:.3f} in the median and {worst:.3f} at worst; sampling alone gives "
                "{noise:.3f} in the median.",
                {
                    "middle": middle,
                    "size": float(np.median(np.abs(error))),
                    "worst": float(np.abs(error).max()),
                    "noise": float(
                        np.median(0.34 * np.hypot(self.end_half, self.predicted_half)[known])
                    ),
                },
            )
        ]
        start = known & (self.start >= THRESHOLD)
        total = int(start.sum())
        if not total:
            return [*found, Finding("No setting starts coupled.")]
        truth = self.separated[start]
        right = {
            "law": truth == (np.abs(self.predicted_end[start]) < THRESHOLD),
            "static": truth == (np.abs(self.static[start]) < THRESHOLD),
            "majority": truth == (truth.mean() > 0.5),
        }
        shares = {name: share_of(int(hit.sum()), total) for name, hit in right.items()}
        text = (
            "Of the {total} settings that start coupled, the law names separated or not as found "
            "in {law:.3f}, the static rule (corr(D, q) of the label) in {static:.3f}, the majority "
            "in {majority:.3f}."
        )
        return [*found, Finding(text, {"total": total, **shares})]

    def _times(self) -> Finding:
        both = np.isfinite(self.time) & np.isfinite(self.predicted_time)
        if not both.any():
            return Finding("No setting has a separation time in both theory and simulation.")
        ratio = median_interval(np.log(self.time[both] / self.predicted_time[both]))
        return Finding(
            "Where both give a separation time, the simulated one is {ratio:.2f} times the "
            "predicted one in the median ({both} settings).",
            {
                "ratio": Estimate(*(float(np.exp(v)) for v in (ratio.mean, ratio.low, ratio.high))),
                "both": int(both.sum()),
            },
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per setting."""
        columns = ["start", "end", "end_half", "predicted_start", "predicted_end"]
        columns += ["predicted_half", "static", "time", "predicted_time", "loss"]
        grid = np.meshgrid(self.x_values, self.y_values)
        data: dict[str, Any] = {self.x: grid[0].ravel(), self.y: grid[1].ravel()}
        return pd.DataFrame(data | {name: getattr(self, name).ravel() for name in columns})

    @styled()
    def figure(self) -> Figure:
        """Simulated and predicted end coupling, separation time, and what was left to learn.

        Hatched where the axes do not end up separated.
        """
        figure, axes = sheet(2, 2, width=8.4, height=2.97)
        with np.errstate(divide="ignore"):
            when = np.log10(np.where(self.time > 0, self.time, np.nan))
            left = np.log10(np.maximum(self.loss, 1e-12))
        coupling = "rank coupling of $I_X$ and $I_T$"
        limits = {"vmin": -1.0, "vmax": 1.0}
        self._map(axes[0, 0], "simulated end coupling", self.end, **limits)
        image = self._map(axes[0, 1], "predicted end coupling", self.predicted_end, **limits)
        figure.colorbar(image, ax=axes[0].tolist(), label=coupling)
        image = self._map(axes[1, 0], "separation time (grey: at once, or never)", when)
        axes[1, 0].set_facecolor("0.85")
        figure.colorbar(image, ax=axes[1, 0], label="log10 of steps × learning rate")
        image = self._map(axes[1, 1], "share of excess loss left", left)
        figure.colorbar(image, ax=axes[1, 1], label="log10 of share")
        for panel, values in (
            (axes[0, 0], self.end),
            (axes[0, 1], self.predicted_end),
            (axes[1, 0], self.end),
        ):
            self._boundary(panel, values)
        return figure

    def _map(self, panel: Axes, title: str, values: Float, **limits: Any) -> QuadMesh:
        x, y = PARAMETERS[self.x], PARAMETERS[self.y]
        image = panel.pcolormesh(self.x_values, self.y_values, values, shading="nearest", **limits)
        label(panel, x.label, y.label, title)
        panel.grid(False)
        if x.logarithmic:
            panel.set_xscale("log")
        if y.logarithmic:
            panel.set_yscale("log")
        return image

    def _boundary(self, panel: Axes, values: Float) -> None:
        """Hatch what does not separate, and draw the line between."""
        if min(values.shape) < 2:
            return
        known = np.nan_to_num(values, nan=1.0)
        grid = self.x_values, self.y_values
        for levels in ((-2.0, -THRESHOLD), (THRESHOLD, 2.0)):
            panel.contourf(*grid, known, levels=levels, colors="none", hatches=["////"])
        lines = [level for level in (-THRESHOLD, THRESHOLD) if known.min() < level < known.max()]
        if lines:
            white: dict[str, Any] = {"colors": "white", "linewidths": 1.5, "linestyles": "solid"}
            panel.contour(*grid, known, levels=lines, **white)


def phase(
    x: str = "exponent",
    y: str = "alignment",
    *,
    points: int = 20,
    seeds: int = 16,
    steps: int = 20_000,
    dimension: int = 32,
    target: str = "output",
    fixed: Mapping[str, float] | None = None,
    out: str | os.PathLike[str] | None = None,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Phase:
    """Train an ensemble at every setting of a grid, with theory's prediction for each.

    Two-layer linear networks, population gradient, readout fixed, random initialization; the
    networks of every setting are its own.

    Parameters
    ----------
    x, y : what to vary; names of `PARAMETERS`.
    points : settings along each.
    seeds : networks per setting.
    steps : of gradient descent, at a quarter of the stable step size.
    dimension : inputs d.
    target : of the task axis, the network's own "output" or the "label".
    fixed : values of other parameters than their defaults.
    out, scheduler, progress : as in `run_sweep`.

    >>> diagram = phase(points=2, seeds=2, steps=50, dimension=6, fixed={"width": 8})
    >>> diagram.end.shape, len(diagram.to_frame())
    ((2, 2), 4)
    """
    one_of("x", x, PARAMETERS)
    one_of("y", y, PARAMETERS)
    if x == y:
        raise ValueError(f"x and y must be two parameters; got {x!r} for both.")
    one_of("target", target, TARGETS)
    values = {name: parameter.default for name, parameter in PARAMETERS.items()}
    for name, value in (fixed or {}).items():
        values[one_of("fixed", name, PARAMETERS)] = float(value)
    number = count("points", points, least=2)
    rows, columns = PARAMETERS[y].grid(number), PARAMETERS[x].grid(number)
    common: dict[str, Any] = {
        "seeds": count("seeds", seeds, least=2),
        "steps": steps,
        "dimension": dimension,
    }
    common |= {"target": target}
    settings = [
        values | common | {x: a, y: b, "first_seed": seeds * cell}
        for cell, (b, a) in enumerate(product(rows, columns))
    ]
    results = run_sweep(phase_cell, settings, out=out, scheduler=scheduler, progress=progress)
    cells: dict[str, Float] = {
        name: np.array([result[name] for result in results]).reshape(len(rows), len(columns))
        for name in results[0]
    }
    return Phase(x, y, np.array(columns), np.array(rows), target, **cells)
