"""Shrinkage intensities against scikit-learn, and what shrinking keeps."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf, oas

from theory import Moments, channel_axes, ledoit_wolf_intensity, oas_intensity, shrink


def test_ledoit_wolf_agrees_with_scikit_learn() -> None:
    x = np.random.default_rng(0).standard_normal((40, 8)) * np.arange(1, 9)
    assert ledoit_wolf_intensity(x) == pytest.approx(ledoit_wolf(x)[1], rel=1e-10)


def test_oas_intensity_agrees_with_scikit_learn() -> None:
    x = np.random.default_rng(1).standard_normal((25, 6)) * np.arange(1, 7)
    x -= x.mean(axis=0)
    cov = x.T @ x / 25
    # scikit-learn follows the authors' code, without the 2/p terms of the published equation.
    top = np.mean(cov**2) + (np.trace(cov) / 6) ** 2
    bottom = 26 * (np.mean(cov**2) - (np.trace(cov) / 6) ** 2 / 6)
    assert oas(x, assume_centered=True)[1] == pytest.approx(min(1.0, top / bottom))
    assert oas_intensity(cov, 25) == pytest.approx(min(1.0, top / bottom), rel=0.25)


def test_oas_intensity_by_hand() -> None:
    """tr S = 4, tr S² = 10, p = 2, where 1 - 2/p is 0; and tr S = 8, tr S² = 28, p = 4: 1/2."""
    assert oas_intensity(np.diag([1.0, 3.0]), 10) == pytest.approx(16 / (10 * (10 - 8)))
    expected = (28 / 2 + 64) / (20.5 * (28 - 16))
    assert oas_intensity(np.diag([1.0, 1.0, 1.0, 5.0]), 20) == pytest.approx(expected)
    assert oas_intensity(np.diag([1.0, 1.0, 1.0, 5.0]), 3) == 1.0
    assert oas_intensity(3 * np.eye(4), 20) == 1.0


@pytest.mark.parametrize(("n", "p"), [(30, 3), (12, 5), (60, 20)])
def test_oas_intensity_is_the_limit_of_the_oracle_iterated(n: int, p: int) -> None:
    """Chen et al. (2010), equations 21 and 22: the oracle, its last estimate in place of Σ."""
    x = np.random.default_rng(p).standard_normal((n, p)) * np.linspace(1, 4, p)
    s = x.T @ x / n
    towards, estimate = np.trace(s) / p * np.eye(p), s
    for _ in range(2000):
        along, trace2 = np.sum(estimate * s), np.trace(estimate) ** 2
        intensity = ((1 - 2 / p) * along + trace2) / (
            (n + 1 - 2 / p) * along + (1 - n / p) * trace2
        )
        estimate = (1 - intensity) * s + intensity * towards
    assert 0 < oas_intensity(s, n) < 1
    assert oas_intensity(s, n) == pytest.approx(intensity, rel=1e-9)


def test_oas_brings_small_samples_nearer_to_the_truth() -> None:
    rng = np.random.default_rng(1)
    truth = 0.1 + 0.9 * np.eye(20)
    gains = []
    for _ in range(20):
        x = rng.multivariate_normal(np.zeros(20), truth, 25)
        plain = Moments.from_samples(x[:, :19], x[:, 19])
        errors = [np.linalg.norm(m.cov - truth) for m in (plain, shrink(plain, "oas"))]
        gains.append(errors[0] / errors[1])
    assert np.mean(gains) > 1.5


def test_variances_and_units_are_kept() -> None:
    x = np.random.default_rng(2).standard_normal((30, 5))
    a, b = (shrink(Moments.from_samples(z[:, :4], z[:, 4])) for z in (x, x * [1, 10, 1e3, 1, 7]))
    np.testing.assert_allclose(
        channel_axes(a).peer_predictability, channel_axes(b).peer_predictability, rtol=1e-9
    )
    np.testing.assert_allclose(np.diagonal(a.cov), x.var(axis=0, ddof=1))


def test_no_shrinkage_is_the_identity() -> None:
    m = Moments.from_covariance(np.eye(3), n=5)
    assert shrink(m, "none") is m


@pytest.mark.parametrize(
    ("method", "amount", "words"),
    [
        ("oass", None, "Did you mean 'oas'"),
        ("ridge", None, "amount goes with method='ridge' only"),
        ("oas", 0.1, "amount goes with method='ridge' only"),
        ("ridge", -1.0, "amount must be >= 0"),
        ("oas", None, "oas needs the sample count"),
    ],
)
def test_bad_input_is_named(method: str, amount: float | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        shrink(Moments.from_covariance(np.eye(3)), method, amount)
