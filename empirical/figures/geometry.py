"""Figures of the angle between the two axes' gradients."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from empirical.figures.style import MARKERS, label, sheet, styled


@styled
def cosine_profile(cosines: pd.DataFrame) -> Figure:
    """Mean absolute cosine per layer, one line per moment, with that of random directions."""
    layers = list(dict.fromkeys(cosines["layer"]))
    place = np.arange(len(layers))
    figure, axes = sheet(1, 1, width=max(5.0, 0.45 * len(layers) + 2), height=3.6)
    panel = axes[0, 0]
    for index, (moment, rows) in enumerate(cosines.groupby("moment", sort=False)):
        by_layer = rows.groupby("layer")["mean_absolute_cosine"]
        middle = by_layer.mean().reindex(layers)
        spread = by_layer.std().reindex(layers).fillna(0)
        panel.errorbar(
            place,
            middle,
            yerr=spread,
            marker=MARKERS[index],
            markersize=4,
            capsize=2,
            label=f"{moment} training",
        )
    chance = cosines.groupby("layer")["random_directions"].mean().reindex(layers)
    panel.plot(place, chance, color="0.5", linestyle=":", label="random directions")
    panel.set_xticks(place, layers, rotation=60, ha="right")
    panel.set_ylim(0, None)
    panel.legend()
    label(panel, "layer", "mean |cosine| of the two gradients")
    return figure
