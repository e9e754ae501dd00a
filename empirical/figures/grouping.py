"""Figures of channel groupings: how much the partitions of the two axes agree."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from theory.shared.style import label, sheet, styled

BARS = (
    ("rand_between", "between the axes", "o", "C0"),
    ("stability_local", "local axis, images left out", "s", "C1"),
    ("stability_target", "target axis, images left out", "^", "C2"),
)


@styled
def grouping_agreement(groupings: pd.DataFrame) -> Figure:
    """Adjusted Rand index per layer: between the axes, its null, and each axis with itself.

    Parameters
    ----------
    groupings : rows of `layer_groupings`, with a column seed; means over seeds are drawn.
    """
    means = groupings.groupby("layer", sort=False)[[*(b[0] for b in BARS), "null_high"]].mean()
    place = np.arange(len(means))
    figure, axes = sheet(1, 1, width=max(5.0, 0.45 * len(means) + 2), height=3.6)
    panel = axes[0, 0]
    for column, name, marker, color in BARS:
        panel.plot(place, means[column], marker, color=color, label=name)
    panel.plot(place, means["null_high"], "_", color="0.4", markersize=14, label="97.5 % by chance")
    panel.axhline(0, color="0.4", linewidth=0.8, linestyle="-")
    panel.set_xticks(place, means.index, rotation=60, ha="right")
    panel.set_ylim(-0.2, 1.05)
    panel.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, 1.25))
    label(panel, "layer", "adjusted Rand index")
    return figure
