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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: delete_one_group([]), "at least 2 Moments for a jackknife; got 0"),
        (lambda: jackknife_standard_error([1.0]), "at least 2 groups; got 1"),
        (lambda: coupling([1, 2], [1, 2, 3]), r"one length \(C,\)"),
        (lambda: coupling([1, 2, 3], [1, 2, 3], permutations=0), "permutations must be a whole"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
