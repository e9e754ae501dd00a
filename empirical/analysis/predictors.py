"""Which score predicts lesion damage best, and how far the others are behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from empirical.analysis.adjustment import ridge
from empirical.analysis.missing import NoDataError
from empirical.analysis.statistics import Stratum, holm, interval_of, normal_scores, stratum_of
from theory.shared.validation import Float

FEWEST = 5
"""Families of channels in a layer whose resamples say how far a correlation may be off."""

_OfLayers = dict[str, tuple[Float, int]]
"""Layer -> (1 + draws,) correlations, as they are and of resamples, and how many channels."""


def compare_predictors(
    layers: Mapping[str, pd.DataFrame],
    damage: str,
    predictors: Sequence[str],
    draws: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Rank scores by |pooled rank correlation| with damage, and compare each with the best.

    Families of channels are resampled, for all scores together, so the interval of a difference
    knows that they share channels. A score counts in the layers where every channel has it and it
    varies. `behind` is how far |correlation| falls short of the best's, in the layers that both
    have; NaN, with p = 1, where there is none.

    Raises
    ------
    NoDataError
        no score counts in a layer of at least `FEWEST` families
    """
    found = _by_score(layers, damage, predictors, draws, rng)
    if not found:
        raise NoDataError(
            f"none of {', '.join(predictors)} varies over a layer of at least {FEWEST} families of "
            "channels that all have it. Measure more images, or wider layers."
        )
    pooled = {score: _pooled(list(own.values())) for score, own in found.items()}
    best = max(pooled, key=lambda score: abs(pooled[score][0]))
    rows = []
    for score, values in pooled.items():
        low, high = interval_of(values[1:])
        behind = _behind(found[best], found[score], draws)
        tail = 2 * min(float((behind[1:] <= 0).mean()), float((behind[1:] >= 0).mean()))
        compared = score != best and not np.isnan(behind[0])
        behind_low, behind_high = interval_of(behind[1:])
        rows.append(
            {
                "score": score,
                "correlation": float(values[0]),
                "low": low,
                "high": high,
                "strength": abs(float(values[0])),
                "behind": float(behind[0]),
                "behind_low": behind_low,
                "behind_high": behind_high,
                "p": max(min(tail, 1.0), 2 / (draws + 1)) if compared else 1.0,
            }
        )
    table = pd.DataFrame(rows).sort_values("strength", ascending=False, ignore_index=True)
    others = table["score"] != best
    table["p_holm"] = 1.0
    table.loc[others, "p_holm"] = holm(table.loc[others, "p"].to_numpy())
    return table


def _by_score(
    layers: Mapping[str, pd.DataFrame],
    damage: str,
    predictors: Sequence[str],
    draws: int,
    rng: np.random.Generator,
) -> dict[str, _OfLayers]:
    """Rank correlations with damage of the scores that count somewhere, layer by layer."""
    found: dict[str, _OfLayers] = {score: {} for score in predictors}
    for name, frame in layers.items():
        rows, times = frame.dropna(subset=[damage]), None
        for score in predictors:
            if rows[score].isna().any() or rows[score].nunique() < 2:
                continue
            stratum = stratum_of(name, rows, damage, score, ())
            if stratum.families < FEWEST:
                continue
            if times is None:  # the same resamples for every score
                once = np.ones((1, stratum.families))
                times = np.concatenate([once, _resamples(stratum.families, draws, rng)])
            found[score][name] = _correlation(stratum, times), len(stratum.outcome)
    return {score: own for score, own in found.items() if own}


def _behind(best: _OfLayers, score: _OfLayers, draws: int) -> Float:
    """(1 + draws,) how far |pooled| falls short of the best's over common layers; NaN of none."""
    common = [name for name in best if name in score]
    if not common:
        return np.full(1 + draws, np.nan)
    one, other = (_pooled([own[name] for name in common]) for own in (best, score))
    return np.asarray(np.abs(one) - np.abs(other))


def at_matched(
    layers: Mapping[str, pd.DataFrame], damage: str, scores: Sequence[str], control: str
) -> dict[str, pd.DataFrame]:
    """Layers in which damage and scores are what a smooth effect of the control leaves of them.

    Normal scores of ranks, less their least-squares fit by the polynomials and splines of the
    control that the layer affords (`Columns`). Channels without the control, the damage or one of
    the scores are left out, and so are layers with too few others.
    """
    found = {}
    for name, frame in layers.items():
        rows = frame.dropna(subset=[damage, control, *scores])
        if rows.empty:
            continue
        stratum = stratum_of(name, rows, damage, control, (control,))
        if not stratum.usable:
            continue
        controls = stratum.readings[0, 1:]
        columns = np.concatenate(
            [stratum.adjusted.polynomial(controls), stratum.adjusted.further(controls)], axis=-1
        )
        gram = columns.T @ columns + ridge(columns)
        left = {}
        for column in (damage, *scores):
            values = normal_scores(rows[column].to_numpy(dtype=float))
            left[column] = values - columns @ np.linalg.solve(gram, columns.T @ values)
        found[name] = rows.assign(**left)
    return found


def _resamples(families: int, draws: int, rng: np.random.Generator) -> Float:
    """(draws, families) how often each family is in a resample of as many."""
    return rng.multinomial(families, np.ones(families) / families, draws).astype(float)


def _correlation(stratum: Stratum, times: Float) -> Float:
    """(draws,) correlation of score and outcome, each family counted as often as `times` says."""
    x, y = stratum.readings[0, 0], stratum.outcome
    weights = times[:, stratum.family] / times[:, stratum.family].sum(axis=1, keepdims=True)
    mean_x, mean_y = weights @ x, weights @ y
    squares = (weights @ (x * x) - mean_x**2) * (weights @ (y * y) - mean_y**2)
    # a constant resample correlates with nothing
    known = squares > 1e-12
    shared = weights @ (x * y) - mean_x * mean_y
    return np.where(known, shared / np.sqrt(np.where(known, squares, 1.0)), 0.0)


def _pooled(layers: Sequence[tuple[Float, int]]) -> Float:
    """Mean of Fisher's z over layers, weighted by its precision, back on the scale of r."""
    correlations, sizes = zip(*layers, strict=True)
    weights = np.array(sizes) - 3.0
    z = np.arctanh(np.clip(np.array(correlations), -1 + 1e-9, 1 - 1e-9))  # 1 has no finite z
    return np.asarray(np.tanh(weights @ z / weights.sum()))
