"""Means over trained networks, which differ in their seed, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from theory.shared.findings import Estimate

LEAST = 3
"""Networks that an interval needs: two say next to nothing of how networks differ."""
CORRELATION = (-1.0, 1.0)
SHARE = (0.0, 1.0)


def over_networks(
    values: ArrayLike, within: tuple[float, float] | None = None, level: float = 0.95
) -> Estimate:
    """Mean over networks with Student's interval; no interval (NaN) from fewer than three.

    Parameters
    ----------
    values : one a network; NaN are left out.
    within : least and largest possible value. The interval is then Student's on the scale of
        Fisher's z, so that it does not leave them. None: unbounded.
    level : of the interval.

    Examples
    --------
    >>> f"{over_networks([0.9, 0.95, 0.99], CORRELATION):.2f}; {over_networks([0.1, 0.3]):.1f}"
    '0.95 [0.45, 1.00]; 0.2 [no interval]'
    """
    sample = np.asarray(values, dtype=np.float64)
    sample = sample[~np.isnan(sample)]
    if not sample.size:
        return Estimate(np.nan, np.nan, np.nan)
    mean = float(sample.mean())
    if sample.size < LEAST:
        return Estimate(mean, np.nan, np.nan)
    center, scale = (0.0, 1.0) if within is None else (sum(within) / 2, np.ptp(within) / 2)
    if within is not None:
        # a value at its bound has no finite z
        sample = np.arctanh(np.clip((sample - center) / scale, -1 + 1e-9, 1 - 1e-9))
    half = stats.t.ppf((1 + level) / 2, sample.size - 1) * sample.std(ddof=1) / sample.size**0.5
    ends = np.array([sample.mean() - half, sample.mean() + half])
    low, high = ends if within is None else center + scale * np.tanh(ends)
    # the mean is of the values, not of their z, and may lie beyond the ends
    return Estimate(mean, min(float(low), mean), max(float(high), mean))


def over_seeds(
    frame: pd.DataFrame,
    keys: Sequence[str],
    value: str,
    within: tuple[float, float] | None = None,
) -> pd.DataFrame:
    """One row per combination of keys: `value` averaged within each seed, then over seeds.

    Returns
    -------
    Columns *keys, seeds, `value`, low, high (95 %; NaN for fewer than three seeds).
    """
    rows = []
    for key, group in frame.groupby(list(keys), sort=False):
        by_seed = group.groupby("seed")[value].mean()
        found = over_networks(by_seed, within)
        values = {"seeds": len(by_seed), value: found.mean, "low": found.low, "high": found.high}
        rows.append(dict(zip(keys, key, strict=True)) | values)
    return pd.DataFrame(rows)


def mean_difference(differences: ArrayLike) -> dict[str, float]:
    """Mean of paired differences, one a network, with interval and p, as entries of a table's row.

    >>> mean_difference([0.25, 0.5])
    {'difference': 0.375, 'low': nan, 'high': nan, 'p': nan, 'seeds': 2}
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[~np.isnan(values)]
    found, p = over_networks(values), np.nan
    if len(values) >= LEAST:
        error = values.std(ddof=1) / len(values) ** 0.5
        t = abs(found.mean) / error if error > 0 else np.inf if found.mean else 0.0
        p = float(2 * stats.t.sf(t, len(values) - 1))
    ends = {"difference": found.mean, "low": found.low, "high": found.high}
    return ends | {"p": p, "seeds": len(values)}
