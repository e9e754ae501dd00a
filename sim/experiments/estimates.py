"""Means over seeds with their intervals, as findings and figures print them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from theory.shared.findings import Estimate
from theory.shared.validation import Float


def interval(values: ArrayLike) -> tuple[Float, Float]:
    """Mean and half width of the 95 % interval along the first axis; NaN entries are left out."""
    array = np.asarray(values, dtype=np.float64)
    known = np.isfinite(array)
    n = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, array, 0).sum(axis=0) / n
        spread = np.where(known, array - mean, 0) ** 2
        error = np.sqrt(spread.sum(axis=0) / (n - 1) / n)
    half = stats.t.ppf(0.975, np.maximum(n - 1, 1)) * error
    return mean, np.where(n > 1, half, np.nan)


def estimate(values: ArrayLike) -> Estimate:
    """Mean and interval of one number per seed.

    >>> f"{estimate([0.1, 0.2, 0.3]):+.2f}"
    '+0.20 [-0.05, +0.45]'
    """
    mean, half = interval(values)
    return Estimate(float(mean), float(mean - half), float(mean + half))


def median_interval(values: ArrayLike) -> Estimate:
    """Median with its 95 % interval by order statistics; no interval below six values.

    >>> f"{median_interval(range(11)):g}"
    '5 [1, 9]'
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64).ravel())
    n = ordered.size
    low = int(stats.binom.ppf(0.025, n, 0.5)) - 1
    if n < 6 or low < 0:
        return Estimate(float(np.median(ordered)), float("nan"), float("nan"))
    ends = ordered[low], ordered[n - 1 - low]
    return Estimate(float(np.median(ordered)), float(ends[0]), float(ends[1]))


def share_of(hits: int, total: int) -> Estimate:
    """A share with its 95 % interval by Wilson's score.

    >>> f"{share_of(8, 10):.2f}"
    '0.80 [0.49, 0.94]'
    """
    found = stats.binomtest(hits, total).proportion_ci(method="wilson")
    return Estimate(hits / total, float(found.low), float(found.high))
