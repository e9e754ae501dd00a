"""From moments to correlations: live channels, and targets made white.

With unit-variance channels and white targets every information quantity of a scalar or a vector
target is a function of two matrices: R = corr(Y) and G = Cov(Y, T) after standardization, of
which the pairs need only H = G Gᵀ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from theory.moments import LARGEST_DEVIATION, SMALLEST_DEVIATION, Moments
from theory.shared.validation import Float

RANK_TOLERANCE = 1e-12
"""An eigenvalue below this share of the largest counts as zero: float64 rounding of a correlation
matrix of some thousand channels stays below it, and no estimate resolves anything smaller."""

COPY_TOLERANCE = 1e-12
"""1 - R² below this: the two channels are copies of each other up to rounding."""


ROUNDING = 8 * np.finfo(np.float64).eps
"""A deviation below this share of the mean is the mean's rounding."""


@dataclass(frozen=True)
class Standardized:
    """Live channels only; `live` maps them back.

    Attributes
    ----------
    power : (C,) J = diag K, of all channels.
    live : (L,) indices of the channels whose variance is not zero up to rounding.
    correlation : (L, L) R.
    loadings : (L, r) G, correlation of each live channel with the r white targets.
    target_rounding : what rounding makes of a share of the targets: the more, the less independent
        they are.
    """

    power: Float
    live: np.ndarray[tuple[int], np.dtype[np.intp]]
    correlation: Float
    loadings: Float
    target_rounding: float


def standardize(moments: Moments) -> Standardized:
    """Correlations of the live channels with each other and with white targets."""
    _refuse_extremes(moments)
    c = moments.n_channels
    power = np.diagonal(moments.cov)[:c].copy()
    live = live_channels(moments)
    scale = 1 / np.sqrt(power[live])
    everyone = live.size == c
    block = moments.cov[:c, :c] if everyone else moments.cov[np.ix_(live, live)]
    correlation = block * scale[:, None]
    correlation *= scale
    np.fill_diagonal(correlation, 1.0)
    white = whitening(moments.cov[c:, c:])
    loadings = (moments.cov[live, c:] * scale[:, None]) @ white
    # 1 / the smallest eigenvalue kept
    amplified = (white * white * np.diagonal(moments.cov)[c:, None]).sum(axis=0).max(initial=0.0)
    rounding = 32 * np.finfo(np.float64).eps * float(amplified)
    return Standardized(power, live, correlation, loadings, rounding)


def live_channels(moments: Moments) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Indices of the channels that vary.

    A channel is dead if its deviation is at the rounding of its mean: the test does not depend
    on the scale of the channel or of its peers.
    """
    c = moments.n_channels
    power = np.maximum(np.diagonal(moments.cov)[:c], 0.0)
    return np.flatnonzero(np.sqrt(power) > ROUNDING * np.abs(moments.mean[:c]))


def _refuse_extremes(moments: Moments) -> None:
    """Refuse variances beyond what double precision divides by; 0 is a dead channel's."""
    variance = np.diagonal(moments.cov)
    small = (variance > 0) & (variance < SMALLEST_DEVIATION**2)
    small &= np.sqrt(np.maximum(variance, 0.0)) > ROUNDING * np.abs(moments.mean)
    wrong = small | (variance > LARGEST_DEVIATION**2)
    if wrong.any():
        k, c = int(np.argmax(wrong)), moments.n_channels
        name = f"channel {k}" if k < c else f"target {k - c}"
        raise ValueError(
            f"moments must have variances between {SMALLEST_DEVIATION**2:g} and "
            f"{LARGEST_DEVIATION**2:g}, or 0; {name} has {variance[k]:.3g}. Divide it by its scale."
        )


def whitening(cov: Float) -> Float:
    """(q, r) matrix W with Wᵀ cov W = I on the r directions in which the targets vary.

    One-hot labels vary in one direction fewer than they have columns; the null direction carries
    no information and drops out.

    Raises
    ------
    ValueError
        targets that do not vary at all.
    """
    if cov.shape[0] == 0:
        return np.empty((0, 0))
    deviation = np.sqrt(np.diagonal(cov))
    if not deviation.any():
        raise ValueError(
            "the target is constant (variance 0), so no channel can say anything about it. "
            "Check the target and the labels, or measure more varied images."
        )
    scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    values, vectors = np.linalg.eigh(cov * np.outer(scale, scale))
    kept = values > RANK_TOLERANCE * values[-1]
    result: Float = scale[:, None] * vectors[:, kept] / np.sqrt(values[kept])
    return result
