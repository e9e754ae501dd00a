from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import samples
from tests.tolerances import EXACT
from theory import Moments, merge


@given(samples())
def test_moments_are_the_textbook_ones(data):
    y, t = data
    moments = Moments.from_samples(y, t)
    joint = np.column_stack([y, t])
    scale = np.abs(joint).max()
    np.testing.assert_allclose(moments.mean, joint.mean(axis=0), atol=EXACT * scale)
    np.testing.assert_allclose(moments.cov, np.cov(joint.T), atol=EXACT * scale**2)
    assert (moments.n, moments.n_channels, moments.n_targets) == (len(y), y.shape[1], 1)


@given(samples(least=6), st.integers(1, 7), st.randoms(use_true_random=False))
def test_any_split_in_any_order_merges_to_the_whole(data, parts, random):
    y, t = data
    order = list(range(len(y)))
    random.shuffle(order)
    pieces = [p for p in np.array_split(np.asarray(order), parts) if p.size]
    merged = merge([Moments.from_samples(y[p], t[p]) for p in pieces])
    whole = Moments.from_samples(y, t)
    scale = np.abs(whole.mean).max() ** 2 + np.abs(whole.cov).max()
    assert merged.n == whole.n
    np.testing.assert_allclose(merged.mean, whole.mean, atol=EXACT * scale)
    np.testing.assert_allclose(merged.cov, whole.cov, atol=EXACT * scale)


def test_a_mean_a_million_times_the_deviation_survives():
    rng = np.random.default_rng(0)
    y = rng.standard_normal((1000, 3))
    exact = Moments.from_samples(y)
    shifted = merge([Moments.from_samples(part + 1e6) for part in np.array_split(y, 7)])
    # Adding 1e6 rounds each sample by 1e-10: that, not the accumulation, is the limit.
    np.testing.assert_allclose(shifted.cov, exact.cov, atol=1e-9)


def test_projected_targets_are_those_of_projected_samples():
    rng = np.random.default_rng(1)
    y, t, w = rng.standard_normal((50, 4)), rng.standard_normal((50, 3)), rng.standard_normal(3)
    projected = Moments.from_samples(y, t).project_targets(w)
    np.testing.assert_allclose(projected.cov, Moments.from_samples(y, t @ w).cov, atol=EXACT)
    selected = Moments.from_samples(y, t).select([2, 0])
    np.testing.assert_allclose(selected.cov, Moments.from_samples(y[:, [2, 0]], t).cov, atol=EXACT)


def test_from_covariance_keeps_what_it_was_given():
    cov = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, 0.2], [0.1, 0.2, 3.0]])
    moments = Moments.from_covariance(cov, n_targets=1, mean=[1, 2, 3], n=10)
    assert np.array_equal(moments.cov, cov)
    assert (moments.n, moments.n_channels, moments.n_targets) == (10, 2, 1)


def test_a_column_with_a_large_mean_does_not_cost_another_its_digits():
    small = 1e-3 * np.random.default_rng(2).standard_normal(500)
    moments = Moments.from_samples(np.column_stack([small, np.full(500, 1e9)]))
    assert moments.cov[0, 0] == pytest.approx(small.var(ddof=1), rel=1e-12, abs=0)
    assert moments.cov[1, 1] == 0


@pytest.mark.parametrize(
    "samples", [[0, 0, 1], [1, 0, 0, 2], [3, 0, 1, 1, 2], [1, 1, 1, 1, 0, 3, 2]]
)
def test_deviations_of_the_last_digit_have_their_exact_moments(samples):
    """Numbers near 1e8 are 2**-26 apart: the mean is rounded by as much as they deviate."""
    step, steps = 2.0**-26, np.array(samples)
    moments = Moments.from_samples(1e8 + step * steps[:, None])
    assert moments.mean[0] == float(10**8 + Fraction(int(steps.sum()), len(steps)) / 2**26)
    assert moments.cov[0, 0] == pytest.approx(step**2 * steps.var(ddof=1), rel=1e-9, abs=0)


def test_two_sets_of_weights_project_to_two_targets():
    rng = np.random.default_rng(3)
    y, t, w = rng.standard_normal((40, 2)), rng.standard_normal((40, 3)), rng.random((3, 2))
    projected, expected = (
        Moments.from_samples(y, t).project_targets(w),
        Moments.from_samples(y, t @ w),
    )
    np.testing.assert_allclose(projected.cov, expected.cov, atol=EXACT)
    np.testing.assert_allclose(projected.mean, expected.mean, atol=EXACT)
    assert (projected.n_targets, projected.n, projected.n_channels) == (2, 40, 2)


