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
from empirical.report.wording import estimate_of, left_out, reasons, unit, words
from theory.shared.findings import Finding, verdict
from theory.shared.style import label, sheet, styled

LEAST_P = 0.05

TITLE = "Does peer support explain lesion damage beyond the other axes?"


def lesion_analysis_section(analysis: LesionAnalysis, pairs: PairAnalysis | None = None) -> Section:
    """Word and draw the analysis of single lesions, and of pairs where they were run.

    Parameters
    ----------
    analysis : of the measured damages.
    pairs : of pairs lesioned together.
    """
    tested, controls = str(analysis.settings["tested"]), _controls(analysis)
    figures = {
        "lesion_support": (
            support_beyond_controls(analysis.beyond, tested),
            f"Slope of damage on {words(tested)} given {controls}, by layer, on normal scores of "
            "ranks, with 95 % intervals.",
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
        "lesion_beyond": analysis.beyond,
        "lesion_control": analysis.control,
        "lesion_prediction": analysis.prediction,
        "lesion_depth": analysis.depth,
    }
    tables |= reasons(analysis.skipped, "lesion_left_out")
    if analysis.matched is not None:
        tables["lesion_matched"] = analysis.matched
    findings = analysis_findings(analysis)
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
        title=TITLE,
        note=f"Damage of the {analysis.settings['kind']} lesion, measured as "
        f"{words(analysis.settings['damage'])}, on normal scores of ranks within layers. The "
        "controls enter as splines with their products; each half of the images serves as the "
        "instrument of the other, so that errors of measurement leave no confounding behind, and "
        "families of near-copies count once. The slope must be clear with this correction and "
        "without. Single layers are adjusted by Holm's method; intervals are 95 %."
        + left_out(analysis.skipped, "lesion_left_out"),
        findings=findings,
        figures=figures,
        tables=tables,
        shown={"lesion_prediction": "Which score predicts damage"},
    )


def analysis_findings(analysis: LesionAnalysis) -> list[Finding]:
    """Sentences on the slope beyond the controls, its control, and the best predictor."""
    found = [_beyond(analysis), _control(analysis.control.iloc[0]), _best(analysis.prediction)]
    return found if analysis.matched is None else [*found, hull_first(analysis.matched)]


def hull_first(matched: pd.DataFrame, claimed: str = "hull_score") -> Finding:
    """The published claim that at matched task information the hull predicts damage best.

    It holds where the hull leads and is ahead of each other score by Holm's p; it is contradicted
    where another leads and the hull is behind that one.
    """
    by_score = matched.set_index("score")
    if claimed not in by_score.index or len(by_score) < 2:
        return Finding("At matched task information the hull is not compared: it was not measured.")
    best, own = matched.iloc[0], by_score.loc[claimed]
    leads = best["score"] == claimed
    rival = matched.iloc[1] if leads else best
    lead = estimate_of(rival if leads else own, "behind", "behind_low", "behind_high")
    clear = (matched["p_holm"].iloc[1:] < LEAST_P).all() if leads else own["p_holm"] < LEAST_P
    return Finding(
        "That at matched task information the compact hull predicts damage best: {word} (rank "
        f"correlation {{hull:+.2f}}, that of {words(str(rival['score']))} {{rival:+.2f}}, "
        "strength of the hull less that of its rival {lead:+.2f}).",
        {
            "word": ("holds" if leads else "contradicted") if clear else "not resolved",
            "hull": estimate_of(own, "correlation"),
            "rival": estimate_of(rival, "correlation"),
            "lead": lead if leads else lead.times(-1),
        },
    )


def _controls(analysis: LesionAnalysis) -> str:
    return " and ".join(words(name) for name in analysis.settings["controls"])


