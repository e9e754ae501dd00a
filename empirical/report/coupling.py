"""How the axes align over training (claims C1 and C3): the chapter and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from empirical.analysis.couplings import (
    BETWEEN,
    WITHIN,
    Pair,
    mean_couplings,
    of_pair,
    separation_steps,
)
from empirical.analysis.missing import NoDataError
from empirical.analysis.reliability import RELIABLE
from empirical.analysis.seeds import CORRELATION, over_networks
from empirical.measuring.table import AxisTable
from empirical.report.page import Section
from empirical.report.wording import estimate_of, quantities_table, quantity_label, words
from theory.shared.findings import Estimate, Finding, verdict, weakest
from theory.shared.style import label, mark, sheet, styled

TITLE = "Are the two axes aligned?"


def coupling_section(
    tables: Mapping[tuple[int, int], AxisTable], couplings: pd.DataFrame, subject: str
) -> Section:
    """Word and draw how the axes align before and after training.

    Parameters
    ----------
    tables : (seed, step) -> measurement.
    couplings : `training_couplings(tables)`.
    subject : which network on which data with which target and sampling, for the wording.
    """
    means = mean_couplings(couplings)
    steps = sorted({step for _, step in tables})
    seed = min(seed for seed, _ in tables)
    moments = [(f"step {step}", tables[seed, step]) for step in (steps[0], steps[-1])]
    shown_steps = list(dict.fromkeys([steps[0], steps[len(steps) // 2], steps[-1]]))
    endpoints = means[means["step"].isin([steps[0], steps[-1]])]
    return Section(
        title=TITLE,
        note=f"{subject}. Spearman rank correlation across the channels of a layer, averaged over "
        "layers; intervals are 95 % over seeds by Fisher's z, none for fewer than three. The grey "
        "band holds 95 % of such averages when the channels of each layer are paired at random. "
        "Corrected couplings are free of what errors of measurement take away, over the layers "
        f"where both quantities have a split-half reliability of at least {RELIABLE}.",
        findings=coupling_findings(couplings),
        figures={
            "coupling_over_training": (
                coupling_over_training(couplings, means),
                "Coupling over training. Blue: mean over layers with its interval over seeds; thin "
                "grey lines: single layers; band: channels paired at random.",
            ),
            "axis_scatter": (
                axis_scatter(moments, BETWEEN.first, BETWEEN.second),
                f"Every channel of seed {seed} on both axes, before and after training, with "
                "jackknife standard errors over images.",
            ),
            "coupling_by_depth": (
                depth_profile(couplings, shown_steps),
                "Coupling of each layer (mean and standard deviation over seeds); band: one "
                "network's channels paired at random.",
            ),
        },
        tables={
            "couplings": couplings,
            "coupling_means": means,
            "coupling_endpoints": endpoints,
            "quantities": quantities_table(),
        },
        shown={
            "coupling_endpoints": "Mean coupling before and after training",
            "quantities": "What is measured of each channel",
        },
    )


STRONG = 0.3
"""The least initial coupling that counts as strong; 0.71 is published."""


def coupling_findings(couplings: pd.DataFrame) -> list[Finding]:
    """Sentences on start, end and change of both pairs, reliability, and claims C1 and C3."""
    if couplings["step"].nunique() < 2:
        raise NoDataError("one checkpoint has no change of the coupling. Measure another step.")
    means = mean_couplings(couplings)
    findings = [start_and_end(couplings, means, pair) for pair in (BETWEEN, WITHIN)]
    findings += corrected_ends(couplings, means, BETWEEN)
    return [*findings, _claim(couplings), _early(couplings, means)]


def _by_seed(couplings: pd.DataFrame, pair: Pair, value: str = "coupling") -> pd.DataFrame:
    """Mean over layers, a row per seed, a column per step."""
    return of_pair(couplings, pair).groupby(["seed", "step"])[value].mean().unstack()


def _with_both_ends(couplings: pd.DataFrame, pair: Pair, value: str = "coupling") -> pd.DataFrame:
    """`_by_seed` of the networks that have a first and a last value."""
    by_seed = _by_seed(couplings, pair, value)
    return by_seed[by_seed.iloc[:, [0, -1]].notna().all(axis=1)]


def _changes(values: pd.Series) -> Estimate:
    """Mean of differences of correlations, which lie between -2 and 2."""
    return over_networks(values, (-2.0, 2.0))


def start_and_end(couplings: pd.DataFrame, means: pd.DataFrame, pair: Pair) -> Finding:
    """Sentence on a pair's coupling at initialization and after training, and its change."""
    by_seed = _with_both_ends(couplings, pair)
    moved = by_seed.iloc[:, -1] - by_seed.iloc[:, 0]
    without = couplings["seed"].nunique() - len(by_seed)
    change = _changes(moved)
    outcome = "it rises" if change.low > 0 else "it falls" if change.high < 0 else "not resolved"
    missing = f"; {without} more lack an end" if without else ""
    return Finding(
        f"{pair.label.capitalize()} ({pair.kind} axes): {{start:+.2f}} at initialization, "
        "{end:+.2f} after {steps} steps; paired change {change:+.2f} ({falls} of {seeds} "
        f"seeds fall{missing}): {outcome}.",
        {
            "start": over_networks(by_seed.iloc[:, 0], CORRELATION),
            "end": over_networks(by_seed.iloc[:, -1], CORRELATION),
            "steps": int(by_seed.columns[-1]),
            "change": change,
            "seeds": len(by_seed),
            "falls": int((moved < 0).sum()),
        },
    )


