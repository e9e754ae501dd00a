"""All full-peer regressions of a layer from one inverse, also where the layer is singular."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from theory import _lapack as lapack
from theory._standardize import RANK_TOLERANCE
from theory.shared.validation import Float

WELL_CONDITIONED = 1e-9
"""Reciprocal condition above which the Cholesky route is used: it then keeps seven digits or more
of every conditional variance. Below it pivoting decides what is rank and what is rounding."""

INVOLVED = 1e-6
"""Coefficients below this norm are rounding: it leaves about 1e-16 / (smallest kept pivot)^½."""


@dataclass(frozen=True)
class Precision:
    """The (pseudo-)inverse of R + ridge I, and the channels that peers predict exactly.

    Attributes
    ----------
    diagonal : (C,) its diagonal; 1 / diagonal is the conditional variance of a channel given
        its peers. Infinite where the channel is collinear.
    coefficients : (C, r) it times the loadings G; where the layer is singular, one solution X
        of R X = G, whose rows are unique for the channels that are not collinear.
    collinear : (C,) True where the peers determine the channel up to rounding.
    """

    diagonal: Float
    coefficients: Float
    collinear: np.ndarray[tuple[int], np.dtype[np.bool_]]


def precision(correlation: Float, loadings: Float, ridge: float) -> Precision:
    """Invert R + ridge I, once."""
    c = correlation.shape[0]
    matrix = correlation + ridge * np.eye(c) if ridge else correlation
    norm = float(np.abs(matrix).sum(axis=0).max())
    factor = _well_conditioned(matrix, norm)
    if factor is None:
        return _of_singular(matrix, loadings, norm)
    return Precision(
        lapack.inverse_diagonal(factor), lapack.solve(factor, loadings), np.zeros(c, dtype=bool)
    )


def _well_conditioned(matrix: Float, norm: float) -> Float | None:
    """Cholesky factor, or None where the matrix is not well conditioned.

    The first half of the channels is tried alone: where they are singular already, as wide layers
    after narrow ones are, that takes an eighth of the time.
    """
    half = len(matrix) // 2
    if _promising(matrix[:half, :half]) is None:
        return None
    factor = _promising(matrix)
    if factor is None or lapack.reciprocal_condition(factor, norm) <= WELL_CONDITIONED:
        return None
    return factor


def _promising(matrix: Float) -> Float | None:
    factor = lapack.cholesky(matrix)
    # the smallest eigenvalue is at most the smallest squared pivot
    if factor is None or np.diagonal(factor).min(initial=1.0) ** 2 <= WELL_CONDITIONED:
        return None
    return factor


def _of_singular(matrix: Float, loadings: Float, norm: float) -> Precision:
    """The same by pivoting: channels enter by their variance given those before, while it lasts.

    The others are exact functions W of those that entered, and collinear; so is each one that a
    function involves. Any other channel entered and is not needed for any function, so that its
    regression on all peers is the one on those that entered: their inverse holds its variance.
    """
    c = matrix.shape[0]
    whole, pivots, rank = lapack.pivoted_cholesky(matrix, RANK_TOLERANCE * norm)
    factor, entered, others = whole[:rank, :rank], pivots[:rank], pivots[rank:]
    functions = lapack.solve_transposed(factor, whole[rank:, :rank].T)
    collinear = np.zeros(c, dtype=bool)
    collinear[others] = True
    collinear[entered] = np.sqrt((functions**2).sum(axis=1)) > INVOLVED
    diagonal, coefficients = np.full(c, np.inf), np.zeros_like(loadings)
    diagonal[entered] = lapack.inverse_diagonal(factor)
    diagonal[collinear] = np.inf
    coefficients[entered] = lapack.solve(factor, loadings[entered])
    return Precision(diagonal, coefficients, collinear)
