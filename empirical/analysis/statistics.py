"""What a score says of an outcome beyond controls that are measured with error.

Everything is among the channels of one layer, on normal scores of ranks; layers are added up. In
each layer the outcome is a smooth function of the controls plus a slope times the tested score.
Three things that pose as a slope are met: a curved or joint effect of the controls by regression
splines and products (`adjustment`); errors of measurement, which leave confounding behind, by
instruments (the scores from one half of the images for those of the other, whose errors are
independent; Hausman, Newey, Ichimura and Powell 1991); families of near-copies by adding up the
residuals' products within a family first (Liang and Zeger 1986).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtri

from empirical.analysis.adjustment import Columns, ridge
from theory.shared.findings import Estimate
from theory.shared.validation import Float

LEVEL = 0.95

NEGLIGIBLE = 0.02
"""Slopes up to this count as none. Ranks among few channels are themselves a noisy reading of a
score, which leaves as much of a strong confounding in layers of 16 to 128 channels."""


@dataclass(frozen=True)
class Stratum:
    """One layer: normal scores of n channels. Leading axes hold data sets that are alike.

    Parameters
    ----------
    outcome : (..., n) of the damage.
    readings : (k, 1 + q, ..., n) of the tested score and the q controls: from all images, and where
        k = 3 from each half of them.
    family : (n,) number of each channel's family, from 0. A layer of one family counts as one.
    name : of the layer.
    """

    outcome: Float
    readings: Float
    family: NDArray[np.intp]
    name: str = ""

    @property
    def columns(self) -> int:
        """How many columns stand for the controls."""
        return self.adjusted.number(self.readings.shape[1] - 1)

    @property
    def adjusted(self) -> Columns:
        """Which columns stand for the controls."""
        return Columns.of(self._independent)

    @property
    def families(self) -> int:
        """How many families the channels form."""
        return int(self.family.max()) + 1

    @property
    def usable(self) -> bool:
        """Whether it has two families for each column: fewer leave too little to judge errors."""
        return self._independent >= 2 * self.columns

    @property
    def inflation(self) -> float:
        """What makes up for residuals being smaller than errors, by leverage."""
        return self._independent / (self._independent - self.columns)

    @property
    def _independent(self) -> int:
        return self.families if self.families > 1 else len(self.family)


@dataclass(frozen=True)
class Effect:
    """A slope in standard deviations of ranks' normal scores, with its 95 % interval.

    Parameters
    ----------
    slope, low, high : the interval holds all slopes that are not rejected (Fieller 1954), and
        `NEGLIGIBLE` on either side; NaN where no slope is.
    p : two-sided, of a slope within `NEGLIGIBLE`.
    """

    slope: Float
    low: Float
    high: Float
    p: Float

    @property
    def estimate(self) -> Estimate:
        """Slope with interval."""
        return Estimate(float(self.slope), float(self.low), float(self.high))


def effect(strata: Sequence[Stratum]) -> Effect:
    """Slope of the outcome on the tested score beyond the controls, layers added up.

    Where there are halves, once as measured and once with each half as the other's instrument: the
    slope is the latter's, the p-value the larger, the interval what either leaves possible.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> control, score, noise = normal_scores(rng.standard_normal((3, 60)))
    >>> layer = Stratum(control + score + 0.1 * noise, np.stack([[score, control]]), np.arange(60))
    >>> round(float(effect([layer]).slope), 1)
    1.0
    """
    halves = all(len(stratum.readings) == 3 for stratum in strata)
    found = [_effect(strata, (0, 0))] + ([_effect(strata, (1, 2))] if halves else [])
    return Effect(
        found[-1].slope,
        np.minimum(found[0].low, found[-1].low),
        np.maximum(found[0].high, found[-1].high),
        np.maximum(found[0].p, found[-1].p),
    )


def _effect(strata: Sequence[Stratum], readings: tuple[int, int]) -> Effect:
    parts = [_products(stratum, *readings) for stratum in strata]
    inflation = [np.full(s.families, s.inflation) for s in strata]
    single = all(s.families == 1 for s in strata)
    freedom = len(strata) - 1 if single else sum(s.families - s.columns for s in strata)
    with_outcome, with_tested = (np.concatenate(p, axis=-1) for p in zip(*parts, strict=True))
    return _ratio(with_outcome, with_tested, np.concatenate(inflation), freedom, NEGLIGIBLE)


def _ratio(
    above: Float, below: Float, inflation: Float, freedom: int, margin: float = 0.0
) -> Effect:
    """Ratio of two sums over families (..., m), by Fieller's interval, widened by a margin."""
    n, d = above.sum(axis=-1), below.sum(axis=-1)
    if above.shape[-1] < 2 or freedom < 1:  # nothing tells how far it may be off
        unknown = np.full(np.shape(n), np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            return Effect(n / d, unknown, unknown, np.ones(np.shape(n)))
    a, b = ((x - x.mean(axis=-1, keepdims=True)) * inflation for x in (above, below))
    scale = above.shape[-1] / (above.shape[-1] - 1)
    aa, ab, bb = (scale * (x * y).sum(axis=-1) for x, y in ((a, a), (a, b), (b, b)))
    quantile = stats.t.ppf((1 + LEVEL) / 2, freedom) ** 2
    square, middle, last = d * d - quantile * bb, n * d - quantile * ab, n * n - quantile * aa
    with np.errstate(invalid="ignore", divide="ignore"):
        root = np.sqrt(np.where(square > 0, middle**2 - square * last, np.nan))
        edge = np.copysign(margin, n / d)
        t = np.abs(n - edge * d) / np.sqrt(aa - 2 * edge * ab + edge**2 * bb)
        p = np.where(np.abs(n / d) > margin, 2 * stats.t.sf(t, freedom), 1.0)
        low, high = (middle - root) / square - margin, (middle + root) / square + margin
        return Effect(n / d, low, high, p)


def _products(stratum: Stratum, one: int, other: int) -> tuple[Float, Float]:
    """(..., families) sums of the tested score's residual times the outcome's, and times its own.

    With z the tested score of one half less its fit, by the controls of that half, that leaves
    nothing along the controls of the other: neither the controls' coefficients nor their errors of
    measurement move the mean of z times the outcome. Both directions are averaged.
    """
    tested, columns = stratum.readings[:, 0], stratum.adjusted
    further = columns.further(stratum.readings[0, 1:])
    controls = {
        half: np.concatenate([columns.polynomial(stratum.readings[half, 1:]), further], axis=-1)
        for half in {one, other}
    }
    outcome = own = np.zeros(())
    for x, z in ((one, other), (other, one)):
        against = controls[z].swapaxes(-1, -2) @ controls[x]
        residual = _residual(tested[z], controls[z], controls[x], against.swapaxes(-1, -2))
        outcome = outcome + residual * _residual(stratum.outcome, controls[x], controls[z], against)
        own = own + residual * _residual(tested[x], controls[x], controls[z], against)
    member = np.eye(stratum.families)[stratum.family]
    return outcome @ member / 2, own @ member / 2


def _residual(values: Float, columns: Float, instruments: Float, against: Float) -> Float:
    """(..., n) values less columns @ c with instrumentsᵀ (values - columns @ c) = 0."""
    wanted = instruments.swapaxes(-1, -2) @ values[..., None]
    coefficients = np.linalg.solve(against + ridge(columns), wanted)
    result: Float = values - (columns @ coefficients)[..., 0]
    return result


def mean_over_families(values: Float, family: NDArray[np.intp]) -> tuple[Estimate, float]:
    """Mean of (n,) values with its 95 % interval, and p of no mean; families are independent.

    NaN where there are fewer than three families.
    """
    families = int(family.max()) + 1
    if families < 3:
        return Estimate(float(values.mean()), np.nan, np.nan), np.nan
    sums = np.asarray(np.bincount(family, values), dtype=float)
    sizes = np.asarray(np.bincount(family), dtype=float)
    found = _ratio(sums, sizes, np.ones(families), families - 1)
    return found.estimate, float(found.p)


def holm(p_values: Float) -> Float:
    """Holm's step-down adjustment: the familywise error, whatever the dependence; NaN stays NaN.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")  # NaN last
    known = int(np.isfinite(p_values).sum())
    factors = np.maximum(np.arange(known, known - len(p_values), -1), 1)
    adjusted = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    result = np.empty_like(adjusted)
    result[order] = adjusted
    return result


def normal_scores(values: Float) -> Float:
    """Normal quantiles of the mid-ranks along the last axis.

    >>> normal_scores(np.array([5.0, 1.0, 9.0])).round(3).tolist()
    [0.0, -0.967, 0.967]
    """
    ranks = stats.rankdata(values, axis=-1)
    return np.asarray(ndtri((ranks - 0.5) / values.shape[-1]))


HALVES = ("", "_half0", "_half1")
"""Endings of a score's columns: from all images, and from each half of them."""


def stratum_of(
    name: str, rows: pd.DataFrame, outcome: str, tested: str, controls: Sequence[str]
) -> Stratum:
    """Return the normal scores of one layer's rows, with halves and families where it has them."""
    scores = [tested, *controls]
    every = all(f"{score}{half}" in rows for score in scores for half in HALVES)
    readings = np.stack(
        [
            [normal_scores(rows[score + half].to_numpy(dtype=float)) for score in scores]
            for half in (HALVES if every else HALVES[:1])
        ]
    )
    family = rows["family"] if "family" in rows else pd.Series(range(len(rows)))
    return Stratum(
        normal_scores(rows[outcome].to_numpy(dtype=float)),
        readings,
        np.asarray(pd.factorize(family)[0]),
        name,
    )


def interval_of(replicates: Float) -> tuple[float, float]:
    """Return the central 95 % of the replicates."""
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
