"""What explains lesion damage (claim C4): the chapter, worded from its tables, and its figures."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from empirical.analysis.lesions import LesionAnalysis
from empirical.analysis.pairs import PairAnalysis
from empirical.report.page import Section
from empirical.report.pairs import pair_findings, pair_interactions
from empirical.report.panels import layer_ticks
from empirical.report.wording import unit, values_of, words
from theory.shared.findings import Finding
from theory.shared.style import label, sheet, styled

TITLE = "Does peer support explain lesion damage beyond the other axes?"


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
    tested, controls = str(analysis.settings["tested"]), _controls(analysis)
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
    listed = "; ".join(f"{name}: {reason}" for name, reason in analysis.skipped.items())
    return Section(
        title=TITLE,
        note=f"Damage of the {analysis.settings['kind']} lesion, measured as "
        f"{words(analysis.settings['damage'])}, all on ranks within layers. P-values permute "
        "channels within layers (for regressions their residuals); over layers they are adjusted "
        "by Holm's method. Intervals are 95 % and resample the channels of each layer."
        + (f" Left out: {listed}." if listed else ""),
        findings=findings,
        figures=figures,
        tables=tables,
        shown={"lesion_prediction": "Which score predicts damage"},
    )


def analysis_findings(analysis: LesionAnalysis) -> list[Finding]:
    """Sentences on partial correlation, matched bins, and the best predictor."""
    return [_partial(analysis), _bins(analysis), _best(analysis.prediction)]


def _controls(analysis: LesionAnalysis) -> str:
    return " and ".join(words(name) for name in analysis.settings["controls"])


def _partial(analysis: LesionAnalysis) -> Finding:
    pooled, layers = analysis.partial.iloc[-1], analysis.partial.iloc[:-1]
    explains = pooled["p"] < 0.05 and (pooled["low"] > 0 or pooled["high"] < 0)
    outcome = (
        ("more" if pooled["partial"] > 0 else "less")
        + " damage where peers predict a channel better, beyond those two"
        if explains
        else "no effect beyond those two can be told from chance"
    )
    return Finding(
        f"With {_controls(analysis)} held fixed, {words(analysis.settings['tested'])} correlates "
        "with damage by {partial:+.2f} [{low:+.2f}, {high:+.2f}] (p = {p:.2g}, {channels} "
        "channels, pooled over {layers} layers; {clear} layers by themselves) and adds {gain:.1%} "
        f"to the explained variance of ranks: {outcome}.",
        {
            **values_of(pooled, ("partial", "low", "high", "p")),
            "channels": int(pooled["channels"]),
            "layers": len(layers),
            "clear": int((layers["p_holm"] < 0.05).sum()),
            "gain": pooled["r2_gain"],
        },
    )


def _bins(analysis: LesionAnalysis) -> Finding:
    pooled = analysis.bins.iloc[-1]
    outcome = "beyond chance" if pooled["p"] < 0.05 else "within chance"
    return Finding(
        "Of channels matched in the controls, those with much "
        f"{words(analysis.settings['tested'])} do "
        "{high:.3g} nats of damage and those with little {low:.3g}; in ranks (−1 to 1) "
        "{effect:+.3f}, where chance stays within ±{chance:.3f} (p = {p:.2g}, {bins} bins): "
        f"the difference is {outcome}.",
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
    outcome = (
        "one of twenty such tests falls below 0.05 by chance, as one does here"
        if pooled["p"] < 0.05 or bins["p"] < 0.05
        else "nothing is left, as it should be"
    )
    return Finding(
        "Control: with damages shuffled between the channels of a layer, image by image, the "
        "partial correlation is {partial:+.2f} (p = {p:.2g}), the matched difference {effect:+.3f} "
        "(p = {bins_p:.2g}), and no score correlates by more than {strongest:.2f}: "
        f"{outcome}.",
        {
            **values_of(pooled, ("partial", "p")),
            "effect": bins["effect"],
            "bins_p": bins["p"],
            "strongest": abs(analysis.prediction["correlation"].iloc[0]),
        },
    )


def _best(prediction: pd.DataFrame) -> Finding:
    best = prediction.iloc[0]
    values = values_of(best, ("correlation", "low", "high"))
    if len(prediction) == 1:
        return Finding(
            f"{words(best['score']).capitalize()} correlates with damage by "
            "{correlation:+.2f} [{low:+.2f}, {high:+.2f}].",
            values,
        )
    second = prediction.iloc[1]
    tied = prediction["score"].iloc[1:][prediction["p_holm"].iloc[1:] >= 0.05]
    outcome = (
        "ahead of every other score beyond chance"
        if tied.empty
        else "not clearly ahead of " + ", ".join(map(words, tied))
    )
    return Finding(
        f"The score that ranks damage best is {words(best['score'])}, "
        "{correlation:+.2f} [{low:+.2f}, {high:+.2f}]; "
        f"next is {words(second['score'])}, "
        "{second:+.2f}, behind by {behind:.2f} [{behind_low:+.2f}, {behind_high:+.2f}]. It is "
        f"{outcome}.",
        {
            **values,
            "second": second["correlation"],
            **values_of(second, ("behind", "behind_low", "behind_high")),
        },
    )


@styled()
def support_beyond_controls(partial: pd.DataFrame, bins: pd.DataFrame, tested: str) -> Figure:
    """Partial rank correlation per layer, and damage of matched channels with much and little."""
    figure, axes = sheet(1, 2, width=9.0, height=3.6)
    left, right = axes[0]
    layers, pooled = partial.iloc[:-1], partial.iloc[-1]
    place = np.arange(len(layers))
    left.axhspan(pooled["low"], pooled["high"], color="0.88")
    left.axhline(pooled["partial"], color="0.3", linewidth=1.2, label="pooled; band 95 %")
    left.axhline(0, color="0.5", linewidth=0.8, linestyle=":")
    clear = (layers["p_holm"] < 0.05).to_numpy()
    for chosen, face, text in ((clear, "C0", "p < 0.05 (Holm)"), (~clear, "white", "p ≥ 0.05")):
        values = layers["partial"][chosen]
        left.plot(place[chosen], values, "o", color="C0", markerfacecolor=face, label=text)
    layer_ticks(left, layers["layer"].tolist())
    label(left, "layer", "partial rank correlation", f"{words(tested)} with damage")
    left.legend(frameon=True, facecolor="white", edgecolor="none")
    matched = bins.iloc[:-1]
    low, high = matched["damage_low"], matched["damage_high"]
    place = np.arange(len(matched))
    right.plot(place, low, "v", color="C1", label=f"little {words(tested)}")
    right.plot(place, high, "^", color="C0", label=f"much {words(tested)}")
    right.vlines(place, low, high, color="0.6", linewidth=1)
    right.set_yscale("symlog", linthresh=1e-3)
    layer_ticks(right, matched["layer"].tolist())
    label(right, "layer", "increase of loss by lesion (nats)", "matched in both controls")
    right.legend()
    return figure


@styled()
def predictor_comparison(prediction: pd.DataFrame) -> Figure:
    """Pooled rank correlation of each score with damage, with its interval."""
    figure, axes = sheet(1, 1, width=6.5, height=0.5 + 0.4 * len(prediction))
    panel = axes[0, 0]
    rows = prediction.iloc[::-1]
    place = np.arange(len(rows))
    panel.hlines(place, rows["low"], rows["high"], color="0.4", linewidth=1.6)
    panel.plot(rows["correlation"], place, "o", color="C0")
    panel.axvline(0, color="0.5", linewidth=0.8, linestyle=":")
    panel.set_yticks(place, [words(score) for score in rows["score"]])
    label(panel, "rank correlation with damage (pooled over layers, 95 %)", "")
    return figure


@styled()
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
        layer_ticks(panel, depth["layer"].tolist())
    label(left, "layer", "increase of loss by lesion (nats)", "damage of a channel")
    label(right, "layer", unit(tested), f"mean {words(tested)}")
    return figure
