"""Finite-sample theory against simulation, with tolerances in stated standard errors."""

from __future__ import annotations

import numpy as np
import pytest

from theory.sampling import gaussian_information_bias

STANDARD_ERRORS = 4.0


def plug_in_information(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """½(log|Sx| + log|Sy| − log|Sxy|) for a batch (batch, n, size) of data sets."""
    joint = np.concatenate([x, y], axis=2)
    joint = joint - joint.mean(axis=1, keepdims=True)
    scatter = np.swapaxes(joint, 1, 2) @ joint
    p = x.shape[2]
    logdet = [np.linalg.slogdet(s)[1] for s in (scatter[:, :p, :p], scatter[:, p:, p:], scatter)]
    return 0.5 * (logdet[0] + logdet[1] - logdet[2])


@pytest.mark.parametrize(("n", "p", "q"), [(8, 1, 1), (30, 3, 2), (12, 5, 1)])
@pytest.mark.parametrize("dependence", [0.0, 0.8])
def test_bias_is_exact_at_any_dependence(n: int, p: int, q: int, dependence: float) -> None:
    rng = np.random.default_rng(n + p)
    x = rng.standard_normal((20_000, n, p))
    y = rng.standard_normal((20_000, n, q))
    y[:, :, 0] += dependence * x[:, :, 0]
    truth = 0.5 * np.log1p(dependence**2)
    estimate = plug_in_information(x, y) - truth - gaussian_information_bias(n, p, q)
    error = estimate.std() / np.sqrt(len(estimate))
    assert abs(estimate.mean()) < STANDARD_ERRORS * error


def test_bias_is_symmetric_and_vanishes_with_n() -> None:
    assert gaussian_information_bias(40, 2, 7) == gaussian_information_bias(40, 7, 2)
    assert gaussian_information_bias(10**6, 3, 2) == pytest.approx(6 / (2 * 10**6), rel=1e-4)


def test_too_few_samples_are_named() -> None:
    with pytest.raises(ValueError, match=r"n must be a whole number >= p \+ q \+ 1 = 5"):
        gaussian_information_bias(4, 3, 1)
