from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import layers
from tests.theory.naive_axes import greedy_hull, naive_axes
from tests.tolerances import EXACT, NAIVE, NAIVE_FLOOR
from theory import LOCAL_AXIS, QUANTITIES, TARGET_AXIS, Moments, channel_axes, compact_hull

OF_SCALE = {"signal_power", "rayleigh_quotient", "input_capture"}
WITHOUT_WEIGHTS = [name for name in QUANTITIES if name != "rayleigh_quotient"]


def random_layer(seed, c=None, q=None):
    rng = np.random.default_rng(seed)
    c = c or int(rng.integers(2, 40))
    q = q or int(rng.integers(1, 5))
    root = rng.standard_normal((c + q, c + q + 3))
    return Moments.from_covariance(root @ root.T, n_targets=q)


@pytest.mark.parametrize("seed", range(20))
def test_equals_a_naive_double_loop(seed):
    moments = random_layer(seed)
    fast = channel_axes(moments, peers=12, top=4).as_dict()
    for name, slow in naive_axes(moments.cov, moments.n_channels, peers=12, top=4).items():
        np.testing.assert_allclose(
            fast[name], slow, rtol=NAIVE, atol=NAIVE_FLOOR, err_msg=f"{name}, seed {seed}"
        )


def test_one_pair_by_hand():
    axes = channel_axes(
        Moments.from_covariance([[4.0, 1.2, 1.0], [1.2, 1.0, 0.0], [1.0, 0.0, 1.0]]),
        noise=2.0,
        weights=[[3.0, 4.0], [1.0, 0.0]],
    )
    # R = 0.6, rho = (0.5, 0); partial correlations 0.5/0.8 and -0.3/(0.8 sqrt(0.75)).
    first, second = -0.5 * np.log(1 - 0.625**2), -0.5 * np.log(1 - 0.09 / (0.64 * 0.75))
    expected = {
        "signal_power": [4, 1],
        "rayleigh_quotient": [4 / 25, 1],
        "input_capture": [0.5 * np.log(3), 0.5 * np.log(1.5)],
        "peer_overlap": [-0.5 * np.log(0.64)] * 2,
        "peer_predictability": [0.36, 0.36],
        "peer_information": [-0.5 * np.log(0.64)] * 2,
        "hull_size": [1, 1],
        "hull_score": [0.36, 0.36],
        "task_information": [-0.5 * np.log(0.75), 0],
        "target_excess": [second, second],
        "conditional_task_information": [first, second],
        "task_redundancy": [0, 0],
        "task_unique": [-0.5 * np.log(0.75), 0],
    }
    assert list(expected) == list(QUANTITIES)
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(axes, name), values, atol=EXACT, err_msg=name)


@given(layers())
def test_every_quantity_is_finite_and_informations_nonnegative(moments):
    axes = channel_axes(moments)
    assert not axes.affected
    for name in WITHOUT_WEIGHTS:
        values = getattr(axes, name)
        assert values.shape == (moments.n_channels,)
        assert values.dtype == np.float64
        assert np.isfinite(values).all(), name
        assert (values >= -EXACT).all(), name


@given(layers(), st.integers(0, 2**32 - 1))
def test_rescaling_and_permuting_channels_changes_nothing_else(moments, seed):
    rng = np.random.default_rng(seed)
    c = moments.n_channels
    scale = np.concatenate([10 ** rng.uniform(-3, 3, c), np.ones(moments.n_targets)])
    order = rng.permutation(c)
    rescaled = Moments.from_covariance(
        moments.cov * np.outer(scale, scale), n_targets=moments.n_targets
    ).select(order)
    before, after = channel_axes(moments), channel_axes(rescaled)
    for name in set(QUANTITIES) - OF_SCALE:
        expected = getattr(before, name)[order]
        # 1e-8: the condition number, at most 1e4, times the rounding of rescaling.
        np.testing.assert_allclose(getattr(after, name), expected, atol=1e-8, err_msg=name)


