"""The report's chapter on the groupings that the two axes induce (claim C2)."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from empirical.analysis.couplings import t_interval
from empirical.analysis.groupings import layer_groupings
from empirical.figures.grouping import grouping_agreement
from empirical.measuring.table import AxisTable
from empirical.report.page import Section
from theory.shared.findings import Finding


def grouping_section(tables: Mapping[int, AxisTable]) -> Section:
    """Group the channels of trained networks on each axis and compare.

    Parameters
    ----------
    tables : seed -> measurement of the trained network.
    """
    frames = [layer_groupings(table, seed=seed).assign(seed=seed) for seed, table in tables.items()]
    groupings = pd.concat(frames, ignore_index=True)
    if groupings.empty:
        return Section(
            title="Do the axes group the channels alike?",
            note="No layer has enough channels for k-means with up to six groups (twelve).",
        )
    return Section(
        title="Do the axes group the channels alike?",
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
    by_seed = groupings.groupby("seed")[["rand_between", "stability_local", "stability_target"]]
    means = by_seed.mean()
    low, high = t_interval(means["rand_between"].to_numpy())
    between = float(means["rand_between"].mean())
    stable = float(means[["stability_local", "stability_target"]].to_numpy().min(axis=1).mean())
    above = int((groupings["p_value"] < 0.05).sum())
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
            + verdict
            + ".",
            {
                "between": between,
                "low": low,
                "high": high,
                "seeds": len(means),
                "above": above,
                "layers": len(groupings),
                "stable": stable,
                "level": 0.05,
            },
        )
    ]
