"""Finite-sample theory against simulation, with tolerances in stated standard errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import ArrayLike
from scipy import stats

from theory.sampling import (
    adjusted_predictability,
    delta_capture_variance,
    delta_information_variance,
    delta_predictability_variance,
    gaussian_information_bias,
    null_information_tail,
    null_information_variance,
    null_maximum_information,
)

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


def test_bias_corrected_estimators_vanish_at_independence() -> None:
    """n = 30, 10⁵ data sets of three independent channels and a target, scatter by scatter."""
    n, channels, sets = 30, 3, 100_000
    rng = np.random.default_rng(0)
    data = rng.standard_normal((sets, n, channels + 1))
    y, t = data[:, :, :channels], data[:, :, channels:]
    e = -np.expm1(-2 * plug_in_information(y[:, :, :1], y[:, :, 1:]))
    estimates = {
        "task_information": plug_in_information(y[:, :, :1], t)
        - gaussian_information_bias(n, 1, 1),
        "peer_overlap": plug_in_information(y[:, :, :1], y[:, :, 1:2])
        - gaussian_information_bias(n, 1, 1),
        "peer_information": plug_in_information(y[:, :, :1], y[:, :, 1:])
        - gaussian_information_bias(n, channels - 1, 1),
        "conditional_task_information": plug_in_information(y, t)
        - plug_in_information(y[:, :, 1:], t)
        - gaussian_information_bias(n, channels, 1)
        + gaussian_information_bias(n, channels - 1, 1),
        "peer_predictability": adjusted_predictability(e, n, channels - 1),
    }
    for name, values in estimates.items():
        error = values.std() / np.sqrt(sets)
        assert abs(values.mean()) < STANDARD_ERRORS * error, name


@pytest.mark.parametrize("p", [1, 3])
def test_null_tail_is_uniform_at_independence(p: int) -> None:
    rng = np.random.default_rng(2)
    x, t = rng.standard_normal((20_000, 12, p)), rng.standard_normal((20_000, 12, 1))
    estimates = plug_in_information(x, t)
    tails = null_information_tail(estimates, 12, p)
    assert stats.kstest(tails, "uniform").pvalue > 1e-3
    spread = (estimates - estimates.mean()) ** 2
    error = spread.std() / np.sqrt(spread.size)
    assert abs(spread.mean() - null_information_variance(12, p)) < STANDARD_ERRORS * error


def test_null_maximum_gives_the_mean_excess_of_independent_channels() -> None:
    n = 12
    rng = np.random.default_rng(3)
    y, t = rng.standard_normal((50_000, n, 2)), rng.standard_normal((50_000, n, 1))
    alone = np.maximum(plug_in_information(y[:, :, :1], t), plug_in_information(y[:, :, 1:], t))
    excess = plug_in_information(y, t) - alone
    error = excess.std() / np.sqrt(excess.size)
    predicted = gaussian_information_bias(n, 2, 1) - null_maximum_information(n)
    assert abs(excess.mean() - predicted) < STANDARD_ERRORS * error


def test_delta_variances_at_large_n() -> None:
    n, rho = 400, 0.6
    rng = np.random.default_rng(4)
    y = rng.standard_normal((8000, n, 1))
    t = rho * y + np.sqrt(1 - rho**2) * rng.standard_normal((8000, n, 1))
    estimates = plug_in_information(y, t)
    assert estimates.var() == pytest.approx(float(delta_information_variance(rho, n)), rel=0.08)
    power = y.var(axis=(1, 2), ddof=1)
    capture = 0.5 * np.log1p(power / 0.5)
    assert capture.var() == pytest.approx(float(delta_capture_variance(1.0, 0.5, n)), rel=0.08)
    predictability = -np.expm1(-2 * estimates)
    expected = float(delta_predictability_variance(rho**2, n))
    assert predictability.var() == pytest.approx(expected, rel=0.08)


def test_sampling_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"n must be a whole number >= p \+ 2 = 5"):
        adjusted_predictability(0.5, 4, 3)
    with pytest.raises(ValueError, match=r"n must be a whole number >= p \+ 2 = 3"):
        null_information_tail(0.1, 2)
    with pytest.raises(ValueError, match=r"rho must be between -1 and 1; got 1\.5"):
        delta_information_variance(1.5, 10)
    with pytest.raises(ValueError, match="q must be 1"):
        null_maximum_information(10, 2)


def test_the_least_sample_of_each_formula_has_a_value_in_closed_form() -> None:
    # ψ(2) − ψ(1/2) = 1 + 2 log 2; ψ₁(1/2) − ψ₁(1) = π²/2 − π²/6
    assert gaussian_information_bias(5, 3, 1) == pytest.approx(0.5 + np.log(2), rel=1e-14)
    assert null_information_variance(3) == pytest.approx(np.pi**2 / 12, rel=1e-14)
    # |r| is uniform at n = 4, and at n = 3 its tail is the arc sine's
    assert null_information_tail(-0.5 * np.log1p(-(0.3**2)), 4) == pytest.approx(0.7, rel=1e-14)
    third = null_information_tail(-0.5 * np.log1p(-(0.5**2)), 3)
    assert third == pytest.approx(1 - 2 * np.arcsin(0.5) / np.pi, rel=1e-14)
    # E −½ log(1 − max(r1, r2)²) of two uniform ones
    assert null_maximum_information(4) == pytest.approx(0.5, rel=1e-12)
    assert adjusted_predictability(0.5, 5, 3) == pytest.approx(-1)
    assert delta_information_variance(1.0, 3) == pytest.approx(1 / 3)
    assert delta_capture_variance(2.0, 1.0, 3) == pytest.approx(4 / 54)
    assert delta_predictability_variance(0.5, 3) == pytest.approx(1 / 6)


@pytest.mark.parametrize("n", [10_000, 30_000, 1_000_000, 100_000_000])
def test_the_null_maximum_of_many_samples_is_that_of_two_chi_squares(n: int) -> None:
    """2nI is then χ² of one degree; the larger of two has mean 1 + 2/π, up to a term in 1/n."""
    assert null_maximum_information(n) * n == pytest.approx(0.5 + 1 / np.pi, rel=3 / n)


@pytest.mark.parametrize(
    ("call", "least"),
    [
        (lambda n: null_information_variance(n, 2), 4),
        (lambda n: null_maximum_information(n), 4),
        (lambda n: null_information_tail(0.1, n, 2), 4),
        (lambda n: adjusted_predictability(0.1, n, 2), 4),
        (lambda n: delta_information_variance(0.1, n), 3),
        (lambda n: delta_capture_variance(0.1, 1.0, n), 3),
        (lambda n: delta_predictability_variance(0.1, n), 3),
    ],
)
def test_one_sample_fewer_is_refused(call: Callable[[int], object], least: int) -> None:
    call(least)
    with pytest.raises(ValueError, match=f"n must be a whole number >= .*{least}"):
        call(least - 1)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: delta_information_variance(x, 10),
        lambda x: delta_capture_variance(x, 0.5, 10),
        lambda x: delta_predictability_variance(x, 10),
        lambda x: adjusted_predictability(x, 10, 3),
        lambda x: null_information_tail(x, 10),
    ],
)
def test_arrays_are_entry_by_entry_and_tables_refused(
    function: Callable[[ArrayLike], np.ndarray],
) -> None:
    values = [0.1, 0.5, 1.0]
    np.testing.assert_array_equal(function(values), [float(function(v)) for v in values])
    with pytest.raises(ValueError, match="0-dimensional or 1-dimensional"):
        function([values])


def test_one_correlation_above_one_among_others_is_named() -> None:
    with pytest.raises(ValueError, match=r"rho must be between -1 and 1; got -1\.5"):
        delta_information_variance([0.0, -1.5, 0.5], 10)
