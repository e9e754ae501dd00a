"""Means over trained networks, which differ in their seed, with Student's intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats


def t_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Student interval of the mean; NaN for fewer than two values.

    >>> low, high = t_interval([1.0, 2.0, 3.0])
    >>> round(low, 3), round(high, 3)
    (-0.484, 4.484)
    """
    sample = np.asarray(values, dtype=np.float64)
    sample = sample[~np.isnan(sample)]
    if sample.size < 2:
        return np.nan, np.nan
    half = stats.t.ppf((1 + level) / 2, sample.size - 1) * sample.std(ddof=1) / sample.size**0.5
    return float(sample.mean() - half), float(sample.mean() + half)


def over_seeds(frame: pd.DataFrame, keys: Sequence[str], value: str) -> pd.DataFrame:
    """One row per combination of keys: `value` averaged within each seed, then over seeds.

    Returns
    -------
    Columns *keys, seeds, `value`, low, high (95 %; NaN for one seed: it cannot say how seeds
    differ).
    """
    rows = []
    for key, group in frame.groupby(list(keys), sort=False):
        by_seed = group.groupby("seed")[value].mean()
        low, high = t_interval(by_seed)
        found = {"seeds": len(by_seed), value: by_seed.mean(), "low": low, "high": high}
        rows.append(dict(zip(keys, key, strict=True)) | found)
    return pd.DataFrame(rows)


def mean_difference(differences: ArrayLike) -> dict[str, float]:
    """Mean of paired differences, one a network, with its interval, as entries of a table's row.

    >>> mean_difference([0.25, 0.25])
    {'difference': 0.25, 'low': 0.25, 'high': 0.25, 'seeds': 2}
    """
    values = np.asarray(differences, dtype=np.float64)
    low, high = t_interval(values)
    return {"difference": float(values.mean()), "low": low, "high": high, "seeds": len(values)}
