"""Random points inside the domains of the closed forms."""

from __future__ import annotations

import numpy as np

from theory.shared.validation import Float


def covariance(rng: np.random.Generator, size: int) -> Float:
    """A well-conditioned covariance, scaled differently on each axis."""
    factor = rng.standard_normal((size, size)) + 1.5 * np.eye(size)
    scale = rng.uniform(0.5, 2.0, size)
    matrix: Float = scale[:, None] * (factor @ factor.T / size + 0.1 * np.eye(size)) * scale
    return matrix


def correlation(rng: np.random.Generator, size: int) -> Float:
    """A well-conditioned correlation matrix."""
    cov = covariance(rng, size)
    deviation = np.sqrt(np.diagonal(cov))
    matrix: Float = cov / np.outer(deviation, deviation)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def input_and_target(rng: np.random.Generator, size: int) -> tuple[Float, Float, float]:
    """Σ, c = Cov(X, T) and τ of jointly Gaussian (X, T), with noise in T."""
    joint = covariance(rng, size + 1)
    return joint[:-1, :-1], joint[:-1, -1], float(np.sqrt(joint[-1, -1]))


def triple(rng: np.random.Generator) -> dict[str, float]:
    """Correlations r (of the two channels), a and b (of each with the target)."""
    matrix = correlation(rng, 3)
    return {"r": float(matrix[0, 1]), "a": float(matrix[0, 2]), "b": float(matrix[1, 2])}
