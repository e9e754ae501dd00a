"""Pairs of channels lesioned together (claim C4): their sentences and their figure."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.figure import Figure

from empirical.analysis.pairs import PairAnalysis
from empirical.report.wording import estimate_of
from theory.shared.findings import Finding, verdict
from theory.shared.style import label, mark, sheet, styled

NAMES = {"excess": "excess S_ij", "overlap": "peer overlap |R_ij|"}


def pair_findings(pairs: PairAnalysis) -> list[Finding]:
    """Sentences on the interaction of pairs with high S_ij and of matched controls."""
    findings = [_contrast(pairs.contrast.iloc[0])]
    for _, row in pairs.relation.iterrows():
        findings.append(
            Finding(
                f"Beyond summed single damage, more {NAMES[row['relation']]} goes with more "
                "interaction: {word} ({slope:+.2f} standard deviations each, of ranks' normal "
                "scores; p = {p:.2g}).",
                {
                    "word": verdict(estimate_of(row, "slope")),
                    "slope": estimate_of(row, "slope"),
                    "p": row["p"],
                },
            )
        )
    return findings


def _contrast(row: pd.Series) -> Finding:
    difference, single = (
        estimate_of(row, f"{name}_difference", f"{name}_low", f"{name}_upper")
        for name in ("interaction", "single_sum")
    )
    matched = (
        "the matching of single damage is imperfect, so read this with care"
        if row["single_sum_p"] < 0.05
        else "no mismatch is shown"
    )
    tested = "not tested" if math.isnan(row["interaction_p"]) else "p = {p:.2g}"
    return Finding(
        "Of {pairs} pairs with high excess, the joint damage differs from the sum of both "
        "single damages by {high:+.3g} nats, in controls by {control:+.3g}; difference "
        f"{{difference:+.3g}}, {tested}. "
        "That pairs which say more together are super-additive "
        "beyond their controls: {word}. Summed single damage differs by {single:+.3g}: "
        f"{matched}.",
        {
            "pairs": int(row["pairs"]),
            **{name: row[f"interaction_{name}"] for name in ("high", "control", "p")},
            "difference": difference,
            "word": verdict(difference),
            "single": single,
        },
    )


@styled()
def pair_interactions(pairs: pd.DataFrame) -> Figure:
    """Interaction of lesioned pairs against S_ij, and the matching of single damage."""
    figure, axes = sheet(1, 2, width=9.0, height=3.4)
    left, right = axes[0]
    for index, (group, text) in enumerate((("control", "control"), ("high", "high excess"))):
        rows = pairs[pairs["group"] == group]
        look = mark(index, linestyle="", markersize=4, label=text)
        left.errorbar(
            rows["excess"], rows["interaction"], rows["interaction_se"], elinewidth=0.6, **look
        )
        right.plot(rows["single_sum"], rows["pair_damage"], **look)
    left.axhline(0, color="0.5", linewidth=0.8, linestyle=":")
    left.set_xscale("log")
    left.set_yscale("symlog", linthresh=1e-3)
    label(left, "excess S_ij (nats)", "interaction (nats)", "D(i, j) − D(i) − D(j)")
    damages = pairs[["single_sum", "pair_damage"]].to_numpy()
    limits = [damages.min(), damages.max()]
    right.plot(limits, limits, color="0.4", linewidth=1, linestyle="--")
    right.set_xscale("symlog", linthresh=1e-3)
    right.set_yscale("symlog", linthresh=1e-3)
    label(right, "D(i) + D(j) (nats)", "D(i, j) (nats)", "pairs against the sum of their parts")
    for panel in (left, right):
        panel.legend()
    return figure
