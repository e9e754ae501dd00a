"""All full-peer regressions of a layer from one inverse, also where the layer is singular."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

from theory._standardize import RANK_TOLERANCE
from theory._validation import Float

WELL_CONDITIONED = 1e-9
"""Reciprocal condition above which the Cholesky route is used: it then keeps seven digits or more
of every conditional variance. Below it pivoting decides what is rank and what is rounding."""

INVOLVED = 1e-6
"""Coefficients below this norm are rounding: it leaves about 1e-16 / (smallest kept pivot)^½."""


@dataclass(frozen=True)
class Precision:
    """The (pseudo-)inverse of R + ridge I, and the channels that peers predict exactly.

    Attributes:
        diagonal: (C,) its diagonal; 1 / diagonal is the conditional variance of a channel given
            its peers. Infinite where the channel is collinear.
        coefficients: (C, r) it times the loadings G; where the layer is singular, one solution X
            of R X = G, whose rows are unique for the channels that are not collinear.
        collinear: (C,) True where the peers determine the channel up to rounding.
    """

    diagonal: Float
    coefficients: Float
    collinear: np.ndarray[tuple[int], np.dtype[np.bool_]]


def precision(correlation: Float, loadings: Float, ridge: float) -> Precision:
    """Invert R + ridge I, once."""
    c = correlation.shape[0]
    matrix = correlation + ridge * np.eye(c) if ridge else correlation
    norm = np.abs(matrix).sum(axis=0).max()
    factor, failed = lapack.dpotrf(matrix.T, lower=1)
    if not failed:
        reciprocal_condition, _ = lapack.dpocon(factor, norm, uplo="L")
        if reciprocal_condition > WELL_CONDITIONED:
            diagonal, coefficients = _inverse(factor, loadings)
            return Precision(diagonal, coefficients, np.zeros(c, dtype=bool))
    return _of_singular(matrix, loadings, norm)


def _of_singular(matrix: Float, loadings: Float, norm: float) -> Precision:
    """The same by pivoting: channels enter by their variance given those before, while it lasts.

    The others are exact functions W of those that entered, and collinear; so is each one that a
    function involves. Any other channel entered and is not needed for any function, so that its
    regression on all peers is the one on those that entered: their inverse holds its variance.
    """
    c = matrix.shape[0]
    factor, pivots, rank, _ = lapack.dpstrf(matrix.T, tol=RANK_TOLERANCE * norm, lower=1)
    entered, others = np.split(pivots - 1, [rank])
    functions, _ = lapack.dtrtrs(factor[:rank, :rank], factor[rank:, :rank].T, lower=1, trans=1)
    collinear = np.zeros(c, dtype=bool)
    collinear[others] = True
    collinear[entered] = np.sqrt((functions**2).sum(axis=1)) > INVOLVED
    diagonal = np.full(c, np.inf)
    coefficients = np.zeros_like(loadings)
    diagonal[entered], coefficients[entered] = _inverse(factor[:rank, :rank], loadings[entered])
    diagonal[collinear] = np.inf
    return Precision(diagonal, coefficients, collinear)


def _inverse(factor: Float, loadings: Float) -> tuple[Float, Float]:
    """Diagonal of the inverse, and the inverse times the loadings, from a Cholesky factor."""
    coefficients = loadings
    if loadings.shape[1]:
        coefficients, _ = lapack.dpotrs(factor, loadings, lower=1)
    inverse, _ = lapack.dpotri(factor, lower=1)
    return np.diagonal(inverse).copy(), coefficients
