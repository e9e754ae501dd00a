"""Means over seeds with their intervals, as findings and figures print them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from theory.shared.validation import Float


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % interval (Student's t)."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


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

    >>> str(estimate([0.1, 0.2, 0.3]))
    '+0.20 [-0.05, +0.45]'
    """
    mean, half = interval(values)
    return Estimate(float(mean), float(mean - half), float(mean + half))
