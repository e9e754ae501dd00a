"""What losing a channel costs and its peers win back, over seeds: the short form of claim C4."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from empirical.analysis.damage import SCORES, damage_correlations, pooled_recovery
from empirical.analysis.seeds import CORRELATION, over_networks, over_seeds
from empirical.report.page import Section
from empirical.report.panels import layer_legend, points_by_layer
from empirical.report.wording import estimate_of, quantity_label, words
from theory.shared.findings import Finding, verdict
from theory.shared.style import label, sheet, styled

TITLE = "What does losing a channel cost, and can its peers replace it?"


def lesion_section(lesions: pd.DataFrame, recovered: pd.DataFrame) -> Section:
    """Word and draw what losing a channel costs, and what its peers win back.

    Parameters
    ----------
    lesions : rows seed, layer, channel, kind, loss_increase, loss_increase_se and the scores.
    recovered : rows seed, layer, channel, kind (peer set), predicted, loss_increase and
        mean_lesion, the damage of the channel's mean lesion.
    """
    correlations = damage_correlations(lesions)
    summary = over_seeds(correlations, ["kind", "score"], "spearman", CORRELATION)
    pooled = pooled_recovery(recovered)
    return Section(
        title=TITLE,
        note="Channel by channel, in every layer, on held-out images that neither "
        "training nor calibration saw: set to its mean before the norm, or to zero after it. Peer "
        "replacement puts the channel's regression on its peers, fitted on calibration images, in "
        "its place. At a least-squares readout theory predicts the recovered share to be the "
        "share of variance that the peers explain, 1 - damage ratio = E.",
        findings=[
            _cost(lesions),
            *recovery_findings(pooled),
            *_correlation_findings(summary),
        ],
        figures={
            "lesion_damage": (
                damage_against_axes(lesions, SCORES[:3]),
                "Damage of the mean lesion of every channel (all seeds) against three scores.",
            ),
            "peer_replacement": (
                recovered_against_predicted(pooled),
                "Recovered share of the summed damage of a layer's mean lesions, against the share "
                "of variance that the peers explain. One point per seed, layer and peer set; on "
                "the line the prediction is exact.",
            ),
        },
        tables={
            "lesions": lesions,
            "replacements": recovered,
            "damage_correlations": correlations,
            "damage_correlation_means": summary,
            "recovered": pooled,
        },
        shown={"damage_correlation_means": "Rank correlation of scores with lesion damage"},
    )


def _cost(lesions: pd.DataFrame) -> Finding:
    """What losing one channel costs: in the mean, the median and at worst, over networks."""
    lost = lesions[lesions["kind"] == "mean"].groupby("seed")["loss_increase"]
    return Finding(
        "Losing one channel, set to its mean, raises the loss by {mean:.3f} nats in the mean of a "
        "network's channels, {median:.3f} in the median, and {most:.2f} for the worst one.",
        {name: over_networks(getattr(lost, how)()) for name, how in
         (("mean", "mean"), ("median", "median"), ("most", "max"))},
    )  # fmt: skip


def _correlation_findings(summary: pd.DataFrame) -> list[Finding]:
    findings = []
    for kind, group in summary.groupby("kind", sort=False):
        by_score = group.set_index("score")
        best = str(by_score["spearman"].idxmax())
        names = [str(name) for name in by_score.index]
        listed = "; ".join(f"{words(name)} {{{name}:+.2f}}" for name in names)
        values = {name: estimate_of(by_score.loc[name], "spearman") for name in names}
        outcome = (
            f"{words(best)} ranks damage best, its interval above the rest"
            if by_score["low"][best] > by_score["high"].drop(best).max()
            else "no score is shown to rank damage best"
        )
        text = f"Damage of the {kind} lesion, rank correlation: {listed}: {outcome}."
        findings.append(Finding(text, values))
    return findings


def recovery_findings(pooled: pd.DataFrame) -> list[Finding]:
    """Sentences on what peers win back, on the hull against random peers, and on the forecast."""
    by_seed = pooled.groupby(["peers", "seed"], sort=False)[["mean_lesion", "replaced"]].sum()
    shares = (1 - by_seed["replaced"] / by_seed["mean_lesion"]).unstack("peers")
    kinds = list(dict.fromkeys(pooled["peers"]))
    values = {kind: over_networks(shares[kind]) for kind in kinds}
    listed = "; ".join(f"{kind} {{{kind}:.0%}}" for kind in kinds)
    text = f"Share of the mean lesions' damage that peers win back, by peer set: {listed}."
    findings = [Finding(text, values)]
    if {"hull", "random"} <= set(kinds):
        gain = over_networks(shares["hull"] - shares["random"])
        findings.append(
            Finding(
                "That the compact hull beats random peer sets of equal size {word}: {gain:+.1%} of "
                "the damage.",
                {"word": verdict(gain), "gain": gain},
            )
        )
    everyone = pooled[pooled["peers"] == "all"].groupby("seed")[["recovered", "predicted"]].mean()
    gap = everyone["recovered"] - everyone["predicted"]
    findings.append(
        Finding(
            "All peers explain {predicted:.0%} of the variance of what is lost (weighted by "
            "damage, mean of layers) and win back {recovered:.0%}: recovered minus predicted is "
            "{gap:+.1%}.",
            {
                "predicted": float(everyone["predicted"].mean()),
                "recovered": float(everyone["recovered"].mean()),
                "gap": over_networks(gap),
            },
        )
    )
    return findings


@styled()
def damage_against_axes(lesions: pd.DataFrame, scores: Sequence[str]) -> Figure:
    """Mean-lesion damage of each channel against each score, one marker per layer."""
    chosen = lesions[lesions["kind"] == "mean"]
    figure, axes = sheet(1, len(scores), width=3.2 * len(scores), height=3.2, sharey=True)
    for panel, score in zip(axes[0], scores, strict=True):
        points_by_layer(panel, chosen, score, "loss_increase", size=3.5, alpha=0.7)
        panel.set_yscale("symlog", linthresh=0.01)
        label(panel, quantity_label(score), "")
    axes[0, 0].set_ylabel("increase of loss by lesion (nats)")
    layer_legend(figure, axes[0, 0])
    return figure


@styled()
def recovered_against_predicted(pooled: pd.DataFrame) -> Figure:
    """Recovered share of a layer's damage against the predicted one, one panel per peer set."""
    kinds = list(dict.fromkeys(pooled["peers"]))
    figure, axes = sheet(1, len(kinds), width=3.2 * len(kinds), height=3.2, sharey=True)
    for panel, kind in zip(axes[0], kinds, strict=True):
        panel.plot([0, 1], [0, 1], color="0.5", linewidth=1, linestyle="--")
        points_by_layer(panel, pooled[pooled["peers"] == kind], "predicted", "recovered", size=5)
        panel.axhline(0, color="0.4", linewidth=0.8, linestyle="-")
        label(panel, "variance explained by peers (share)", "", f"peers: {kind}")
    axes[0, 0].set_ylabel("recovered damage (share)")
    layer_legend(figure, axes[0, 0])
    return figure
