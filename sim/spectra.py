"""Eigenvalue spectra of the input covariance, scaled to a mean eigenvalue of 1."""

from __future__ import annotations

import numpy as np

from theory.shared.validation import Float, count, finite_array, positive

MOST_INPUTS = 1_000_000
"""Eigenvalues of a spectrum: 8 MB."""


def power_law(dimension: int, exponent: float) -> Float:
    """Eigenvalues λ_j ∝ j^(-exponent), largest first, with mean 1. Exponent 0 is isotropic.

    Parameters
    ----------
    dimension : d, the number of inputs.
    exponent : ≥ 0.

    >>> power_law(4, 1.0).round(3)
    array([1.92, 0.96, 0.64, 0.48])
    """
    d = count("dimension", dimension, most=MOST_INPUTS)
    values: Float = np.arange(1.0, d + 1) ** -positive("exponent", exponent, zero=True)
    return normalized(values)


def spiked(dimension: int, spikes: int, height: float) -> Float:
    """`spikes` eigenvalues `height` times as large as all the others, with mean 1.

    >>> spiked(4, 1, 5.0)
    array([2.5, 0.5, 0.5, 0.5])
    """
    d, number = count("dimension", dimension, most=MOST_INPUTS), count("spikes", spikes)
    if number > d:
        raise ValueError(f"spikes must be at most dimension, {d}; got {number}.")
    values = np.ones(d)
    values[:number] = positive("height", height)
    return normalized(values)


def normalized(values: Float) -> Float:
    """The same spectrum with mean 1."""
    scaled: Float = values / values.mean()
    return scaled


def isotropic(dimension: int) -> Float:
    """Equal eigenvalues 1.

    >>> isotropic(3)
    array([1., 1., 1.])
    """
    return np.ones(count("dimension", dimension, most=MOST_INPUTS))


def variance_shares(spectrum: Float, alignment: float) -> Float:
    """Share of a target's variance in each input direction: p_j ∝ λ_j^alignment, summing to 1.

    Alignment 1 is that of a direction drawn at random, as a network's own output is at
    initialization; 0 spreads the variance evenly; below 0 the target lives where inputs vary least.

    >>> variance_shares(np.array([4.0, 1.0]), 1.0)
    array([0.8, 0.2])
    """
    values = finite_array("spectrum", spectrum, ndim=1)
    finite_array("alignment", alignment, ndim=0)
    if values.size == 0 or values.min() < 0 or values.max() == 0:
        raise ValueError(
            f"spectrum must have eigenvalues >= 0, one of them > 0; got {values.max(initial=0)} as "
            f"the largest of {values.size} and {values.min(initial=0)} as the smallest."
        )
    shares = np.zeros_like(values)
    live = values > 0
    # Relative to the largest, so that no power of a small eigenvalue overflows.
    exponents = alignment * np.log(values[live])
    shares[live] = np.exp(exponents - exponents.max())
    total: float = shares.sum()
    shares /= total
    return shares
