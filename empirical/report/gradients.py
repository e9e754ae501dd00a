"""The angle between the two axes' gradients (claim C8): the chapter and its figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from empirical.analysis.seeds import SHARE, over_seeds
from empirical.report.page import Section
from theory.shared.findings import Finding
from theory.shared.style import label, mark, sheet, styled

TITLE = "Do the axes pull a channel's weights in different directions?"

PUBLISHED = (0.05, 0.18)
"""Mean absolute cosines that the paper reports for hidden layers of trained networks."""


def gradients_section(cosines: pd.DataFrame) -> Section:
    """Word and draw how the two gradient directions lie to each other.

    Parameters
    ----------
    cosines : rows seed, step, layer, mean_absolute_cosine, random_directions; layers in order
        of execution, the first and the last step.
    """
    keys = ["layer", "step"]
    chance = cosines.drop_duplicates(keys)[[*keys, "random_directions"]]
    means = over_seeds(cosines, keys, "mean_absolute_cosine", SHARE).merge(chance, on=keys)
    return Section(
        title=TITLE,
        note="Cosine between the gradients of input capture and of task information with respect "
        "to each channel's weights, from the covariance of its input patches; mean of absolute "
        "values over the channels of a layer. Intervals are 95 % over seeds, of three at least.",
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


def _findings(cosines: pd.DataFrame, means: pd.DataFrame) -> list[Finding]:
    last = means[means["step"] == means["step"].max()]
    first, hidden = last.iloc[0], last["mean_absolute_cosine"].iloc[1:]
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
                "least": float(hidden.min()),
                "most": float(hidden.max()),
                "within": int(hidden.between(low, high).sum()),
                "low": low,
                "high": high,
                "above": int((hidden > high).sum()),
            },
        )
    )
    return findings


@styled()
def gradient_profile(means: pd.DataFrame) -> Figure:
    """Mean absolute cosine of each layer before and after training, against random directions.

    Parameters
    ----------
    means : rows layer, step, mean_absolute_cosine, low, high (NaN for one seed),
        random_directions; layers in order of execution.
    """
    layers = list(dict.fromkeys(means["layer"]))
    figure, axes = sheet(1, 1, width=max(5.0, 0.42 * len(layers) + 1.5), height=3.8)
    panel = axes[0, 0]
    places = {name: place for place, name in enumerate(layers)}
    for index, (step, rows) in enumerate(means.groupby("step")):
        where = rows["layer"].map(places) + 0.08 * (2 * index - 1)
        value = rows["mean_absolute_cosine"]
        error = np.stack([value - rows["low"], rows["high"] - value]).clip(min=0)
        look = mark(index, linestyle=("--", "-")[index % 2], markersize=4)
        panel.errorbar(where, value, yerr=np.nan_to_num(error), label=f"step {step}", **look)
    chance = means.drop_duplicates("layer")
    panel.plot(
        chance["layer"].map(places),
        chance["random_directions"],
        color="0.5",
        linestyle=":",
        label="random directions",
    )
    panel.set_xticks(range(len(layers)), layers, rotation=90)
    panel.set_ylim(0, 1)
    panel.legend()
    label(panel, "layer", "mean absolute cosine of the two gradients")
    return figure