@given(layers(channels=st.integers(3, 8)))
def test_bounds_between_quantities(moments):
    axes = channel_axes(moments)
    c = moments.n_channels
    # Conditioning on all peers: the chain rule I(Y; T) = I(Y_-i; T) + I(Y_i; T | Y_-i).
    whole = _information(moments, range(c))
    for i in range(c):
        rest = _information(moments, [j for j in range(c) if j != i])
        np.testing.assert_allclose(axes.conditional_task_information[i], whole - rest, atol=1e-8)
    # Peers together say at least what the mean peer says alone, and E is a share.
    assert (axes.peer_information >= axes.peer_overlap - EXACT).all()
    assert (axes.peer_predictability <= 1).all()
    assert (axes.task_redundancy + axes.task_unique - axes.task_information < EXACT).all()
    assert (axes.task_redundancy <= axes.task_information + EXACT).all()


def _information(moments, channels):
    index = [*channels, *range(moments.n_channels, moments.mean.size)]
    k = len(index) - moments.n_targets
    cov = moments.cov[np.ix_(index, index)]
    logdets = [np.linalg.slogdet(block)[1] for block in (cov[:k, :k], cov[k:, k:], cov)]
    return 0.5 * (logdets[0] + logdets[1] - logdets[2])


@given(layers(n_targets=st.just(2), channels=st.integers(2, 6)))
def test_data_processing_a_projected_target_is_known_no_better(moments):
    both = channel_axes(moments)
    one = channel_axes(moments.project_targets([1.0, -0.5]))
    assert (one.task_information <= both.task_information + EXACT).all()


def test_copies_and_dead_channels_are_listed_and_nothing_is_infinite():
    rng = np.random.default_rng(3)
    y = rng.standard_normal((500, 6))
    y[:, 2] = y[:, 0]
    y[:, 4] = 7.5
    t = y[:, 0] + y[:, 1] + rng.standard_normal(500)
    axes = channel_axes(Moments.from_samples(y, t))
    assert axes.affected == {"dead": (4,), "copies": (0, 2), "collinear": (0, 2)}
    for name in WITHOUT_WEIGHTS:
        assert not np.isinf(getattr(axes, name)).any(), name
    assert np.isnan(axes.peer_overlap[[0, 2]]).all()
    assert np.isnan(axes.peer_information[[0, 2]]).all()
    np.testing.assert_allclose(axes.peer_predictability[[0, 2]], 1)
    np.testing.assert_allclose(axes.conditional_task_information[[0, 2]], 0)
    assert axes.hull_size[0] == axes.hull_size[2] == 1
    assert np.isnan(axes.peer_predictability[4])
    assert np.isnan(axes.hull_score[4])
    assert axes.signal_power[4] == axes.peer_overlap[4] == axes.task_information[4] == 0
    # The others are what they are without the copy and without the dead channel.
    alone = channel_axes(Moments.from_samples(y[:, [0, 1, 3, 5]], t))
    for name in ("peer_predictability", "task_information", "conditional_task_information"):
        np.testing.assert_allclose(
            getattr(axes, name)[[1, 3, 5]], getattr(alone, name)[1:], rtol=1e-9, err_msg=name
        )


def test_more_channels_than_samples_is_listed_and_ridge_resolves_it():
    rng = np.random.default_rng(4)
    moments = Moments.from_samples(rng.standard_normal((10, 25)), rng.standard_normal(10))
    axes = channel_axes(moments)
    # that channels are collinear, or determine the target together, cannot be seen
    assert axes.affected == {"few_samples": tuple(range(25))}
    assert np.isnan(axes.peer_predictability).all()
    assert np.isnan(axes.peer_information).all()
    ridged = channel_axes(moments, ridge=0.5)
    assert "collinear" not in ridged.affected
    assert np.isfinite(ridged.peer_information).all()
    d = np.sqrt(np.diagonal(moments.cov)[:25])
    r = moments.cov[:25, :25] / np.outer(d, d)
    expected = 1.5 - 1 / np.diagonal(np.linalg.inv(r + 0.5 * np.eye(25)))
    np.testing.assert_allclose(ridged.peer_predictability, expected, rtol=NAIVE)


def test_a_channel_that_determines_the_target_is_listed():
    cov = np.array([[1.0, 0.3, 1.0], [0.3, 1.0, 0.3], [1.0, 0.3, 1.0]])
    axes = channel_axes(Moments.from_covariance(cov))
    assert axes.affected == {"target_determined": (0, 1)}
    assert np.isnan(axes.task_information[0])
    np.testing.assert_allclose(axes.task_information[1], -0.5 * np.log(1 - 0.09))


