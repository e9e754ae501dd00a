"""Ridge regression of channels on their peers, from second moments alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory._precision import INVOLVED, precision, well_conditioned_inverse
from theory.hull import compact_hull
from theory.moments import Moments, merge
from theory.shared.validation import Float, count, instance, one_of, positive
from theory.standardize import Standardized, standardize

PEERS = ("all", "hull", "overlap", "random")

RANK = 1e-12
"""Eigenvalues below this share of the largest are rounding."""


@dataclass(frozen=True, eq=False)
class PeerRegression:
    """Each channel as an affine function of some of its peers.

    Attributes
    ----------
    coefficients : (C, C); row i holds the weights of channel i's peers, 0 elsewhere and on the
        diagonal.
    intercepts : (C,)
    n_peers : (C,) size of each channel's peer set.
    recovered : (C,) share of the channel's variance that the regression recovers,
        1 - Var(residual) / K_ii under the moments it was fitted on. Without ridge and with all
        peers this is E_i. NaN for a dead channel.
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
    """Regress every channel on a set of its peers; of many solutions, take that of least norm.

    Parameters
    ----------
    moments : of the channels; targets are not used.
    peers : "all"; "hull", the compact hull; "overlap", those with the largest |R_ij|; "random".
    size : of the sets "overlap" and "random"; None gives each channel the size of its hull, so
        that the three differ in which peers, not in how many.
    ridge : r ≥ 0 on the diagonal of the correlation.
    rng : of "random"; seeded with 0 by default.

    Raises
    ------
    ValueError
        an argument out of range.

    >>> fit = regress_on_peers(Moments.from_covariance([[1, 0.6], [0.6, 1]], n_targets=0), ridge=0)
    >>> fit.coefficients.round(12).tolist(), fit.recovered.round(12).tolist()
    ([[0.0, 0.6], [0.6, 0.0]], [0.36, 0.36])
    """
    instance("moments", moments, Moments, "Build one with Moments.from_samples.")
    one_of("peers", peers, PEERS)
    if rng is not None:
        instance("rng", rng, np.random.Generator, "Pass np.random.default_rng(seed).")
    positive("ridge", ridge, zero=True)
    layer = standardize(moments)
    matrix = layer.correlation + ridge * np.eye(layer.live.size)
    sets = _peer_sets(layer, peers, size, ridge, rng)
    slopes = np.zeros_like(matrix)
    if peers == "all":
        slopes = _on_all_peers(matrix)
    else:
        for i, members in enumerate(sets):
            own, right = matrix[np.ix_(members, members)], layer.correlation[members, i]
            slopes[i, members] = np.linalg.lstsq(own, right, rcond=RANK)[0]
    sizes = np.array([members.size for members in sets], dtype=np.intp)
    return in_original_units(moments, layer, slopes, sizes)


def recovered_outside(parts: Sequence[Moments], *, seed: int = 0, **options: Any) -> Float:
    """(C,) share of each channel's variance that such regressions recover on other samples.

    Each group of images is left out in turn, and its samples are foretold by a regression fitted on
    the others. Less than what the regression recovers on its own samples, and below 0 where it does
    harm.

    Parameters
    ----------
    parts : moments of each group of images, at least two
    seed : of random peers, the same for every group
    options : of `regress_on_peers`

    >>> rng = np.random.default_rng(0)
    >>> parts = [Moments.from_samples(rng.standard_normal((8, 20))) for _ in range(5)]
    >>> bool(recovered_outside(parts).mean() < 0)  # independent channels, few samples
    True
    """
    used = [part for part in parts if part.n]
    if len(used) < 2:
        raise ValueError(f"parts must hold at least 2 groups of samples; got {len(used)}.")
    total, left = merge(used), np.zeros(used[0].n_channels)
    for index, part in enumerate(used):
        others = merge(used[:index] + used[index + 1 :])
        fit = regress_on_peers(others, rng=np.random.default_rng(seed), **options)
        c, n = part.n_channels, int(part.n or 0)
        shift = part.mean[:c] - others.mean[:c]
        second = part.cov[:c, :c] * (n - 1) + n * np.outer(shift, shift)
        residual = np.eye(c) - fit.coefficients
        left += np.einsum("ij,ij->i", residual @ second, residual)
    power = np.diagonal(total.cov)[: left.size] * int(total.n or 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(power > 0, 1 - left / power, np.nan))


def _on_all_peers(matrix: Float) -> Float:
    """(C, C) slopes of every channel on all others, of a correlation with its ridge.

    Row i of the inverse P gives -P_ij / P_ii. Where the matrix is singular, P is its pseudo-inverse
    and Q the projector on its null space. A channel that a dependency involves (Q_ii > 0) has the
    exact regression of least norm -Q_ij / Q_ii; the solutions of any other channel differ by
    vectors of the null space, to which -P_ij / P_ii is orthogonal.
    """
    inverse = well_conditioned_inverse(matrix)
    if inverse is None:
        values, vectors = np.linalg.eigh(matrix)
        kept = values > RANK * values[-1:]
        range_, null = vectors[:, kept], vectors[:, ~kept]
        inverse = (range_ / values[kept]) @ range_.T
        involved = np.sqrt((null**2).sum(axis=1)) > INVOLVED
        inverse[involved] = null[involved] @ null.T
    slopes: Float = -inverse / np.diagonal(inverse)[:, None]
    np.fill_diagonal(slopes, 0.0)
    return slopes


def _peer_sets(
    layer: Standardized,
    peers: str,
    size: int | None,
    ridge: float,
    rng: np.random.Generator | None,
) -> list[NDArray[np.intp]]:
    """Peers of each live channel, as indices into the live channels."""
    c = layer.live.size
    everyone = np.arange(c)
    if peers == "all" or c == 0:
        return [np.delete(everyone, i) for i in everyone]
    if peers == "hull" or size is None:
        explained = precision(layer.correlation, layer.loadings, ridge).predictability(ridge)
        hull = compact_hull(layer.correlation, explained, ridge=ridge)
        if peers == "hull":
            return [hull.members[i, : hull.size[i]] for i in range(c)]
        sizes = hull.size
    else:
        sizes = np.full(c, min(count("size", size), c - 1))
    if peers == "overlap":
        strength = np.abs(layer.correlation)
        np.fill_diagonal(strength, -1.0)
        ranked = np.argsort(-strength, axis=1, kind="stable")
    else:
        generator = np.random.default_rng(0) if rng is None else rng
        drawn = np.array([generator.permutation(c - 1) for _ in range(c)]).reshape(c, c - 1)
        ranked = drawn + (drawn >= everyone[:, None])  # never the channel itself
    return [ranked[i, : sizes[i]] for i in range(c)]


def in_original_units(
    moments: Moments, layer: Standardized, slopes: Float, sizes: NDArray[np.intp]
) -> PeerRegression:
    """Return regressions of live channels, given by slopes (L, L) of standardized ones."""
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
