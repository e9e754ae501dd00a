"""Intervals of E_i: what they hold by definition, and how often they hold the truth."""

import numpy as np
import pytest
from scipy import stats

from theory import Moments, channel_axes, delete_one_group, jackknife_standard_error, merge
from theory.intervals import predictability_interval

N, PEERS, GROUPS = 120, 9, 10


def refused(value, e, error, n=N, p=PEERS):
    """The definition, one number at a time."""
    pairs = 2 * p / (n * (n - p))
    first, expected = 4 * max(value, 0) / n, 4 * max(e, 0) / n + 2 * pairs
    first *= error**2 / ((1 - e) ** 2 * expected)
    freedom = 1e9 if first == 0 else (GROUPS - 1) * (1 + pairs / first) ** 2
    reach = stats.t.ppf(0.975, freedom) * (1 - value) * np.sqrt(first + pairs)
    return abs(e - value) > reach


@pytest.mark.parametrize("e", [-0.1, 0.0, 0.03, 0.5, 0.97])
@pytest.mark.parametrize("error", [0.01, 0.1])
def test_bounds_are_the_last_values_that_are_not_refused(e, error):
    low, high = predictability_interval([e], [error], n=N, peers=PEERS, groups=GROUPS)
    inside = [low[0] + 1e-9, e, high[0] - 1e-9]
    assert not any(refused(value, e, error) for value in inside)
    beyond = [*np.linspace(low[0] - 1, low[0] - 1e-9, 99), *np.linspace(high[0] + 1e-9, 1, 99)[:-1]]
    assert all(refused(value, e, error) for value in beyond)


@pytest.mark.parametrize("truth", [0.0, 0.5])
def test_they_hold_the_truth_as_often_as_they_say(truth):
    """100 data sets of ten channels in pairs; at 0 the jackknife's hold it in 98 to 99 %."""
    rng, held = np.random.default_rng(0), []
    for _ in range(100):
        y = rng.standard_normal((N, PEERS + 1))
        y[:, 1::2] = np.sqrt(truth) * y[:, ::2] + np.sqrt(1 - truth) * y[:, 1::2]
        parts = [Moments.from_samples(y[g::GROUPS]) for g in range(GROUPS)]
        e, *without = (
            channel_axes(m, estimate="corrected", hull=False).peer_predictability
            for m in (merge(parts), *delete_one_group(parts))
        )
        error = jackknife_standard_error(np.stack(without))
        low, high = predictability_interval(e, error, n=N, peers=PEERS, groups=GROUPS)
        held.append((low <= truth) & (truth <= high))
    assert 0.92 < np.mean(held) < 0.97


def test_what_peers_determine_is_certain_and_what_is_unknown_stays_so():
    e, error = np.array([1.0, np.nan]), np.array([0.0, np.nan])
    bounds = predictability_interval(e, error, n=N, peers=PEERS, groups=GROUPS)
    np.testing.assert_array_equal(bounds, [[1.0, np.nan], [1.0, np.nan]])


def test_fewer_than_four_samples_per_channel_are_refused():
    with pytest.raises(ValueError, match=r"n must be at least 4 \(peers \+ 1\) = 40 .* got 39"):
        predictability_interval([0.0], [0.1], n=39, peers=PEERS, groups=GROUPS)


@pytest.mark.parametrize(
    ("e", "error", "message"),
    [
        ([0.2, 1.5], [0.1, 0.1], r"estimate must be at most 1; got 1\.5 at 1"),
        ([0.2], [-0.1], r"standard_error must be >= 0; got -0\.1 at 0"),
    ],
)
def test_what_is_no_estimate_is_refused(e, error, message):
    with pytest.raises(ValueError, match=message):
        predictability_interval(e, error, n=N, peers=PEERS, groups=GROUPS)