def test_without_a_target_the_target_axis_is_nan_and_the_local_axis_whole():
    rng = np.random.default_rng(5)
    axes = channel_axes(Moments.from_samples(rng.standard_normal((100, 4))))
    assert all(np.isnan(getattr(axes, name)).all() for name in TARGET_AXIS)
    assert all(np.isfinite(getattr(axes, n)).all() for n in LOCAL_AXIS if n in WITHOUT_WEIGHTS)


def test_one_hot_labels_carry_their_rank():
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 3, 400)
    y = rng.standard_normal((400, 4)) + np.eye(3, 4)[labels]
    full = channel_axes(Moments.from_samples(y, np.eye(3)[labels]))
    reduced = channel_axes(Moments.from_samples(y, np.eye(3)[labels][:, :2]))
    for name in TARGET_AXIS:
        np.testing.assert_allclose(getattr(full, name), getattr(reduced, name), rtol=1e-9)


def test_small_correlations_keep_their_digits():
    tiny = 1e-9
    axes = channel_axes(Moments.from_covariance([[1, tiny, tiny], [tiny, 1, 0], [tiny, 0, 1]]))
    np.testing.assert_allclose(axes.task_information[0], tiny**2 / 2, rtol=1e-12)
    np.testing.assert_allclose(axes.peer_overlap[0], tiny**2 / 2, rtol=1e-12)


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_hull_is_the_naive_forward_selection(ridge):
    moments = random_layer(8, c=18, q=1)
    d = np.sqrt(np.diagonal(moments.cov)[:18])
    r = moments.cov[:18, :18] / np.outer(d, d)
    e = channel_axes(moments, ridge=ridge).peer_predictability
    hull = compact_hull(r, e, ridge=ridge)
    if ridge == 0:
        for i in range(18):
            chosen = greedy_hull(r, i, [j for j in range(18) if j != i])
            assert list(hull.members[i, : hull.size[i]]) == chosen
    for i in range(18):
        peers = hull.members[i, : hull.size[i]]
        inner = r[np.ix_(peers, peers)] + ridge * np.eye(peers.size)
        np.testing.assert_allclose(
            hull.explained[i], r[i, peers] @ np.linalg.solve(inner, r[peers, i]), rtol=NAIVE
        )
        assert hull.size[i] == 10 or hull.explained[i] >= 0.95 * e[i] - EXACT


def test_hulls_of_a_wide_layer_are_chosen_in_blocks():
    rng = np.random.default_rng(8)
    noise = rng.uniform(0.01, 1, 260)
    y = rng.standard_normal((900, 3)) @ rng.standard_normal((3, 260))
    r = np.corrcoef(y + noise * rng.standard_normal(y.shape), rowvar=False)
    hull = compact_hull(r, 1 - 1 / np.diagonal(np.linalg.inv(r)))
    assert len(set(hull.size.tolist())) > 3  # some are whole before others
    for i in (0, 251, 252, 259):
        chosen = greedy_hull(r, i, [j for j in range(260) if j != i])
        assert list(hull.members[i, : hull.size[i]]) == chosen


def test_hull_of_copies_skips_what_the_copy_already_supplies():
    rng = np.random.default_rng(9)
    y = rng.standard_normal((300, 4))
    y = np.column_stack([y[:, 0] + y[:, 1], y[:, 0], y[:, 0], y[:, 1], y[:, 2]])
    r = np.corrcoef(y.T)
    hull = compact_hull(r, np.array([1.0, 1, 1, 1, 0.1]))
    assert sorted(hull.members[0, : hull.size[0]]) in ([1, 3], [2, 3])
    assert hull.members[1, 0] == 2
    assert hull.size[1] == 1


def test_noise_options():
    moments = Moments.from_covariance(np.diag([1.0, 2.0, 3.0, 10.0, 1.0]))
    levels = {"median": 2.5, "mean": 4.0, "quantile:0.25": 1.75, 7.0: 7.0}
    for noise, level in levels.items():
        axes = channel_axes(moments, noise=noise)
        assert axes.noise_power == level
        np.testing.assert_allclose(axes.input_capture, 0.5 * np.log1p(axes.signal_power / level))


