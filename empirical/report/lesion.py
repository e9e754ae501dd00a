"""The report's chapter on lesions and peer replacement: the short form of claim C4."""

from __future__ import annotations

import numpy as np
import pandas as pd

from empirical.analysis.couplings import t_interval
from empirical.figures.damage import damage_against_axes, recovered_against_predicted
from empirical.report.page import Section
from theory import spearman
from theory.shared.findings import Finding

SCORES = (
    "input_capture",
    "task_information",
    "peer_predictability",
    "conditional_task_information",
)


def damage_correlations(lesions: pd.DataFrame) -> pd.DataFrame:
    """Spearman of each score with the damage of each lesion kind, per seed and layer.

    Parameters
    ----------
    lesions : rows seed, layer, channel, kind, loss_increase and the scores.
    """
    rows = [
        {
            "seed": seed,
            "layer": layer,
            "kind": kind,
            "score": score,
            "spearman": float(spearman(group[score], group["loss_increase"])),
        }
        for (seed, layer, kind), group in lesions.groupby(["seed", "layer", "kind"], sort=False)
        for score in SCORES
    ]
    return pd.DataFrame(rows)


def correlation_summary(correlations: pd.DataFrame) -> pd.DataFrame:
    """Mean over layers, then over seeds, with a 95 % t-interval over seeds."""
    rows = []
    for (kind, score), group in correlations.groupby(["kind", "score"], sort=False):
        by_seed = group.groupby("seed")["spearman"].mean()
        low, high = t_interval(by_seed.to_numpy())
        rows.append(
            {
                "kind": kind,
                "score": score,
                "seeds": len(by_seed),
                "spearman": by_seed.mean(),
                "low": low,
                "high": high,
            }
        )
    return pd.DataFrame(rows)


def lesion_section(lesions: pd.DataFrame, recovered: pd.DataFrame) -> Section:
    """Word and draw what losing a channel costs, and what its peers win back.

    Parameters
    ----------
    lesions : rows seed, layer, channel, kind, loss_increase, loss_increase_se and the scores.
    recovered : rows seed, layer, channel, kind (peer set), predicted, loss_increase and
        mean_lesion, the damage of the channel's mean lesion.
    """
    correlations = damage_correlations(lesions)
    summary = correlation_summary(correlations)
    pooled = pooled_recovery(recovered)
    return Section(
        title="What does losing a channel cost, and can its peers replace it?",
        note="Every channel of every layer, one at a time, on held-out images that neither "
        "training nor calibration saw: set to its mean before the norm, or to zero after it. Peer "
        "replacement puts the channel's regression on its peers, fitted on calibration images, in "
        "its place. At a least-squares readout theory predicts the recovered share to be the "
        "share of variance that the peers explain, 1 - damage ratio = E.",
        findings=[*_correlation_findings(summary), *_recovery_findings(pooled)],
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


def pooled_recovery(recovered: pd.DataFrame) -> pd.DataFrame:
    """Recovered share per seed, layer and peer set, of the summed damage of all channels.

    `predicted` weighs each channel's prediction by the damage of its mean lesion, as the pooled
    share does.
    """
    rows = []
    for (seed, layer, kind), group in recovered.groupby(["seed", "layer", "kind"], sort=False):
        total = group["mean_lesion"].sum()
        rows.append(
            {
                "seed": seed,
                "layer": layer,
                "peers": kind,
                "mean_lesion": total,
                "replaced": group["loss_increase"].sum(),
                "recovered": 1 - group["loss_increase"].sum() / total,
                "predicted": float((group["predicted"] * group["mean_lesion"]).sum() / total),
            }
        )
    return pd.DataFrame(rows)


def _correlation_findings(summary: pd.DataFrame) -> list[Finding]:
    findings = []
    for kind, group in summary.groupby("kind", sort=False):
        best = group.loc[group["spearman"].idxmax()]
        listed = "; ".join(
            f"{row.score.replace('_', ' ')} {{{row.score}:+.2f}} "
            f"[{{{row.score}_low:+.2f}}, {{{row.score}_high:+.2f}}]"
            for row in group.itertuples()
        )
        values = {row.score: row.spearman for row in group.itertuples()}
        values |= {f"{row.score}_low": row.low for row in group.itertuples()}
        values |= {f"{row.score}_high": row.high for row in group.itertuples()}
        clear = best["low"] > group.loc[group["score"] != best["score"], "high"].max()
        verdict = (
            f"{str(best['score']).replace('_', ' ')} ranks damage best, its interval above the rest"
            if clear
            else "the intervals overlap, so no score ranks damage clearly best"
        )
        findings.append(
            Finding(f"Damage of the {kind} lesion, rank correlation: {listed}: {verdict}.", values)
        )
    return findings


def _recovery_findings(pooled: pd.DataFrame) -> list[Finding]:
    values: dict[str, float] = {}
    parts = []
    by_seed = pooled.groupby(["peers", "seed"], sort=False)[["mean_lesion", "replaced"]].sum()
    share = 1 - by_seed["replaced"] / by_seed["mean_lesion"]
    for kind in dict.fromkeys(pooled["peers"]):
        of_kind = share[kind].to_numpy()
        values[kind] = float(np.mean(of_kind))
        values[f"{kind}_low"], values[f"{kind}_high"] = t_interval(of_kind)
        parts.append(f"{kind} {{{kind}:.0%}} [{{{kind}_low:.0%}}, {{{kind}_high:.0%}}]")
    findings = [
        Finding(
            "Share of the mean lesions' damage that peers win back, by peer set: "
            + "; ".join(parts)
            + ".",
            values,
        )
    ]
    if {"hull", "random"} <= set(share.index.get_level_values("peers")):
        gain = (share["hull"] - share["random"]).to_numpy()
        low, high = t_interval(gain)
        verdict = (
            "chosen peers beat random ones"
            if low > 0
            else "random peers beat chosen ones"
            if high < 0
            else "chosen peers do not beat random ones beyond the spread of seeds"
        )
        findings.append(
            Finding(
                "The compact hull against random peer sets of equal size: {gain:+.1%} "
                "[{gain_low:+.1%}, {gain_high:+.1%}] of the damage: " + verdict + ".",
                {"gain": float(gain.mean()), "gain_low": low, "gain_high": high},
            )
        )
    everyone = pooled[pooled["peers"] == "all"]
    difference = everyone.groupby("seed")[["recovered", "predicted"]].mean()
    gap = (difference["recovered"] - difference["predicted"]).to_numpy()
    low, high = t_interval(gap)
    findings.append(
        Finding(
            "All peers explain {predicted:.0%} of the variance of what is lost (weighted by "
            "damage, mean of layers) and win back {recovered:.0%}: recovered minus predicted is "
            "{gap:+.1%} [{gap_low:+.1%}, {gap_high:+.1%}].",
            {
                "predicted": float(difference["predicted"].mean()),
                "recovered": float(difference["recovered"].mean()),
                "gap": float(gap.mean()),
                "gap_low": low,
                "gap_high": high,
            },
        )
    )
    return findings
