"""The hull's members, weights and gains, against least squares on the samples."""

import numpy as np

from theory import Moments, channel_axes


def regression(samples, target, members):
    """Slopes of a channel on some peers, by least squares with an intercept."""
    design = np.column_stack([samples[:, members], np.ones(len(samples))])
    slopes, *_ = np.linalg.lstsq(design, samples[:, target], rcond=None)
    residual = samples[:, target] - design @ slopes
    return slopes[:-1], 1 - residual.var() / samples[:, target].var()


def mixed(rng, n=400, c=7):
    samples = rng.standard_normal((n, c)) @ rng.standard_normal((c, c)) * np.arange(1, c + 1)
    samples[:, 3] = 5.0  # dead: the live channels' indices are shifted behind it
    return samples


def test_weights_and_gains_are_those_of_least_squares_on_the_members():
    samples = mixed(np.random.default_rng(0))
    axes = channel_axes(Moments.from_samples(samples))
    for channel in (0, 1, 2, 4, 5, 6):
        found = axes.hull.of(channel)
        members = [peer for peer, _, _ in found]
        assert len(members) == axes.hull_size[channel] > 0
        assert not {channel, 3} & set(members)
        slopes, _ = regression(samples, channel, members)
        np.testing.assert_allclose([w for _, w, _ in found], slopes, rtol=1e-5)
        shares = [0.0] + [
            regression(samples, channel, members[: k + 1])[1] for k in range(len(members))
        ]
        np.testing.assert_allclose([g for _, _, g in found], np.diff(shares), atol=1e-6)
    assert axes.hull.of(3) == []


def test_without_a_hull_nobody_is_named():
    samples = mixed(np.random.default_rng(1))
    assert channel_axes(Moments.from_samples(samples), hull=False).hull is None


def test_a_ridge_shrinks_the_weights_as_it_does_the_regression():
    cov = np.array([[1.0, 0.6], [0.6, 1.0]])
    axes = channel_axes(Moments.from_covariance(cov, n_targets=0), ridge=0.5)
    np.testing.assert_allclose(axes.hull.weights, 0.6 / 1.5, rtol=1e-6)


def test_members_move_with_their_channels():
    samples = mixed(np.random.default_rng(2))
    order = np.random.default_rng(3).permutation(samples.shape[1])
    one = channel_axes(Moments.from_samples(samples)).hull
    other = channel_axes(Moments.from_samples(samples[:, order])).hull
    for place, channel in enumerate(order):
        moved = [(order[peer], weight) for peer, weight, _ in other.of(place)]
        np.testing.assert_allclose(moved, [(p, w) for p, w, _ in one.of(channel)], rtol=1e-5)
