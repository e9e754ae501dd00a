"""When a curve comes to stay nearer its end than its start."""

import numpy as np
import pytest

from theory import settled_record, settling_time


@pytest.mark.parametrize(
    ("values", "record"),
    [
        ([1.0, 0.9, 0.3, 0.0], 2),
        ([1.0, 0.5, 0.4, 0.0], 1),  # half of the way counts
        ([1.0, 0.1, 0.9, 0.2, 0.0], 3),  # it must stay there
        ([-1.0, -0.8, 0.4, 0.9], 2),
        ([0.3, 0.3], None),
        ([1.0, np.nan, 0.1, 0.0], 2),  # what is not known has not arrived
        ([1.0, 0.2, np.nan], None),
        ([np.nan, 0.2, 0.1], None),
    ],
)
def test_the_record_from_which_it_stays(values, record):
    assert settled_record(values) == record


def test_what_is_no_further_apart_than_chance_has_no_time():
    assert settled_record([0.3, 0.2, 0.1], apart=0.2) is None
    assert settled_record([0.3, 0.2, 0.05], apart=0.2) == 2
    assert np.isnan(settling_time([0.0, 1.0, 2.0], [0.3, 0.2, 0.1], apart=0.2))


def test_the_time_lies_between_records_in_the_log():
    times = np.array([0.0, 1.0, 16.0])
    assert settling_time(times, [1.0, 0.75, 0.0]) == pytest.approx(16 ** (1 / 3))
    assert settling_time(times, [1.0, 0.4, 0.0]) == 1  # from time 0 the next record
    exact = np.geomspace(0.01, 100, 4000)
    curve = np.concatenate([[1.0], 1 / (1 + exact)])
    assert settling_time(np.concatenate([[0.0], exact]), curve) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("shape", [(1,), (2, 3)])
def test_one_curve_of_two_records_at_least(shape):
    with pytest.raises(ValueError, match="at least two records"):
        settled_record(np.zeros(shape))


def test_times_rise():
    with pytest.raises(ValueError, match="times must rise"):
        settling_time([0.0, 2.0, 1.0], [1.0, 0.5, 0.0])
    with pytest.raises(ValueError, match="times must rise"):
        settling_time([0.0, 2.0], [1.0, 0.5, 0.0])
    with pytest.raises(ValueError, match="fraction must be between 0 and 1"):
        settling_time([0.0, 2.0], [1.0, 0.5], fraction=1.0)
