"""Peers from few samples, exactly: each number from its definition, and limits on either side."""

import numpy as np
import pytest
import scipy

from theory import Moments, catalogue, channel_axes, merge
from theory.few_samples import (
    PeerEstimates,
    _effect,
    _Groups,
    _in_out,
    _Scatter,
    estimate_peers,
)
from theory.moments import trusted_moments
from theory.sampling import in_out_product, likeness_of

SIZES = (4, 3, 3, 2)
"""Of groups of images, so that their number, largest and sum all differ."""
FOUR = (17, 16, 16, 15)


def images(channels, positions=1, likeness=0.0, targets=0, sizes=SIZES, seed=0):
    """Per group (images * positions, channels + targets), channels mixed and shifted."""
    rng = np.random.default_rng(seed)
    mixing = np.eye(channels + targets) + 0.3 * rng.standard_normal([channels + targets] * 2)
    scale = rng.uniform(0.5, 2.0, channels + targets)
    found = []
    for size in sizes:
        shape = (size, positions, channels + targets)
        z = np.sqrt(likeness) * rng.standard_normal((size, 1, channels + targets))
        z = z + np.sqrt(1 - likeness) * rng.standard_normal(shape)
        found.append((z @ mixing * scale + 1.0).reshape(-1, channels + targets))
    return found


def parts(groups, channels):
    return [Moments.from_samples(g[:, :channels], g[:, channels:]) for g in groups]


def scatters(groups):
    """Of channels alone, as they are."""
    c = groups[0].shape[1]
    return _Groups([_Scatter(part, np.ones(c), np.empty((0, 0))) for part in parts(groups, c)])


def in_and_out(groups):
    """(G, p) residual variances of least squares on the other groups, there and on the one."""
    inside, outside = np.empty((2, len(groups), groups[0].shape[1]))
    for g, there in enumerate(groups):
        here = np.vstack([group for h, group in enumerate(groups) if h != g])
        for i in range(here.shape[1]):
            rest = np.delete(np.arange(here.shape[1]), i)
            design, new = (np.column_stack([np.ones(len(s)), s[:, rest]]) for s in (here, there))
            fit = np.linalg.lstsq(design, here[:, i], rcond=None)[0]
            inside[g, i] = ((here[:, i] - design @ fit) ** 2).sum() / (len(here) - 1)
            outside[g, i] = ((there[:, i] - new @ fit) ** 2).mean()
    return inside, outside


def effect_of(groups):
    """The definition, pair by pair."""
    joined = np.vstack(groups)
    mean, n = joined.mean(0), len(joined)
    covariance = (joined - mean).T @ (joined - mean) / n
    observed = expected = 0.0
    for i in range(len(mean)):
        for j in range(len(mean)):
            if i == j:
                continue
            expected += covariance[i, i] * covariance[j, j] + covariance[i, j] ** 2
            for group in groups:
                product = ((group[:, i] - mean[i]) * (group[:, j] - mean[j])).mean()
                observed += len(group) * (product - covariance[i, j]) ** 2
    return observed / expected / (len(groups) - 1)


def finite(n, k):
    """Inside times outside over σ⁴, of n samples and k peers."""
    return (n - 1 - k) * (n + 1) * (n - 2) / (n * (n - 1) * (n - k - 2))


def test_the_product_of_finite_samples_is_the_catalogues():
    assert finite(81, 4) == pytest.approx(catalogue()["in_out_product"](n=81, p=4))


def variances(groups, positions, effect):
    """Conditional variances with replicates, and what is left outside."""
    inside, outside = in_and_out(groups)
    joined = np.vstack(groups)
    n, p = len(joined) * (1 - 1 / len(groups)), joined.shape[1]
    product = in_out_product(p / n, likeness_of(effect, positions), positions)
    product *= finite(n, p - 1)
    left = np.array([np.delete(outside, g, 0).mean(0) for g in range(len(groups))])
    mean = np.sqrt(inside.mean(0) * outside.mean(0) / product)
    return mean, np.sqrt(inside * left / product), outside.mean(0)


