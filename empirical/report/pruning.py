"""The report's chapter on pruning curves: which scores say what can go (claim C5)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from empirical.analysis.couplings import t_interval
from empirical.figures.curves import pruning_curves
from empirical.report.page import Section
from theory.shared.findings import Finding


def curve_areas(curves: pd.DataFrame) -> pd.DataFrame:
    """Area under accuracy against the share of multiply-accumulates, per seed and criterion.

    By the trapezoid rule over the shares that all have in common, divided by their span, so an
    area is a mean accuracy. Draws of one seed are averaged first.
    """
    by_share = curves.groupby(["seed", "criterion", "macs_requested"], sort=False)["accuracy"]
    rows = []
    for (seed, criterion), group in by_share.mean().groupby(["seed", "criterion"], sort=False):
        points = group.reset_index().sort_values("macs_requested")
        x, y = points["macs_requested"].to_numpy(), points["accuracy"].to_numpy()
        area = np.trapezoid(y, x) / (x[-1] - x[0])
        rows.append({"seed": seed, "criterion": criterion, "area": area})
    return pd.DataFrame(rows)


def paired_differences(areas: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Area of every criterion minus that of `reference`, paired by seed, with t-intervals."""
    wide = areas.pivot(index="seed", columns="criterion", values="area")
    rows = []
    for criterion in dict.fromkeys(areas["criterion"]):
        difference = (wide[criterion] - wide[reference]).to_numpy()
        low, high = t_interval(difference) if criterion != reference else (0.0, 0.0)
        rows.append(
            {
                "criterion": criterion,
                "area": wide[criterion].mean(),
                "minus": reference,
                "difference": difference.mean(),
                "low": low,
                "high": high,
                "seeds": len(wide),
            }
        )
    return pd.DataFrame(rows)


def pruning_section(curves: pd.DataFrame, local: str, target: str) -> Section:
    """Word and draw accuracy against multiply-accumulates for a few criteria.

    Parameters
    ----------
    curves : rows seed, criterion, draw, macs_requested, macs_share, accuracy, accuracy_se.
    local : the criterion of the local axis; target: that of the target axis.
    """
    areas = curve_areas(curves)
    against_random = paired_differences(areas, "random")
    wide = areas.pivot(index="seed", columns="criterion", values="area")
    difference = (wide[local] - wide[target]).to_numpy()
    low, high = t_interval(difference)
    verdict = (
        "the local axis says better what can go"
        if low > 0
        else "the target axis says better what can go"
        if high < 0
        else "the two cannot be told apart here"
    )
    names = {"local": local.lstrip("-"), "target": target.lstrip("-")}
    axis_finding = Finding(
        f"Keeping the channels with least {names['local'].replace('_', ' ')} (local axis) against "
        f"those with most {names['target'].replace('_', ' ')} (target axis): "
        "{difference:+.1%} [{low:+.1%}, {high:+.1%}] mean accuracy over the curve, paired over "
        "{seeds} seeds: " + verdict + ".",
        {"difference": float(difference.mean()), "low": low, "high": high, "seeds": len(wide)},
    )
    spread = curves["macs_share"] / curves["macs_requested"] - 1
    return Section(
        title="Which score says what can go?",
        note="Channels physically removed through the traced dependency graph, uniformly over "
        "layers, at equal multiply-accumulates; no fine-tuning, batch norm recalibrated on "
        "calibration images; accuracy on held-out images.",
        findings=[
            axis_finding,
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
            "pruning_areas": areas,
            "pruning_differences": against_random,
        },
        shown={"pruning_differences": "Mean accuracy over the curve, and paired differences"},
    )


def _against_random(differences: pd.DataFrame) -> Finding:
    others = differences[differences["criterion"] != "random"]
    parts, values = [], {}
    for index, row in enumerate(others.itertuples()):
        name = f"c{index}"
        values |= {name: row.difference, f"{name}_low": row.low, f"{name}_high": row.high}
        parts.append(
            f"{row.criterion.lstrip('-').replace('_', ' ')} {{{name}:+.1%}} "
            f"[{{{name}_low:+.1%}}, {{{name}_high:+.1%}}]"
        )
    return Finding("Against removing channels at random: " + "; ".join(parts) + ".", values)
