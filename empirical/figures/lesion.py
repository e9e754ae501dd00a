"""Figures of the lesion analysis: peer support beyond the controls, predictors, depth, pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from theory.shared.style import MARKERS, label, sheet, styled

FEW_LAYERS = 24
"""With more layers than this their names are left out of the axis."""


def words(name: str) -> str:
    """Return a column's name as a reader would say it."""
    return name.replace("_", " ")


@styled
def support_beyond_controls(partial: pd.DataFrame, bins: pd.DataFrame, tested: str) -> Figure:
    """Partial rank correlation per layer, and damage of matched channels with much and little."""
    figure, axes = sheet(1, 2, width=9.0, height=3.6)
    layers = partial[partial["layer"] != "pooled"]
    pooled = partial[partial["layer"] == "pooled"].iloc[0]
    place = np.arange(len(layers))
    left = axes[0, 0]
    clear = (layers["p_holm"] < 0.05).to_numpy()
    values = layers["partial"].to_numpy()
    left.axhspan(pooled["low"], pooled["high"], color="0.88")
    left.axhline(pooled["partial"], color="0.3", linewidth=1.2, label="pooled; band 95 %")
    left.axhline(0, color="0.5", linewidth=0.8, linestyle=":")
    left.plot(place[clear], values[clear], "o", color="C0", label="p < 0.05 (Holm)")
    left.plot(
        place[~clear], values[~clear], "o", color="C0", markerfacecolor="white", label="p ≥ 0.05"
    )
    _name_layers(left, layers["layer"].tolist())
    label(left, "layer", "partial rank correlation", f"{words(tested)} with damage")
    left.legend(frameon=True, facecolor="white", edgecolor="none")
    right = axes[0, 1]
    matched = bins[bins["layer"] != "pooled"]
    for column, marker, text in (("damage_low", "v", "little"), ("damage_high", "^", "much")):
        right.plot(
            np.arange(len(matched)),
            matched[column],
            marker,
            color="C1" if text == "little" else "C0",
            label=f"{text} {words(tested)}",
        )
    right.vlines(
        np.arange(len(matched)),
        matched["damage_low"],
        matched["damage_high"],
        color="0.6",
        linewidth=1,
    )
    right.set_yscale("symlog", linthresh=1e-3)
    _name_layers(right, matched["layer"].tolist())
    label(right, "layer", "increase of loss by lesion (nats)", "matched in both controls")
    right.legend()
    return figure


@styled
def predictor_comparison(prediction: pd.DataFrame) -> Figure:
    """Pooled rank correlation of each score with damage, with its interval."""
    figure, axes = sheet(1, 1, width=6.5, height=0.5 + 0.4 * len(prediction))
    panel = axes[0, 0]
    rows = prediction.iloc[::-1].reset_index(drop=True)
    place = np.arange(len(rows))
    panel.hlines(place, rows["low"], rows["high"], color="0.4", linewidth=1.6)
    panel.plot(rows["correlation"], place, "o", color="C0")
    panel.axvline(0, color="0.5", linewidth=0.8, linestyle=":")
    panel.set_yticks(place, [words(score) for score in rows["score"]])
    label(panel, "rank correlation with damage (pooled over layers, 95 %)", "")
    return figure


@styled
def damage_by_depth(depth: pd.DataFrame, tested: str) -> Figure:
    """Mean damage of a channel, and its mean peer support, along the network."""
    figure, axes = sheet(1, 2, width=9.0, height=3.4)
    left, right = axes[0]
    left.errorbar(
        depth["position"],
        depth["mean_damage"],
        yerr=depth["mean_damage_se"],
        fmt="o-",
        capsize=2,
        label="mean ± standard error",
    )
    left.plot(depth["position"], depth["median_damage"], "s--", color="C1", label="median")
    left.set_yscale("symlog", linthresh=1e-3)
    left.legend()
    right.plot(depth["position"], depth[f"mean_{tested}"], "o-")
    for panel in (left, right):
        _name_layers(panel, depth["layer"].tolist())
    label(left, "layer", "increase of loss by lesion (nats)", "damage of a channel")
    label(right, "layer", "share of variance", f"mean {words(tested)}")
    return figure


@styled
def recovery_by_layer(by_layer: pd.DataFrame) -> Figure:
    """Recovered and predicted share along the network, one panel per peer set."""
    kinds = list(dict.fromkeys(by_layer["peers"]))
    figure, axes = sheet(1, len(kinds), width=3.4 * len(kinds), height=3.6, sharey=True)
    for panel, kind in zip(axes[0], kinds, strict=True):
        rows = by_layer[by_layer["peers"] == kind]
        place = np.arange(len(rows))
        panel.plot(place, rows["predicted"], "s--", color="C1", markerfacecolor="white")
        panel.errorbar(
            place, rows["recovered"], yerr=1.96 * rows["recovered_se"], fmt="o", color="C0"
        )
        panel.axhline(0, color="0.5", linewidth=0.8, linestyle=":")
        _name_layers(panel, rows["layer"].tolist())
        label(panel, "layer", "", f"peers: {kind}")
    seen = by_layer["recovered"].dropna()
    # One layer with a wide interval would flatten all others.
    axes[0, 0].set_ylim(min(-0.1, seen.min() - 0.1), max(1.1, seen.max() + 0.1))
    axes[0, 0].set_ylabel("share")
    axes[0, 0].legend(
        axes[0, 0].get_lines()[:1] + axes[0, 0].containers[:1],
        ["variance that peers explain", "damage recovered"],
    )
    return figure


@styled
def pair_interactions(pairs: pd.DataFrame) -> Figure:
    """Interaction of lesioned pairs against S_ij, and the matching of single damage."""
    figure, axes = sheet(1, 2, width=9.0, height=3.4)
    left, right = axes[0]
    for index, (group, text) in enumerate((("control", "control"), ("high", "high excess"))):
        rows = pairs[pairs["group"] == group]
        style = {"marker": MARKERS[index], "linestyle": "", "markersize": 4, "color": f"C{index}"}
        left.errorbar(
            rows["excess"],
            rows["interaction"],
            yerr=rows["interaction_se"],
            elinewidth=0.6,
            label=text,
            **style,
        )
        right.plot(rows["single_sum"], rows["pair_damage"], label=text, **style)
    left.axhline(0, color="0.5", linewidth=0.8, linestyle=":")
    left.set_xscale("log")
    left.set_yscale("symlog", linthresh=1e-3)
    label(left, "excess S_ij (nats)", "interaction (nats)", "D(i, j) − D(i) − D(j)")
    limits = [
        float(min(pairs["single_sum"].min(), pairs["pair_damage"].min())),
        float(max(pairs["single_sum"].max(), pairs["pair_damage"].max())),
    ]
    right.plot(limits, limits, color="0.4", linewidth=1, linestyle="--")
    right.set_xscale("symlog", linthresh=1e-3)
    right.set_yscale("symlog", linthresh=1e-3)
    label(right, "D(i) + D(j) (nats)", "D(i, j) (nats)", "pairs against the sum of their parts")
    for panel in (left, right):
        panel.legend()
    return figure


def _name_layers(panel: Axes, names: Sequence[str]) -> None:
    if len(names) > FEW_LAYERS:
        return
    panel.set_xticks(np.arange(len(names)), names, rotation=90, fontsize=7)
