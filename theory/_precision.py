"""All full-peer regressions of a layer from one inverse, also where the layer is singular."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

from theory._standardize import RANK_TOLERANCE
from theory._validation import Float

WELL_CONDITIONED = 1e-9
"""Reciprocal condition above which the Cholesky route is used: it then keeps seven digits or more
of every conditional variance. Below it the eigenvalues decide what is rank and what is rounding."""


@dataclass(frozen=True)
class Precision:
    """The (pseudo-)inverse of R + ridge I, and the channels that peers predict exactly.

    Attributes:
        diagonal: (C,) its diagonal; 1 / diagonal is the conditional variance of a channel given
            its peers, for every channel that is not collinear.
        coefficients: (C, r) it times the loadings G.
        collinear: (C,) True where the peers determine the channel up to rounding.
    """

    diagonal: Float
    coefficients: Float
    collinear: np.ndarray[tuple[int], np.dtype[np.bool_]]


def precision(correlation: Float, loadings: Float, ridge: float) -> Precision:
    """Invert R + ridge I, once.

    A channel with a part in the null space of R is an exact linear function of its peers. For any
    other channel e_i lies in the range of R, and the least-squares residual variance of Y_i on its
    peers is 1 / (R⁺)_ii, as for the inverse (Schur complement on the range).
    """
    c = correlation.shape[0]
    matrix = correlation + ridge * np.eye(c) if ridge else correlation
    factor, failed = lapack.dpotrf(matrix.T, lower=1)
    if not failed:
        norm = np.abs(matrix).sum(axis=0).max()
        reciprocal_condition, _ = lapack.dpocon(factor, norm, uplo="L")
        if reciprocal_condition > WELL_CONDITIONED:
            coefficients = loadings
            if loadings.shape[1]:
                coefficients, _ = lapack.dpotrs(factor, loadings, lower=1)
            inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
            return Precision(np.diagonal(inverse).copy(), coefficients, np.zeros(c, dtype=bool))
    values, vectors = np.linalg.eigh(matrix)
    null = values <= RANK_TOLERANCE * values[-1]
    # Rounding leaves about 1e-16 / gap in the rows of unaffected channels; 1e-6 is far above it.
    collinear = np.sqrt((vectors[:, null] ** 2).sum(axis=1)) > 1e-6
    kept = vectors[:, ~null]
    diagonal = (kept**2 / values[~null]).sum(axis=1)
    coefficients = kept @ ((kept.T @ loadings) / values[~null][:, None])
    return Precision(diagonal, coefficients, collinear)
