"""How channels combine: three against two about the target, and communities of channels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from empirical.analysis.missing import NoDataError
from empirical.analysis.modularity import LEAST, layer_modularity
from empirical.analysis.seeds import CORRELATION, over_networks
from empirical.analysis.triplets import depth_trend, layer_triplets
from empirical.measuring.table import AxisTable
from empirical.report.page import Section
from theory.shared.findings import Estimate, Finding, verdict
from theory.shared.style import label, mark, sheet, styled

TITLE = "How do channels combine?"


def structure_section(tables: Mapping[int, AxisTable]) -> Section:
    """Excess of triples over that of pairs by depth, and communities of two graphs.

    Parameters
    ----------
    tables : seed -> measurement of the trained network.
    """
    triplets, graphs = (
        pd.concat([of(table, seed=s).assign(seed=s) for s, table in tables.items()])
        for of in (layer_triplets, layer_modularity)
    )
    if triplets.empty or graphs.empty:
        raise NoDataError(f"no layer has {LEAST} live channels and a target.")
    return Section(
        title=TITLE,
        note="Above the best of its pairs a triple of channels says S₃ nats more about the target, "
        "and a pair S₂ more than its better channel (minimum mutual information). A layer counts "
        "where its pairs say more than they would about an independent target over as many "
        "images. The graphs hold the pairs with the largest overlap, and with the largest excess; "
        "their modularity (Louvain) is held against random graphs with the same degrees.",
        findings=[trend_finding(triplets), communities_finding(graphs)],
        figures={
            "structure_by_depth": (
                structure_by_depth(triplets, graphs),
                "Left: S₃ over S₂ (means over seeds; hollow: not above an independent target), and "
                "what an independent target gives. Right: modularity above that of random graphs "
                "with the same degrees.",
            )
        },
        tables={"triplets": triplets, "modularity": graphs},
    )


def trend_finding(triplets: pd.DataFrame) -> Finding:
    """The published rise of S₃/S₂ with depth: a rank correlation a network."""
    trends = triplets.groupby("seed")[list(triplets.columns)].apply(depth_trend)
    trend = over_networks(trends, CORRELATION)
    known = triplets[triplets["resolved"]]
    ratio = ", with a mean ratio of {ratio:.2f}" if len(known) else ""
    return Finding(
        "That triples gain on pairs with depth (S₃/S₂ rises): {word} (Spearman of the ratio with "
        "depth {trend:+.2f} over {networks} networks; {resolved} of {layers} layers count"
        f"{ratio}).",
        {
            "word": verdict(trend),
            "trend": trend,
            "networks": len(trends),
            "resolved": len(known),
            "layers": len(triplets),
            "ratio": float(known["ratio"].mean()),
        },
    )


def communities_finding(graphs: pd.DataFrame) -> Finding:
    """The published order of modularities, at every depth: the mean, and layer by layer."""
    mean = over_networks(graphs.groupby("seed")["more"].mean(), (-2.0, 2.0))
    layers: list[Estimate] = [
        over_networks(values, (-2.0, 2.0)) for _, values in graphs.groupby("layer")["more"]
    ]
    return Finding(
        "That the overlap graph is more modular than the excess graph, both beyond their degrees: "
        "{word} in the mean of layers ({mean:+.2f}); it is so in {above} of {layers} layers by "
        "themselves, the contrary in {below}.",
        {
            "word": verdict(mean),
            "mean": mean,
            "above": sum(found.low > 0 for found in layers),
            "below": sum(found.high < 0 for found in layers),
            "layers": len(layers),
        },
    )


@styled()
def structure_by_depth(triplets: pd.DataFrame, graphs: pd.DataFrame) -> Figure:
    """S₃/S₂ and modularity beyond degrees against depth, means over seeds."""
    figure, axes = sheet(1, 2, width=8.0, height=3.2)
    left, right = axes[0]
    means = triplets.groupby("depth")[["ratio", "null_ratio", "resolved"]].mean()
    left.plot(means.index, means["ratio"], "-", color="C0")
    faces = np.where(means["resolved"] > 0.5, "C0", "white").tolist()
    left.scatter(means.index, means["ratio"], c=faces, edgecolors="C0", label="measured", zorder=3)
    left.plot(means.index, means["null_ratio"], "--", color="0.5", label="independent target")
    left.legend()
    label(left, "depth (share of layers)", "S₃ / S₂ (share)")
    for index, kind in enumerate(("overlap", "excess")):
        beyond = (graphs[kind] - graphs[f"{kind}_null"]).groupby(graphs["depth"]).mean()
        right.plot(beyond.index, beyond, **mark(index, markersize=4, label=f"{kind} graph"))
    right.axhline(0, color="0.4", linewidth=0.8, linestyle="-")
    right.legend()
    label(right, "depth (share of layers)", "modularity beyond degrees")
    return figure
