"""Peer replacement in one network, with intervals over images: the chapter and its figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from empirical.lesions.replacement_table import ReplacementTable
from empirical.report.page import Section
from empirical.report.panels import layer_ticks
from empirical.report.wording import words
from theory.shared.findings import Estimate, Finding, verdict
from theory.shared.style import label, sheet, styled

WIDTH = 1.96
"""Half the width of a 95 % interval, in standard errors."""


def replacement_section(table: ReplacementTable) -> Section:
    """Word and draw what peers win back of a mean lesion's damage, against the prediction."""
    by_layer = table.by_layer()
    return Section(
        title="Can its peers replace a channel?",
        note="Every channel, one at a time, becomes its ridge regression on peers of its layer, "
        f"fitted on calibration images, at the point {words(table.point[0])}; "
        f"{table.n_images} held-out images. Theory predicts, at a least-squares readout, that the "
        "recovered share of the mean lesion's damage is the share of the channel's variance that "
        "the peers explain. Intervals are 95 % over images.",
        findings=replacement_findings(table),
        figures={
            "replacement_by_layer": (
                recovery_by_layer(by_layer),
                "Recovered share of each layer's summed damage (markers, 95 % over images) and the "
                "share of variance that the peers explain (open line). Layers whose lesions do not "
                "clearly hurt have no marker.",
            )
        },
        tables={"replacement_by_layer": by_layer, "replacement_channels": table.to_frame()},
        shown={"replacement_by_layer": "Recovered and predicted, by layer and peer set"},
    )


def replacement_findings(table: ReplacementTable) -> list[Finding]:
    """Sentences on each peer set, on chosen against random peers, and on the prediction."""
    kinds = [kind for kind in dict.fromkeys(table.kind) if kind != "mean"]
    if np.isnan(table.pooled(kinds[0])[0]):
        average, error = table.summed_mean_lesions()
        return [
            Finding(
                "The mean lesions of all channels together change the loss by {damage:+.3g} ± "
                "{error:.2g} nats (standard error over images): not clearly a damage, so there is "
                "nothing for peers to win back. Use more images, or a network trained further.",
                {"damage": average, "error": error},
            )
        ]
    findings = [_shares(table, kinds)]
    findings += [
        _against_random(table, kind)
        for kind in ("hull", "overlap")
        if kind in kinds and "random" in kinds
    ]
    if "all" in kinds:
        findings.append(_prediction(table))
    return findings


def _interval(value: float, error: float) -> Estimate:
    return Estimate(value, value - WIDTH * error, value + WIDTH * error)


def _shares(table: ReplacementTable, kinds: list[str]) -> Finding:
    values = {kind: _interval(*table.pooled(kind)) for kind in kinds}
    listed = "; ".join(f"{kind} {{{kind}:.1%}}" for kind in kinds)
    return Finding(f"Of the mean lesions' summed damage, peers win back: {listed}.", values)


def _against_random(table: ReplacementTable, kind: str) -> Finding:
    gain = _interval(*table.pooled_difference(kind, "random"))
    return Finding(
        f"That peers chosen by {kind} beat random sets of equal size, on these images: {{word}} "
        "({gain:+.1%} of the damage).",
        {"word": verdict(gain), "gain": gain},
    )


def _prediction(table: ReplacementTable) -> Finding:
    share, error = table.pooled("all")
    layers = table.by_layer()
    everyone = layers[layers["peers"] == "all"]
    weight = (everyone["mean_lesion"] * everyone["channels"]).clip(lower=0)
    predicted = float((everyone["predicted"] * weight).sum() / weight.sum())
    gap = _interval(share - predicted, error)
    outcome = (
        "more than predicted"
        if gap.low > 0
        else "less than predicted"
        if gap.high < 0
        else "as predicted, within the uncertainty over images"
    )
    return Finding(
        "All peers explain {predicted:.1%} of the variance of the channels (weighted by damage) "
        "and win back {recovered:.1%} of the damage: {gap:+.1%}, "
        f"{outcome}.",
        {"predicted": predicted, "recovered": share, "gap": gap},
    )


@styled()
def recovery_by_layer(by_layer: pd.DataFrame) -> Figure:
    """Recovered and predicted share along the network, one panel per peer set."""
    kinds = list(dict.fromkeys(by_layer["peers"]))
    figure, axes = sheet(1, len(kinds), width=3.4 * len(kinds), height=3.6, sharey=True)
    for panel, kind in zip(axes[0], kinds, strict=True):
        rows = by_layer[by_layer["peers"] == kind]
        place = np.arange(len(rows))
        panel.plot(
            place,
            rows["predicted"],
            "s--",
            color="C1",
            markerfacecolor="white",
            label="variance that peers explain",
        )
        panel.errorbar(
            place,
            rows["recovered"],
            yerr=WIDTH * rows["recovered_se"],
            fmt="o",
            color="C0",
            label="damage recovered",
        )
        panel.axhline(0, color="0.5", linewidth=0.8, linestyle=":")
        layer_ticks(panel, rows["layer"].tolist())
        label(panel, "layer", "", f"peers: {kind}")
    seen = by_layer["recovered"].dropna()
    # One layer with a wide interval would flatten all others.
    axes[0, 0].set_ylim(min(-0.1, seen.min() - 0.1), max(1.1, seen.max() + 0.1))
    axes[0, 0].set_ylabel("share")
    axes[0, 0].legend()
    return figure
