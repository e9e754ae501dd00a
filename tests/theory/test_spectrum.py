"""The one quadrature of the coupling law, against integrals of known value."""

from __future__ import annotations

import numpy as np
import pytest

from theory._spectrum import gaussian_ratio_moments, log_grid_integral


@pytest.mark.parametrize("rank", [1, 2, 3, 8, 50, 512])
@pytest.mark.parametrize("eigenvalue", [1.0, 0.5, 0.3, 1e-12])
def test_an_integral_that_falls_no_faster_than_the_quadrature_expects(
    rank: int, eigenvalue: float
) -> None:
    """∫ (1 + 2λt)^(-k/2 - 1) dt = 1/(λk), to rounding, for λ from 1 to the least that counts.

    A step of 0.4 instead of 0.2 would cost 2e-10 at rank 512; and 0.2 takes 400 to 800 points.
    """
    points = []

    def integrand(t: np.ndarray) -> np.ndarray:
        points.append(t.size)
        values: np.ndarray = (1 + 2 * eigenvalue * t) ** (-rank / 2 - 1)
        return values

    found = log_grid_integral(integrand, rank)
    assert abs(found * eigenvalue * rank - 1) < 1e-13
    assert sum(points) <= 800


def test_moments_of_a_ratio_of_equal_eigenvalues() -> None:
    """b²/D is Beta(1/2, (k - 1)/2) of k equal eigenvalues: means 1/k and 3/(k(k + 2))."""
    first, second = gaussian_ratio_moments(np.ones(7), np.eye(7)[0])
    assert first == pytest.approx(1 / 7, rel=1e-12)
    assert second == pytest.approx(3 / 63, rel=1e-12)
