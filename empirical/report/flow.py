"""Does an axis hand itself on from layer to layer: the chapter and its figure."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from empirical.analysis.flow import mean_flow
from empirical.analysis.missing import NoDataError
from empirical.analysis.seeds import over_networks
from empirical.report.page import Section
from theory.shared.findings import Finding, verdict
from theory.shared.style import label, mark, sheet, styled

TITLE = "Does an axis hand itself on from layer to layer?"

WITHIN = (("local", "local"), ("target", "target"))
ACROSS = (("local", "target"), ("target", "local"))


def flow_section(flows: pd.DataFrame) -> Section:
    """Word and draw the flow between successive layers.

    Parameters
    ----------
    flows : `layer_flow` of the trained networks, with a column seed.
    """
    if flows.empty:
        raise NoDataError("no layer reads the channels of another that both have scores.")
    return Section(
        title=TITLE,
        note="What arrives of a score at a channel is its mean rank over the channels that it "
        "reads, by squared kernels; flow is the rank correlation of what arrives with the "
        "channel's own score (local axis: input capture; target axis: task information). It is "
        "held against the flow where the source's channels exchange their scores.",
        findings=flow_findings(flows),
        figures={
            "flow_by_depth": (
                flow_by_depth(flows),
                "Flow of each link less its mean where channels exchange scores; means over seeds.",
            )
        },
        tables={"flow": flows},
    )


def flow_findings(flows: pd.DataFrame) -> list[Finding]:
    """A sentence per pair of axes, and one on what flows within against what crosses."""
    by_seed = mean_flow(flows).set_index(["seed", "one", "other"])["beyond"].unstack("seed")
    found = []
    for one, other in (*WITHIN, *ACROSS):
        flow = over_networks(by_seed.loc[[(one, other)]].iloc[0], (-2.0, 2.0))
        text = "is handed on" if one == other else f"arrives in the {other} axis"
        found.append(
            Finding(
                f"That the {one} axis {text}: {{word}} ({{flow:+.2f}} beyond exchanged scores, "
                "mean of {links} links of {networks} networks).",
                {
                    "word": verdict(flow),
                    "flow": flow,
                    "links": flows[["source", "reader"]].drop_duplicates().shape[0],
                    "networks": flows["seed"].nunique(),
                },
            )
        )
    within, across = (by_seed.loc[list(pairs)] for pairs in (WITHIN, ACROSS))
    more = over_networks(within.mean() - across.abs().mean(), (-3.0, 3.0))
    text = "That more flows within an axis than across: {word} ({more:+.2f})."
    return [*found, Finding(text, {"word": verdict(more), "more": more})]


@styled()
def flow_by_depth(flows: pd.DataFrame) -> Figure:
    """Flow beyond exchanged scores against depth, within axes and across."""
    figure, axes = sheet(1, 2, width=8.0, height=3.2)
    beyond = flows.assign(beyond=flows["flow"] - flows["null_mean"])
    for panel, pairs, title in zip(
        axes[0], (WITHIN, ACROSS), ("within an axis", "across"), strict=True
    ):
        for index, (one, other) in enumerate(pairs):
            own = beyond[beyond["one"].eq(one) & beyond["other"].eq(other)]
            means = own.groupby("depth")["beyond"].mean()
            look = mark(index, markersize=4, label=f"{one} to {other}")
            panel.plot(means.index, means, **look)
        panel.axhline(0, color="0.4", linewidth=0.8, linestyle="-")
        panel.set_ylim(-1, 1)
        panel.legend()
        label(panel, "depth (share of links)", "flow (rank correlation)", title)
    return figure
