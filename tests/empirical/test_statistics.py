"""Rank statistics against naive twins by least squares, and by hand where a hand suffices."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from empirical.analysis.statistics import (
    Stratum,
    bootstrap_pooled,
    holm,
    interval_of,
    partial_test,
    permutation_p,
    pooled_correlation,
    ranks,
    stratum_of,
)
from tests.tolerances import EXACT


def residual(values: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """What a least-squares regression on a constant and the controls leaves."""
    design = np.column_stack([np.ones(len(values)), controls])
    return values - design @ np.linalg.lstsq(design, values)[0]


def correlation(stratum: Stratum, outcome: np.ndarray) -> float:
    pair = [residual(v, stratum.controls) for v in (outcome, stratum.tested)]
    return float(np.corrcoef(*pair)[0, 1])


def pool(correlations: np.ndarray, strata: list[Stratum]) -> np.ndarray:
    """Fisher's z with its inverse variance n - q - 3."""
    weights = [len(s.outcome) - s.controls.shape[1] - 3 for s in strata]
    return np.tanh(np.average(np.arctanh(correlations), axis=0, weights=weights))


def unequal(rng: np.random.Generator, sizes: tuple[int, ...] = (9, 14, 40)) -> list[Stratum]:
    """Strata of different size, of different correlation, with two controls."""
    strata = []
    for k, n in enumerate(sizes):
        controls, noise = rng.standard_normal((n, 2)), rng.standard_normal((2, n))
        tested = controls[:, 0] + noise[0]
        outcome = controls @ [1.0, -1.0] + noise[1] + 0.5 * (k - 1) * tested
        strata.append(Stratum(f"l{k}", ranks(outcome), ranks(tested), controls))
    return strata


def test_the_partial_test_is_freedman_and_lanes_with_whole_regressions() -> None:
    strata = unequal(np.random.default_rng(0))
    found = partial_test(strata, permutations=60, rng=np.random.default_rng(1))
    observed = np.array([correlation(s, s.outcome) for s in strata])
    rng, null = np.random.default_rng(1), []
    for s in strata:
        left = residual(s.outcome, s.controls)
        drawn = rng.permuted(np.tile(left, (60, 1)), axis=1)
        null.append([correlation(s, s.outcome - left + row) for row in drawn])
    np.testing.assert_allclose(found.correlation, observed, atol=EXACT)
    as_far = [np.sum(np.abs(row) >= abs(r)) for row, r in zip(null, observed, strict=True)]
    np.testing.assert_allclose(found.p_value, (1 + np.array(as_far)) / 61, rtol=EXACT)
    assert found.pooled == pytest.approx(pool(observed, strata), abs=EXACT)
    pooled = pool(np.array(null), strata)
    assert found.pooled_p == (1 + np.sum(np.abs(pooled) >= abs(found.pooled))) / 61
    assert 0 < as_far[0] < 60  # the null holds the weakest, and not everywhere
    np.testing.assert_array_equal(found.p_holm, holm(found.p_value))
    assert found.names == ["l0", "l1", "l2"]


def test_the_gain_is_the_share_of_variance_that_the_tested_score_adds() -> None:
    strata = unequal(np.random.default_rng(2))
    found = partial_test(strata, permutations=19, rng=np.random.default_rng(3))

    def squares(s: Stratum, columns: np.ndarray) -> float:
        return float((residual(s.outcome, columns) ** 2).sum())

    without = [squares(s, s.controls) for s in strata]
    whole = [squares(s, np.column_stack([s.controls, s.tested])) for s in strata]
    total = [squares(s, np.empty((len(s.outcome), 0))) for s in strata]
    gains = np.subtract(without, whole)
    np.testing.assert_allclose(found.gain, gains / total, atol=EXACT)
    assert found.pooled_gain == pytest.approx(sum(gains) / sum(total), abs=EXACT)


def test_a_score_that_the_controls_determine_adds_nothing() -> None:
    control, outcome = np.random.default_rng(4).random((2, 20))
    stratum = Stratum("x", outcome, 3 * control, control[:, None])
    found = partial_test([stratum], permutations=19, rng=np.random.default_rng(5))
    assert (found.correlation[0], found.gain[0], found.p_value[0]) == (0, 0, 1)


def test_correlations_do_not_depend_on_scales() -> None:
    (stratum,) = unequal(np.random.default_rng(6), (20,))
    small = Stratum("x", 1e-3 * stratum.outcome, 1e-3 * stratum.tested, stratum.controls)
    expected = correlation(stratum, stratum.outcome)
    found = partial_test([small], permutations=19, rng=np.random.default_rng(7))
    assert found.correlation[0] == pytest.approx(expected, abs=1e-9)


def test_the_basis_drops_what_is_collinear_at_any_scale_and_nothing_else() -> None:
    control = np.random.default_rng(8).standard_normal(25)
    control -= control.mean()
    values = np.arange(25.0)
    copied = 1e8 * np.column_stack([control, control / 3])
    for controls, rank in ((copied, 2), (1000 + control[:, None], 2), (np.ones((25, 1)), 1)):
        basis = Stratum("x", values, values, controls).basis
        assert basis.shape == (25, rank)
        np.testing.assert_allclose(basis.T @ basis, np.eye(rank), atol=EXACT)


