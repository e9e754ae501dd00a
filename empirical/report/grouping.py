"""Do the two axes group channels alike (claim C2): the chapter and its figure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from empirical.analysis.groupings import layer_groupings
from empirical.analysis.seeds import CORRELATION, over_networks
from empirical.measuring.table import AxisTable
from empirical.report.page import Section
from theory.shared.findings import Finding, verdict, weakest
from theory.shared.style import label, sheet, styled

TITLE = "Do the axes group the channels alike?"

POINTS = (
    ("between", "between the axes", "o", "C0"),
    ("local", "local axis, other images", "s", "C1"),
    ("target", "target axis, other images", "^", "C2"),
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
        note = (
            "No layer has halves of its images measured, and enough channels for k-means with up "
            "to six groups (twelve)."
        )
        return Section(title=TITLE, note=note)
    return Section(
        title=TITLE,
        note="K-means on the ranks of input capture and peer overlap (local axis) and of task "
        "information and target excess (target axis), as many groups on both, chosen by "
        "silhouette. Agreement is the adjusted Rand index: 1 for the same groups, 0 by chance. "
        "All agreements are between halves of the images: of an axis with itself, "
        "and of one with the other. Axes with the same groups would agree by at least the lesser "
        "of their own agreements.",
        findings=grouping_findings(groupings),
        figures={
            "grouping_agreement": (
                grouping_agreement(groupings),
                "Agreement of the two groupings of each layer, against chance and against that of "
                "each axis with itself, all between halves of the images (means over seeds).",
            )
        },
        tables={"groupings": groupings},
    )


def grouping_findings(groupings: pd.DataFrame) -> list[Finding]:
    """One sentence: agreement between the axes, against what the same groups would reach (C2)."""
    names = ["between", "shared", "local", "target"]
    means = groupings.groupby("seed")[names].mean()
    gap = over_networks(means["shared"] - means["between"], (-2.0, 2.0))
    half = over_networks(means["shared"] / 2 - means["between"], (-2.0, 2.0))
    of = {name: over_networks(means[name], CORRELATION) for name in names}
    word = verdict(gap, half)
    if not of["shared"].low > 0:  # an axis that does not group its own channels twice alike
        word = weakest(word, "not resolved")
    return [
        Finding(
            "Agreement between the axes is {between:.2f} (mean of {layers} layers of {seeds} "
            "networks); other images give the local axis {local:.2f} with itself and the target "
            "axis {target:.2f}, the lesser of both {shared:.2f} in the mean. Claim C2, that the "
            "axes group channels differently (at most half of that): {word} (lesser less between "
            "{gap:+.2f}).",
            {
                **of,
                "layers": len(groupings),
                "seeds": len(means),
                "gap": gap,
                "half": half,
                "word": word,
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
