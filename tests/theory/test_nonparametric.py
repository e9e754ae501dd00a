"""Copula and nearest-neighbour information where the Gaussian reading holds, and where it fails."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from theory import Moments, channel_axes, copula_moments, nearest_neighbor_information

NEIGHBOURS = 0.06
"""Nats; the estimator's standard deviation is near 0.02 at n = 3000."""


@pytest.fixture
def samples() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.standard_normal((3000, 2))
    return y, y[:, 0] + 0.5 * y[:, 1] + rng.standard_normal(3000)


def test_all_three_agree_on_gaussian_data(samples: tuple[np.ndarray, np.ndarray]) -> None:
    y, t = samples
    plain = channel_axes(Moments.from_samples(y, t)).task_information
    copula = channel_axes(copula_moments(y, t)).task_information
    np.testing.assert_allclose(copula, plain, atol=0.02)
    for i in range(2):
        assert nearest_neighbor_information(y[:, i], t) == pytest.approx(plain[i], abs=NEIGHBOURS)


def test_copula_reads_through_a_monotone_transform(samples: tuple[np.ndarray, np.ndarray]) -> None:
    y, t = samples
    bent = np.exp(2 * t)
    gaussian = channel_axes(Moments.from_samples(y, bent)).task_information[0]
    copula = channel_axes(copula_moments(y, bent)).task_information[0]
    truth = channel_axes(copula_moments(y, t)).task_information[0]
    assert copula == pytest.approx(truth, rel=1e-12)
    assert gaussian < 0.5 * truth


def test_only_neighbours_see_a_symmetric_dependence() -> None:
    rng = np.random.default_rng(1)
    y = rng.standard_normal((3000, 2))
    t = y[:, 0] ** 2 + 0.1 * rng.standard_normal(3000)
    assert channel_axes(copula_moments(y, t)).task_information[0] < 0.02
    assert nearest_neighbor_information(y[:, 0], t) > 0.5


def test_neighbours_find_nothing_at_independence() -> None:
    a, b = np.random.default_rng(2).standard_normal((2, 3000))
    assert abs(nearest_neighbor_information(a, b)) < NEIGHBOURS


def information_of_rectified_gaussians(rho: float) -> float:
    """I(max(A, 0); max(B, 0)): an atom, two densities on the axes, one in the quadrant."""
    s = np.sqrt(1 - rho**2)
    both = 0.25 + np.arcsin(rho) / (2 * np.pi)

    def on_an_axis(x: float) -> float:
        share = stats.norm.cdf(-rho * x / s)
        return float(stats.norm.pdf(x) * share * np.log(share / 0.5))

    def inside(y: float, x: float) -> float:
        form = (x * x - 2 * rho * x * y + y * y) / (2 * s * s)
        return float(np.exp(-form) / (2 * np.pi * s) * ((x * x + y * y) / 2 - form - np.log(s)))

    axes = 2 * integrate.quad(on_an_axis, 0, 9)[0]
    quadrant = integrate.dblquad(inside, 0, 9, 0, 9)[0]
    return float(both * np.log(4 * both) + axes + quadrant)


@pytest.mark.parametrize(("rho", "truth"), [(0.0, 0.0), (0.5, 0.0986), (0.8, 0.3464)])
def test_rectified_gaussians_have_the_information_of_the_integral(rho: float, truth: float) -> None:
    if rho:
        assert information_of_rectified_gaussians(rho) == pytest.approx(truth, abs=1e-4)
    a, e = np.random.default_rng(3).standard_normal((2, 3000))
    b = rho * a + np.sqrt(1 - rho**2) * e
    found = nearest_neighbor_information(np.maximum(a, 0), np.maximum(b, 0))
    assert found == pytest.approx(truth, abs=NEIGHBOURS)


def test_discrete_and_mixed_variables_have_their_information() -> None:
    rng = np.random.default_rng(4)
    x = rng.integers(0, 4, 3000).astype(float)
    y = np.where(rng.random(3000) < 0.5, x, rng.integers(0, 4, 3000))
    joint = np.full((4, 4), 1 / 32) + np.eye(4) / 8
    truth = float(np.sum(joint * np.log(16 * joint)))
    assert nearest_neighbor_information(x, y) == pytest.approx(truth, abs=NEIGHBOURS)
    # a label of two values that shifts a uniform variable without overlap: log 2
    label = rng.integers(0, 2, 3000).astype(float)
    shifted = label * 2 + rng.random(3000)
    assert nearest_neighbor_information(label, shifted) == pytest.approx(np.log(2), abs=NEIGHBOURS)
