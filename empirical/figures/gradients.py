"""The angle between the two axes' gradients, by layer."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from theory.shared.style import MARKERS, label, sheet, styled


@styled
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
    styles = ("--", "-")
    for index, (step, rows) in enumerate(means.groupby("step")):
        where = rows["layer"].map(places) + 0.08 * (2 * index - 1)
        value = rows["mean_absolute_cosine"]
        below = (value - rows["low"]).clip(lower=0).fillna(0)
        above = (rows["high"] - value).clip(lower=0).fillna(0)
        panel.errorbar(
            where,
            value,
            yerr=np.stack([below, above]),
            marker=MARKERS[index],
            linestyle=styles[index % 2],
            markersize=4,
            label=f"step {step}",
        )
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