@pytest.mark.parametrize(
    ("positions", "likeness", "sizes"),
    [(1, 0.0, FOUR), (2, 0.9, FOUR), (6, 0.4, FOUR), (8, 0.7, (40, 30))],
)
def test_every_estimate_is_what_regressions_sample_by_sample_give(positions, likeness, sizes):
    c, q = 5, 2
    groups = images(c, positions, likeness, targets=q, sizes=sizes)
    found = estimate_peers(parts(groups, c), samples_per_image=positions)
    scale = np.vstack(groups).std(0, ddof=1)
    channels = [group[:, :c] / scale[:c] for group in groups]
    effect = effect_of(channels)
    assert positions == 1 or effect > 1
    alone, replicates, outside = variances(channels, positions, effect)
    both, both_replicates, _ = variances([g / scale for g in groups], positions, effect)
    rest = [np.vstack(channels[:g] + channels[g + 1 :]).var(0, ddof=1) for g in range(len(sizes))]
    expected = {
        "predictability": 1 - alone,
        "predictability_replicates": 1 - replicates / rest,
        "conditional": 0.5 * np.log(alone / both[:c]),
        "conditional_replicates": 0.5 * np.log(replicates / both_replicates[:, :c]),
        "recoverable": 1 - outside,
        "effective_samples": sum(map(len, groups)) / max(1.0, effect),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(found, name), values, rtol=1e-8, err_msg=name)


def test_groups_without_images_count_for_nothing():
    every = parts(images(4, targets=1), 4)
    empty = trusted_moments(np.zeros(5), np.zeros((5, 5)), 1, 0)  # as a pass leaves a group
    found, again = estimate_peers(every), estimate_peers([every[0], empty, *every[1:]])
    for name, values in vars(found).items():
        np.testing.assert_array_equal(getattr(again, name), values, err_msg=name)


@pytest.mark.parametrize(("channels", "enough"), [(5, True), (6, False)])
def test_three_samples_to_spare_without_the_largest_group(channels, enough):
    """Twelve samples, eight without the largest group."""
    found = estimate_peers(parts(images(channels), channels))
    for values in (found.predictability, found.predictability_replicates, found.recoverable):
        assert (np.isfinite(values) == enough).all()
    assert found.effective_samples <= 12


def test_targets_too_take_samples():
    """Enough for five channels, not for a channel's regression on four others and a target."""
    found = estimate_peers(parts(images(5, targets=1), 5))
    assert np.isfinite(found.predictability).all()
    assert np.isnan(found.conditional).all()


def test_a_target_twice_is_a_target_once():
    once = images(4, targets=1, sizes=FOUR)
    twice = [np.column_stack([group, 2 * group[:, -1]]) for group in once]
    found, again = (estimate_peers(parts(groups, 4)).conditional for groups in (once, twice))
    np.testing.assert_allclose(again, found, rtol=1e-7)


def test_one_group_has_no_outside():
    found = estimate_peers(parts(images(3, sizes=(40,)), 3))
    assert np.isnan(found.predictability).all()
    assert found.effective_samples == 40


@pytest.mark.parametrize(("product", "enough"), [(0.29, False), (0.31, True)])
def test_no_estimate_where_most_of_the_product_is_likeness(product, enough):
    """Thirty channels of twelve images, sixteen positions each."""
    c, m = 30, 16
    groups = scatters(images(c, m))
    ratio = c / (12 * m * (1 - 1 / len(SIZES)))
    likeness = scipy.optimize.brentq(lambda x: in_out_product(ratio, x, m) - product, 0.1, 0.95)
    assert (_in_out(groups, c, likeness, m)[0] is not None) is enough


