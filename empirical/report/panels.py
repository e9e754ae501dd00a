"""Pieces that the chapters' figures share: layers as markers, legends and ticks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from theory.shared.style import mark

FEW_LAYERS = 24
"""With more layers than this their names are left out of the axis."""


def points_by_layer(
    panel: Axes, rows: pd.DataFrame, x: str, y: str, *, size: float, alpha: float = 1.0
) -> None:
    """One column against another, a mark per layer."""
    for index, (layer, group) in enumerate(rows.groupby("layer", sort=False)):
        look = mark(index, linestyle="none", markersize=size, alpha=alpha)
        panel.plot(group[x], group[y], label=str(layer), **look)


def layer_legend(figure: Figure, panel: Axes) -> None:
    """One legend below all panels: a network may have many layers."""
    handles, names = panel.get_legend_handles_labels()
    figure.legend(
        handles, names, title="layer", loc="outside lower center", ncols=min(6, len(names))
    )


def layer_ticks(panel: Axes, names: Sequence[str]) -> None:
    """Layers along the horizontal axis, by name where there are few."""
    if len(names) <= FEW_LAYERS:
        panel.set_xticks(np.arange(len(names)), names, rotation=90, fontsize=7)
