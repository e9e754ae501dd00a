"""The hull's members, weights and gains, against least squares on the samples."""

import numpy as np
import pytest

from theory import Moments, channel_axes
from theory.hull import hull_along, peer_order


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


@pytest.mark.parametrize("ridge", [0.0, 0.2])
@pytest.mark.parametrize("copies", [0, 2])
def test_peers_in_their_order_of_choice_give_the_hull_that_was_chosen(ridge, copies):
    samples = mixed(np.random.default_rng(1), c=15)
    samples = np.column_stack([samples, samples[:, :copies]])
    moments = Moments.from_samples(samples)
    chosen = channel_axes(moments, ridge=ridge)
    along = channel_axes(moments, ridge=ridge, hull=peer_order(moments, ridge=ridge))
    np.testing.assert_array_equal(along.hull_size, chosen.hull_size)
    np.testing.assert_array_equal(along.hull.members, chosen.hull.members)
    np.testing.assert_allclose(along.hull.gains, chosen.hull.gains, atol=1e-6)


def test_the_number_of_given_peers_is_found_by_least_squares_and_those_that_died_are_left_out():
    rng = np.random.default_rng(2)
    samples = mixed(rng)
    moments = Moments.from_samples(samples)
    everyone = [c for c in range(7) if c != 3]
    order = np.array(
        [np.append(rng.permutation([c for c in everyone if c != i])[:4], 3) for i in range(7)]
    )
    axes = channel_axes(moments, hull=order)
    for channel in everyone:
        shares = [regression(samples, channel, order[channel, :k])[1] for k in range(1, 5)]
        goal = 0.95 * axes.peer_predictability[channel]
        reached = [k for k, share in enumerate(shares, 1) if share >= goal]
        assert axes.hull_size[channel] == (reached[0] if reached else 4)


def test_a_peer_that_others_supply_is_left_out():
    r = np.array([[1.0, 0.6, 0.6], [0.6, 1.0, 1.0], [0.6, 1.0, 1.0]])
    hull = hull_along(r, np.array([0.5, 0.0, 0.0]), np.array([[1, 2], [2, 0], [1, 0]]))
    assert hull.members.tolist() == [[1, -1], [-1, -1], [-1, -1]]


@pytest.mark.parametrize("wrong", [np.zeros((2, 2)), np.zeros((3, 2), int), np.full((7, 2), 7)])
def test_what_are_no_peers_is_refused(wrong):
    moments = Moments.from_samples(mixed(np.random.default_rng(3)))
    with pytest.raises(ValueError, match=r"hull must be True, False or \(7, m\) channels"):
        channel_axes(moments, hull=wrong)
