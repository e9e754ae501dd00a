"""The report's chapter on the factorial of pruning: which axis, which criterion, which recovery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from empirical.analysis.pruning import (
    agreement,
    areas,
    axis_against_axis,
    findings,
    headline,
    headline_findings,
    mean_accuracy,
    rank_stability,
)
from empirical.figures.pruning import accuracy_curves, agreement_map, axis_differences
from empirical.report.page import Section
from theory.shared.findings import Finding

DRAWN = (
    "replaceability", "-peer_predictability", "task_information", "group_l2", "taylor", "random",
)  # fmt: skip
"""The criteria that the curves show: all of them would not be told apart."""


def factorial_section(
    rows: pd.DataFrame, scores: Sequence[Mapping[str, np.ndarray]] = ()
) -> Section:
    """Word and draw the cells of one or several networks.

    Parameters
    ----------
    rows : what `run_factorial` returned, of every network and seed.
    scores : what it saved, one mapping per network and seed, for the criteria's agreement.
    """
    table = areas(rows)
    axes, best = axis_against_axis(table), headline(rows)
    figures = {
        f"pruning_{allocation}": (
            accuracy_curves(rows, DRAWN, allocation),
            f"Accuracy against multiply-accumulates, {allocation} allocation; lines: means over "
            "seeds, bars: range over seeds, dotted: the dense network.",
        )
        for allocation in dict.fromkeys(table["allocation"])
    }
    if "latency_share" in rows:
        figures |= {
            f"pruning_{allocation}_latency": (
                accuracy_curves(rows, DRAWN, allocation, against="latency_share"),
                f"The same against measured latency, {allocation} allocation: one batch, in turns "
                "with the dense network, median over 20 passes, mean over seeds.",
            )
            for allocation in dict.fromkeys(table["allocation"])
        }
    tables = {
        "pruning_accuracy": mean_accuracy(rows),
        "pruning_areas": table,
        "pruning_axes": axes,
        "pruning_headline": best,
    }
    if len(axes):
        figures["pruning_axis_differences"] = (
            axis_differences(axes),
            "Mean accuracy over the curve by the criteria of the local axis minus that by those of "
            "the target axis.",
        )
    if table["network"].nunique() > 1:
        tables["pruning_rank_stability"] = rank_stability(table)
    if scores:
        together = _mean_agreement(scores)
        tables["pruning_agreement"] = together.reset_index(names="criterion")
        figures["pruning_agreement"] = (
            agreement_map(together),
            "Agreement of the criteria: rank correlation of their scores within layers.",
        )
    return Section(
        title="Which channels can go?",
        note="Every criterion through the same trace, allocator and removal; channels physically "
        "removed; only recoveries named finetune train on. Accuracy on report images; scores, "
        "counts, regressions and statistics read calibration images only. “Best” "
        "criteria are the best on these very accuracies, which favours them.",
        findings=[*headline_findings(best), *findings(table), *_errors(rows), _deviation(rows)],
        figures=figures,
        tables=tables,
        shown={"pruning_headline": "At one share of the multiply-accumulates, paired by network"},
    )


def _mean_agreement(scores: Sequence[Mapping[str, np.ndarray]]) -> pd.DataFrame:
    tables = [agreement(one) for one in scores]
    names = list(dict.fromkeys(name for table in tables for name in table.index))
    aligned = np.stack([t.reindex(index=names, columns=names).to_numpy() for t in tables])
    return pd.DataFrame(np.nanmean(aligned, axis=0), index=names, columns=names)


def _deviation(rows: pd.DataFrame) -> Finding:
    pruned = rows[rows["criterion"] != "dense"].dropna(subset=["macs_share"])
    off = pruned["macs_share"] / pruned["share"] - 1
    return Finding(
        "Multiply-accumulates of {cells} pruned networks lie between {least:+.2%} and {most:+.2%} "
        "of the request.",
        {"cells": len(pruned), "least": float(off.min()), "most": float(off.max())},
    )


def _errors(rows: pd.DataFrame) -> list[Finding]:
    if "error" not in rows:
        return []
    failed = rows.dropna(subset=["error"]).groupby(["network", "criterion"])["error"].first()
    return [
        Finding("{criterion} could not be computed on {network}: {error}",
                {"criterion": criterion, "network": network, "error": error})
        for (network, criterion), error in failed.items()
    ]  # fmt: skip
