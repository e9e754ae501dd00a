"""Which score predicts lesion damage best, and how far the others are behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from empirical.analysis.adjustment import ridge
from empirical.analysis.statistics import Stratum, holm, interval_of, normal_scores, stratum_of
from theory.shared.validation import Float


def compare_predictors(
    layers: Mapping[str, pd.DataFrame],
    damage: str,
    predictors: Sequence[str],
    draws: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Rank scores by |pooled rank correlation| with damage, and compare each with the best.

    Families of channels are resampled, for all scores together, so the interval of a difference
    knows that they share channels. `behind` is how far |correlation| falls short of the best's.
    """
    observed, replicates = {}, {}
    state = rng.bit_generator.state
    for score in predictors:
        rng.bit_generator.state = state  # the same resamples for every score
        strata = [
            stratum_of(name, rows, damage, score, ())
            for name, rows in layers.items()
            if rows[score].notna().all() and rows[score].nunique() > 1
        ]
        if not strata:
            continue
        once = [_correlation(s, np.ones((1, s.families))) for s in strata]
        observed[score] = float(_pooled(once, strata)[0])
        drawn = [_correlation(s, _resamples(s.families, draws, rng)) for s in strata]
        replicates[score] = _pooled(drawn, strata)
    best = max(observed, key=lambda score: abs(observed[score]))
    rows = []
    for score, value in observed.items():
        low, high = interval_of(replicates[score])
        behind = np.abs(replicates[best]) - np.abs(replicates[score])
        behind_low, behind_high = interval_of(behind)
        tail = 2 * min(float((behind <= 0).mean()), float((behind >= 0).mean()))
        rows.append(
            {
                "score": score,
                "correlation": value,
                "low": low,
                "high": high,
                "strength": abs(value),
                "behind": abs(observed[best]) - abs(value),
                "behind_low": behind_low,
                "behind_high": behind_high,
                "p": 1.0 if score == best else max(min(tail, 1.0), 2 / (draws + 1)),
            }
        )
    table = pd.DataFrame(rows).sort_values("strength", ascending=False, ignore_index=True)
    others = table["score"] != best
    table["p_holm"] = 1.0
    table.loc[others, "p_holm"] = holm(table.loc[others, "p"].to_numpy())
    return table


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


def _pooled(correlations: Sequence[Float], strata: Sequence[Stratum]) -> Float:
    """Mean of Fisher's z over layers, weighted by its precision, back on the scale of r."""
    weights = np.array([len(s.outcome) - 3.0 for s in strata])
    z = np.arctanh(np.clip(np.array(correlations), -1 + 1e-9, 1 - 1e-9))  # 1 has no finite z
    return np.asarray(np.tanh(weights @ z / weights.sum()))
