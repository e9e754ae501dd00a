"""An interval for E_i that is right at 0 as well: by inverting a test, not around the estimate.

Near E = 0 the estimate is a degenerate statistic, a sum over pairs of samples. The jackknife counts
such a sum twice (Efron and Stein 1981), and no other scale than that of E helps: its slope in the
samples is 0 there on every one. But its variance is known: with p peers and n samples

    V(E) = 4 E (1 - E)² / n + 2 p (1 - E)² / (n (n - p)),

the variance of a multiple correlation and that of its degrees of freedom. So each E is held against
its own V(E); what the jackknife finds beyond or below its own mean scales the first term alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from theory.shared.validation import Float, count, positive, real_array, within

FAR = 1e3
"""Where the search for a lower bound begins, in units of 1 - E below the estimate."""

GRID = 200
"""Values above the estimate that are tried for the upper bound."""

STEPS = 70
"""Halvings of that: to the last digit."""


def predictability_interval(
    estimate: ArrayLike,
    standard_error: ArrayLike,
    *,
    n: float,
    peers: int,
    groups: int,
    level: float = 0.95,
) -> tuple[Float, Float]:
    """Return the lowest and highest E_i, each (C,), that the samples do not refuse at this level.

    An estimate that is free of bias may lie below 0, and so may its interval; nothing is lost by
    cutting it there.

    Parameters
    ----------
    estimate : (C,) E_i, free of bias ("corrected" or "in_out").
    standard_error : (C,) of the jackknife over groups of images.
    n : effective number of samples (`PeerEstimates.effective_samples`); at least 4 per channel.
    peers : p, that vary and are not functions of each other.
    groups : of images.
    level : share of intervals that hold the truth.

    Raises
    ------
    ValueError
        an estimate above 1 or a standard error below 0; fewer than 4 samples per channel, for
        which V(E) is not known to hold.

    Source: Fisher (1928) for both terms of V; inversion as Wilson's interval for a proportion.

    >>> low, high = predictability_interval([0.0, 0.5], [0.08, 0.05], n=400, peers=63, groups=10)
    >>> low.round(2).tolist(), high.round(2).tolist()
    ([-0.06, 0.39], [0.14, 0.59])
    """
    e, error = real_array("estimate", estimate), real_array("standard_error", standard_error)
    p, g = count("peers", peers), count("groups", groups, least=2)
    within("level", positive("level", level), "(0, 1)")
    for name, values, wrong in (("estimate", e, e > 1), ("standard_error", error, error < 0)):
        if wrong.any():
            at = int(np.argmax(wrong))
            limit = "at most 1" if name == "estimate" else ">= 0"
            raise ValueError(
                f"{name} must be {limit}; got {values.flat[at]:g} at {at}. "
                "Pass those that `channel_axes` and a jackknife give."
            )
    if positive("n", n) < 4 * (p + 1):
        raise ValueError(
            f"n must be at least 4 (peers + 1) = {4 * (p + 1)} effective samples; got {n!r}. "
            "Measure more images."
        )
    paired = 2 * p / (n * (n - p))

    def linear(value: Float) -> Float:
        return np.asarray(4 * np.clip(value, 0.0, 1.0) / n)

    with np.errstate(divide="ignore", invalid="ignore"):
        scale = error**2 / ((1 - e) ** 2 * (linear(e) + 2 * paired))

    def refused(value: Float) -> Float:
        first = scale * linear(value)
        spread = (1 - value) * np.sqrt(first + paired)
        with np.errstate(divide="ignore"):
            freedom = (g - 1) * ((first + paired) / first) ** 2
        quantile = stats.t.ppf((1 + level) / 2, np.minimum(freedom, 1e9))
        return np.asarray(np.abs(e - value) > quantile * spread)

    # a scale above 1 may refuse 0 and not what is beyond: the last that is not refused counts
    above = e + (1 - e) * np.linspace(0, 1, GRID)[:, None]
    last = np.where(refused(above), e, above).max(axis=0)
    bounds = []
    for inner, outer in ((e, e - FAR * (1 - e)), (last, last + (1 - e) / (GRID - 1))):
        for _ in range(STEPS):
            middle = (inner + outer) / 2
            out = refused(middle)
            outer, inner = np.where(out, middle, outer), np.where(out, inner, middle)
        bounds.append(np.where(np.isnan(scale) & (e < 1), np.nan, inner))
    return bounds[0], bounds[1]
