"""Σ and c in the eigenbasis of Σ, and integrals over one Gaussian scale variable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory.shared.validation import Float, columns, finite_array, symmetric_psd

RANK_TOLERANCE = 1e-12
"""Eigenvalues below this fraction of the largest are rounding, not rank."""

STEP = 0.2
"""Step of the trapezoidal rule in log t. The integrands are analytic for |Im log t| < π/2, so its
error is near exp(−π²/STEP) = 4e-22 of the integral."""


@dataclass(frozen=True)
class Spectrum:
    """Σ as a matrix or as its eigenvalues, with the columns of c in the same basis."""

    values: Float
    matrix: Float | None
    cross: Float

    def apply(self, vectors: Float) -> Float:
        """Σ @ vectors."""
        if self.matrix is not None:
            product: Float = self.matrix @ vectors
            return product
        return (self.values * vectors.T).T

    @property
    def frobenius(self) -> float:
        """‖Σ‖_F."""
        return float(np.linalg.norm(self.values if self.matrix is None else self.matrix))

    def with_cross(self, cross: Float) -> Spectrum:
        """The same Σ with another c."""
        return replace(self, cross=cross)

    def in_range(self) -> NDArray[np.bool_]:
        """Which eigenvalues are rank; an error where c has a part outside them."""
        kept: NDArray[np.bool_] = self.values > RANK_TOLERANCE * self.values.max()
        outside = float(np.linalg.norm(self.cross[~kept]))
        if outside > 1e-6 * float(np.linalg.norm(self.cross)):
            raise ValueError(
                f"c must lie in the range of sigma, as Cov(X, T) does; a part of norm "
                f"{outside:.3g} lies outside it. Check that both come from the same X."
            )
        return kept


def spectrum(
    sigma: ArrayLike, c: ArrayLike | None, *, name: str | None = "c", decompose: bool
) -> Spectrum:
    """Validate Σ and c; go to the eigenbasis where `decompose` asks for it."""
    given = finite_array("sigma", sigma, ndim=(1, 2))
    values, matrix = given, None
    if given.ndim == 2:
        matrix = symmetric_psd("sigma", given)
    elif given.size == 0 or given.min() < 0:
        raise ValueError(
            f"sigma must hold eigenvalues >= 0; got {given.min(initial=0.0):.3g} among "
            f"{given.size}. Pass the eigenvalues of a covariance, or the matrix itself."
        )
    if not given.any():
        raise ValueError(
            "sigma must not be zero: all its entries are 0.0, and the channels then carry nothing."
        )
    cross = np.zeros((given.shape[0], 1))
    if name is not None:
        cross = columns(name, c)
        if cross.shape[0] != given.shape[0]:
            raise ValueError(
                f"{name} must have {given.shape[0]} rows, as sigma has; got {cross.shape[0]}."
            )
        if not cross.any():
            raise ValueError(
                f"{name} must not be zero; all its entries are 0.0, so that no channel covaries "
                "with the target, and the coupling is undefined."
            )
    if decompose and matrix is not None:
        values, vectors = np.linalg.eigh(matrix)
        values = np.where(values > RANK_TOLERANCE * values[-1], values, 0.0)
        return Spectrum(values, None, vectors.T @ cross)
    return Spectrum(values, matrix, cross)


def log_grid(rank: int) -> Float:
    """Points t of the trapezoidal rule in log t, for Σ with its largest eigenvalue at 1.

    t f(t) rises like t and falls at least like t^(−rank/2) beyond 1/λ_min, which sets the ends.
    """
    upper = np.log(1 / RANK_TOLERANCE) + 80.0 / rank
    points: Float = np.exp(np.arange(-40.0 - np.log(rank), upper, STEP))
    return points


def log_grid_integral(integrand: Callable[[Float], Float], rank: int) -> float:
    """∫₀^∞ f(t) dt by the trapezoidal rule in log t; see `log_grid`."""
    t = log_grid(rank)
    return float(np.sum(t * integrand(t)) * STEP)


def gaussian_ratio_moments(values: Float, weights: Float) -> tuple[float, float]:
    """E[b²/D] and E[b⁴/D²] for w ~ N(0, I), D = Σ λ_k w_k², b = Σ c_k w_k, weights c_k²."""

    def moments(t: Float) -> tuple[Float, Float]:
        m = 1 + 2 * t[:, None] * values
        density = np.exp(-0.5 * np.log(m).sum(axis=1))
        s = (weights / m).sum(axis=1)
        return density * s, 3 * t * density * s**2

    rank = values.size
    first = log_grid_integral(lambda t: moments(t)[0], rank)
    return first, log_grid_integral(lambda t: moments(t)[1], rank)
