"""Accuracy and loss over training."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from theory.shared.style import MARKERS, label, sheet, styled


@styled
def training_curves(accuracy: pd.DataFrame, history: pd.DataFrame) -> Figure:
    """Accuracy on the report images, and loss on training images, against training step.

    Parameters
    ----------
    accuracy : rows seed, step, accuracy, accuracy_se.
    history : rows seed, step, loss (mean since the row before; NaN at step 0).
    """
    figure, axes = sheet(1, 2, width=8.0, height=3.2)
    for index, (seed, rows) in enumerate(accuracy.groupby("seed")):
        axes[0, 0].errorbar(
            rows["step"],
            100 * rows["accuracy"],
            yerr=100 * rows["accuracy_se"],
            marker=MARKERS[index % len(MARKERS)],
            markersize=4,
            label=f"seed {seed}",
        )
        lost = history[(history["seed"] == seed) & history["loss"].notna()]
        axes[0, 1].plot(
            lost["step"],
            lost["loss"],
            marker=MARKERS[index % len(MARKERS)],
            markersize=4,
            label=f"seed {seed}",
        )
    for panel in axes[0]:
        panel.set_xscale("symlog", linthresh=1)
    axes[0, 0].legend(loc="upper left")
    label(axes[0, 0], "training step", "accuracy on report images (%)")
    label(axes[0, 1], "training step", "training loss (nats)")
    return figure
