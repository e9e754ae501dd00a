import numpy as np
import pytest
from scipy import stats

from tests.tolerances import EXACT
from theory import (
    Moments,
    channel_axes,
    coupling,
    delete_one_group,
    jackknife,
    jackknife_standard_error,
    merge,
    spearman,
)


def test_spearman_is_scipys_with_ties_and_rows():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, (5, 30)), rng.standard_normal((5, 30))
    expected = [stats.spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(spearman(a, b), expected, atol=EXACT)


def test_spearman_leaves_out_unknown_channels_and_says_when_nothing_is_left():
    assert spearman([1, 2, np.nan, 3, 4], [1, 2, 0, 3, 4]) == pytest.approx(1)
    assert np.isnan(spearman([1, 2, np.nan], [1, 2, 3]))
    assert np.isnan(spearman([1, 1, 1, 1], [1, 2, 3, 4]))


def test_delete_one_group_merges_all_the_others():
    rng = np.random.default_rng(1)
    groups = [Moments.from_samples(rng.standard_normal((k + 3, 2))) for k in range(5)]
    for k, rest in enumerate(delete_one_group(groups)):
        expected = merge([g for i, g in enumerate(groups) if i != k])
        assert rest.n == expected.n
        np.testing.assert_allclose(rest.cov, expected.cov, atol=EXACT)


def test_jackknife_of_a_mean_is_the_textbook_standard_error():
    x = np.random.default_rng(2).standard_normal((12, 1))
    groups = [Moments.from_samples(row[None]) for row in x]
    expected = x.std(ddof=1) / np.sqrt(12)
    np.testing.assert_allclose(jackknife(groups, lambda m: m.mean)[0], expected, rtol=1e-10)


def test_jackknife_matches_the_spread_over_data_sets():
    rng = np.random.default_rng(3)

    def data_set():
        y = rng.standard_normal((400, 2))
        return y, 0.5 * y[:, 0] + rng.standard_normal(400)

    def information(moments):
        return channel_axes(moments, hull=False).task_information

    estimates = np.array([information(Moments.from_samples(*data_set())) for _ in range(300)])
    y, t = data_set()
    parts = zip(np.array_split(y, 10), np.array_split(t, 10), strict=True)
    error = jackknife([Moments.from_samples(a, b) for a, b in parts], information)
    # A jackknife over ten groups has itself a relative deviation of about 1/sqrt(18).
    assert 0.4 < error[0] / estimates[:, 0].std() < 1.9


def test_coupling_null_is_calibrated_and_finds_what_is_there():
    rng = np.random.default_rng(4)
    p_values = [
        coupling(rng.standard_normal(20), rng.standard_normal(20), permutations=199).p_value
        for _ in range(400)
    ]
    # Uniform p-values: 5 % below 0.05, with a binomial deviation of 1.1 %.
    assert 0.015 < np.mean(np.array(p_values) <= 0.05) < 0.095
    x = np.arange(20.0)
    aligned = coupling(x, x**3)
    assert aligned.value == pytest.approx(1)
    assert aligned.p_value < 0.005
    assert -0.6 < aligned.null_low < -0.3 < 0.3 < aligned.null_high < 0.6
    assert coupling(x, x).p_value == coupling(x, x).p_value


def test_coupling_without_a_ranking_is_nan():
    result = coupling([1.0, np.nan, 2.0], [1.0, 2.0, 3.0])
    assert np.isnan(result.value)
    assert result.channels == 2


def test_rows_are_ranked_each_without_its_own_unknown_channels():
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((2, 2, 30))
    plain = [stats.spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(spearman(a, b), plain, atol=EXACT)
    a[0, 3] = b[0, 7] = np.nan
    known = np.delete(np.arange(30), [3, 7])
    expected = [stats.spearmanr(a[0, known], b[0, known]).statistic, plain[1]]
    np.testing.assert_allclose(spearman(a, b), expected, atol=EXACT)


def test_three_channels_are_a_ranking_and_two_are_none():
    assert spearman([1, 2, 3], [1, 3, 2]) == pytest.approx(0.5)
    none = spearman(np.zeros((4, 5, 2)), np.ones(2))
    assert none.shape == (4, 5)
    assert np.isnan(none).all()


def test_two_groups_are_enough_for_a_jackknife():
    groups = [Moments.from_samples(np.arange(k, k + 4.0)[:, None]) for k in (0, 10)]
    assert [rest.mean[0] for rest in delete_one_group(groups)] == [11.5, 1.5]
    assert jackknife_standard_error([1.0, 3.0]) == pytest.approx(1)
    np.testing.assert_allclose(jackknife_standard_error([[1.0, 0, 2], [3, 0, 6]]), [1, 0, 2])


@pytest.mark.parametrize(("channels", "draws", "noise"), [(4, 300, 0.3), (12, 99, 1.5)])
def test_the_null_is_that_of_channels_paired_at_random(channels, draws, noise):
    """Four channels have 24 pairings: draws that equal the observed value count, all of them."""
    rng = np.random.default_rng(6)
    a = rng.standard_normal(channels)
    b = noise * rng.standard_normal(channels) - a
    b[:2] = b[1::-1]
    found = coupling(a, b, permutations=draws, seed=7)
    shuffled = np.random.default_rng(7).permuted(np.tile(b, (draws, 1)), axis=1)
    null = np.array([stats.spearmanr(a, row).statistic for row in shuffled])
    value = stats.spearmanr(a, b).statistic
    as_far = np.sum(np.abs(null).round(9) >= abs(value).round(9))
    assert found.value == pytest.approx(value)
    assert value < 0
    assert 0 < as_far < draws
    assert found.p_value == (1 + as_far) / (1 + draws)
    assert (found.null_low, found.null_high) == pytest.approx(
        tuple(np.quantile(null, [0.025, 0.975]))
    )
    assert found.channels == channels


def test_a_thousand_pairings_are_the_default():
    x = np.arange(20.0)
    assert coupling(x, x).p_value == 1 / 1001
    assert coupling(x, x) == coupling(x, x, permutations=1000, seed=0)
    assert coupling(x, x) != coupling(x, x, seed=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: delete_one_group([Moments.from_covariance([[1.0]], 0, n=2)]), "got 1"),
        (lambda: delete_one_group([]), "at least 2 Moments for a jackknife; got 0"),
        (lambda: jackknife_standard_error([1.0]), "at least 2 groups; got 1"),
        (lambda: coupling([1, 2], [1, 2, 3]), r"one length \(C,\)"),
        (lambda: coupling([1, 2, 3], [1, 2, 3], permutations=0), "permutations must be a whole"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
