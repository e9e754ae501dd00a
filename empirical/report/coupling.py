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
    separation_step,
)
from empirical.analysis.seeds import t_interval
from empirical.measuring.table import AxisTable
from empirical.report.page import Section
from empirical.report.wording import (
    bounded,
    quantities_table,
    quantity_label,
    verdict,
    with_interval,
)
from theory.shared.findings import Finding
from theory.shared.style import label, mark, sheet, styled


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
        title="Are the two axes aligned?",
        note=f"{subject}. Spearman rank correlation across the channels of a layer, averaged over "
        "layers; intervals are 95 % t-intervals over seeds. The grey band holds 95 % of such "
        "averages when the channels of each layer are paired at random.",
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
                "Coupling of each layer (mean and standard deviation over seeds); band: channels "
                "paired at random.",
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


def coupling_findings(couplings: pd.DataFrame) -> list[Finding]:
    """Sentences on the start, the end, their paired difference, and the within-axis control."""
    means = mean_couplings(couplings)
    findings = [_start_and_end(couplings, means, pair) for pair in (BETWEEN, WITHIN)]
    findings.append(_claim(means))
    moment = separation_step(means, BETWEEN)
    if moment is not None and findings[0].values["clear"] == "yes":
        findings.append(
            Finding(
                "The between-axis coupling has covered half of its way from start to end for good "
                "at step {step} of {last}.",
                {"step": moment, "last": int(means["step"].max())},
            )
        )
    return findings


def _ends(means: pd.DataFrame, pair: Pair) -> tuple[pd.Series, pd.Series]:
    """The rows of the first and the last step."""
    chosen = of_pair(means, pair).sort_values("step")
    return chosen.iloc[0], chosen.iloc[-1]


def _start_and_end(couplings: pd.DataFrame, means: pd.DataFrame, pair: Pair) -> Finding:
    start, end = _ends(means, pair)
    by_seed = of_pair(couplings, pair).groupby(["seed", "step"])["coupling"].mean().unstack()
    change = (by_seed[end["step"]] - by_seed[start["step"]]).to_numpy()
    interval = t_interval(change)
    neither = (
        "one seed gives no interval for the change"
        if np.isnan(interval[0])
        else "a change of this size is within the spread of seeds"
    )
    return Finding(
        f"{pair.label.capitalize()} ({pair.kind} axes): {with_interval('start', '+.2f')} at "
        f"initialization, {with_interval('end', '+.2f')} after {{steps}} steps; paired change "
        f"{with_interval('change', '+.2f')} over {{seeds}} seeds: "
        f"{verdict(interval, 'it rises', 'it falls', neither)}.",
        {
            **bounded("start", start["coupling"], (start["low"], start["high"])),
            **bounded("end", end["coupling"], (end["low"], end["high"])),
            "steps": int(end["step"]),
            **bounded("change", float(np.nanmean(change)), interval),
            "seeds": int(end["seeds"]),
            "clear": verdict(interval, "yes", "yes", "no"),
        },
    )


def _claim(means: pd.DataFrame) -> Finding:
    """Claim C1, judged against the band of random pairing at both ends."""
    start, end = _ends(means, BETWEEN)
    coupled = start["coupling"] > start["null_high"]
    weak = end["coupling"] < start["coupling"] and abs(end["coupling"]) <= max(
        end["null_high"], abs(start["coupling"]) / 2
    )
    if coupled and weak:
        text = (
            "The claim that strongly coupled axes separate in training holds here: the initial "
            "coupling lies above the band of random pairing ({band:.2f}), and at most half of it "
            "is left."
        )
    elif coupled:
        text = (
            "The axes start coupled, above the band of random pairing ({band:.2f}), but training "
            "leaves more than half of that coupling: the claimed separation does not show here."
        )
    else:
        text = (
            "The claimed strong coupling at initialization does not show here: the start lies "
            "within or below the band of random pairing ({band:.2f}), so there is no coupling for "
            "training to undo. How strong the start is depends on the spectrum of the inputs."
        )
    return Finding(text, {"band": start["null_high"]})


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
            values = table[name].as_dict()
            errors = table.standard_errors(name)
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
    panels[0].legend()
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
