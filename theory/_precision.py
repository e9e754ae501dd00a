"""All full-peer regressions of a layer from one inverse, also where the layer is singular."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from theory.shared.lapack import factor, invert_triangle, multiply_triangle
from theory.shared.validation import Float
from theory.standardize import RANK_TOLERANCE

WELL_CONDITIONED = 1e-9
"""Reciprocal condition above which the matrix is inverted as it is: that keeps seven digits or more
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
    norms : (C,) Euclidean norms of its rows: what rounding is amplified by.
    collinear : (C,) True where the peers determine the channel up to rounding.
    basis : (rank,) channels of which all others are exact functions.
    """

    diagonal: Float
    coefficients: Float
    norms: Float
    collinear: NDArray[np.bool_]
    basis: NDArray[np.intp]

    def predictability(self, ridge: float) -> Float:
        """(C,) E_i, the share of each channel's variance that its peers explain."""
        return np.where(self.collinear, 1.0, (1 + ridge) - 1 / self.diagonal)


def precision(correlation: Float, loadings: Float, ridge: float) -> Precision:
    """Invert R + ridge I, once."""
    c = correlation.shape[0]
    matrix = correlation + ridge * np.eye(c) if ridge else correlation
    inverse = well_conditioned_inverse(matrix)
    if inverse is None:
        return _of_singular(matrix, loadings)
    diagonal, norms = np.diagonal(inverse).copy(), _row_norms(inverse)
    solved, none = _solved(inverse, matrix, loadings), np.zeros(c, dtype=bool)
    return Precision(diagonal, solved, norms, none, np.arange(c))


def _solved(inverse: Float, matrix: Float, right: Float) -> Float:
    """The X of matrix X = right, refined once: it then solves a matrix that differs by rounding."""
    x: Float = inverse @ right
    x += inverse @ (right - matrix @ x)
    return x


def _row_norms(matrix: Float) -> Float:
    norms: Float = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))
    return norms


def well_conditioned_inverse(matrix: Float) -> Float | None:
    """Inverse of a symmetric matrix, or None where it is not positive and well conditioned."""
    lower = factor(matrix)
    # the smallest eigenvalue is at most the smallest squared pivot
    if lower is None or np.diagonal(lower).min(initial=1.0) ** 2 <= WELL_CONDITIONED:
        return None
    invert_triangle(lower)
    inverse = multiply_triangle(lower)
    return inverse if _norm(matrix) * _norm(inverse) * WELL_CONDITIONED < 1 else None


def _norm(matrix: Float) -> float:
    return float(np.abs(matrix).sum(axis=0).max(initial=0.0))


def _of_singular(matrix: Float, loadings: Float) -> Precision:
    """The same by pivoting: channels enter by their variance given those before, while it lasts.

    The others are exact functions W of those that entered, and collinear; so is each one that a
    function involves. Any other channel entered and is not needed for any function, so that its
    regression on all peers is the one on those that entered: their inverse holds its variance.
    """
    c = matrix.shape[0]
    whole, order, rank, _ = lapack.dpstrf(matrix.T, lower=1, tol=RANK_TOLERANCE * _norm(matrix))
    entered, others = order[:rank] - 1, order[rank:] - 1
    root = np.ascontiguousarray(np.tril(whole[:rank, :rank]))
    invert_triangle(root)
    functions = root.T @ whole[rank:, :rank].T
    collinear = np.zeros(c, dtype=bool)
    collinear[others] = True
    collinear[entered] = np.sqrt((functions**2).sum(axis=1)) > INVOLVED
    inverse = multiply_triangle(root)
    diagonal, coefficients, norms = np.full(c, np.inf), np.zeros_like(loadings), np.zeros(c)
    diagonal[entered] = np.diagonal(inverse)
    diagonal[collinear] = np.inf
    norms[entered] = _row_norms(inverse)
    own = matrix[np.ix_(entered, entered)]
    coefficients[entered] = _solved(inverse, own, loadings[entered])
    basis = np.sort(entered).astype(np.intp)
    return Precision(diagonal, coefficients, norms, collinear, basis)
