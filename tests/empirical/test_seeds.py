"""Means over seeds and their Student intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from empirical.analysis.seeds import mean_difference, over_seeds, t_interval


def test_the_interval_is_students_and_leaves_out_what_is_unknown() -> None:
    values = [0.1, 0.4, np.nan, 0.2, 0.7]
    known = np.array([0.1, 0.4, 0.2, 0.7])
    for level in (0.95, 0.5):
        expected = stats.t.interval(level, 3, known.mean(), stats.sem(known))
        assert t_interval(values, level) == pytest.approx(expected)
    assert t_interval(values) == t_interval(values, 0.95)
    # two values: t of one degree of freedom is the quantile of Cauchy's law, tan(0.475 π)
    assert t_interval([0.0, 2.0])[1] == pytest.approx(1 + np.tan(0.475 * np.pi))
    assert np.isnan(t_interval([1.0, np.nan])).all()


def test_over_seeds_averages_within_each_seed_first() -> None:
    frame = pd.DataFrame(
        {
            "a": ["y"] * 5 + ["x"],
            "b": 1,
            "seed": [0, 0, 0, 1, 1, 0],
            "value": [1.0, 2, 3, 5, 7, 9],
        }
    )
    found = over_seeds(frame, ["a", "b"], "value")
    assert found.columns.tolist() == ["a", "b", "seeds", "value", "low", "high"]
    assert found["a"].tolist() == ["y", "x"]  # as they come
    assert found["seeds"].tolist() == [2, 1]
    assert found["value"].tolist() == [4, 9]
    assert (found["low"][0], found["high"][0]) == pytest.approx(t_interval([2, 6]))
    assert found.loc[1, ["low", "high"]].isna().all()


def test_a_mean_difference_knows_how_many_networks_it_is_of() -> None:
    found = mean_difference([0.1, 0.3, 0.8])
    assert found["difference"] == pytest.approx(0.4)
    assert (found["low"], found["high"]) == pytest.approx(t_interval([0.1, 0.3, 0.8]))
    assert found["seeds"] == 3