@pytest.mark.parametrize(("samples", "determined"), [(8, True), (7, True), (6, False)])
def test_determined_channels_are_told_from_too_few_samples(samples, determined):
    """Six live channels and a dead one; 4 is the sum of 0 and 1."""
    y = np.random.default_rng(1).standard_normal((samples, 7))
    y[:, 4], y[:, 6] = y[:, 0] + y[:, 1], 3.0
    t = np.random.default_rng(2).standard_normal((samples, 1))
    groups = [Moments.from_samples(y[g::2], t[g::2]) for g in range(2)]
    found = estimate_peers(groups)
    one = np.where(np.isin(np.arange(7), (0, 1, 4)) & determined, 1.0, np.nan)
    np.testing.assert_array_equal(found.predictability, one)
    np.testing.assert_array_equal(found.predictability_replicates, [one, one])
    np.testing.assert_array_equal(found.recoverable, one)
    np.testing.assert_array_equal(found.conditional, one - 1)
    np.testing.assert_array_equal(found.conditional_replicates, [one - 1, one - 1])


def test_others_are_regressed_without_determined_channels():
    groups = images(4, targets=1, sizes=FOUR)
    fewer = estimate_peers(parts(groups, 4))
    more = [np.insert(group, 4, group[:, 0] - group[:, 1], axis=1) for group in groups]
    found = estimate_peers(parts(more, 5))
    for name in ("predictability", "conditional", "recoverable"):
        values = getattr(found, name)
        assert (values[[0, 1, 4]] == (name != "conditional")).all()
        np.testing.assert_allclose(values[2:4], getattr(fewer, name)[2:], rtol=1e-8)
    for name in ("predictability_replicates", "conditional_replicates"):
        values, expected = getattr(found, name), getattr(fewer, name)
        np.testing.assert_allclose(values[:, 2:4], expected[:, 2:], rtol=1e-8)


def test_fewer_samples_than_channels_say_nothing_of_any():
    """Twelve channels, of which ten are one and the same, from twelve samples."""
    groups = [group[:, [0] * 10 + [1, 2]] for group in images(3)]
    assert np.isnan(estimate_peers(parts(groups, 12)).predictability).all()


def test_estimates_without_a_group():
    found = estimate_peers(parts(images(3, targets=1, sizes=(9, 8, 7)), 3))
    rest = found.without(1)
    np.testing.assert_array_equal(rest.predictability, found.predictability_replicates[1])
    np.testing.assert_array_equal(rest.conditional, found.conditional_replicates[1])
    assert rest.effective_samples == pytest.approx(found.effective_samples * 2 / 3)
    assert rest.predictability_replicates.shape == rest.conditional_replicates.shape == (0, 3)
    assert np.isnan(rest.recoverable).all()


def test_a_single_channel_has_no_pairs_to_scatter():
    assert _effect(scatters(images(1)), 1) == 1.0


@pytest.mark.parametrize(
    ("effect", "positions", "likeness"),
    [(9.0, 1, 0.0), (1.25, 2, 0.5), (1.9025, 2, 0.95), (9.0, 2, 1.0), (0.5, 2, 0.0)],
)
def test_likeness_of_a_design_effect(effect, positions, likeness):
    assert likeness_of(effect, positions) == pytest.approx(likeness, rel=1e-12)


@pytest.mark.parametrize("ratio", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("likeness", [0.0, 0.4, 0.95])
@pytest.mark.parametrize("m", [1.5, 2, 16])
def test_the_product_inside_and_outside_solves_the_equation_of_the_resolvent(ratio, likeness, m):
    d, share = np.array([1 + (m - 1) * likeness, 1 - likeness]), np.array([1 / m, 1 - 1 / m])
    mean = np.exp(
        scipy.optimize.brentq(
            lambda x: np.exp(-x) - share @ (d / (1 + ratio * d * np.exp(x))), -2, 60, xtol=1e-14
        )
    )
    spread = ratio * mean**2 * (share @ (d / (1 + ratio * d * mean)) ** 2)
    expected = 1 / (mean * (1 - spread))
    assert in_out_product(ratio, likeness, m) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("ratio", "likeness"), [(1.0, 0.5), (1.5, 0.0), (0.1, 1.0)])
def test_nothing_is_left_of_the_product_where_channels_outnumber_independent_samples(
    ratio, likeness
):
    assert in_out_product(ratio, likeness, 16) == 0.0


