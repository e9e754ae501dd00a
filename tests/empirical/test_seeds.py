"""Means over networks and their intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from empirical.analysis.seeds import CORRELATION, SHARE, mean_difference, over_networks, over_seeds


def test_the_interval_is_students_and_leaves_out_what_is_unknown() -> None:
    values = [0.1, 0.4, np.nan, 0.2, 0.7]
    known = np.array([0.1, 0.4, 0.2, 0.7])
    for level in (0.95, 0.5):
        found = over_networks(values, level=level)
        expected = stats.t.interval(level, 3, known.mean(), stats.sem(known))
        assert (found.low, found.high) == pytest.approx(expected)
    assert found.mean == pytest.approx(known.mean())


def test_correlations_get_fishers_z_and_stay_possible() -> None:
    values = np.array([0.9, 0.95, 0.99])
    found = over_networks(values, CORRELATION)
    z = np.arctanh(values)
    expected = np.tanh(stats.t.interval(0.95, 2, z.mean(), stats.sem(z)))
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert over_networks(values).high > 1
    assert over_networks([1.0, 1.0, 1.0], CORRELATION).high <= 1


def test_shares_get_it_between_none_and_all() -> None:
    values = np.array([0.0, 0.3, 0.45, 0.9])
    found = over_networks(values, SHARE)
    z = np.arctanh(np.maximum(2 * values - 1, -1 + 1e-9))  # none has no finite z
    ends = 0.5 + 0.5 * np.tanh(stats.t.interval(0.95, 3, z.mean(), stats.sem(z)))
    assert (found.low, found.high) == pytest.approx(tuple(ends))


@pytest.mark.parametrize("values", [[0.1], [0.1, 0.3], [0.1, 0.3, np.nan]])
def test_fewer_than_three_networks_have_no_interval(values: list[float]) -> None:
    found = over_networks(values, CORRELATION)
    assert found.mean == pytest.approx(np.nanmean(values))
    assert np.isnan([found.low, found.high]).all()
    assert f"{found:+.2f}".endswith("[no interval]")
    assert np.isnan(over_networks([np.nan]).mean)


def test_over_seeds_averages_within_each_seed_first() -> None:
    frame = pd.DataFrame(
        {
            "a": ["y"] * 6 + ["x"],
            "b": 1,
            "seed": [0, 0, 0, 1, 1, 2, 0],
            "value": [1.0, 2, 3, 5, 7, 4, 9],
        }
    )
    found = over_seeds(frame, ["a", "b"], "value")
    assert found.columns.tolist() == ["a", "b", "seeds", "value", "low", "high"]
    assert found["a"].tolist() == ["y", "x"]  # as they come
    assert found["seeds"].tolist() == [3, 1]
    assert found["value"].tolist() == [4, 9]
    three = over_networks([2, 6, 4])
    assert (found["low"][0], found["high"][0]) == pytest.approx((three.low, three.high))
    assert found.loc[1, ["low", "high"]].isna().all()


def test_a_mean_difference_knows_how_many_networks_it_is_of() -> None:
    values = [-0.1, -0.3, -0.8]
    found, expected = mean_difference(values), over_networks(values)
    assert found["difference"] == pytest.approx(-0.4)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
    assert found["p"] == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert found["seeds"] == 3


def test_differences_that_are_all_alike_are_certain_and_none_is_none() -> None:
    assert mean_difference([0.25] * 3)["p"] == 0
    assert mean_difference([0.0] * 3)["p"] == 1


def test_the_interval_holds_the_mean_that_it_is_printed_beside() -> None:
    """Of skewed correlations the mean lies beyond the ends that Fisher's z gives."""
    for values in ([0.999999, 0.0, 0.0, 0.0] * 10, [-0.9999999] + [0.1] * 30):
        found = over_networks(values, CORRELATION)
        assert found.low <= found.mean <= found.high
        assert found.mean == pytest.approx(np.mean(values))
