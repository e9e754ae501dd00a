"""What the law of damage foretells of every channel, beside what lesions measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from empirical.lesions.foretold import Agreement
from empirical.report.page import Section
from empirical.report.panels import layer_legend, points_by_layer
from theory.shared.findings import Finding
from theory.shared.style import sheet, styled

TITLE = "What is each channel worth, alone and with its peers?"

WHAT = {"mean": "held at its mean", "all": "replaced by its peers"}

ENOUGH = 16
"""Resolved channels of a layer from which its rank correlation is counted."""


def damage_section(found: Agreement, images: int) -> Section:
    """Word and draw foretold against measured damage; `images` were foretold on."""
    return Section(
        title=TITLE,
        note=f"Foretold from gradients on {images} calibration images, two passes for all channels "
        "of all layers, no labels read: half the mean square of what each channel's deviation from "
        "its mean, or from what its peers foretell, does to the prediction. Measured by lesions "
        "and replacements on held-out images, as the divergence of the prediction from the intact "
        "one. Nats.",
        findings=[_finding(kind, part) for kind, part in found.layers.groupby("kind", sort=False)],
        figures={
            "damage_foretold": (
                foretold_against_measured(found.channels),
                "Every channel. On the line the law is exact; channels at the edge have no damage.",
            )
        },
        tables={"damage_layers": found.layers, "damage_channels": found.channels},
        shown={"damage_layers": "Rank correlation and ratio, by layer"},
    )


def _finding(kind: object, layers: pd.DataFrame) -> Finding:
    wide = layers[layers["resolved"] >= ENOUGH]
    used = wide if len(wide) else layers[layers["resolved"] >= 3]
    what = WHAT[str(kind)]
    if used.empty:
        return Finding(
            f"Channels {what}: too few have a damage above zero to rank; "
            "{channels} in {layers} layers.",
            {"channels": int(layers["channels"].sum()), "layers": len(layers)},
        )
    return Finding(
        f"Channels {what}: the law ranks measured damage by {{spearman:.2f}} within a layer (mean "
        "over {layers} layers, {lowest:.2f} to {highest:.2f}); measured is {ratio:.2f} times "
        "foretold ({least:.2f} to {most:.2f}).",
        {
            "spearman": used["spearman"].mean(),
            "lowest": used["spearman"].min(),
            "highest": used["spearman"].max(),
            "ratio": used["ratio"].mean(),
            "least": used["ratio"].min(),
            "most": used["ratio"].max(),
            "layers": len(used),
        },
    )


@styled()
def foretold_against_measured(channels: pd.DataFrame) -> Figure:
    """Draw a panel per kind, both axes logarithmic, with the line of equality."""
    kinds = list(dict.fromkeys(channels["kind"]))
    figure, axes = sheet(1, len(kinds), width=4.5 * len(kinds), height=3.6)
    values = channels[["foretold", "measured"]].to_numpy()
    top = values.max(initial=1e-12)
    ends = np.array([1e-7 * top, 2 * top])
    for panel, kind in zip(axes[0], kinds, strict=True):
        shown = channels[channels["kind"] == kind].copy()
        shown[["foretold", "measured"]] = shown[["foretold", "measured"]].clip(lower=ends[0])
        points_by_layer(panel, shown, "foretold", "measured", size=3, alpha=0.6)
        panel.plot(ends, ends, color="0.4", linewidth=0.8)
        panel.set(xscale="log", yscale="log", xlim=ends, ylim=ends, title=WHAT[str(kind)])
        panel.set(xlabel="foretold (nats)", ylabel="measured (nats)")
    layer_legend(figure, axes[0, 0])
    return figure