# --- how the axes take them -------------------------------------------------------------------


@pytest.mark.parametrize("positions", [2, 6])
def test_axes_of_several_samples_per_image_are_these_estimates(positions):
    groups = parts(images(5, positions, 0.3, targets=1, sizes=(9, 8, 8, 6)), 5)
    axes = channel_axes(merge(groups), groups=groups, samples_per_image=positions)
    found = estimate_peers(groups, samples_per_image=positions)
    np.testing.assert_array_equal(axes.peer_predictability, found.predictability)
    np.testing.assert_array_equal(axes.conditional_task_information, found.conditional)
    given = channel_axes(merge(groups), groups=found, samples_per_image=positions)
    np.testing.assert_array_equal(given.peer_predictability, found.predictability)
    ridged = {"groups": groups, "samples_per_image": positions, "ridge": 0.5}
    np.testing.assert_array_equal(
        channel_axes(merge(groups), **ridged).peer_predictability,
        channel_axes(merge(groups), ridge=0.5, estimate="plug_in").peer_predictability,
    )


def given(predictability, effective_samples=1e9):
    """Estimates that say this, for `channel_axes`."""
    found = PeerEstimates.unknown(len(predictability), 2, effective_samples)
    found.predictability[:] = predictability
    return found


@pytest.mark.parametrize(
    ("aim", "first", "second", "size"),
    [(0.05, 0.06, 0.06, 1), (0.95, 0.86, 0.09, 2), (np.nan, 0.3, 0.3, 0), (-0.1, 0.3, 0.3, 0)],
)
def test_the_hull_reaches_for_the_estimate(aim, first, second, size):
    """Two independent peers that explain these shares: 95 % of the estimate needs one or both."""
    cov = np.eye(3)
    cov[0, 1:] = cov[1:, 0] = np.sqrt([first, second])
    moments = Moments.from_covariance(cov, n_targets=0, n=1000)
    axes = channel_axes(moments, groups=given([aim, 0.5, 0.5]), estimate="in_out")
    assert axes.hull_size[0] == size


@pytest.mark.parametrize(
    ("n", "effective", "positions", "listed"),
    [
        (1000, 12.0, 2, False),
        (1000, 11.9, 2, True),
        (1000, 11.9, 1, False),  # of independent samples their number counts
        (12, 1e9, 1, False),
        (11, 1e9, 1, True),
    ],
)
def test_four_samples_per_channel_are_enough(n, effective, positions, listed):
    moments = Moments.from_covariance(np.eye(3), n_targets=0, n=n)
    axes = channel_axes(
        moments, groups=given([0.1, 0.1, 0.1], effective), samples_per_image=positions
    )
    assert axes.affected.get("few_samples", ()) == ((0, 1, 2) if listed else ())


@pytest.mark.parametrize(("samples", "known"), [(6, False), (7, True), (8, True)])
def test_where_every_channel_fits_every_other_the_plug_in_is_unknown(samples, known):
    y = np.random.default_rng(3).standard_normal((samples, 6))
    axes = channel_axes(Moments.from_samples(y), hull=False, estimate="plug_in")
    assert (np.isfinite(axes.peer_predictability) == known).all()


@pytest.mark.parametrize("given", [{}, {"estimate": "corrected"}, {"bias_correction": True}])
def test_replicates_have_the_numbers_and_not_the_details(given):
    rows = images(5, 6, 0.3, targets=1, sizes=(9, 8, 8, 6))
    groups = [Moments.from_samples(y[:, [0, 1, 2, 3, 4, 0]], y[:, 5]) for y in rows]  # a copy
    given = {"groups": groups, "samples_per_image": 6, "bias_correction": False, **given}
    axes = channel_axes(merge(groups), **given)
    bare = channel_axes(merge(groups), **given, details=False)
    for name, values in axes.as_dict().items():
        np.testing.assert_array_equal(getattr(bare, name), values, err_msg=name)
    assert axes.hull is not None
    assert bare.hull is None
    assert set(axes.affected) == {"copies", "collinear"}
    assert bare.affected == {}
