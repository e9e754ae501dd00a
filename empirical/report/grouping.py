"""Do the two axes group channels alike (claim C2): the chapter and its figure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from empirical.analysis.groupings import layer_groupings
from empirical.analysis.seeds import t_interval
from empirical.measuring.table import AxisTable
from empirical.report.page import Section
from theory.shared.findings import Finding
from theory.shared.style import label, sheet, styled

TITLE = "Do the axes group the channels alike?"

POINTS = (
    ("rand_between", "between the axes", "o", "C0"),
    ("stability_local", "local axis, images left out", "s", "C1"),
    ("stability_target", "target axis, images left out", "^", "C2"),
)
"""Column of the table, its words, marker and color."""


def grouping_section(tables: Mapping[int, AxisTable]) -> Section:
    """Group the channels of trained networks on each axis and compare.

    Parameters
    ----------
    tables : seed -> measurement of the trained network.
    """
    frames = [layer_groupings(table, seed=seed).assign(seed=seed) for seed, table in tables.items()]
    groupings = pd.concat(frames, ignore_index=True)
    if groupings.empty:
        note = "No layer has enough channels for k-means with up to six groups (twelve)."
        return Section(title=TITLE, note=note)
    return Section(
        title=TITLE,
        note="K-means on the ranks of input capture and peer overlap (local axis) and of task "
        "information and target excess (target axis), the number of groups chosen by silhouette. "
        "Agreement is the adjusted Rand index: 1 for the same groups, 0 by chance. Stability is "
        "the agreement of an axis with itself when a tenth of the images is left out.",
        findings=grouping_findings(groupings),
        figures={
            "grouping_agreement": (
                grouping_agreement(groupings),
                "Agreement of the two groupings of each layer, against chance and against the "
                "stability of each (means over seeds).",
            )
        },
        tables={"groupings": groupings},
    )


def grouping_findings(groupings: pd.DataFrame) -> list[Finding]:
    """One sentence: agreement between the axes against the stability of each and chance."""
    means = groupings.groupby("seed")[[column for column, *_ in POINTS]].mean()
    low, high = t_interval(means["rand_between"])
    between = float(means["rand_between"].mean())
    stable = float(means[["stability_local", "stability_target"]].to_numpy().min(axis=1).mean())
    verdict = (
        "the axes group channels differently, though each grouping is stable"
        if between < stable / 2 and stable > 0.5
        else "the groupings are themselves unstable, so their disagreement says little"
        if stable <= 0.5
        else "the axes group channels much alike"
    )
    return [
        Finding(
            "Agreement between the axes is {between:.2f} [{low:.2f}, {high:.2f}] (mean of layers "
            "over {seeds} seeds), beyond chance at the 5 % level in {above} of {layers} layers; "
            "each axis agrees with itself by {stable:.2f} (the less stable of the two): "
            f"{verdict}.",
            {
                "between": between,
                "low": low,
                "high": high,
                "seeds": len(means),
                "above": int((groupings["p_value"] < 0.05).sum()),
                "layers": len(groupings),
                "stable": stable,
                "level": 0.05,
            },
        )
    ]


@styled()
def grouping_agreement(groupings: pd.DataFrame) -> Figure:
    """Adjusted Rand index per layer: between the axes, its null, and each axis with itself."""
    columns = [column for column, *_ in POINTS]
    means = groupings.groupby("layer", sort=False)[[*columns, "null_high"]].mean()
    place = np.arange(len(means))
    figure, axes = sheet(1, 1, width=max(5.0, 0.45 * len(means) + 2), height=3.6)
    panel = axes[0, 0]
    for column, name, marker, color in POINTS:
        panel.plot(place, means[column], marker, color=color, label=name)
    panel.plot(place, means["null_high"], "_", color="0.4", markersize=14, label="97.5 % by chance")
    panel.axhline(0, color="0.4", linewidth=0.8, linestyle="-")
    panel.set_xticks(place, means.index, rotation=60, ha="right")
    panel.set_ylim(-0.2, 1.05)
    panel.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, 1.25))
    label(panel, "layer", "adjusted Rand index")
    return figure
