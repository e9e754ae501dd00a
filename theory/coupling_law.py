"""Coupling of the two axes across randomly drawn channels: the law at initialization.

A channel w ~ N(0, s²I) has power D = wᵀΣw (local axis) and target covariance b = wᵀc (target axis).
Σ is the input covariance, c = Cov(X, T). Wherever Σ is taken, its eigenvalues (d,) may be
given instead, with c in the same eigenbasis; that costs O(d) rather than an eigendecomposition.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from theory._spectrum import Spectrum, gaussian_ratio_moments, log_grid_integral, spectrum
from theory.shared.validation import Float, finite_array, positive


def initial_coupling(sigma: ArrayLike, c: ArrayLike) -> float:
    """κ = corr(D, b²) over channels w ~ N(0, s²I): cᵀΣc / (‖c‖² ‖Σ‖_F), exactly.

    Parameters
    ----------
    sigma : (d, d) input covariance, or (d,) its eigenvalues.
    c : (d,) Cov(X, T); or (d, K) for K targets, and then the mean of their κ weighted by ‖c_o‖²,
        which is Σ_o cov(D, b_o²) / Σ_o sd(D) sd(b_o²).

    Returns
    -------
    κ in [0, 1]; it does not depend on s, nor on the scales of Σ and c.

    Raises
    ------
    ValueError
        Σ not symmetric positive semidefinite, Σ = 0, shapes that differ, or c = 0.

    Source: Isserlis' theorem; catalogue entry `initial_coupling`.

    >>> initial_coupling([1.0, 1.0, 1.0, 1.0], [0.0, 2.0, 0.0, 0.0])
    0.5
    """
    modes = spectrum(sigma, c, decompose=False)
    return _kappa(modes)


def _kappa(modes: Spectrum) -> float:
    aligned = float(np.sum(modes.cross * modes.apply(modes.cross)))
    return aligned / (float(np.sum(modes.cross**2)) * modes.frobenius)


def initial_coupling_joint(sigma: ArrayLike, c: ArrayLike) -> float:
    """corr(D, Σ_o b_o²) for K targets at once: tr(ΣCCᵀ) / (‖Σ‖_F ‖CCᵀ‖_F).

    Parameters
    ----------
    sigma : (d, d) input covariance, or (d,) its eigenvalues.
    c : (d, K) Cov(X, T), one column per target.

    Raises
    ------
    ValueError
        as `initial_coupling`.

    >>> initial_coupling_joint([2.0, 1.0], [[2.0, 0.0], [0.0, 1.0]])
    0.97...
    """
    modes = spectrum(sigma, c, decompose=False)
    aligned = float(np.sum(modes.cross * modes.apply(modes.cross)))
    return aligned / (modes.frobenius * float(np.linalg.norm(modes.cross.T @ modes.cross)))


def initial_coupling_normalized(sigma: ArrayLike, c: ArrayLike) -> float:
    """corr(D, q) of the power with the squared correlation q = b²/(Dτ²), over w ~ N(0, s²I).

    (‖c‖² − tr Σ · E[b²/D]) / √(2 tr Σ² · Var[b²/D]), the two moments of b²/D by one-dimensional
    quadrature. It does not depend on τ², and is exactly 0 for Σ ∝ I, where κ is 1/√d. The
    quadrature takes a fraction of a second up to d = 4096; a matrix is decomposed first, which is
    O(d³), so pass eigenvalues where they are known.

    Parameters
    ----------
    sigma : (d, d) input covariance, or (d,) its eigenvalues.
    c : (d,) Cov(X, T), in the range of Σ.

    Returns
    -------
    The correlation; NaN where Σ has rank 1, since q is then the same for every channel.

    Raises
    ------
    ValueError
        as `initial_coupling`, or c with a part outside the range of Σ, which no
        covariance of (X, T) has.

    Source: catalogue entries `normalized_first_moment` and `normalized_second_moment`.

    >>> round(initial_coupling_normalized([4.0, 1.0, 1.0], [1.0, 0.0, 0.0]), 6)
    0.420902
    """
    modes = spectrum(sigma, finite_array("c", c, ndim=1), decompose=True)
    kept = modes.in_range()
    if np.count_nonzero(kept) == 1:
        return float("nan")
    values = modes.values[kept] / modes.values.max()
    weights = modes.cross[kept, 0] ** 2
    weights = weights / weights.sum()
    first, second = gaussian_ratio_moments(values, weights)
    spread = second - first**2
    covariance = 1.0 - values.sum() * first
    return float(covariance / np.sqrt(2 * np.sum(values**2) * spread))


def output_coupling(sigma: ArrayLike, m: ArrayLike) -> float:
    """κ(Σ, Σm): the coupling when the target is the network's own output f = mᵀX.

    Parameters
    ----------
    sigma : (d, d) input covariance, or (d,) its eigenvalues.
    m : (d,) or (d, K) end-to-end weights, one column per output.

    Raises
    ------
    ValueError
        as `initial_coupling`, with Σm in place of c.

    >>> round(output_coupling([2.0, 1.0], [1.0, 1.0]), 6)
    0.804984
    """
    modes = spectrum(sigma, m, name="m", decompose=False)
    return _kappa(modes.with_cross(modes.apply(modes.cross)))


def many_outputs_coupling(sigma: ArrayLike) -> float:
    """Limit of κ(Σ, Σm) over many random outputs m ~ N(0, I): tr Σ³ / (tr Σ²)^(3/2).

    Parameters
    ----------
    sigma : (d, d) input covariance, or (d,) its eigenvalues.

    >>> round(many_outputs_coupling(1 / np.arange(1, 65)), 2), round(
    ...     many_outputs_coupling(1 / np.arange(1, 65) ** 2), 2)
    (0.58, 0.9)
    """
    values = spectrum(sigma, None, name=None, decompose=True).values
    values = values / values.max()
    return float(np.sum(values**3) / np.sum(values**2) ** 1.5)


def expected_output_coupling(sigma: ArrayLike) -> float:
    """E κ(Σ, Σm) over one random output m ~ N(0, I), by one-dimensional quadrature.

    ‖Σ‖_F⁻¹ ∫₀^∞ |I + 2tΣ²|^(−1/2) tr(Σ³ (I + 2tΣ²)⁻¹) dt.

    Parameters
    ----------
    sigma : (d, d) input covariance, or (d,) its eigenvalues.

    >>> round(expected_output_coupling([1.0, 1.0, 1.0, 1.0]), 12)
    0.5
    """
    values = spectrum(sigma, None, name=None, decompose=True).values
    values = values / values.max()
    values = values[values > 0]

    def integrand(t: Float) -> Float:
        m = 1 + 2 * t[:, None] * values**2
        density: Float = np.exp(-0.5 * np.log(m).sum(axis=1))
        weighted: Float = density * np.sum(values**3 / m, axis=1)
        return weighted

    return log_grid_integral(integrand, values.size) / float(np.linalg.norm(values))


def channel_coupling(
    sigma: ArrayLike, c: ArrayLike, centers: ArrayLike, scale: float = 1.0
) -> float:
    """corr(D, b²) over channels that have moved: w ~ N(μ, s²I), μ drawn evenly from the centers.

    With μ = a_i G(t) this is the coupling across the channels of a trained layer, their own
    motion included; with all centers at 0 it is κ.

    Parameters
    ----------
    sigma : (d, d) input covariance.
    c : (d,) Cov(X, T).
    centers : (C, d) the centers μ.
    scale : s, the standard deviation of the initial weights.

    Raises
    ------
    ValueError
        as `initial_coupling`; centers of another width; a scale that is not positive.

    >>> channel_coupling(np.eye(4), [0.0, 2.0, 0.0, 0.0], np.zeros((3, 4)))
    0.5
    """
    modes = spectrum(sigma, finite_array("c", c, ndim=1), decompose=False)
    vector, s2 = modes.cross[:, 0], positive("scale", scale) ** 2
    means = finite_array("centers", centers, ndim=2)
    if means.shape[1] != vector.size:
        raise ValueError(f"centers must have {vector.size} columns, as c; got {means.shape}.")
    moved, norm2 = modes.apply(means.T), float(vector @ vector)
    power, along = np.sum(means.T * moved, axis=0), means @ vector
    inner = 2 * s2**2 * vector @ modes.apply(vector) + 4 * s2 * along * (moved.T @ vector)
    power_variance = 2 * s2**2 * modes.frobenius**2 + 4 * s2 * np.sum(moved**2, axis=0)
    cross_variance = 2 * s2**2 * norm2**2 + 4 * s2 * norm2 * along**2
    covariance = inner.mean() + np.mean((power - power.mean()) * (along**2 - np.mean(along**2)))
    return float(
        covariance
        / np.sqrt(
            (power_variance.mean() + power.var()) * (cross_variance.mean() + np.var(along**2))
        )
    )
