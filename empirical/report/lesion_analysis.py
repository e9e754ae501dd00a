"""The report's chapter on what explains lesion damage (claim C4), worded from its tables."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from empirical.analysis.lesions import LesionAnalysis
from empirical.figures.lesion import (
    damage_by_depth,
    pair_interactions,
    predictor_comparison,
    support_beyond_controls,
    words,
)
from empirical.lesions.pairs import PairAnalysis
from empirical.report.page import Section
from theory.shared.findings import Finding


def lesion_analysis_section(
    analysis: LesionAnalysis,
    pairs: PairAnalysis | None = None,
    shuffled: LesionAnalysis | None = None,
) -> Section:
    """Word and draw the analysis of single lesions, and of pairs where they were run.

    Parameters
    ----------
    analysis : of the measured damages.
    pairs : of pairs lesioned together.
    shuffled : the same analysis after `LesionTable.shuffled`, the analysis's own control.
    """
    tested = str(analysis.settings["tested"])
    controls = " and ".join(words(str(name)) for name in _controls(analysis))
    figures = {
        "lesion_support": (
            support_beyond_controls(analysis.partial, analysis.bins, tested),
            f"Left: partial rank correlation of {words(tested)} with damage given {controls}, by "
            "layer. Right: damage of channels with much and little of it, matched in both.",
        ),
        "lesion_predictors": (
            predictor_comparison(analysis.prediction),
            "Rank correlation of each score with damage within layers.",
        ),
        "lesion_depth": (
            damage_by_depth(analysis.depth, tested),
            "Damage of single channels and their peer support along the network.",
        ),
    }
    tables = {
        "lesion_partial": analysis.partial,
        "lesion_bins": analysis.bins,
        "lesion_prediction": analysis.prediction,
        "lesion_depth": analysis.depth,
    }
    findings = analysis_findings(analysis)
    if shuffled is not None:
        findings.append(_shuffled(shuffled))
        tables["lesion_shuffled"] = shuffled.partial
    if pairs is not None:
        figures["lesion_pairs"] = (
            pair_interactions(pairs.pairs),
            "Pairs of channels lesioned together: the interaction against the pair's excess, and "
            "the damage against the sum of both single damages.",
        )
        tables |= {
            "lesion_pairs": pairs.pairs,
            "lesion_pair_contrast": pairs.contrast,
            "lesion_pair_relation": pairs.relation,
        }
        findings += pair_findings(pairs)
    return Section(
        title="Does peer support explain lesion damage beyond the other axes?",
        note=f"Damage of the {analysis.settings['kind']} lesion, measured as "
        f"{words(str(analysis.settings['damage']))}, all on ranks within layers. P-values permute "
        "channels within layers (for regressions their residuals); over layers they are adjusted "
        "by Holm's method. Intervals are 95 % and resample the channels of each layer."
        + _skipped(analysis),
        findings=findings,
        figures=figures,
        tables=tables,
        shown={"lesion_prediction": "Which score predicts damage"},
    )


def analysis_findings(analysis: LesionAnalysis) -> list[Finding]:
    """Sentences on partial correlation, matched bins, and the best predictor."""
    return [_partial(analysis), _bins(analysis), _best(analysis.prediction)]


def _controls(analysis: LesionAnalysis) -> Sequence[object]:
    controls = analysis.settings["controls"]
    return controls if isinstance(controls, (list, tuple)) else [controls]


def _partial(analysis: LesionAnalysis) -> Finding:
    pooled = analysis.partial.iloc[-1]
    layers = analysis.partial.iloc[:-1]
    tested = words(str(analysis.settings["tested"]))
    controls = " and ".join(words(str(name)) for name in _controls(analysis))
    explains = pooled["p"] < 0.05 and (pooled["low"] > 0 or pooled["high"] < 0)
    verdict = (
        ("more" if pooled["partial"] > 0 else "less")
        + " damage where peers predict a channel better, beyond those two"
        if explains
        else "no effect beyond those two can be told from chance"
    )
    return Finding(
        f"With {controls} held fixed, {tested} correlates with damage by "
        "{partial:+.2f} [{low:+.2f}, {high:+.2f}] (p = {p:.2g}, {channels} channels, pooled over "
        "{layers} layers; {clear} layers by themselves) and adds {gain:.1%} to the explained "
        f"variance of ranks: {verdict}.",
        {
            "partial": pooled["partial"],
            "low": pooled["low"],
            "high": pooled["high"],
            "p": pooled["p"],
            "channels": int(pooled["channels"]),
            "layers": len(layers),
            "clear": int((layers["p_holm"] < 0.05).sum()),
            "gain": pooled["r2_gain"],
        },
    )


def _bins(analysis: LesionAnalysis) -> Finding:
    pooled = analysis.bins.iloc[-1]
    tested = words(str(analysis.settings["tested"]))
    verdict = (
        "the difference is beyond chance"
        if pooled["p"] < 0.05
        else "the difference is within chance"
    )
    return Finding(
        f"Of channels matched in the controls, those with much {tested} do "
        "{high:.3g} nats of damage and those with little {low:.3g}; in ranks (−1 to 1) "
        "{effect:+.3f}, where chance stays within ±{chance:.3f} (p = {p:.2g}, {bins} bins): "
        f"{verdict}.",
        {
            "high": pooled["damage_high"],
            "low": pooled["damage_low"],
            "effect": pooled["effect"],
            "chance": pooled["null_high"],
            "p": pooled["p"],
            "bins": int(pooled["bins"]),
        },
    )


def _shuffled(analysis: LesionAnalysis) -> Finding:
    pooled, bins = analysis.partial.iloc[-1], analysis.bins.iloc[-1]
    best = analysis.prediction.iloc[0]
    left = pooled["p"] < 0.05 or bins["p"] < 0.05
    verdict = (
        "one of twenty such tests falls below 0.05 by chance, as one does here"
        if left
        else "nothing is left, as it should be"
    )
    return Finding(
        "Control: with damages shuffled between the channels of a layer, image by image, the "
        "partial correlation is {partial:+.2f} (p = {p:.2g}), the matched difference {effect:+.3f} "
        "(p = {bins_p:.2g}), and no score correlates by more than {strongest:.2f}: "
        f"{verdict}.",
        {
            "partial": pooled["partial"],
            "p": pooled["p"],
            "effect": bins["effect"],
            "bins_p": bins["p"],
            "strongest": abs(best["correlation"]),
        },
    )


def _best(prediction: pd.DataFrame) -> Finding:
    best = prediction.iloc[0]
    if len(prediction) == 1:
        return Finding(
            f"{words(str(best['score'])).capitalize()} correlates with damage by "
            "{correlation:+.2f} [{low:+.2f}, {high:+.2f}].",
            {name: best[name] for name in ("correlation", "low", "high")},
        )
    rivals = prediction.iloc[1:]
    tied = rivals[rivals["p_holm"] >= 0.05]
    verdict = (
        "ahead of every other score beyond chance"
        if tied.empty
        else "not clearly ahead of " + ", ".join(words(str(score)) for score in tied["score"])
    )
    second = rivals.iloc[0]
    return Finding(
        f"The score that ranks damage best is {words(str(best['score']))}, "
        "{correlation:+.2f} [{low:+.2f}, {high:+.2f}]; "
        f"next is {words(str(second['score']))}, "
        "{second:+.2f}, behind by {behind:.2f} [{behind_low:+.2f}, {behind_high:+.2f}]. It is "
        f"{verdict}.",
        {
            "correlation": best["correlation"],
            "low": best["low"],
            "high": best["high"],
            "second": second["correlation"],
            "behind": second["behind"],
            "behind_low": second["behind_low"],
            "behind_high": second["behind_high"],
        },
    )


def pair_findings(pairs: PairAnalysis) -> list[Finding]:
    """Sentences on the interaction of pairs with high S_ij and of matched controls."""
    row = pairs.contrast.iloc[0]
    verdict = (
        "pairs that say more together are "
        + ("super" if row["interaction_difference"] > 0 else "sub")
        + "-additive beyond their controls"
        if row["interaction_p"] < 0.05
        else "no difference between pairs that say more together and their controls can be told "
        "from chance"
    )
    matched = (
        "the matching holds"
        if row["single_sum_p"] >= 0.05
        else "the matching of single damage is imperfect, so read this with care"
    )
    findings = [
        Finding(
            "Of {pairs} pairs with high excess, the joint damage differs from the sum of both "
            "single damages by {high:+.3g} nats, in controls by {control:+.3g}; difference "
            "{difference:+.3g} [{low:+.3g}, {upper:+.3g}], p = {p:.2g}: "
            f"{verdict}. Summed single damage differs by "
            "{single:+.3g} [{single_low:+.3g}, {single_upper:+.3g}]: "
            f"{matched}.",
            {
                "pairs": int(row["pairs"]),
                "high": row["interaction_high"],
                "control": row["interaction_control"],
                "difference": row["interaction_difference"],
                "low": row["interaction_low"],
                "upper": row["interaction_upper"],
                "p": row["interaction_p"],
                "single": row["single_sum_difference"],
                "single_low": row["single_sum_low"],
                "single_upper": row["single_sum_upper"],
            },
        )
    ]
    for relation in pairs.relation.itertuples():
        name = {"excess": "excess S_ij", "overlap": "peer overlap |R_ij|"}[str(relation.relation)]
        findings.append(
            Finding(
                f"Beyond summed single damage, {name} correlates with the interaction by "
                "{partial:+.2f} [{low:+.2f}, {high:+.2f}] (p = {p:.2g}).",
                {
                    "partial": relation.partial,
                    "low": relation.low,
                    "high": relation.high,
                    "p": relation.p,
                },
            )
        )
    return findings


def _skipped(analysis: LesionAnalysis) -> str:
    if not analysis.skipped:
        return ""
    listed = "; ".join(f"{name}: {reason}" for name, reason in analysis.skipped.items())
    return f" Left out: {listed}."
