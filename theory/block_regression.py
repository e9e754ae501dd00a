"""Blocks of channels, such as attention heads, as regressions on the rest of their layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._precision import well_conditioned_inverse
from theory.moments import Moments, merge
from theory.peer_regression import PeerRegression, in_original_units
from theory.shared.validation import Float, finite_array, indices, instance, positive
from theory.standardize import RANK_TOLERANCE, Standardized, standardize

Index = NDArray[np.intp]


def regress_on_other_blocks(
    moments: Moments, blocks: Sequence[ArrayLike], *, ridge: float = 1e-4
) -> PeerRegression:
    """Regress each channel of a block on the channels outside it; those in no block stay zero rows.

    Parameters
    ----------
    moments, blocks : as for `block_axes`.
    ridge : r ≥ 0 on the diagonal of the correlation.

    >>> cov = [[1.0, 0.9, 0.6], [0.9, 1.0, 0.6], [0.6, 0.6, 1.0]]
    >>> fit = regress_on_other_blocks(
    ...     Moments.from_covariance(cov, n_targets=0), [[0, 1], [2]], ridge=0)
    >>> fit.coefficients[:2].round(12).tolist(), fit.n_peers.tolist()
    ([[0.0, 0.0, 0.6], [0.0, 0.0, 0.6]], [1, 1, 2])
    """
    sets = checked_blocks(moments, blocks)
    positive("ridge", ridge, zero=True)
    layer = standardize(moments)
    slopes, sizes = np.zeros_like(layer.correlation), np.zeros(layer.live.size, dtype=np.intp)
    for block in sets:
        inside = live_of(layer, block)
        outside = np.setdiff1d(np.arange(layer.live.size), inside)
        if outside.size:
            right = layer.correlation[np.ix_(outside, outside)] + ridge * np.eye(outside.size)
            cross = layer.correlation[np.ix_(outside, inside)]
            slopes[np.ix_(inside, outside)] = (pseudo_inverse(right) @ cross).T
        sizes[inside] = outside.size
    return in_original_units(moments, layer, slopes, sizes)


def blocks_recovered_outside(
    parts: Sequence[Moments],
    blocks: Sequence[ArrayLike],
    *,
    readout: ArrayLike | None = None,
    ridge: float = 1e-4,
) -> Float:
    """(B,) what the regression of each block on the others recovers on samples it has not seen.

    1 − Σ tr(W_S R_S W_Sᵀ) / Σ tr(W_S V_S W_Sᵀ): for each group of images left out, R_S is the
    second moment of what a regression fitted on the other groups leaves there, V_S that of the
    block about the mean of the others. NaN for a block without variance.

    Parameters
    ----------
    parts : moments of each group of images, at least two.
    blocks, readout, ridge : as for `block_axes` and `regress_on_other_blocks`.

    >>> rng = np.random.default_rng(0)
    >>> parts = [Moments.from_samples(rng.standard_normal((9, 4))) for _ in range(5)]
    >>> bool(blocks_recovered_outside(parts, [[0, 1], [2, 3]]).max() < 0)  # nothing but noise
    True
    """
    used = [part for part in parts if part.n]
    if len(used) < 2:
        raise ValueError(f"parts must hold at least 2 groups of samples; got {len(used)}.")
    sets = checked_blocks(used[0], blocks)
    c = used[0].n_channels
    weights = readout_weights(readout, c)
    left, whole = np.zeros(len(sets)), np.zeros(len(sets))
    for index, part in enumerate(used):
        others = merge(used[:index] + used[index + 1 :])
        fit = regress_on_other_blocks(others, sets, ridge=ridge)
        n, shift = int(part.n or 0), part.mean[:c] - others.mean[:c]
        second = part.cov[:c, :c] * (n - 1) + n * np.outer(shift, shift)
        residual = np.eye(c) - fit.coefficients
        for b, block in enumerate(sets):
            reading = weights[:, block]
            error = reading @ residual[block]
            left[b] += np.sum((error @ second) * error)
            whole[b] += np.sum((reading @ second[np.ix_(block, block)]) * reading)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(whole > 0, 1 - left / whole, np.nan))


def pseudo_inverse(matrix: Float) -> Float:
    """The (pseudo-)inverse of a positive semidefinite matrix."""
    if not matrix.size:
        return matrix
    inverse = well_conditioned_inverse(matrix)
    if inverse is not None:
        return inverse
    values, vectors = np.linalg.eigh(matrix)
    kept = values > RANK_TOLERANCE * values[-1]
    basis = vectors[:, kept]
    return np.asarray((basis / values[kept]) @ basis.T)


def checked_blocks(moments: Moments, blocks: Sequence[ArrayLike]) -> list[Index]:
    """Return the blocks as index vectors, or say what is wrong with them."""
    instance("moments", moments, Moments, "Build one with Moments.from_samples.")
    sets = [
        indices(f"blocks[{b}]", block, moments.n_channels, distinct=True)
        for b, block in enumerate(blocks)
    ]
    if len(sets) < 2:
        raise ValueError(f"blocks must be at least two, each the others' peers; got {len(sets)}.")
    joined, times = np.unique(np.concatenate(sets), return_counts=True)
    if times.max() > 1:
        twice = joined[times > 1][0]
        raise ValueError(f"blocks must be disjoint; channel {twice} is in more than one.")
    return sets


def readout_weights(readout: ArrayLike | None, c: int) -> Float:
    """Return the (m, c) readout; the identity for None."""
    if readout is None:
        return np.eye(c)
    weights = finite_array("readout", readout, ndim=2)
    if weights.shape[1] != c:
        raise ValueError(
            f"readout must have {c} columns, one per channel; got shape {weights.shape}."
        )
    return weights


def live_of(layer: Standardized, block: Index) -> Index:
    """Where the live channels of a block are among all live channels."""
    return np.flatnonzero(np.isin(layer.live, block)).astype(np.intp)
