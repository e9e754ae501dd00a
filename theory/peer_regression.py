"""Ridge regression of channels on their peers, from second moments alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theory._standardize import Standardized, standardize
from theory.hull import compact_hull
from theory.moments import Moments
from theory.shared.validation import Float

PEERS = ("all", "hull", "overlap", "random")


@dataclass(frozen=True, eq=False)
class PeerRegression:
    """Each channel as an affine function of some of its peers.

    Parameters
    ----------
    coefficients
        (C, C); row i holds the weights of channel i's peers, 0 elsewhere and on the diagonal.
    intercepts
        (C,)
    n_peers
        (C,) size of each channel's peer set.
    recovered
        (C,) share of the channel's variance that the regression recovers, 1 - Var(residual) / K_ii
        under the moments it was fitted on. Without ridge and with all peers this is E_i. NaN for a
        dead channel.
    """

    coefficients: Float
    intercepts: Float
    n_peers: NDArray[np.intp]
    recovered: Float


def regress_on_peers(
    moments: Moments,
    *,
    peers: str = "all",
    size: int | None = None,
    ridge: float = 1e-4,
    rng: np.random.Generator | None = None,
) -> PeerRegression:
    """Regress every channel on a set of its peers.

    Parameters
    ----------
    moments
        Of the channels; targets are not used.
    peers
        "all"; "hull", the compact hull; "overlap", those with the largest |R_ij|; "random".
    size
        Of the sets "overlap" and "random"; None gives each channel the size of its hull, so that
        the three differ in which peers, not in how many.
    ridge
        r >= 0 on the diagonal of the correlation.
    rng
        Of "random".

    Examples
    --------
    >>> fit = regress_on_peers(Moments.from_covariance([[1, 0.6], [0.6, 1]], n_targets=0), ridge=0)
    >>> fit.coefficients.round(12).tolist(), fit.recovered.round(12).tolist()
    ([[0.0, 0.6], [0.6, 0.0]], [0.36, 0.36])
    """
    layer = standardize(moments)
    n_live = layer.live.size
    if peers == "all":
        slopes = _on_all(layer.correlation, ridge)
        sizes = np.full(n_live, n_live - 1)
    else:
        sets = _peer_sets(layer, peers, size, ridge, rng)
        slopes = np.zeros((n_live, n_live))
        for i, members in enumerate(sets):
            matrix = layer.correlation[np.ix_(members, members)] + ridge * np.eye(members.size)
            slopes[i, members] = _solve(matrix, layer.correlation[members, i])
        sizes = np.array([members.size for members in sets], dtype=np.intp)
    return _in_original_units(moments, layer, slopes, sizes)


def _on_all(correlation: Float, ridge: float) -> Float:
    """All regressions from one inverse P = (R + rI)⁻¹: the weights of channel i are -P_ij / P_ii.

    A singular R has no inverse; then each channel gets the regression of least norm.
    """
    c = len(correlation)
    matrix = correlation + ridge * np.eye(c)
    if np.linalg.cond(matrix) < 1e10:
        inverse = np.linalg.inv(matrix)
        slopes: Float = -inverse / np.diagonal(inverse)[:, None]
    else:
        slopes = np.zeros((c, c))
        for i in range(c):
            others = np.delete(np.arange(c), i)
            slopes[i, others] = _solve(matrix[np.ix_(others, others)], correlation[others, i])
    np.fill_diagonal(slopes, 0.0)
    return slopes


def _solve(matrix: Float, right: Float) -> Float:
    """Solve a symmetric system; of the solutions of a singular one, that of least norm."""
    solution: Float = np.linalg.lstsq(matrix, right, rcond=1e-12)[0]
    return solution


def _peer_sets(
    layer: Standardized,
    peers: str,
    size: int | None,
    ridge: float,
    rng: np.random.Generator | None,
) -> list[NDArray[np.intp]]:
    """Peers of each live channel, as indices into the live channels."""
    c = layer.live.size
    if peers == "hull" or size is None:
        slopes = _on_all(layer.correlation, ridge)
        explained = (slopes * layer.correlation).sum(axis=1)
        hull = compact_hull(layer.correlation, explained, ridge=ridge)
        if peers == "hull":
            return [hull.members[i, : hull.size[i]] for i in range(c)]
        sizes = hull.size
    else:
        sizes = np.full(c, min(size, c - 1))
    order: Callable[[int], NDArray[np.intp]]
    if peers == "overlap":
        strength = np.abs(layer.correlation)
        np.fill_diagonal(strength, -1.0)
        ranked = np.argsort(-strength, axis=1, kind="stable")
        order = ranked.__getitem__
    else:
        generator = np.random.default_rng(0) if rng is None else rng

        def order(i: int) -> NDArray[np.intp]:
            drawn = generator.permutation(c - 1)
            return drawn + (drawn >= i)

    return [order(i)[: sizes[i]] for i in range(c)]


def _in_original_units(
    moments: Moments, layer: Standardized, slopes: Float, sizes: NDArray[np.intp]
) -> PeerRegression:
    c = moments.n_channels
    deviation = np.sqrt(layer.power[layer.live])
    coefficients = np.zeros((c, c))
    coefficients[np.ix_(layer.live, layer.live)] = slopes * deviation[:, None] / deviation
    mean = moments.mean[:c]
    recovered, n_peers = np.full(c, np.nan), np.zeros(c, dtype=np.intp)
    shared = slopes @ layer.correlation
    recovered[layer.live] = 2 * np.diagonal(shared) - (shared * slopes).sum(axis=1)
    n_peers[layer.live] = sizes
    return PeerRegression(coefficients, mean - coefficients @ mean, n_peers, recovered)
