"""Damage beside the peers as a product of two factors (claim C4 restated): the chapter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from empirical.analysis.damage_factors import PARTS, FactorAnalysis
from empirical.report.page import Section
from empirical.report.panels import layer_ticks
from empirical.report.wording import estimate_of, left_out, reasons, words
from theory.shared.findings import Estimate, Finding, verdict, weakest
from theory.shared.style import label, sheet, styled

TITLE = "Is damage what the prediction minds times what peers cannot supply?"

SAID = {
    "alone": "what the prediction minds",
    "peers": "what peers cannot supply",
    "sampling": "sampling of the measurement",
    "beyond": "neither",
}


def damage_factors_section(found: FactorAnalysis) -> Section:
    """Word and draw how the spread of log damage divides, and what scores add to the factors."""
    figures = {
        "damage_factors": (
            shares_by_layer(found.layers),
            "Shares of the variance of log damage over the channels of each layer.",
        )
    }
    tables = {"damage_factors": found.layers, "damage_factors_pooled": found.pooled}
    tables |= reasons(found.skipped, "damage_left_out")
    if len(found.added):
        tables["damage_added"] = found.added
    return Section(
        title=TITLE,
        note="Damage of a channel that its peers stand in for, measured on held-out images, and "
        "two factors foretold on calibration images: the damage alone, and the share of it that "
        "peers do not recover. Logarithms add, so the variance of log damage over a layer's "
        "channels is the sum of its covariances with both and with what neither says; sampling of "
        "the measurement is taken out of the latter by its standard errors. Layers are added up "
        "by their channels; intervals are 95 % over resampled families of near-copies. Below, the "
        "slope of damage on a score beyond a quadratic in both factors, on normal scores, each "
        "half of the images the instrument of the other."
        + left_out(found.skipped, "damage_left_out"),
        findings=[
            _claim(found.pooled),
            _law(found.layers, found.pooled),
            *_depth(found.pooled),
            _added(found.added),
        ],
        figures=figures,
        tables=tables,
        shown={"damage_factors_pooled": "How the spread of log damage divides"}
        | ({"damage_added": "What scores add to the two factors"} if len(found.added) else {}),
    )


def _share(row: Any, name: str) -> Estimate:
    return estimate_of(row, name, f"{name}_low", f"{name}_high")


def _claim(pooled: pd.DataFrame) -> Finding:
    row = pooled.iloc[0]
    shares = {name: _share(row, name) for name in (*PARTS, "both")}
    both = shares["both"]
    half = Estimate(both.mean - 0.5, both.low - 0.5, both.high - 0.5)
    return Finding(
        "Claim C4 restated, that among the channels of a layer damage beside the peers is what the "
        "prediction minds times what peers cannot supply, and that both factors count: {word} "
        "(both account for {both:.0%} of the spread of log damage; what the prediction minds for "
        "{alone:.0%}, what peers cannot supply for {peers:.0%}, sampling for {sampling:.0%}, "
        "neither for {beyond:.0%}; {channels} channels).",
        {
            "word": weakest(
                verdict(shares["alone"]), verdict(shares["peers"]), verdict(both, half)
            ),
            **shares,
            "channels": int(row["channels"]),
        },
    )


def _law(layers: pd.DataFrame, pooled: pd.DataFrame) -> Finding:
    row = pooled.iloc[0]
    return Finding(
        "The law's error: measured damage is {ratio:.2f} times foretold in the geometric mean "
        "({least:.2f} to {most:.2f} over layers), and scatters about that by {law_error:.2f} in "
        "the logarithm, free of sampling, where log damage spreads by {spread:.2f}.",
        {
            **{name: float(row[name]) for name in ("ratio", "law_error", "spread")},
            "least": float(layers["ratio"].min()),
            "most": float(layers["ratio"].max()),
        },
    )


def _depth(pooled: pd.DataFrame) -> list[Finding]:
    if len(pooled) < 3:
        return []
    first, second = pooled.iloc[1], pooled.iloc[2]
    return [
        Finding(
            "Along the network: what peers cannot supply accounts for {first:.0%} of the spread in "
            "the first half of the layers and {second:.0%} in the second, what the prediction "
            "minds for {first_alone:.0%} and {second_alone:.0%}.",
            {
                "first": _share(first, "peers"),
                "second": _share(second, "peers"),
                "first_alone": _share(first, "alone"),
                "second_alone": _share(second, "alone"),
            },
        )
    ]


def _added(added: pd.DataFrame) -> Finding:
    if added.empty:
        return Finding(
            "What scores add to the factors cannot be said: no layer has enough channels whose "
            "factors and scores are reliable."
        )
    values: dict[str, Any] = {}
    listed, open_ = [], []
    for row in added.to_dict("records"):
        name = str(row["score"])
        values[name] = estimate_of(row, "slope")
        listed.append(f"{words(name)} {{{name}:+.2f}}")
        if not row["halves"]:
            open_.append(words(name))
    clear = added[added["p_holm"] < 0.05]["score"]
    said = ", ".join(words(name) for name in clear) or "no score"
    without = f" Errors of {', '.join(open_)} were not measured: no verdict." if open_ else ""
    return Finding(
        f"Beyond both factors {said} adds to the damage (Holm's p below 0.05 over scores); slopes "
        f"in standard deviations: {', '.join(listed)}.{without}",
        values,
    )


@styled()
def shares_by_layer(layers: pd.DataFrame) -> Figure:
    """Draw a bar per layer: the shares of the variance of log damage, one above the other."""
    figure, axes = sheet(1, 1, width=7.0, height=3.4)
    panel, place = axes[0, 0], np.arange(len(layers))
    above, below = np.zeros(len(layers)), np.zeros(len(layers))
    for index, name in enumerate(PARTS):
        values = layers[name].to_numpy()
        start = np.where(values >= 0, above, below)
        panel.bar(place, values, bottom=start, width=0.8, color=f"C{index}", label=SAID[name])
        above, below = above + np.maximum(values, 0), below + np.minimum(values, 0)
    panel.axhline(1, color="0.4", linewidth=0.8, linestyle=":")
    panel.axhline(0, color="0.4", linewidth=0.8)
    layer_ticks(panel, layers["layer"].tolist())
    label(panel, "layer", "share of the variance of log damage", "")
    panel.legend(frameon=True, facecolor="white", edgecolor="none")
    return figure
