"""The report's chapter on the coupling of the axes over training (claims C1 and C3)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from empirical.analysis.couplings import BETWEEN, WITHIN, Pair, mean_couplings, of_pair, t_interval
from empirical.figures.coupling import axis_scatter, coupling_over_training, depth_profile
from empirical.measuring.table import AxisTable
from empirical.report.page import Section
from theory.shared.findings import Finding


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
        },
        shown={"coupling_endpoints": "Mean coupling before and after training"},
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


def separation_step(means: pd.DataFrame, pair: Pair) -> int | None:
    """First recorded step from which the coupling stays nearer its end than its start.

    None where start and end do not differ by more than the null of random pairing.
    """
    chosen = of_pair(means, pair).sort_values("step")
    values = chosen["coupling"].to_numpy()
    if abs(values[0] - values[-1]) <= chosen["null_high"].iloc[0]:
        return None
    nearer_end = np.abs(values - values[-1]) <= np.abs(values - values[0])
    stays = np.logical_and.accumulate(nearer_end[::-1])[::-1]
    return int(chosen["step"].to_numpy()[np.argmax(stays)])


def _start_and_end(couplings: pd.DataFrame, means: pd.DataFrame, pair: Pair) -> Finding:
    chosen = of_pair(means, pair).sort_values("step")
    start, end = chosen.iloc[0], chosen.iloc[-1]
    by_seed = of_pair(couplings, pair).groupby(["seed", "step"])["coupling"].mean().unstack()
    change = (by_seed[end["step"]] - by_seed[start["step"]]).to_numpy()
    low, high = t_interval(change)
    verdict = (
        "one seed gives no interval for the change"
        if np.isnan(low)
        else "it falls"
        if high < 0
        else "it rises"
        if low > 0
        else "a change of this size is within the spread of seeds"
    )
    return Finding(
        f"{pair.label.capitalize()} ({pair.kind} axes): "
        "{start:+.2f} [{start_low:+.2f}, {start_high:+.2f}] at initialization, "
        "{end:+.2f} [{end_low:+.2f}, {end_high:+.2f}] after {steps} steps; paired change "
        "{change:+.2f} [{change_low:+.2f}, {change_high:+.2f}] over {seeds} seeds: "
        + verdict
        + ".",
        {
            "start": start["coupling"],
            "start_low": start["low"],
            "start_high": start["high"],
            "end": end["coupling"],
            "end_low": end["low"],
            "end_high": end["high"],
            "steps": int(end["step"]),
            "change": float(np.nanmean(change)),
            "change_low": low,
            "change_high": high,
            "seeds": int(end["seeds"]),
            "clear": "yes" if high < 0 or low > 0 else "no",
        },
    )


def _claim(means: pd.DataFrame) -> Finding:
    """Claim C1, judged against the band of random pairing at both ends."""
    chosen = of_pair(means, BETWEEN).sort_values("step")
    start, end = chosen.iloc[0], chosen.iloc[-1]
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