def _beyond(analysis: LesionAnalysis) -> Finding:
    """Claim C4: less damage where peers predict a channel better, beyond the controls."""
    pooled, layers = analysis.beyond.iloc[-1], analysis.beyond.iloc[:-1]
    settings = analysis.settings
    slope = estimate_of(pooled, "slope")
    names = [settings["tested"], *settings["controls"]]
    reliability = {f"r{i}": pooled[f"{name}_reliability"] for i, name in enumerate(names)}
    listed = ", ".join(f"{words(name)} {{r{i}:.2f}}" for i, name in enumerate(names))
    measured = (
        f" Reliabilities, means of layers: {listed}."
        if settings["halves"]
        else " No halves of the images were measured, so errors of measurement are not accounted "
        "for and no verdict is drawn."
    )
    return Finding(
        f"Claim C4, that channels which peers predict better do less damage beyond "
        f"{_controls(analysis)}: {{word}} (slope {{slope:+.2f}} standard deviations, "
        "p = {p:.2g}, {channels} channels in {families} families, {layers} layers; "
        f"{{clear}} layers by themselves).{measured}",
        {
            "word": verdict(slope.times(-1)) if settings["halves"] else "not resolved",
            "slope": slope,
            "p": pooled["p"],
            "channels": int(pooled["channels"]),
            "families": int(pooled["families"]),
            "layers": len(layers),
            "clear": int((layers["p_holm"] < 0.05).sum()),
            **(reliability if settings["halves"] else {}),
        },
    )


def _control(row: pd.Series) -> Finding:
    share = estimate_of(row, "mean")
    outcome = (
        "the test finds effects of its own making; do not rely on it here"
        if share.low > 0.05
        else "the test does not find effects of its own making"
    )
    return Finding(
        "Control: with damages permuted between the channels of each layer, {below} of "
        f"{{permutations}} tests fall below 0.05, a share of {{share:.1%}}: {outcome}.",
        {"below": int(row["below"]), "permutations": int(row["permutations"]), "share": share},
    )


def _best(prediction: pd.DataFrame) -> Finding:
    best = prediction.iloc[0]
    values = {"correlation": estimate_of(best, "correlation")}
    if len(prediction) == 1:
        return Finding(
            f"{words(best['score']).capitalize()} correlates with damage by {{correlation:+.2f}}.",
            values,
        )
    second = prediction.iloc[1]
    tied = prediction["score"].iloc[1:][prediction["p_holm"].iloc[1:] >= 0.05]
    outcome = (
        "ahead of every other score beyond chance"
        if tied.empty
        else "not shown to be ahead of " + ", ".join(map(words, tied))
    )
    return Finding(
        f"The score that ranks damage best is {words(best['score'])}, "
        "{correlation:+.2f}; "
        f"next is {words(second['score'])}, "
        "{second:+.2f}, behind by {behind:+.2f}. It is "
        f"{outcome}.",
        {
            **values,
            "second": second["correlation"],
            "behind": estimate_of(second, "behind", "behind_low", "behind_high"),
        },
    )


@styled()
def support_beyond_controls(beyond: pd.DataFrame, tested: str) -> Figure:
    """Slope of damage on the tested score per layer, and pooled, with intervals."""
    figure, axes = sheet(1, 1, width=6.5, height=3.6)
    panel = axes[0, 0]
    layers, pooled = beyond.iloc[:-1], beyond.iloc[-1]
    place = np.arange(len(layers))
    if np.isfinite([pooled["low"], pooled["high"]]).all():
        panel.axhspan(pooled["low"], pooled["high"], color="0.88")
    panel.axhline(pooled["slope"], color="0.3", linewidth=1.2, label="pooled; band 95 %")
    panel.axhline(0, color="0.5", linewidth=0.8, linestyle=":")
    clear = (layers["p_holm"] < 0.05).to_numpy()
    panel.vlines(place, layers["low"], layers["high"], color="0.6", linewidth=1)
    for chosen, face, text in ((clear, "C0", "p < 0.05 (Holm)"), (~clear, "white", "p ≥ 0.05")):
        values = layers["slope"][chosen]
        panel.plot(place[chosen], values, "o", color="C0", markerfacecolor=face, label=text)
    layer_ticks(panel, layers["layer"].tolist())
    label(panel, "layer", "slope (standard deviations)", f"damage on {words(tested)}")
    panel.set_ylim(-2, 2)  # one layer with a wide interval would flatten all others
    panel.legend(frameon=True, facecolor="white", edgecolor="none")
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
