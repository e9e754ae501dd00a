"""Channel axes at their defaults and at their limits."""

import numpy as np
import pytest

from theory import Moments, channel_axes


def test_the_defaults_are_fifty_peers_and_the_ten_largest_excesses():
    rng = np.random.default_rng(21)
    moments = Moments.from_samples(rng.standard_normal((200, 60)), rng.standard_normal(200))
    default = channel_axes(moments, hull=False)
    said = channel_axes(moments, hull=False, peers=50, top=10)
    for name in ("target_excess", "task_redundancy"):
        np.testing.assert_array_equal(getattr(default, name), getattr(said, name))
    for changed in ({"peers": 49}, {"peers": 51}, {"top": 9}, {"top": 11}):
        other = channel_axes(moments, hull=False, **changed)
        assert not np.array_equal(other.target_excess, default.target_excess)


def test_filters_may_be_of_one_number_each():
    moments = Moments.from_covariance(np.diag([2.0, 3.0]), n_targets=0)
    found = channel_axes(moments, weights=[2.0, 0.5]).rayleigh_quotient
    np.testing.assert_allclose(found, [0.5, 12.0])
    with pytest.raises(ValueError, match="weights must have 2 rows"):
        channel_axes(moments, weights=3.0)


def test_one_determined_target_of_two_leaves_no_conditional_information():
    mixing = np.array([[1.0, 0, 0], [0, 1, 0], [1, 1, 0], [0.5, 0, 1]])  # Y1, Y2, Y1 + Y2, noisy Y1
    axes = channel_axes(Moments.from_covariance(mixing @ mixing.T, n_targets=2))
    assert np.isnan(axes.conditional_task_information).all()
    assert axes.affected["target_determined"] == (0, 1)


def test_an_empty_hull_scores_as_one_peer_when_the_bias_is_corrected():
    moments = Moments.from_covariance(np.eye(4), n_targets=1, n=11)
    axes = channel_axes(moments, bias_correction=True)
    np.testing.assert_array_equal(axes.hull_size, 0)
    np.testing.assert_allclose(axes.hull_score, 1 - 10 / 8)  # the adjusted R² itself
