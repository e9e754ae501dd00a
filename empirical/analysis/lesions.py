"""What explains lesion damage: peer support beyond input capture and task information (claim C4).

The slope of damage on peer predictability with both controls held fixed, within layers; which score
predicts damage best; and how both change with depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from empirical.analysis.missing import NoDataError
from empirical.analysis.predictors import at_matched, compare_predictors
from empirical.analysis.reliability import RELIABLE
from empirical.analysis.statistics import (
    HALVES,
    LEVEL,
    Stratum,
    effect,
    holm,
    stratum_of,
)
from theory.rank_coupling import split_half
from theory.shared.findings import Estimate
from theory.shared.validation import count, one_of

TESTED = "peer_predictability"
CONTROLS = ("input_capture", "task_information")
MATCHED = "task_information"
"""What the published order of predictors holds fixed."""
PREDICTORS = (
    "peer_predictability",
    "hull_score",
    "peer_overlap",
    "conditional_task_information",
    "input_capture",
    "task_information",
)


@dataclass(frozen=True, eq=False)
class LesionAnalysis:
    """Tables of the analysis; intervals are 95 %.

    Parameters
    ----------
    beyond : one row per layer: slope of damage on the tested score beyond the controls, with
        interval, p, Holm's p over layers, and the split-half reliability of the tested score and
        the controls (NaN where no halves were measured); last row "pooled".
    control : the test on damages permuted between the channels of each layer, many times: how
        many permutations, the share below 0.05, and that share's interval (Clopper and Pearson).
    prediction : one row per score: pooled rank correlation with damage, |correlation|, and how far
        it is behind the best, with Holm's p.
    matched : the same of damage and scores at matched `MATCHED`; None where no layer affords it.
    depth : one row per layer: mean damage and its error, and the mean of the tested score.
    skipped : layer -> why it was left out of `beyond`.
    settings : damage, kind, tested score, controls, permutations, draws, seed, halves; and of how
        many networks the layers in `beyond` are.
    """

    beyond: pd.DataFrame
    control: pd.DataFrame
    prediction: pd.DataFrame
    matched: pd.DataFrame | None
    depth: pd.DataFrame
    skipped: Mapping[str, str]
    settings: Mapping[str, Any]


def analyze_lesions(
    frame: pd.DataFrame,
    *,
    damage: str = "loss_increase",
    kind: str = "mean",
    tested: str = TESTED,
    controls: Sequence[str] = CONTROLS,
    predictors: Sequence[str] | None = None,
    permutations: int = 200,
    draws: int = 1000,
    seed: int = 0,
) -> LesionAnalysis:
    """Analyse damages of single-channel lesions beside the scores of the channels.

    Parameters
    ----------
    frame : one row per channel and kind: columns layer, channel, kind, `damage`, and the scores;
        with a column seed, the layers of each network are strata of their own. `channel_scores`
        adds what tells errors of measurement and families of near-copies.
    damage : column of the damage.
    kind : which lesions: "mean", "zero", "resample".
    tested, controls : does the first explain damage beyond the others?
    predictors : scores that compete for the best prediction; None means those of `PREDICTORS` that
        the frame has.
    permutations : of the control.
    draws : of the predictors' intervals.
    seed : of both.

    Raises
    ------
    ValueError
        A missing column or kind; as `NoDataError`, no layer with enough channels.
    """
    scores = [name for name in PREDICTORS if name in frame] if predictors is None else predictors
    for column in ["layer", "channel", "kind", damage, tested, *controls, *scores]:
        one_of("column of frame", column, [str(name) for name in frame.columns])
    one_of("kind", kind, sorted(set(frame["kind"])))
    count("permutations", permutations, least=19)
    count("draws", draws, least=20)
    rng = np.random.default_rng(seed)
    layers, skipped = usable_layers(frame[frame["kind"] == kind], damage, [tested, *controls])
    strata = [stratum_of(name, rows, damage, tested, controls) for name, rows in layers.items()]
    return LesionAnalysis(
        beyond=_beyond(strata, [tested, *controls]),
        control=_control(strata, permutations, rng),
        prediction=compare_predictors(layers, damage, scores, draws, rng),
        matched=matched_prediction(layers, damage, scores, draws, rng),
        depth=_depth(layers, damage, tested),
        skipped=skipped,
        settings={
            "damage": damage,
            "kind": kind,
            "tested": tested,
            "controls": list(controls),
            "permutations": permutations,
            "draws": draws,
            "seed": seed,
            "halves": len(strata[0].readings) == len(HALVES),
            "networks": len({key for rows in layers.values() for key in rows.get("seed", [0])}),
        },
    )


def usable_layers(
    frame: pd.DataFrame, damage: str, scores: Sequence[str]
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """Split by layer (and network); leave out what no verdict can be drawn from, with the reason.

    That is a layer of too few families of channels, of constant values, or of unreliable scores.
    """
    keys = ["seed", "layer"] if "seed" in frame and frame["seed"].nunique() > 1 else ["layer"]
    halves = [f"{s}{h}" for s in scores for h in HALVES[1:] if f"{s}{h}" in frame]
    kept, skipped = {}, {}
    for key, rows in frame.groupby(keys, sort=False):
        name = str(key[-1]) if len(keys) == 1 else f"{key[-1]} (seed {key[0]})"
        known = rows.dropna(subset=[damage, *scores, *halves])
        if known.empty or (known[[damage, *scores]].nunique() < 2).any():
            skipped[name] = "no channel with all scores" if known.empty else "constant values"
            continue
        stratum = stratum_of(name, known, damage, scores[0], scores[1:])
        reliability = dict(zip(scores, reliabilities(stratum), strict=True))
        poor = [f"{s} {r:.2f}" for s, r in reliability.items() if r < RELIABLE]
        if not stratum.usable:
            least = 2 * stratum.columns
            skipped[name] = f"{stratum.families} families of channels, fewer than {least}"
        elif poor:
            skipped[name] = f"reliability below {RELIABLE}: {', '.join(poor)}"
        else:
            kept[name] = known
    if not kept:
        raise NoDataError(
            "frame must have a layer with enough channels whose damage and scores are known and "
            f"reliable; got {skipped or 'no rows'}. Lesion wider layers, or measure more images."
        )
    return kept, skipped


def matched_prediction(
    layers: Mapping[str, pd.DataFrame],
    damage: str,
    scores: Sequence[str],
    draws: int,
    rng: np.random.Generator,
) -> pd.DataFrame | None:
    """`compare_predictors` of the scores but `MATCHED`, at matched `MATCHED`; None without layers.

    Scores that are nowhere known stay out of it.
    """
    rest = [
        score
        for score in scores
        if score != MATCHED and any(rows[score].notna().any() for rows in layers.values())
    ]
    if len(rest) < 2 or any(MATCHED not in rows for rows in layers.values()):
        return None
    matched = at_matched(layers, damage, rest, MATCHED)
    try:
        return compare_predictors(matched, damage, rest, draws, rng)
    except NoDataError:
        return None


def reliabilities(stratum: Stratum) -> list[float]:
    """Of the tested score and the controls; NaN without halves."""
    if len(stratum.readings) < len(HALVES):
        return [np.nan] * stratum.readings.shape[1]
    return [float(split_half(*halves)) for halves in stratum.readings[1:].swapaxes(0, 1)]


def _beyond(strata: Sequence[Stratum], scores: Sequence[str]) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    for members in (*([stratum] for stratum in strata), list(strata)):
        found = effect(members)
        slope = {name: float(getattr(found, name)) for name in ("slope", "low", "high", "p")}
        reliable = np.mean([reliabilities(stratum) for stratum in members], axis=0)
        rows.append(
            {
                "layer": members[0].name if len(rows) < len(strata) else "pooled",
                "channels": sum(len(stratum.outcome) for stratum in members),
                "families": sum(stratum.families for stratum in members),
                **slope,
                **{f"{name}_reliability": r for name, r in zip(scores, reliable, strict=True)},
            }
        )
    table = pd.DataFrame(rows)
    layers = table["layer"] != "pooled"
    table["p_holm"] = table["p"]
    table.loc[layers, "p_holm"] = holm(table.loc[layers, "p"].to_numpy())
    return table


def _control(strata: Sequence[Stratum], draws: int, rng: np.random.Generator) -> pd.DataFrame:
    """Permute the damages of a layer between its channels; how often is there a slope?"""
    permuted = [
        Stratum(
            rng.permuted(np.tile(s.outcome, (draws, 1)), axis=1),
            np.repeat(s.readings[:, :, None], draws, axis=2),
            s.family,
        )
        for s in strata
    ]
    below = int((effect(permuted).p < 1 - LEVEL).sum())
    share = share_of(below, draws)
    return pd.DataFrame([{"permutations": draws, "below": below, **vars(share)}])


def share_of(number: int, total: int) -> Estimate:
    """Share with its exact 95 % interval (Clopper and Pearson 1934).

    >>> f"{share_of(0, 100):.3f}"
    '0.000 [0.000, 0.036]'
    """
    exact = stats.binomtest(number, total).proportion_ci(LEVEL)
    return Estimate(number / total, float(exact.low), float(exact.high))


def _depth(layers: Mapping[str, pd.DataFrame], damage: str, tested: str) -> pd.DataFrame:
    rows = []
    for position, (name, frame) in enumerate(layers.items()):
        values = frame[damage].to_numpy()
        rows.append(
            {
                "layer": name,
                "position": position,
                "channels": len(frame),
                "mean_damage": float(values.mean()),
                "mean_damage_se": float(values.std(ddof=1) / np.sqrt(len(values))),
                "median_damage": float(np.median(values)),
                f"mean_{tested}": float(frame[tested].mean()),
            }
        )
    return pd.DataFrame(rows)
