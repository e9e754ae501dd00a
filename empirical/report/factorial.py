"""The factorial of pruning: which axis, which criterion, which recovery; chapter and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from empirical.analysis.pruning import (
    AXES,
    COMPENSATED,
    OURS,
    agreement,
    areas,
    axis_against_axis,
    axis_verdicts,
    headline,
    mean_accuracy,
    mean_of,
    missing_cells,
    rank_stability,
)
from empirical.report.page import Section
from empirical.report.wording import estimate_of, values_of, words
from theory.shared.findings import Finding, verdict
from theory.shared.style import label, mark, sheet, styled

TITLE = "Which channels can go?"

DRAWN = (
    "replaceability", "-peer_predictability", "task_information", "group_l2", "taylor", "random",
)  # fmt: skip
"""The criteria that the curves show: all of them would not be told apart."""

SHARES = {
    "share": "share of multiply-accumulates",
    "latency_share": "share of the dense network's latency",
}
"""What accuracy is drawn against."""


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
    axes, best, stability = axis_against_axis(table), headline(rows), rank_stability(table)
    verdicts, missing = axis_verdicts(table), missing_cells(rows)
    present = list(dict.fromkeys(table["criterion"]))
    drawn = [name for name in DRAWN if name in present] or present[: len(DRAWN)]
    captions = {
        "share": "Accuracy against multiply-accumulates, {} allocation; lines: means over "
        "seeds, bars: range over seeds, dotted: the dense network.",
        "latency_share": "The same against measured latency, {} allocation: one batch, in turns "
        "with the dense network, median over 20 passes, mean over seeds.",
    }
    figures = {
        f"pruning_{allocation}" + ("_latency" if against == "latency_share" else ""): (
            accuracy_curves(rows, drawn, allocation, against=against),
            caption.format(allocation),
        )
        for against, caption in captions.items()
        if against in rows
        for allocation in dict.fromkeys(table["allocation"])
    }
    tables = {
        "pruning_accuracy": mean_accuracy(rows),
        "pruning_areas": table,
        "pruning_axes": axes,
        "pruning_axis_verdicts": verdicts,
        "pruning_missing": missing,
        "pruning_headline": best,
    }
    if len(axes):
        figures["pruning_axis_differences"] = (
            axis_differences(axes),
            "Mean accuracy over the curve by the criteria of the local axis minus that by those of "
            "the target axis.",
        )
    if table["network"].nunique() > 1:
        tables["pruning_rank_stability"] = stability
    if scores:
        together = mean_of([agreement(one) for one in scores])
        tables["pruning_agreement"] = together.reset_index(names="criterion")
        figures["pruning_agreement"] = (
            agreement_map(together),
            "Agreement of the criteria: rank correlation of their scores within layers.",
        )
    return Section(
        title=TITLE,
        note="Every criterion through the same trace, allocator and removal; channels physically "
        "removed; only recoveries named finetune train on. Accuracy on report images; scores, "
        "counts, regressions and statistics read calibration images only. “Best” "
        "criteria are the best on these very accuracies, which favours them.",
        findings=[
            *headline_findings(best),
            *axis_findings(axes, verdicts),
            *stability_findings(stability),
            *_errors(rows),
            *_missing(missing),
            _deviation(rows),
        ],
        figures=figures,
        tables=tables,
        shown={"pruning_headline": "At one share of the multiply-accumulates, paired by network"},
    )


def headline_findings(best: pd.DataFrame) -> list[Finding]:
    """Sentences on what `headline` found, in points of accuracy; or on what it lacks."""
    if best.empty:
        return [
            Finding(
                "Our selectors are not compared with the others: that needs half of the "
                f"multiply-accumulates among the shares, {' or '.join(OURS)} with "
                f"{' or '.join(COMPENSATED)}, and another selector with the same recovery or, of "
                "the libraries' criteria, with recalibrate."
            )
        ]
    found = []
    for _, row in best.iterrows():
        points = {"points": estimate_of(row, "difference").times(100)}
        found.append(
            Finding(
                "{network} at {share:.0%} of the multiply-accumulates, {allocation} allocation: "
                "{one} reaches {accuracy:.1%}; minus the best {against}, {other}: "
                "{points:+.1f} points over {seeds} seeds.",
                values_of(row) | points,
            )
        )
    return found


def axis_findings(axes: pd.DataFrame, verdicts: pd.DataFrame) -> list[Finding]:
    """Claim C5: a sentence per architecture, one over all, and one on single settings."""
    if axes.empty:
        return [
            Finding(
                "The axes are not compared: that needs criteria of the local axis "
                f"({', '.join(AXES['local'])}) and of the target axis "
                f"({', '.join(AXES['target'])}) in one setting."
            )
        ]
    found = []
    for _, row in verdicts.iterrows():
        difference = estimate_of(row, "difference").times(100)
        found.append(
            Finding(
                "Claim C5, that scores of the local axis say better what can go, "
                + ("over all architectures" if row["network"] == "all" else "{network}")
                + ": {word} ({difference:+.1f} points of mean accuracy, {seeds} networks, each by "
                "its mean over settings).",
                {
                    "network": row["network"],
                    "word": verdict(difference),
                    "difference": difference,
                    "seeds": int(row["seeds"]),
                },
            )
        )
    clear = axes[axes["p_holm"] < 0.05]
    values = {
        "settings": len(axes),
        "ahead": int((clear["difference"] > 0).sum()),
        "behind": int((clear["difference"] < 0).sum()),
        "up": int((axes["difference"] > 0).sum()),
    }
    text = (
        "By themselves, after Holm's correction over the {settings} settings, the local axis is "
        "ahead in {ahead} and behind in {behind}; its mean is higher in {up}."
    )
    return [*found, Finding(text, values)]


def stability_findings(stability: pd.DataFrame) -> list[Finding]:
    """Sentences on claim C7: whether criteria rank alike on two networks."""
    text = (
        "With recovery {recovery} and {allocation} allocation, {one} and {other} rank {criteria} "
        "criteria with Spearman {spearman:+.2f}; the best is {best_of_one} on the first and "
        "{best_of_other} on the second."
    )
    return [Finding(text, values_of(row)) for _, row in stability.iterrows()]


def _deviation(rows: pd.DataFrame) -> Finding:
    pruned = rows[rows["criterion"] != "dense"].dropna(subset=["macs_share"])
    off = pruned["macs_share"] / pruned["share"] - 1
    return Finding(
        "Multiply-accumulates of {cells} pruned networks lie between {least:+.2%} and {most:+.2%} "
        "of the request.",
        {"cells": len(pruned), "least": float(off.min()), "most": float(off.max())},
    )


def _missing(missing: pd.DataFrame) -> list[Finding]:
    if missing.empty:
        return []
    arms = missing.drop(columns="share").drop_duplicates()
    listed = "; ".join(", ".join(map(str, arm)) for arm in arms.itertuples(index=False))
    return [
        Finding(
            f"Missing are {{cells}} cells; these curves have no area: {listed}.",
            {"cells": len(missing)},
        )
    ]


def _errors(rows: pd.DataFrame) -> list[Finding]:
    if "error" not in rows:
        return []
    failed = rows.dropna(subset=["error"]).drop_duplicates(["network", "criterion"])
    failed = failed.sort_values(["network", "criterion"])
    text = "{criterion} could not be computed on {network}: {error}"
    columns = ("criterion", "network", "error")
    return [Finding(text, values_of(row, columns)) for _, row in failed.iterrows()]


@styled()
def accuracy_curves(
    rows: pd.DataFrame, criteria: Sequence[str], allocation: str, *, against: str = "share"
) -> Figure:
    """Accuracy against a share of the dense network; a row per network, a column per recovery.

    Lines are means over seeds and draws, bars the range over seeds. `against` is "share", of the
    multiply-accumulates as requested, or "latency_share", as measured.
    """
    pruned = rows[(rows["allocation"] == allocation) & rows["criterion"].isin(criteria)]
    pruned = pruned.dropna(subset=["accuracy"])
    networks, recoveries = (list(dict.fromkeys(pruned[c])) for c in ("network", "recovery"))
    width = 3.4 * len(recoveries) + 2.2
    figure, axes = sheet(len(networks), len(recoveries), width=width, sharex=True, sharey="row")
    for panels, network in zip(axes, networks, strict=True):
        dense = rows[(rows["network"] == network) & (rows["criterion"] == "dense")]["accuracy"]
        for panel, recovery in zip(panels, recoveries, strict=True):
            cell = pruned[(pruned["network"] == network) & (pruned["recovery"] == recovery)]
            for index, name in enumerate(criteria):
                _curve(panel, cell[cell["criterion"] == name], against, **mark(index))
            panel.axhline(dense.mean(), color="0.5", linestyle=":", linewidth=1.0)
            panel.set_title(f"{network}, {recovery}")
        panels[0].set_ylabel("accuracy")
    for panel in axes[-1]:
        panel.set_xlabel(SHARES[against])
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def _curve(panel: Axes, rows: pd.DataFrame, against: str, **look: Any) -> None:
    if rows.empty:
        return
    by_seed = rows.groupby(["share", "seed"])["accuracy"].mean().groupby("share")
    mean = by_seed.mean()
    place = rows.groupby("share")[against].mean() if against != "share" else mean.index
    # a mean of equal values may leave their range by a rounding
    spread = np.maximum([mean - by_seed.min(), by_seed.max() - mean], 0.0)
    name = words(rows["criterion"].iloc[0])
    panel.errorbar(
        place, mean, yerr=spread, markersize=4, capsize=2, linewidth=1.3, label=name, **look
    )


@styled()
def axis_differences(table: pd.DataFrame) -> Figure:
    """Local axis minus target axis with its interval, a line per setting of `axis_against_axis`."""
    figure, axes = sheet(1, 1, width=7.5, height=0.32 * len(table) + 1.3)
    panel = axes[0, 0]
    place = np.arange(len(table))[::-1]
    for index, network in enumerate(dict.fromkeys(table["network"])):
        mine = (table["network"] == network).to_numpy()
        part = table[mine]
        error = np.array([part["difference"] - part["low"], part["high"] - part["difference"]])
        look = mark(index, linestyle="none", markersize=5, capsize=3, label=network)
        panel.errorbar(part["difference"], place[mine], xerr=np.nan_to_num(error), **look)
    panel.axvline(0, color="0.4", linewidth=0.8, linestyle="-")
    panel.set_yticks(place, [f"{r.allocation}, {r.recovery}" for r in table.itertuples()])
    label(panel, "mean accuracy, local axis minus target axis (95 % interval over seeds)", "")
    panel.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


@styled()
def agreement_map(table: pd.DataFrame) -> Figure:
    """Spearman between criteria within layers, as a square map with its numbers."""
    size = len(table)
    figure, axes = sheet(1, 1, width=0.42 * size + 3.4, height=0.42 * size + 2.6)
    panel = axes[0, 0]
    image = panel.imshow(table, cmap="PuOr", vmin=-1, vmax=1)
    names = [words(name) for name in table.index]
    panel.set_xticks(range(size), names, rotation=90)
    panel.set_yticks(range(size), names)
    panel.grid(visible=False)
    for (i, j), value in np.ndenumerate(table.to_numpy()):
        if np.isfinite(value):
            shade = "white" if abs(value) > 0.7 else "black"
            shown = round(float(value), 1) + 0.0  # no minus zero
            panel.text(j, i, f"{shown:.1f}", ha="center", va="center", fontsize=6, color=shade)
    figure.colorbar(image, ax=panel, shrink=0.7, label="Spearman rank correlation, mean of layers")
    return figure
