"""Figures of how a coupling depends on the choices of its measurement."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from empirical.analysis.couplings import BETWEEN, of_pair
from theory.shared.style import label, sheet, styled


@styled
def robustness_bars(variations: pd.DataFrame, counts: pd.DataFrame) -> Figure:
    """Left: coupling per variation, a point per seed. Right: coupling against share of images."""
    figure, axes = sheet(1, 2, width=10.0, height=3.6)
    left, right = axes[0]
    chosen = of_pair(variations, BETWEEN)
    names = list(dict.fromkeys(chosen["variation"]))
    place = chosen["variation"].map(names.index)
    left.plot(chosen["coupling"], place, "o", color="C0", markersize=4)
    base = chosen.loc[chosen["variation"] == names[0], "coupling"].mean()
    left.axvline(base, color="0.5", linestyle=":")
    left.set_yticks(np.arange(len(names)), names)
    left.invert_yaxis()
    left.set_xlim(-1, 1)
    label(left, "Spearman rank correlation", "")
    for _, lines in of_pair(counts, BETWEEN).groupby("seed"):
        right.plot(lines["images"] * 100, lines["coupling"], "o-", color="C0", markersize=3)
    right.set_ylim(-1, 1)
    label(right, "calibration images used (%)", "Spearman rank correlation")
    return figure
