"""Which score predicts lesion damage best, and how far the others are behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from empirical.analysis.statistics import (
    bootstrap_pooled,
    holm,
    interval_of,
    pooled_correlation,
    stratum_of,
)


def compare_predictors(
    layers: Mapping[str, pd.DataFrame],
    damage: str,
    predictors: Sequence[str],
    draws: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Rank scores by |pooled rank correlation| with damage, and compare each with the best.

    All scores are resampled together, so the interval of a difference knows that they share
    channels. `behind` is how far |correlation| falls short of the best score's.
    """
    observed, replicates = {}, {}
    state = rng.bit_generator.state
    for score in predictors:
        rng.bit_generator.state = state  # the same resamples for every score
        known = {
            name: rows
            for name, rows in layers.items()
            if rows[score].notna().all() and rows[score].nunique() > 1
        }
        if not known:
            continue
        strata = [stratum_of(name, rows, damage, score, ()) for name, rows in known.items()]
        observed[score] = pooled_correlation(strata)
        replicates[score] = bootstrap_pooled(strata, draws=draws, rng=rng)
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