def corrected_ends(couplings: pd.DataFrame, means: pd.DataFrame, pair: Pair) -> list[Finding]:
    """Both ends corrected for attenuation, and how reliable the quantities are; none if unknown."""
    rows = of_pair(couplings, pair)
    ends = of_pair(means, pair).sort_values("step").iloc[[0, -1]]
    if ends["corrected"].isna().all():
        return []
    start, end = (
        estimate_of(row, "corrected", "corrected_low", "corrected_high")
        for _, row in ends.iterrows()
    )
    last = rows[rows["step"] == rows["step"].max()]
    return [
        Finding(
            "Corrected for attenuation it is {start:+.2f} at initialization and {end:+.2f} after "
            "training, in the {resolved:.0%} and {resolved_end:.0%} of layers that are reliable "
            "enough; after training the split-half reliability of {first} is "
            "{first_reliability:.2f} and that of {second} {second_reliability:.2f} (medians of "
            "layers).",
            {
                "start": start,
                "end": end,
                "resolved": float(ends["resolved"].iloc[0]),
                "resolved_end": float(ends["resolved"].iloc[1]),
                "first": words(pair.first),
                "second": words(pair.second),
                **{f"{n}_reliability": float(last[f"{n}_reliability"].median())
                   for n in ("first", "second")},
            },
        )
    ]  # fmt: skip


def _claim(couplings: pd.DataFrame) -> Finding:
    """Claim C1: a strong coupling at the start, of which at most half is left.

    Judged as measured and, where it is known, corrected for attenuation; the weaker word counts.
    """
    verdicts: list[str] = []
    values: dict[str, Estimate] = {}
    for name in ("coupling", "corrected"):
        by_seed = _with_both_ends(couplings, BETWEEN, name)
        if by_seed.empty:
            continue
        start, end = by_seed.iloc[:, 0], by_seed.iloc[:, -1]
        begin = over_networks(start, CORRELATION)
        fall = _changes(start - end)
        beyond = Estimate(begin.mean - STRONG, begin.low - STRONG, begin.high - STRONG)
        half = _changes(start / 2 - end.abs())
        verdicts += [verdict(begin, beyond), verdict(fall, half)]
        values |= {name: begin, f"{name}_fall": fall, f"{name}_half": half}
    if "coupling" not in values:
        raise NoDataError("no network has a first and a last coupling. Measure both checkpoints.")
    return Finding(
        "Claim C1, that axes coupled by {bound:g} or more at initialization lose at least half "
        "of it: {word} (start {coupling:+.2f}, fall {coupling_fall:+.2f}, half of the start less "
        "what is left {coupling_half:+.2f}).",
        {"word": weakest(*verdicts), "bound": STRONG, **values},
    )


def judged_early(fall: Estimate, first: Estimate, early: Estimate) -> str:
    """The verdict on C3 from the fall, that until a tenth of training, and that less half of all.

    Where no fall is shown, nothing is said of when it comes.
    """
    return verdict(first, early) if fall.low > 0 else "not resolved"


def _early(couplings: pd.DataFrame, means: pd.DataFrame) -> Finding:
    """Claim C3: more than half of the fall within the first tenth of training."""
    by_seed = _by_seed(couplings, BETWEEN)
    steps = [int(step) for step in by_seed.columns]
    tenth = max(step for step in steps if step <= steps[-1] / 10)
    whole = by_seed[steps[0]] - by_seed[steps[-1]]
    by_tenth = by_seed[steps[0]] - by_seed[tenth]
    fall, first, early = (_changes(v) for v in (whole, by_tenth, by_tenth - whole / 2))
    between = separation_steps(means, BETWEEN)
    passed = (
        " The mean comes to stay nearer its end than its start between the records at steps "
        "{before} and {after} of {last}."
        if between
        else ""
    )
    return Finding(
        "Claim C3, that most of the fall comes in the first tenth of training: {word} (fall until "
        "step {tenth} {first:+.2f}, less half of the whole {early:+.2f})." + passed,
        {
            "word": judged_early(fall, first, early) if tenth > steps[0] else "not resolved",
            "tenth": tenth,
            "first": first,
            "early": early,
            **(dict(zip(("before", "after"), between, strict=True)) if between else {}),
            "last": steps[-1],
        },
    )


