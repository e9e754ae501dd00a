"""Figures of pruning curves."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from theory.shared.style import MARKERS, label, sheet, styled


@styled
def pruning_curves(curves: pd.DataFrame) -> Figure:
    """Accuracy against the share of multiply-accumulates, one line per criterion."""
    figure, axes = sheet(1, 1, width=6.4, height=4.0)
    panel = axes[0, 0]
    for index, (criterion, group) in enumerate(curves.groupby("criterion", sort=False)):
        by_seed = group.groupby(["macs_requested", "seed"])["accuracy"].mean()
        by_share = by_seed.groupby("macs_requested")
        middle, spread = by_share.mean(), by_share.std().fillna(0)
        panel.errorbar(
            middle.index * 100,
            middle * 100,
            yerr=spread * 100,
            marker=MARKERS[index % len(MARKERS)],
            markersize=5,
            capsize=2,
            label=str(criterion).lstrip("-").replace("_", " "),
        )
    panel.invert_xaxis()
    panel.legend(title="criterion")
    label(panel, "multiply-accumulates left (%)", "accuracy (%)")
    return figure
