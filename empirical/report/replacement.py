"""The report's chapter on peer replacement in one network, with intervals over images."""

from __future__ import annotations

import numpy as np

from empirical.figures.lesion import recovery_by_layer
from empirical.lesions.replacement import ReplacementTable
from empirical.report.page import Section
from theory.shared.findings import Finding

WIDTH = 1.96
"""Half the width of a 95 % interval, in standard errors."""


def replacement_section(table: ReplacementTable) -> Section:
    """Word and draw what peers win back of a mean lesion's damage, against the prediction."""
    by_layer = table.by_layer()
    return Section(
        title="Can its peers replace a channel?",
        note="Every channel, one at a time, becomes its ridge regression on peers of its layer, "
        f"fitted on calibration images, at the point {table.point[0].replace('_', ' ')}; "
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


def _shares(table: ReplacementTable, kinds: list[str]) -> Finding:
    values: dict[str, float] = {}
    for kind in kinds:
        share, error = table.pooled(kind)
        values |= {kind: share, f"{kind}_low": share - WIDTH * error}
        values[f"{kind}_high"] = share + WIDTH * error
    listed = "; ".join(
        f"{kind} {{{kind}:.1%}} [{{{kind}_low:.1%}}, {{{kind}_high:.1%}}]" for kind in kinds
    )
    return Finding(f"Of the mean lesions' summed damage, peers win back: {listed}.", values)


def _against_random(table: ReplacementTable, kind: str) -> Finding:
    gain, error = table.pooled_difference(kind, "random")
    low, high = gain - WIDTH * error, gain + WIDTH * error
    verdict = (
        "the chosen peers do better"
        if low > 0
        else "the random peers do better"
        if high < 0
        else "the chosen peers do not beat random ones beyond the uncertainty over images"
    )
    return Finding(
        f"Peers chosen by {kind} against random sets of equal size: "
        "{gain:+.1%} [{low:+.1%}, {high:+.1%}] of the damage: " + verdict + ".",
        {"gain": gain, "low": low, "high": high},
    )


def _prediction(table: ReplacementTable) -> Finding:
    share, error = table.pooled("all")
    layers = table.by_layer()
    everyone = layers[layers["peers"] == "all"]
    weight = (everyone["mean_lesion"] * everyone["channels"]).clip(lower=0)
    predicted = float((everyone["predicted"] * weight).sum() / weight.sum())
    gap = share - predicted
    low, high = gap - WIDTH * error, gap + WIDTH * error
    verdict = (
        "more than predicted"
        if low > 0
        else "less than predicted"
        if high < 0
        else "as predicted, within the uncertainty over images"
    )
    return Finding(
        "All peers explain {predicted:.1%} of the variance of the channels (weighted by damage) "
        "and win back {recovered:.1%} of the damage: {gap:+.1%} [{low:+.1%}, {high:+.1%}], "
        + verdict
        + ".",
        {"predicted": predicted, "recovered": share, "gap": gap, "low": low, "high": high},
    )
