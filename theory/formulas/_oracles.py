"""Routes to the same numbers that share nothing with the closed forms they check."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from theory.shared.validation import Float

LINEAR_ALGEBRA = 1e-8
"""Relative tolerance of dense linear algebra at condition numbers up to 1e4."""
QUADRATURE = 1e-7
"""Relative tolerance of grid quadrature; its truncation at 9 deviations is near 1e-17."""
DIFFERENTIATION = 1e-9
"""Relative tolerance of complex-step derivatives, which do not cancel."""
SAMPLING = 4.0
"""Deviation allowed to a sampled estimate, in its own standard errors."""
DRAWS = 200_000
"""Draws of a sampling oracle."""


def _grid_density(cov: Float) -> Float:
    """Unnormalized Gaussian density on a grid of ±9 deviations, size 2 or 3."""
    deviation = np.sqrt(np.diagonal(cov))
    precision = np.linalg.inv(cov / np.outer(deviation, deviation))
    axis = np.linspace(-9.0, 9.0, 401 if len(cov) == 2 else 121)
    grids = np.meshgrid(*[axis] * len(cov), indexing="ij", sparse=True)
    exponent = sum(
        precision[i, j] * grids[i] * grids[j] for i in range(len(cov)) for j in range(len(cov))
    )
    density: Float = np.exp(-0.5 * np.asarray(exponent))
    density /= density.sum()
    return density


def mutual_information(cov: Float, first: tuple[int, ...], second: tuple[int, ...]) -> float:
    """I(first; second) by summing p log p/(p p) over a grid, marginals summed on the same grid."""
    order = first + second
    density = _grid_density(cov[np.ix_(order, order)])
    a = density.sum(axis=tuple(range(len(first), len(order))), keepdims=True)
    b = density.sum(axis=tuple(range(len(first))), keepdims=True)
    used = density > 1e-300
    ratio = np.log(density, where=used, out=np.zeros_like(density))
    ratio -= np.where(used, np.log(np.maximum(a, 1e-300)) + np.log(np.maximum(b, 1e-300)), 0.0)
    return float(np.sum(density * ratio))


def pair_information(rho: float) -> float:
    """The same of two variables with this correlation."""
    return mutual_information(np.array([[1.0, rho], [rho, 1.0]]), (0,), (1,))


def triple_covariance(r: float, a: float, b: float) -> Float:
    """Covariance of (Y_i, Y_j, T) with the correlations r, a, b."""
    return np.array([[1.0, r, a], [r, 1.0, b], [a, b, 1.0]])


def data_set(cov: Float) -> Float:
    """A data matrix whose second moments are exactly `cov`."""
    return np.asarray(np.linalg.cholesky(cov).T, dtype=np.float64)


def residual_variance(cov: Float, target: int, predictors: list[int]) -> float:
    """Residual variance of a least-squares regression, solved on a data set."""
    data = data_set(cov)
    if not predictors:
        return float(data[:, target] @ data[:, target])
    solution = np.linalg.lstsq(data[:, predictors], data[:, target], rcond=None)[0]
    rest = data[:, target] - data[:, predictors] @ solution
    return float(rest @ rest)


def complex_step(function: Callable[[np.ndarray], complex], at: Float) -> Float:
    """Gradient by complex steps: exact to rounding, since nothing is subtracted."""
    step = 1e-30
    return np.array(
        [np.imag(function(at + 1j * step * e)) / step for e in np.eye(at.size)], dtype=float
    )


def mean_and_error(samples: Float) -> tuple[float, float]:
    """Sample mean with its standard error."""
    return float(samples.mean()), float(samples.std(ddof=1) / np.sqrt(samples.size))


def correlation_and_error(x: Float, y: Float) -> tuple[float, float]:
    """Sample correlation with its standard error by the delta method (influence values)."""
    zx, zy = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    r = float(np.mean(zx * zy))
    influence = zx * zy - 0.5 * r * (zx**2 + zy**2)
    return r, float(influence.std() / np.sqrt(x.size))
