"""The report's chapter on the angle between the two axes' gradients (claim C8)."""

from __future__ import annotations

import pandas as pd

from empirical.analysis.couplings import t_interval
from empirical.figures.gradients import gradient_profile
from empirical.report.page import Section
from theory.shared.findings import Finding

PUBLISHED = (0.05, 0.18)
"""Mean absolute cosines that the paper reports for hidden layers of trained networks."""


def gradients_section(cosines: pd.DataFrame) -> Section:
    """Word and draw how the two gradient directions lie to each other.

    Parameters
    ----------
    cosines : rows seed, step, layer, mean_absolute_cosine, random_directions; layers in order
        of execution, the first and the last step.
    """
    means = _means(cosines)
    return Section(
        title="Do the axes pull a channel's weights in different directions?",
        note="Cosine between the gradients of input capture and of task information with respect "
        "to each channel's weights, from the covariance of its input patches; mean of absolute "
        "values over the channels of a layer. Intervals are 95 % t-intervals over seeds.",
        findings=_findings(cosines, means),
        figures={
            "gradient_cosines": (
                gradient_profile(means),
                "Angle between the axes' gradients by layer, before and after training; dotted: "
                "directions drawn at random in as many dimensions.",
            )
        },
        tables={"gradient_cosines": cosines, "gradient_cosine_means": means},
    )


def _means(cosines: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (layer, step), group in cosines.groupby(["layer", "step"], sort=False):
        low, high = t_interval(group["mean_absolute_cosine"].to_numpy())
        rows.append(
            {
                "layer": layer,
                "step": step,
                "seeds": len(group),
                "mean_absolute_cosine": group["mean_absolute_cosine"].mean(),
                "low": low,
                "high": high,
                "random_directions": group["random_directions"].iloc[0],
            }
        )
    return pd.DataFrame(rows)


def _findings(cosines: pd.DataFrame, means: pd.DataFrame) -> list[Finding]:
    last = means[means["step"] == means["step"].max()]
    first, hidden = last.iloc[0], last.iloc[1:]
    findings = [
        Finding(
            "In the first layer ({layer}) the two gradients have a mean absolute cosine of "
            "{cosine:.2f} after training; random directions would have {chance:.2f}.",
            {
                "layer": first["layer"],
                "cosine": first["mean_absolute_cosine"],
                "chance": first["random_directions"],
            },
        )
    ]
    if hidden.empty:
        return findings
    low, high = PUBLISHED
    within = hidden["mean_absolute_cosine"].between(low, high)
    above = hidden["mean_absolute_cosine"] > high
    ends = cosines[cosines["layer"] != first["layer"]].groupby(["step", "seed"])
    by_step = ends["mean_absolute_cosine"].mean().groupby("step").mean()
    findings.append(
        Finding(
            "In the {layers} hidden layers after it the mean absolute cosine is {start:.2f} at "
            "initialization and {end:.2f} after training (lowest layer {least:.2f}, highest "
            "{most:.2f}). {within} of them lie in the published range of {low:.2f} to {high:.2f}, "
            "{above} above it.",
            {
                "layers": len(hidden),
                "start": float(by_step.iloc[0]),
                "end": float(by_step.iloc[-1]),
                "least": float(hidden["mean_absolute_cosine"].min()),
                "most": float(hidden["mean_absolute_cosine"].max()),
                "within": int(within.sum()),
                "low": low,
                "high": high,
                "above": int(above.sum()),
            },
        )
    )
    return findings
