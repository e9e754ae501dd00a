"""Quantities of pairs of channels: overlap, and what two channels say together about the target."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from theory._conditional import SMALLEST, TRUSTED
from theory.shared.validation import Float
from theory.standardize import COPY_TOLERANCE

BLOCK = 64
"""Channels treated at once."""

TIE = 1e-12
"""Correlations nearer than this are equal up to rounding."""

ROUGH = 1e-7
"""More than what float32 makes of a correlation, and a tie."""

CANCELLING = 1e-4
"""Where a pair leaves less than this of a channel and of the target, differences of products lose
more than a millionth of a millionth of the excess: then it is computed from the vectors."""

ROUNDING = 64 * np.finfo(np.float64).eps
"""Of the share of the target that a channel explains, before it is divided by what is left."""


def total_overlap(correlation: Float) -> Float:
    """(C,) mutual information -1/2 log(1 - R²) of each channel with a peer, summed over peers.

    The information of exact copies is infinite; NaN marks it, and the caller lists the channels.
    """
    total = np.zeros(len(correlation))
    for left in range(0, len(total), BLOCK):  # a block stays in a core's cache
        squared = correlation[left : left + BLOCK, left:] ** 2  # each pair once
        np.fill_diagonal(squared, 0.0)
        squared[squared >= 1 - COPY_TOLERANCE] = np.nan
        np.negative(squared, out=squared)
        np.log1p(squared, out=squared)
        total[left : left + BLOCK] += squared.sum(axis=1)
        total[left + BLOCK :] += squared[:, BLOCK:].sum(axis=0)
    total *= -0.5
    return total


def nearest_peers(correlation: Float, peers: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """(C, m) indices of the peers with the highest overlap, unordered, and which of them count.

    Those are min(peers, C - 1) and all that tie with the last of them, so that nothing depends on
    the order of the channels; m is the largest number of any channel.
    """
    c = correlation.shape[0]
    strength = np.abs(correlation)
    np.fill_diagonal(strength, -1.0)
    if peers >= c - 1:
        everyone = np.broadcast_to(np.arange(c), (c, c))
        others: NDArray[np.intp] = everyone[~np.eye(c, dtype=bool)].reshape(c, c - 1)
        return others, np.ones((c, c - 1), dtype=bool)
    # rounded to float32, whose order is the same but for ties, a fifth of the time of float64
    rough = np.partition(strength.astype(np.float32), c - peers, axis=1)[:, c - peers]
    close = strength >= (rough.astype(np.float64) - ROUGH)[:, None]
    unsure = np.flatnonzero(np.count_nonzero(close, axis=1) > peers)
    last = np.partition(strength[unsure], c - peers, axis=1)[:, c - peers]
    close[unsure] = strength[unsure] >= (last - TIE)[:, None]
    number = np.count_nonzero(close, axis=1)
    most = int(number.max())
    if number.min() == most:
        return np.flatnonzero(close).reshape(c, most) % c, np.ones((c, most), dtype=bool)
    nearest = np.argsort(~close, axis=1, kind="stable")[:, :most]
    return nearest, np.take_along_axis(close, nearest, axis=1)


def pairwise_excess(
    correlation: Float,
    loadings: Float,
    explained: Float,
    peers: NDArray[np.intp],
    target_rounding: float = 0.0,
) -> Float:
    """(C, m) excess S_ij = I(T; Y_i, Y_j) - max(I(T; Y_i), I(T; Y_j)) in nats.

    It equals I(T; Y_low | Y_high), where high is the more informative of the two, so one logarithm
    of the share that low still explains gives it without a difference of informations:

        share = (h_low - 2 R H + R² h_high - (h_low h_high - H²)) / ((1 - R²)(1 - h_high)),

    with H = G Gᵀ and h its diagonal (for a scalar target h_low h_high = H² and the numerator is
    the square (g_low - R g_high)²). Copies have excess 0, a pair that determines the target an
    infinite one; NaN where the two are so nearly copies that rounding decides.

    Parameters
    ----------
    correlation : (C, C) R.
    loadings : (C, r) G.
    explained : (C,) h, the share of the target's variance that each channel explains.
    peers : (C, m) peers of each channel.
    target_rounding : of `Standardized`.
    """
    r = np.take_along_axis(correlation, peers, axis=1)
    own, other = explained[:, None], explained[peers]
    low, high = np.minimum(own, other), np.maximum(own, other)
    unshared, unexplained = 1 - r * r, 1 - high
    copies = unshared <= COPY_TOLERANCE
    denominator = np.where(copies, 1.0, unshared) * unexplained
    if loadings.shape[1] == 1:
        g = loadings[:, 0]
        swap = own > other
        g_low = np.where(swap, g[peers], g[:, None])
        g_high = np.where(swap, g[:, None], g[peers])
        numerator = (g_low - r * g_high) ** 2
    else:
        joint = np.take_along_axis(loadings @ loadings.T, peers, axis=1)
        numerator = low - 2 * r * joint + r * r * high - (low * high - joint * joint)
        close = np.nonzero((denominator < CANCELLING) & (unexplained > COPY_TOLERANCE))
        numerator[close] = _from_vectors(r, loadings, explained, peers, close)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(copies, 0.0, np.maximum(numerator, 0.0) / denominator)
        uncertain = share * (ROUNDING / unshared)
        rounding = ROUNDING / unshared + (ROUNDING + target_rounding) / unexplained
        determined = ~copies & (share >= 1 - rounding)
    share[determined | (unexplained <= COPY_TOLERANCE)] = 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Float = -0.5 * np.log1p(-share)
        uncertain /= 2 * (1 - share)
    result[(uncertain > TRUSTED * np.maximum(result, SMALLEST)) & (share < 1)] = np.nan
    return result


def _from_vectors(
    r: Float,
    loadings: Float,
    explained: Float,
    peers: NDArray[np.intp],
    close: tuple[NDArray[np.intp], ...],
) -> Float:
    """(m,) numerators of some pairs as sums of squares.

    With d = g_low - R g_high and h = h_high: ‖d‖²(1 - h) + (d·g_high)².
    """
    i, j = close[0], peers[close]
    swap = explained[i] > explained[j]
    low, high = np.where(swap, j, i), np.where(swap, i, j)
    result = np.empty(i.size)
    for left in range(0, i.size, BLOCK * BLOCK):
        block = slice(left, left + BLOCK * BLOCK)
        g_high = loadings[high[block]]
        d = loadings[low[block]] - r[close][block, None] * g_high
        along = (d * g_high).sum(axis=1)
        result[block] = (d * d).sum(axis=1) * (1 - explained[high[block]]) + along**2
    return result
