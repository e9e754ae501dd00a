"""Figures of the coupling between the axes: over training, over depth, channel by channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from empirical.measuring.table import AxisTable
from theory.shared.style import MARKERS, label, sheet, styled


@styled
def coupling_over_training(couplings: pd.DataFrame, means: pd.DataFrame) -> Figure:
    """Mean coupling of each pair against training step, with its interval over seeds and its null.

    Parameters
    ----------
    couplings : of `training_couplings`.
    means : of `mean_couplings`.
    """
    pairs = list(dict.fromkeys(zip(means["first"], means["second"], means["kind"], strict=True)))
    figure, axes = _panels(len(pairs))
    for panel, (first, second, kind) in zip(axes.flat, pairs, strict=False):
        chosen = means[(means["first"] == first) & (means["second"] == second)].sort_values("step")
        own = couplings[(couplings["first"] == first) & (couplings["second"] == second)]
        for _, lines in own.groupby("layer"):
            by_step = lines.groupby("step")["coupling"].mean()
            panel.plot(by_step.index, by_step, color="0.75", linewidth=0.8, linestyle="-")
        step = chosen["step"]
        panel.fill_between(
            step,
            chosen["null_low"],
            chosen["null_high"],
            color="0.85",
            label="channels paired at random",
        )
        panel.plot(step, chosen["coupling"], "o-", color="C0", markersize=4, label="mean of layers")
        panel.fill_between(step, chosen["low"], chosen["high"], color="C0", alpha=0.2)
        panel.axhline(0, color="0.4", linewidth=0.8, linestyle="-")
        panel.set_xscale("symlog", linthresh=1)
        panel.set_xlim(-0.2, 1.2 * max(step.max(), 1))
        panel.set_ylim(-1, 1)
        title = f"{kind} axes: {first} ~ {second}".replace("_", " ")
        label(panel, "training step", "Spearman rank correlation", title)
    axes[0, 0].legend(loc="lower right")
    return figure


@styled
def axis_scatter(tables: Sequence[tuple[str, AxisTable]], first: str, second: str) -> Figure:
    """Each channel on two quantities; one row per moment of training, one column per layer.

    Of more than four layers, four are drawn, spread over the depth.
    """
    names = tables[0][1].layers
    layers = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, 4).round().astype(int))]
    figure, axes = sheet(len(tables), len(layers), width=max(3.0 * len(layers), 6.0), height=2.8)
    for row, (moment, table) in zip(axes, tables, strict=True):
        for panel, name in zip(row, layers, strict=True):
            values = table[name].as_dict()
            errors = table.standard_errors(name)
            panel.errorbar(
                values[first],
                values[second],
                xerr=errors.get(first),
                yerr=errors.get(second),
                fmt="o",
                markersize=3,
                elinewidth=0.5,
                color="C0",
                ecolor="0.7",
            )
            label(panel, f"{first.replace('_', ' ')} (nats)", "", f"{name}, {moment}")
        row[0].set_ylabel(f"{second.replace('_', ' ')} (nats)")
    return figure


@styled
def patch_spectra(spectra: pd.DataFrame) -> Figure:
    """Eigenvalues of the input patches' covariance against rank, one line per image source."""
    figure, axes = sheet(1, 1, width=5.0, height=3.4)
    panel = axes[0, 0]
    for index, (source, lines) in enumerate(spectra.groupby("source", sort=False)):
        panel.loglog(
            lines["rank"],
            lines["share"],
            marker=MARKERS[index],
            markersize=4,
            label=source,
        )
    panel.legend()
    label(panel, "rank of eigenvalue", "share of patch variance")
    return figure


@styled
def depth_profile(couplings: pd.DataFrame, steps: Sequence[int]) -> Figure:
    """Coupling of each layer against depth, at some training steps, with its null."""
    pairs = list(dict.fromkeys(zip(couplings["first"], couplings["second"], strict=True)))
    figure, axes = _panels(len(pairs))
    for panel, (first, second) in zip(axes.flat, pairs, strict=False):
        own = couplings[(couplings["first"] == first) & (couplings["second"] == second)]
        for index, step in enumerate(steps):
            chosen = own[own["step"] == step].groupby("depth")
            middle, spread = chosen["coupling"].mean(), chosen["coupling"].std().fillna(0)
            marker = MARKERS[index]
            panel.errorbar(
                middle.index, middle, yerr=spread, marker=marker, markersize=4, label=f"step {step}"
            )
        null = own[own["step"] == steps[-1]].groupby("depth")[["null_low", "null_high"]]
        band = null.mean()
        panel.fill_between(band.index, band["null_low"], band["null_high"], color="0.88")
        panel.axhline(0, color="0.4", linewidth=0.8, linestyle="-")
        panel.set_ylim(-1, 1)
        title = f"{first} ~ {second}".replace("_", " ")
        label(panel, "depth (share of layers)", "Spearman rank correlation", title)
    axes[0, 0].legend()
    return figure


def _panels(number: int):
    """Two panels a row, unused ones removed."""
    figure, axes = sheet(-(-number // 2), min(number, 2), width=4.4 * min(number, 2), height=3.1)
    for panel in list(axes.flat)[number:]:
        panel.remove()
    return figure, axes
