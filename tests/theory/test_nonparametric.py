"""Copula and nearest-neighbour information where the Gaussian reading holds, and where it fails."""

from __future__ import annotations

import numpy as np
import pytest

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


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="x and y must have the same number of rows"):
        nearest_neighbor_information(np.arange(5.0), np.arange(6.0))
    with pytest.raises(ValueError, match="more than k; got 4, 4 and k = 5"):
        nearest_neighbor_information(np.arange(4.0), np.arange(4.0))
    with pytest.raises(ValueError, match="x has a constant column, 0"):
        nearest_neighbor_information(np.ones(9), np.arange(9.0))
