"""Relevance and replaceability as an intervention defines them, over training: the chapter."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from empirical.analysis.couplings import (
    OF_INTERVENTION,
    mean_couplings,
    of_pair,
    training_couplings,
)
from empirical.analysis.missing import NoDataError
from empirical.analysis.seeds import CORRELATION, over_networks, over_seeds
from empirical.measuring.damage_table import ALONE, RECOVERED
from empirical.measuring.table import AxisTable
from empirical.report.coupling import (
    axis_scatter,
    corrected_ends,
    coupling_over_training,
    start_and_end,
)
from empirical.report.page import Section
from empirical.report.wording import estimate_of
from theory.shared.findings import Finding, verdict
from theory.shared.style import label, sheet, styled

TITLE = "Relevance and replaceability, as an intervention defines them"

AXES, FOLLOWS = OF_INTERVENTION[:2]
"""Damage alone beside the share recovered, and peer predictability beside the latter."""


def intervention_section(
    tables: Mapping[tuple[int, int], AxisTable], subject: str, *, permutations: int = 1000
) -> Section:
    """Word and draw how damage alone and the share that peers recover align over training.

    Parameters
    ----------
    tables : (seed, step) -> measurement, each with foretold damages
    subject : which network on which data, for the wording
    permutations : of the null in which channels are paired at random

    Raises
    ------
    NoDataError
        a table without foretold damages
    """
    if not all(table.damage for table in tables.values()):
        raise NoDataError("damages were not foretold. Call measure(..., damage=True).")
    couplings = training_couplings(tables, pairs=OF_INTERVENTION, permutations=permutations)
    means, shares = mean_couplings(couplings), median_shares(tables)
    seed, steps = min(seed for seed, _ in tables), sorted({step for _, step in tables})
    ends = [(f"step {step}", tables[seed, step]) for step in dict.fromkeys((steps[0], steps[-1]))]
    return Section(
        title=TITLE,
        note=f"{subject}. Relevance is the damage, foretold, of holding a channel at its mean "
        "(nats of divergence from the intact prediction, no labels read); replaceability the share "
        "of it that the channel's regression on its peers wins back, on images that the "
        "regression was not fitted on. Spearman across the channels of a layer, averaged over "
        "layers; intervals are 95 % over seeds, none for fewer than three. Both come from "
        "the same images, whose errors they share: the corrected coupling is free of that.",
        findings=[
            start_and_end(couplings, means, AXES),
            *corrected_ends(couplings, means, AXES),
            apart(couplings),
            _follows(means),
            _recovered(shares),
        ],
        figures={
            "intervention_over_training": (
                coupling_over_training(couplings, means),
                "Coupling over training. Blue: mean over layers with its interval over seeds; thin "
                "grey lines: single layers; band: channels paired at random.",
            ),
            "recovered_over_training": (
                shares_over_training(shares),
                "The median channel of each layer (thin lines: mean over seeds) and their mean "
                "with its interval over seeds.",
            ),
            "intervention_scatter": (
                axis_scatter(ends, ALONE, RECOVERED),
                f"Every channel of seed {seed} on both axes, before and after training, with "
                "jackknife standard errors over images.",
            ),
        },
        tables={
            "intervention_couplings": couplings,
            "intervention_means": means,
            "intervention_shares": shares,
        },
    )


def median_shares(tables: Mapping[tuple[int, int], AxisTable]) -> pd.DataFrame:
    """One row per seed, step and layer: damage alone and share recovered of the median channel."""
    rows = [
        {
            "seed": seed,
            "step": step,
            "layer": layer,
            **{name: float(np.nanmedian(found.values()[name])) for name in (ALONE, RECOVERED)},
        }
        for (seed, step), table in sorted(tables.items())
        for layer, found in table.damage.items()
    ]
    return pd.DataFrame(rows)


def apart(couplings: pd.DataFrame) -> Finding:
    """Claim C1 of the axes of intervention: their coupling is less at the end than at the start.

    Judged as measured and, where it is known, corrected for attenuation: both must fall.
    """
    rows = of_pair(couplings, AXES)
    falls = {}
    for name in ("coupling", "corrected"):
        by_step = rows.groupby(["seed", "step"])[name].mean().unstack()
        change = by_step.iloc[:, 0] - by_step.iloc[:, -1]
        if change.notna().any():
            falls[name] = over_networks(change, (-2.0, 2.0))
    said = {"coupling": "as measured", "corrected": "corrected for attenuation"}
    listed = ", ".join(f"{said[name]} by {{{name}:+.2f}}" for name in falls)
    words = [verdict(fall) for fall in falls.values()]
    return Finding(
        "Claim C1 for these axes, that training takes them apart: {word} (their coupling falls, "
        f"{listed}).",
        {"word": words[0] if len(set(words)) == 1 else "not resolved", **falls},
    )


def _follows(means: pd.DataFrame) -> Finding:
    chosen = of_pair(means, FOLLOWS).sort_values("coupling")
    least, most = chosen.iloc[0], chosen.iloc[-1]
    return Finding(
        "What the local axis says of it: peer predictability ranks channels as the share recovered "
        "does by {least:+.2f} (step {least_step}, the least) to {most:+.2f} (step {most_step}) in "
        "the mean over layers; channels paired at random stay within ±{chance:.2f}.",
        {
            "least": estimate_of(least, "coupling"),
            "least_step": int(least["step"]),
            "most": estimate_of(most, "coupling"),
            "most_step": int(most["step"]),
            "chance": float(least["null_high"]),
        },
    )


def _recovered(shares: pd.DataFrame) -> Finding:
    by_step = over_seeds(shares, ["step"], RECOVERED, CORRELATION).sort_values("step")
    lowest = by_step.sort_values(RECOVERED).iloc[0]
    ends = {
        name: estimate_of(by_step.iloc[row], RECOVERED) for name, row in (("start", 0), ("end", -1))
    }
    return Finding(
        "Peers win back {start:.2f} of the median channel's damage at initialization and {end:.2f} "
        "after {steps} steps (mean over layers); the least is {lowest:.2f}, at step {step}.",
        {
            **ends,
            "lowest": estimate_of(lowest, RECOVERED),
            "step": int(lowest["step"]),
            "steps": int(by_step["step"].iloc[-1]),
        },
    )


@styled()
def shares_over_training(shares: pd.DataFrame) -> Figure:
    """Draw share recovered, and damage alone, of each layer's median channel against the step."""
    figure, axes = sheet(1, 2, width=8.8, height=3.1)
    for panel, name in zip(axes[0], (RECOVERED, ALONE), strict=True):
        for _, lines in shares.groupby("layer", sort=False):
            by_step = lines.groupby("step")[name].mean()
            panel.plot(by_step.index, by_step, color="0.75", linewidth=0.8, linestyle="-")
        panel.set_xscale("symlog", linthresh=1)
    mean = over_seeds(shares, ["step"], RECOVERED, CORRELATION).sort_values("step")
    left, right = axes[0]
    left.plot(mean["step"], mean[RECOVERED], "o-", color="C0", markersize=4)
    left.fill_between(mean["step"], mean["low"], mean["high"], color="C0", alpha=0.2)
    left.set_ylim(min(-0.05, shares[RECOVERED].min()), 1.05)
    right.set_yscale("log")
    label(left, "training step", "share", "share of the damage that peers recover")
    label(right, "training step", "nats", "damage alone")
    return figure
