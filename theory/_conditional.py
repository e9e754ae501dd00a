"""What a channel says about the target beyond all its peers, as far as double precision tells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from theory._precision import Precision
from theory.shared.validation import Float

ROUNDING = 32 * np.finfo(np.float64).eps
"""Of an entry of R and G, with what a sum over channels makes of it: the norm of the disturbance
of R, measured on layers of 2 to 300 channels, stays below it."""

TRUSTED = 1e-3
"""An information whose estimated rounding exceeds this share of it is not decided; nor is one whose
rounding exceeds a millionth of a nat where it is smaller than that."""

SMALLEST = 1e-6
"""Nats below which `TRUSTED` is not asked for."""


def conditional_information(
    loadings: Float, inverse: Precision, target_rounding: float = 0.0
) -> tuple[Float, NDArray[np.bool_], NDArray[np.bool_]]:
    """(C,) I(T; Y_i | Y_-i) in nats; for whom T is determined; and who is undecided.

    I = ½ log(1 + v), v = b S⁻¹ bᵀ / P_ii, P = (R + rI)⁻¹, b the row i of X = PG and S = I - GᵀX
    the share of the white targets that no channel explains. Disturbing R by ε disturbs S by XᵀεX,
    P_ii by P_i ε P_i and b by P_i ε X: so S is known up to ε(1 + ‖X‖)², and where that is all
    there is of it, in any direction, T is determined. What `standardize` says of the targets adds.
    """
    x = inverse.coefficients
    unexplained = np.eye(loadings.shape[1]) - loadings.T @ x
    values, vectors = np.linalg.eigh((unexplained + unexplained.T) / 2)
    x = x @ vectors
    error = ROUNDING * (1 + np.linalg.norm(x, axis=0)) ** 2 + target_rounding
    none = np.zeros(len(x), dtype=bool)
    if np.any(values <= error):
        return np.where(inverse.collinear, 0.0, np.nan), ~inverse.collinear, none
    known = 1 / inverse.diagonal  # 0 where the channel is collinear
    v = (x**2 / values).sum(axis=1) * known
    information = 0.5 * np.log1p(v)
    of_channel = inverse.norms * np.sqrt(known)
    of_target = float(np.sqrt(np.max(error / ROUNDING / values)))
    rounding = 2 * np.sqrt(v) * of_channel * of_target + v * (of_channel**2 + of_target**2)
    rounding *= 0.5 * ROUNDING / (1 + v)
    undecided = (rounding > TRUSTED * np.maximum(information, SMALLEST)) & ~inverse.collinear
    information[undecided] = np.nan
    return information, none, undecided