def test_bias_correction_centers_estimates_on_the_population():
    rng = np.random.default_rng(10)
    truth = random_layer(11, c=4, q=2)
    root = np.linalg.cholesky(truth.cov)
    names = ("task_information", "conditional_task_information", "peer_information", "peer_overlap")
    population = channel_axes(truth)
    draws = []
    for _ in range(4000):
        z = rng.standard_normal((30, 6)) @ root.T
        moments = Moments.from_samples(z[:, :4], z[:, 4:])
        axes = channel_axes(moments, bias_correction=True, hull=False, details=False)
        draws.append([getattr(axes, name) for name in names])
    draws = np.asarray(draws)
    error = draws.std(axis=0) / np.sqrt(len(draws))
    expected = np.asarray([getattr(population, name) for name in names])
    assert (np.abs(draws.mean(axis=0) - expected) < 4.5 * error).all()


def test_numbers_of_peers_and_top_are_nested():
    moments = random_layer(12, c=30, q=1)
    tops = [channel_axes(moments, peers=29, top=k).target_excess for k in (1, 5, 29)]
    for larger, smaller in pairwise(tops):
        assert (larger >= smaller - EXACT).all()


GOOD = Moments.from_samples(np.random.default_rng(0).standard_normal((20, 3)), np.arange(20.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise": "medium"}, "noise must be 'median', .* got 'medium'"),
        ({"noise": "quantile:1.5"}, "0 < p < 1"),
        ({"noise": "quantile:0"}, "0 < p < 1"),
        ({"noise": "quantile:1"}, "0 < p < 1"),
        ({"noise": -1.0}, "noise must be > 0 and finite; got -1.0"),
        ({"ridge": -0.1}, "ridge must be >= 0 and finite; got -0.1"),
        ({"peers": 0}, "peers must be a whole number >= 1; got 0"),
        ({"top": 2.5}, "top must be a whole number >= 1; got 2.5"),
        ({"weights": np.ones((2, 5))}, "weights must have 3 rows"),
        ({"weights": 5.0}, r"weights must have 3 rows.* got shape \(\)"),
        ({"hull": 1}, "hull must be True or False; got 1"),
        ({"bias_correction": 1}, "bias_correction must be True or False; got 1"),
        ({"details": 1}, "details must be True or False; got 1"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        channel_axes(GOOD, **arguments)


@pytest.mark.parametrize(
    ("moments", "message"),
    [
        (Moments.from_samples(np.ones((9, 1)), np.arange(9.0)), "at least 2 channels; got 1"),
        (Moments.from_samples(np.eye(2), np.arange(2.0)), "at least 3 samples; got n=2"),
        (Moments.from_samples(np.eye(5), np.ones(5)), "the target is constant"),
        (Moments.from_samples(np.ones((5, 2)), np.arange(5.0)), "no live channel"),
    ],
)
def test_layers_that_cannot_be_measured(moments, message):
    with pytest.raises(ValueError, match=message):
        channel_axes(moments)


def test_three_samples_of_two_channels_are_enough():
    axes = channel_axes(Moments.from_samples([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]], np.arange(3.0)))
    np.testing.assert_allclose(axes.peer_predictability, 0.25)


def test_a_filter_of_norm_zero_has_no_rayleigh_quotient():
    axes = channel_axes(GOOD, weights=[[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]])
    expected = axes.signal_power / [25.0, np.nan, 1.0]
    np.testing.assert_allclose(axes.rayleigh_quotient, expected)


def test_the_hull_is_chosen_at_the_ridge_of_the_predictability():
    moments = random_layer(8, c=18, q=1)
    d = np.sqrt(np.diagonal(moments.cov)[:18])
    r = moments.cov[:18, :18] / np.outer(d, d)
    axes = channel_axes(moments, ridge=1.0)
    sizes = [compact_hull(r, axes.peer_predictability, ridge=k).size for k in (1.0, 0.0)]
    np.testing.assert_array_equal(axes.hull_size, sizes[0])
    assert (sizes[0] != sizes[1]).any()


def test_bias_correction_needs_samples():
    with pytest.raises(ValueError, match="bias_correction needs a sample count"):
        channel_axes(Moments.from_covariance(np.eye(3)), bias_correction=True)