def test_bootstrap_is_the_pooled_partial_correlation_of_resampled_channels() -> None:
    strata = unequal(np.random.default_rng(9), (12, 30))
    found = bootstrap_pooled(strata, draws=40, rng=np.random.default_rng(10))
    rng, replicates = np.random.default_rng(10), []
    for s in strata:
        index = rng.integers(len(s.outcome), size=(40, len(s.outcome)))
        drawn = [Stratum("", s.outcome[i], s.tested[i], s.controls[i]) for i in index]
        replicates.append([correlation(one, one.outcome) for one in drawn])
    # 1e-9 on the diagonal keeps the inverse of a singular resample finite
    np.testing.assert_allclose(found, pool(np.array(replicates), strata), atol=1e-6)


def test_a_constant_resample_correlates_with_nothing() -> None:
    outcome, tested = np.array([1.0, 1, 1, 2]), np.array([1.0, 3, 2, 1])
    plain = Stratum("x", outcome, tested, np.empty((4, 0)))
    found = bootstrap_pooled([plain], draws=200, rng=np.random.default_rng(11))
    index = np.random.default_rng(11).integers(4, size=(200, 4))
    constant = np.array([np.ptp(outcome[i]) * np.ptp(tested[i]) == 0 for i in index])
    assert 20 < constant.sum() < 180
    np.testing.assert_array_equal(found[constant], 0)
    expected = [np.corrcoef(outcome[i], tested[i])[0, 1] for i in index[~constant]]
    np.testing.assert_allclose(found[~constant], expected, atol=1e-7)


def test_pooling_weighs_fishers_z_by_n_minus_q_minus_3_on_unequal_strata() -> None:
    plain = [
        Stratum(s.name, s.outcome, s.tested, np.empty((len(s.outcome), 0)))
        for s in unequal(np.random.default_rng(12))
    ]
    each = np.array([np.corrcoef(s.outcome, s.tested)[0, 1] for s in plain])
    assert pooled_correlation(plain) == pytest.approx(
        np.tanh(np.arctanh(each) @ [6, 11, 37] / 54), abs=EXACT
    )
    assert [s.weight for s in unequal(np.random.default_rng(12))] == [4, 9, 35]


@pytest.mark.parametrize("r", [-0.97, 0.0, 0.97])
def test_a_single_stratum_pools_to_itself(r: float) -> None:
    tested = np.tile([1.0, -1.0, 0, 0], 3)
    noise = np.tile([0, 0, 1.0, -1.0], 3)
    outcome = r * tested + np.sqrt(1 - r**2) * noise
    one = Stratum("x", outcome, tested, np.empty((12, 0)))
    assert pooled_correlation([one]) == pytest.approx(r, abs=EXACT)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_perfect_correlation_pools_to_a_finite_z(sign: int) -> None:
    tested = np.tile([1.0, -1.0, 0, 0], 3)
    none = np.tile([0, 0, 1.0, -1.0], 3)
    strata = [Stratum("x", values, tested, np.empty((12, 0))) for values in (sign * tested, none)]
    expected = sign * np.tanh(np.arctanh(1 - 1e-9) / 2)
    assert pooled_correlation(strata) == pytest.approx(expected, abs=1e-9)


def test_permutation_p_counts_the_observed_arrangement_and_ties() -> None:
    null = np.array([[0.5, -0.2, 0.1, 0.0], [0.5, -0.2, 0.1, 0.0]])
    np.testing.assert_allclose(permutation_p([-0.2, 0.6], null), [3 / 5, 1 / 5])
    assert permutation_p(0.1 + 1e-14, null[0]) == 4 / 5  # equal but for rounding
    assert permutation_p(0.15, null[0]) == 3 / 5
    assert permutation_p(0.1 + 0.1, null[0], tolerance=0.15) == 4 / 5


def test_holms_adjustment_stops_at_one_and_keeps_the_order_given() -> None:
    np.testing.assert_allclose(holm(np.array([0.9, 0.6, 0.001])), [1, 1, 0.003])


def test_ranks_are_mid_ranks_between_0_and_1() -> None:
    np.testing.assert_allclose(ranks(np.array([3.0, 1, 1, 2])), [0.875, 0.25, 0.25, 0.625])


def test_a_stratum_holds_the_ranks_of_its_columns() -> None:
    rows = pd.DataFrame({"d": [3.0, 9, 1], "t": [1.0, 2, 3], "a": [5.0, 4, 3], "b": [1.0, 1, 0]})
    third = 1 / 6
    found = stratum_of("x", rows, "d", "t", ("a", "b"))
    assert found.name == "x"
    np.testing.assert_allclose(found.outcome, [0.5, 5 * third, third])
    np.testing.assert_allclose(found.tested, [third, 0.5, 5 * third])
    np.testing.assert_allclose(
        found.controls.T, [[5 * third, 0.5, third], [4 * third, 4 * third, third]]
    )
    assert stratum_of("x", rows, "d", "t", ()).controls.shape == (3, 0)


def test_the_interval_is_the_central_95_percent() -> None:
    assert interval_of(np.arange(1001.0)) == pytest.approx((25, 975))
