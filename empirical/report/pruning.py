"""Pruning curves of a few criteria (claim C5), the short form: the chapter and its figure."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from empirical.analysis.pruning import against_reference, areas
from empirical.analysis.seeds import mean_difference
from empirical.report.page import Section
from empirical.report.wording import estimate_of, words
from theory.shared.findings import Finding, verdict
from theory.shared.style import label, mark, sheet, styled


def pruning_section(curves: pd.DataFrame, local: str, target: str) -> Section:
    """Word and draw accuracy against multiply-accumulates for a few criteria.

    Parameters
    ----------
    curves : rows seed, criterion, draw, macs_requested, macs_share, accuracy, accuracy_se.
    local : the criterion of the local axis; target: that of the target axis.
    """
    table = areas(curves, ["seed", "criterion"], share="macs_requested")
    against_random = against_reference(table, "random")
    spread = curves["macs_share"] / curves["macs_requested"] - 1
    return Section(
        title="Which score says what can go?",
        note="Channels physically removed through the traced dependency graph, uniformly over "
        "layers, at equal multiply-accumulates; no fine-tuning, batch norm recalibrated on "
        "calibration images; accuracy on held-out images.",
        findings=[
            _axis_finding(table, local, target),
            _against_random(against_random),
            Finding(
                "Multiply-accumulates lie between {least:+.1%} and {most:+.1%} of the request, "
                "the same counts for every criterion.",
                {"least": float(spread.min()), "most": float(spread.max())},
            ),
        ],
        figures={
            "pruning_curves": (
                pruning_curves(curves),
                "Accuracy on held-out images against the share of multiply-accumulates that is "
                "left; mean over seeds, bars: standard deviation over seeds.",
            )
        },
        tables={
            "pruning_curves": curves,
            "pruning_areas": table,
            "pruning_differences": against_random,
        },
        shown={"pruning_differences": "Mean accuracy over the curve, and paired differences"},
    )


def criterion_words(criterion: object) -> str:
    """A criterion without its sign, as a reader would say it."""
    return words(str(criterion).lstrip("-"))


def _axis_finding(table: pd.DataFrame, local: str, target: str) -> Finding:
    wide = table.pivot(index="seed", columns="criterion", values="area")
    compared = mean_difference(wide[local] - wide[target])
    difference = estimate_of(compared, "difference")
    return Finding(
        f"That keeping the channels with least {criterion_words(local)} (local axis) is better "
        f"than keeping those with most {criterion_words(target)} (target axis): {{word}} "
        "({difference:+.1%} mean accuracy over the curve, paired over {seeds} seeds).",
        {"word": verdict(difference), "difference": difference, "seeds": compared["seeds"]},
    )


def _against_random(differences: pd.DataFrame) -> Finding:
    others = differences[differences["criterion"] != "random"]
    parts: list[str] = []
    values = {}
    for index, (_, row) in enumerate(others.iterrows()):
        values[f"c{index}"] = estimate_of(row, "difference")
        parts.append(f"{criterion_words(row['criterion'])} {{c{index}:+.1%}}")
    return Finding("Against removing channels at random: " + "; ".join(parts) + ".", values)


@styled()
def pruning_curves(curves: pd.DataFrame) -> Figure:
    """Accuracy against the share of multiply-accumulates, one line per criterion."""
    figure, axes = sheet(1, 1, width=6.4, height=4.0)
    panel = axes[0, 0]
    for index, (criterion, group) in enumerate(curves.groupby("criterion", sort=False)):
        by_seed = group.groupby(["macs_requested", "seed"])["accuracy"].mean()
        by_share = 100 * by_seed.groupby("macs_requested").agg(["mean", "std"]).fillna(0)
        look = mark(index, markersize=5, capsize=2, label=criterion_words(criterion))
        panel.errorbar(by_share.index * 100, by_share["mean"], yerr=by_share["std"], **look)
    panel.invert_xaxis()
    panel.legend(title="criterion")
    label(panel, "multiply-accumulates left (%)", "accuracy (%)")
    return figure
