"""Figures of single-channel damage: damage against scores, and recovery against prediction."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from theory.shared.style import MARKERS, label, sheet, styled

UNITS = {"peer_predictability": "share of variance"}


@styled
def damage_against_axes(lesions: pd.DataFrame, scores: Sequence[str]) -> Figure:
    """Mean-lesion damage of each channel against each score, one marker per layer."""
    chosen = lesions[lesions["kind"] == "mean"]
    figure, axes = sheet(1, len(scores), width=3.2 * len(scores), height=3.2, sharey=True)
    for panel, score in zip(axes[0], scores, strict=True):
        for index, (layer, group) in enumerate(chosen.groupby("layer", sort=False)):
            panel.plot(
                group[score],
                group["loss_increase"],
                MARKERS[index % len(MARKERS)],
                markersize=3.5,
                alpha=0.7,
                color=f"C{index % 6}",
                label=layer,
            )
        panel.set_yscale("symlog", linthresh=0.01)
        label(panel, f"{score.replace('_', ' ')} ({UNITS.get(score, 'nats')})", "")
    axes[0, 0].set_ylabel("increase of loss by lesion (nats)")
    _layer_legend(figure, axes[0, 0])
    return figure


@styled
def recovered_against_predicted(pooled: pd.DataFrame) -> Figure:
    """Recovered share of a layer's damage against the predicted one, one panel per peer set."""
    kinds = list(dict.fromkeys(pooled["peers"]))
    figure, axes = sheet(1, len(kinds), width=3.2 * len(kinds), height=3.2, sharey=True)
    for panel, kind in zip(axes[0], kinds, strict=True):
        of_kind = pooled[pooled["peers"] == kind]
        panel.plot([0, 1], [0, 1], color="0.5", linewidth=1, linestyle="--")
        for index, (layer, group) in enumerate(of_kind.groupby("layer", sort=False)):
            marker = MARKERS[index % len(MARKERS)]
            panel.plot(
                group["predicted"],
                group["recovered"],
                marker,
                color=f"C{index % 6}",
                markersize=5,
                label=layer,
            )
        panel.axhline(0, color="0.4", linewidth=0.8, linestyle="-")
        label(panel, "variance explained by peers (share)", "", f"peers: {kind}")
    axes[0, 0].set_ylabel("recovered damage (share)")
    _layer_legend(figure, axes[0, 0])
    return figure


def _layer_legend(figure: Figure, panel: Axes) -> None:
    """One legend below all panels: a network may have many layers."""
    handles, names = panel.get_legend_handles_labels()
    figure.legend(
        handles, names, title="layer", loc="outside lower center", ncols=min(6, len(names))
    )