@styled()
def coupling_over_training(couplings: pd.DataFrame, means: pd.DataFrame) -> Figure:
    """Mean coupling of each pair against training step, with its interval over seeds and its null.

    Parameters
    ----------
    couplings : of `training_couplings`.
    means : of `mean_couplings`.
    """
    pairs = _pairs(means)
    figure, panels = _panels(len(pairs))
    for panel, pair in zip(panels, pairs, strict=True):
        chosen = of_pair(means, pair).sort_values("step")
        for _, lines in of_pair(couplings, pair).groupby("layer"):
            by_step = lines.groupby("step")["coupling"].mean()
            panel.plot(by_step.index, by_step, color="0.75", linewidth=0.8, linestyle="-")
        step = chosen["step"]
        null = {"color": "0.85", "label": "channels paired at random"}
        panel.fill_between(step, chosen["null_low"], chosen["null_high"], **null)
        panel.plot(step, chosen["coupling"], "o-", color="C0", markersize=4, label="mean of layers")
        panel.fill_between(step, chosen["low"], chosen["high"], color="C0", alpha=0.2)
        panel.set_xscale("symlog", linthresh=1)
        panel.set_xlim(-0.2, 1.2 * max(step.max(), 1))
        _correlation_axis(panel, "training step", f"{pair.kind} axes: {pair.label}")
    panels[0].legend(loc="lower right")
    return figure


@styled()
def axis_scatter(tables: Sequence[tuple[str, AxisTable]], first: str, second: str) -> Figure:
    """Each channel on two quantities; one row per moment of training, one column per layer.

    Of more than four layers, four are drawn, spread over the depth.
    """
    names = tables[0][1].layers
    layers = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, 4).round().astype(int))]
    figure, axes = sheet(len(tables), len(layers), width=max(3.0 * len(layers), 6.0), height=2.8)
    for row, (moment, table) in zip(axes, tables, strict=True):
        for panel, name in zip(row, layers, strict=True):
            values, errors = table.values(name), table.standard_errors(name)
            panel.errorbar(
                values[first],
                values[second],
                xerr=errors.get(first),
                yerr=errors.get(second),
                fmt="o",
                markersize=3,
                elinewidth=0.5,
                color="C0",
                ecolor="0.7",
            )
            panel.locator_params(axis="x", nbins=4)
            label(panel, quantity_label(first), "", f"{name}, {moment}")
        row[0].set_ylabel(quantity_label(second))
    return figure


@styled()
def depth_profile(couplings: pd.DataFrame, steps: Sequence[int]) -> Figure:
    """Coupling of each layer against depth, at some training steps, with its null."""
    pairs = _pairs(couplings)
    figure, panels = _panels(len(pairs))
    for panel, pair in zip(panels, pairs, strict=True):
        own = of_pair(couplings, pair)
        for index, step in enumerate(steps):
            chosen = own[own["step"] == step].groupby("depth")["coupling"]
            middle, spread = chosen.mean(), chosen.std().fillna(0)
            look = mark(index, markersize=4, label=f"step {step}")
            panel.errorbar(middle.index, middle, yerr=spread, **look)
        null = own[own["step"] == steps[-1]].groupby("depth")[["null_low", "null_high"]].mean()
        panel.fill_between(null.index, null["null_low"], null["null_high"], color="0.88")
        _correlation_axis(panel, "depth (share of layers)", pair.label)
    panels[0].legend(loc="lower right")
    return figure


def _correlation_axis(panel: Axes, x: str, title: str) -> None:
    panel.axhline(0, color="0.4", linewidth=0.8, linestyle="-")
    panel.set_ylim(-1, 1)
    label(panel, x, "Spearman rank correlation", title)


def _pairs(frame: pd.DataFrame) -> list[Pair]:
    """The pairs of quantities of a table, in order."""
    columns = frame[["first", "second", "kind"]].drop_duplicates()
    return [Pair(*row) for row in columns.itertuples(index=False)]


def _panels(number: int) -> tuple[Figure, NDArray[np.object_]]:
    """(number,) panels, two a row."""
    figure, axes = sheet(-(-number // 2), min(number, 2), width=4.4 * min(number, 2), height=3.1)
    for panel in axes.flat[number:]:
        panel.remove()
    return figure, axes.flat[:number]