def test_means_and_offsets_are_zero_unless_given():
    moments = Moments.from_covariance(np.eye(3), n_targets=0)
    assert (moments.n_targets, moments.n_channels, moments.n) == (0, 3, None)
    np.testing.assert_array_equal(moments.mean, 0)
    np.testing.assert_array_equal(moments.transform_channels(np.eye(3)[:2]).mean, 0)


def test_one_channel_can_be_selected():
    one = Moments.from_samples(Y).select([0])
    assert one.cov == pytest.approx(np.array([[15.0]]))
    assert one.mean == pytest.approx([4.5])


Y = np.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Moments.from_samples(np.zeros(4)), r"y must be 2-dimensional; got shape \(4,\)"),
        (lambda: Moments.from_samples(np.zeros((0, 3))), "y must hold samples and channels"),
        (lambda: Moments.from_samples(Y, np.zeros(3)), "one row per sample of y; got 3 rows for 4"),
        (lambda: Moments.from_samples(np.where(Y == 7, np.nan, Y)), r"first at \(2, 1\) \(nan\)"),
        (lambda: Moments.from_covariance([[1, 2], [0, 1]]), "cov must be symmetric; the largest"),
        (lambda: Moments.from_covariance([[1, 2], [2, 1]]), "semidefinite; its smallest .* is -1"),
        (lambda: Moments.from_covariance(np.ones((2, 3))), "cov must be a square matrix"),
        (lambda: Moments.from_covariance(np.eye(2), n_targets=2), "at least one channel; got 2"),
        (lambda: Moments.from_covariance(np.eye(2), mean=[0, 0, 0]), "mean must have length 2"),
        (lambda: Moments.from_covariance(np.eye(2), n=0), "n must be a whole number >= 1; got 0"),
        (
            lambda: Moments.from_samples(Y) + Moments.from_samples(Y[:, :2]),
            r"same channels and targets; got 3 \+ 0 and 2 \+ 0",
        ),
        (
            lambda: Moments.from_covariance(np.eye(2)) + Moments.from_covariance(np.eye(2)),
            r"population \(n=None\). Pass n to from_covariance",
        ),
        (lambda: Moments.from_samples(Y, Y).project_targets([1, 2]), "weights must have 3 rows"),
        (lambda: Moments.from_samples(Y) + Moments.from_covariance(np.eye(3), 0), "population"),
        (lambda: Moments.from_covariance(np.eye(3), 0) + Moments.from_samples(Y), "population"),
        (
            lambda: Moments.from_covariance(np.eye(2), n_targets=-1),
            "n_targets must .* >= 0; got -1",
        ),
        (lambda: Moments.from_samples(Y, Y).project_targets(np.ones((3, 1, 1))), "weights must be"),
        (lambda: Moments.from_samples(Y).select([]), "channels must be indices from 0 to 2"),
        (lambda: Moments.from_samples(Y).select([1, -1]), "channels must be indices from 0 to 2"),
        (lambda: Moments.from_samples(Y).select([0, 3]), "channels must be indices from 0 to 2"),
        (lambda: Moments.from_samples(Y).select([3]), "channels must be indices from 0 to 2"),
        (lambda: merge([]), "at least one Moments; got none"),
    ],
)
def test_errors_name_argument_value_and_remedy(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


@given(st.integers(1, 5), st.integers(1, 600), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_transformed_channels_have_the_moments_of_transformed_samples(c, wide, q, seed):
    rng = np.random.default_rng(seed)
    y, t = rng.standard_normal((20, c)), rng.standard_normal((20, q))
    weights, offset = rng.standard_normal((wide, c)), rng.standard_normal(wide)
    found = Moments.from_samples(y, t).transform_channels(weights, offset)
    expected = Moments.from_samples(y @ weights.T + offset, t)
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-12)
    np.testing.assert_allclose(found.cov, expected.cov, atol=1e-12)
    np.testing.assert_array_equal(found.cov, found.cov.T)
    assert (found.n, found.n_targets) == (20, q)


def test_transformations_that_do_not_fit_are_named():
    one = Moments.from_covariance(np.eye(3))
    with pytest.raises(ValueError, match="weights must have 2 columns, one per channel; got 3"):
        one.transform_channels(np.eye(3))
    with pytest.raises(ValueError, match="offset must have length 2, as weights; got 3"):
        one.transform_channels(np.eye(2), np.zeros(3))
