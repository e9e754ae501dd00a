"""Quantities of pairs of channels: overlap, and what two channels say together about the target."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from theory.shared.validation import Float
from theory.standardize import COPY_TOLERANCE

BLOCK = 64
"""Channels treated at once."""


def overlap(correlation: Float) -> Float:
    """(C, C) mutual information -1/2 log(1 - R²) of each pair; 0 on the diagonal, NaN for copies.

    The information of exact copies is infinite; NaN marks it, and the caller lists the channels.
    """
    result = correlation * correlation
    np.fill_diagonal(result, 0.0)
    for left in range(0, len(result), BLOCK):  # a block stays in a core's cache
        squared = result[left : left + BLOCK]
        squared[squared >= 1 - COPY_TOLERANCE] = np.nan
        np.negative(squared, out=squared)
        np.log1p(squared, out=squared)
        squared *= -0.5
    return result


def nearest_peers(correlation: Float, peers: int) -> NDArray[np.intp]:
    """(C, m) indices of the m = min(peers, C - 1) peers with the highest overlap, unordered."""
    c = correlation.shape[0]
    strength = np.abs(correlation)
    np.fill_diagonal(strength, -1.0)
    if peers >= c - 1:
        everyone = np.broadcast_to(np.arange(c), (c, c))
        others: NDArray[np.intp] = everyone[~np.eye(c, dtype=bool)].reshape(c, c - 1)
        return others
    return np.argpartition(strength, c - peers, axis=1)[:, c - peers :]


def pairwise_excess(
    correlation: Float, loadings: Float, explained: Float, peers: NDArray[np.intp]
) -> Float:
    """(C, m) excess S_ij = I(T; Y_i, Y_j) - max(I(T; Y_i), I(T; Y_j)) in nats.

    It equals I(T; Y_low | Y_high), where high is the more informative of the two, so one logarithm
    of the share that low still explains gives it without a difference of informations:

        share = (h_low - 2 R H + R² h_high - (h_low h_high - H²)) / ((1 - R²)(1 - h_high)),

    with H = G Gᵀ and h its diagonal (for a scalar target h_low h_high = H² and the numerator is
    the square (g_low - R g_high)²). Copies have excess 0; a pair that determines the target, NaN.

    Parameters
    ----------
    correlation : (C, C) R.
    loadings : (C, r) G.
    explained : (C,) h, the share of the target's variance that each channel explains.
    peers : (C, m) peers of each channel.
    """
    r = np.take_along_axis(correlation, peers, axis=1)
    own, other = explained[:, None], explained[peers]
    low, high = np.minimum(own, other), np.maximum(own, other)
    if loadings.shape[1] == 1:
        g = loadings[:, 0]
        swap = own > other
        g_low = np.where(swap, g[peers], g[:, None])
        g_high = np.where(swap, g[:, None], g[peers])
        numerator = (g_low - r * g_high) ** 2
    else:
        joint = np.take_along_axis(loadings @ loadings.T, peers, axis=1)
        numerator = low - 2 * r * joint + r * r * high - (low * high - joint * joint)
    unshared = 1 - r * r
    copies = unshared <= COPY_TOLERANCE
    denominator = np.where(copies, 1.0, unshared) * (1 - high)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(copies, 0.0, numerator / denominator)
    share[~(share < 1 - COPY_TOLERANCE)] = np.nan
    result: Float = -0.5 * np.log1p(-share)
    return result
