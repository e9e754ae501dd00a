"""Slopes beyond controls against naive regressions, and by hand where a hand suffices."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from empirical.analysis.adjustment import Columns
from empirical.analysis.statistics import (
    NEGLIGIBLE,
    Stratum,
    _effect,
    _ratio,
    effect,
    holm,
    interval_of,
    mean_over_families,
    normal_scores,
    stratum_of,
)
from tests.tolerances import EXACT


def quadratic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(a)), a, b, a * a, a * b, b * b])


def further(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """What 36 to 63 channels afford beyond the quadratic: cubes, and two knots at the thirds."""
    knots = stats.norm.ppf([1 / 3, 2 / 3])
    bends = [np.clip(control - knot, 0, None) ** 3 for control in (a, b) for knot in knots]
    return np.column_stack([a**3, a * a * b, a * b * b, b**3, *bends])


def stratum(rng: np.random.Generator, n: int, slope: float = 0.4) -> Stratum:
    a, b, score, noise = rng.standard_normal((4, n))
    score = score + a * b
    return Stratum(a * b + slope * score + noise, np.array([[score, a, b]]), np.arange(n))


def test_without_halves_the_slope_is_that_of_one_regression_with_robust_errors() -> None:
    layer = stratum(np.random.default_rng(0), 60)
    score, a, b = layer.readings[0]
    design = np.column_stack([score, quadratic(a, b), further(a, b)])
    found = effect([layer])
    assert found.slope == pytest.approx(np.linalg.lstsq(design, layer.outcome)[0][0], abs=1e-6)
    # the score test: residuals on the controls alone, and what the controls leave of the score
    left, own = (v - design[:, 1:] @ np.linalg.lstsq(design[:, 1:], v)[0]
                 for v in (layer.outcome, score))  # fmt: skip
    products = own * (left - np.sign(found.slope) * NEGLIGIBLE * own)
    t = products.sum() / np.sqrt(60 * np.var(products, ddof=1)) * (60 - 14) / 60
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), 46), rel=1e-5)


def test_halves_are_each_others_instruments() -> None:
    rng = np.random.default_rng(1)
    a, b, score, noise = rng.standard_normal((4, 50))
    halves = np.array([score, a, b]) + 0.3 * rng.standard_normal((2, 3, 50))
    outcome = b + 0.5 * score + noise
    readings = np.array([halves.mean(axis=0), *halves])
    slope = effect([Stratum(outcome, readings, np.arange(50))]).slope
    above = below = 0.0
    whole, low = further(*readings[0, 1:]), quadratic(*readings[0, 1:])
    rest = (
        whole - low @ np.linalg.lstsq(low, whole)[0]
    )  # of all images, less what the quadratic says
    for one, other in (halves, halves[::-1]):
        x, z = (np.column_stack([quadratic(*half[1:]), rest]) for half in (one, other))
        residual = other[0] - z @ np.linalg.solve(x.T @ z, x.T @ other[0])
        above, below = above + residual @ outcome, below + residual @ one[0]
    assert slope == pytest.approx(above / below, abs=1e-6)


def test_errors_in_a_control_pass_for_an_effect_only_where_they_are_not_met() -> None:
    rng = np.random.default_rng(2)
    shape = (200, 200)
    a, b, e, noise = rng.standard_normal((4, *shape))
    score, outcome = b + e, b + noise
    halves = np.array([score, a, b]) + np.array([0, 0, 0.7])[:, None, None] * rng.standard_normal(
        (2, 3, *shape)
    )
    readings = normal_scores(np.array([halves.mean(axis=0), *halves]))
    layer = Stratum(normal_scores(outcome), readings, np.arange(200))
    naive = Stratum(layer.outcome, readings[:1], layer.family)
    assert (effect([naive]).p < 0.05).mean() > 0.3
    assert (effect([layer]).p < 0.05).mean() < 0.06


def halved(sets: int, n: int, rng: np.random.Generator) -> Stratum:
    """Data sets of a layer known from halves, with errors of the score or else of a control."""
    a, b, score, noise = rng.standard_normal((4, sets, n))
    size = np.where(np.arange(sets) % 2, [[1.0], [0.02], [0.02]], [[0.02], [0.02], [1.0]])
    halves = np.array([score + b, a, b]) + size[..., None] * rng.standard_normal((2, 3, sets, n))
    readings = np.array([halves.mean(axis=0), *halves])
    return Stratum(a + b + score + 0.3 * noise, readings, np.arange(n))


def test_of_both_routes_the_interval_is_the_union_and_the_p_value_the_larger() -> None:
    layer = halved(30, 120, np.random.default_rng(7))
    whole = effect([Stratum(layer.outcome, layer.readings[:1], layer.family)])
    halves, found = _effect([layer], (1, 2)), effect([layer])
    np.testing.assert_array_equal(found.slope, halves.slope)
    np.testing.assert_array_equal(found.low, np.minimum(whole.low, halves.low))
    np.testing.assert_array_equal(found.high, np.maximum(whole.high, halves.high))
    np.testing.assert_array_equal(found.p, np.maximum(whole.p, halves.p))
    for one, other in ((whole.low, halves.low), (whole.high, halves.high), (whole.p, halves.p)):
        assert 0 < (one < other).sum() < 30


def test_data_sets_side_by_side_are_those_one_by_one() -> None:
    layer = halved(5, 40, np.random.default_rng(8))
    found = effect([layer])
    for number in range(5):
        readings = layer.readings[:, :, number]
        alone = effect([Stratum(layer.outcome[number], readings, layer.family)])
        for part in ("slope", "low", "high", "p"):
            assert getattr(found, part)[number] == pytest.approx(
                getattr(alone, part), nan_ok=True
            ), part


def test_halves_are_used_where_every_layer_has_them() -> None:
    rng = np.random.default_rng(9)
    layer, bare = halved(1, 40, rng), stratum(rng, 40)
    first = Stratum(layer.outcome[0], layer.readings[:, :, 0], layer.family)
    without = Stratum(first.outcome, first.readings[:1], first.family)
    assert effect([first, bare]).slope == effect([without, bare]).slope


@pytest.mark.parametrize(
    ("single", "freedom"), [((True,) * 5, 4), ((False, False), 52), ((False, True), 13)]
)
def test_sums_over_families_are_compared_over_layers_where_each_has_one(
    single: tuple[bool, ...], freedom: int
) -> None:
    rng = np.random.default_rng(10)
    layers = [stratum(rng, 40) for _ in single]
    family = [np.zeros(40, dtype=int) if one else np.arange(40) for one in single]
    found = effect([Stratum(s.outcome, s.readings, f) for s, f in zip(layers, family, strict=True)])
    sums, columns = [], Columns.of(40)
    for layer, own in zip(layers, family, strict=True):
        score, known = layer.readings[0, 0], layer.readings[0, 1:]
        design = np.column_stack([columns.polynomial(known), columns.further(known)])
        left, rest = (v - design @ np.linalg.lstsq(design, v)[0] for v in (layer.outcome, score))
        sums += list(np.array([np.bincount(own, rest * left), np.bincount(own, rest * rest)]).T)
    above, below = np.array(sums).T
    edge = np.sign(above.sum()) * NEGLIGIBLE
    centered = (above - above.mean() - edge * (below - below.mean())) * 40 / (40 - 14)
    m = len(above)
    t = (above.sum() - edge * below.sum()) / np.sqrt(m / (m - 1) * (centered**2).sum())
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-5)


def test_the_interval_ends_at_ratios_that_are_just_not_rejected() -> None:
    above, below = np.array([0.30, 0.22, 0.41, 0.10]), np.array([0.20, 0.15, 0.18, 0.11])
    found = _ratio(above, below, np.ones(4), 3)
    for end in (found.low, found.high):
        left = above - end * below
        assert abs(left.sum()) / np.sqrt(4 * left.var(ddof=1)) == pytest.approx(
            stats.t.ppf(0.975, 3)
        )
    against, wider = _ratio(-above, below, np.ones(4), 3), _ratio(above, below, np.ones(4), 3, 0.1)
    np.testing.assert_allclose([against.p, against.slope], [found.p, -found.slope])
    assert (wider.low, wider.high) == pytest.approx((found.low - 0.1, found.high + 0.1))
    assert _ratio(above, below, np.ones(4), 3, margin=5.0).p == 1
    none = _ratio(above, np.array([0.30, -0.20, 0.05, 0.00]), np.ones(4), 3)
    assert none.slope == pytest.approx(above.sum() / 0.15)
    assert np.isnan([none.low, none.high]).all()


BENT = {
    "S-shaped": lambda a, b: np.tanh(3 * b),
    "rising and falling": lambda a, b: np.sin(2 * b),
    "cubic": lambda a, b: 0.2 * b**3,
    "a step": lambda a, b: 1.0 * (b > 1),
    "the lesser of two": lambda a, b: 1.5 * np.minimum(a, b),
    "joint": lambda a, b: 0.4 * a * a * b,
}


@pytest.mark.parametrize("shape", BENT)
def test_what_score_and_outcome_both_owe_to_the_controls_passes_for_no_slope(shape) -> None:
    rng = np.random.default_rng(11)
    layers, slopes = [], []
    for n in (16, 32, 64, 128, 128):
        a, b, score, outcome = rng.standard_normal((4, 100, n))
        own = BENT[shape](a, b)
        score, outcome = own + 0.8 * score, own + 0.8 * outcome
        halves = np.array([score, a, b]) + 0.2 * rng.standard_normal((2, 3, 100, n))
        readings = normal_scores(np.array([halves.mean(axis=0), *halves]))
        layers.append(Stratum(normal_scores(outcome), readings, np.arange(n)))
        slopes.append(stats.spearmanr(score.ravel(), outcome.ravel()).statistic)
    assert min(slopes) > 0.15
    assert (effect(layers).p < 0.05).mean() <= 0.08


def test_a_slope_beyond_bent_controls_is_found() -> None:
    rng = np.random.default_rng(12)
    layers = []
    for n in (64, 128, 128):
        a, b, score, outcome = rng.standard_normal((4, 100, n))
        score = np.tanh(3 * b) + score
        outcome = np.tanh(3 * b) + 0.3 * score + outcome
        readings = normal_scores(np.array([[score, a, b]] * 3))
        layers.append(Stratum(normal_scores(outcome), readings, np.arange(n)))
    found = effect(layers)
    assert (found.p < 0.05).mean() > 0.8
    assert found.slope.mean() == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize(
    ("families", "number"), [(16, 8), (20, 10), (24, 12), (36, 14), (64, 14), (100, 21)]
)
def test_layers_have_the_columns_that_they_afford_and_none_twice(families, number) -> None:
    columns = Columns.of(families)
    assert columns.number(2) == number
    assert families >= 2 * number or families == 28
    controls = np.random.default_rng(13).standard_normal((2, 200))
    low, rest = columns.polynomial(controls), columns.further(controls)
    assert np.linalg.matrix_rank(np.column_stack([low, rest])) == number
    np.testing.assert_allclose(low.T @ rest, 0, atol=1e-4)
    one = np.round(controls[:1]).clip(0, 1)  # a control of two values: one column says it all
    assert not columns.further(one).any()


def test_copies_of_a_family_add_no_certainty() -> None:
    rng = np.random.default_rng(3)
    one = stratum(rng, 30)
    copies = Stratum(
        np.repeat(one.outcome, 4), np.repeat(one.readings, 4, axis=2), np.repeat(one.family, 4)
    )
    for part in ("slope", "low", "high", "p"):
        assert getattr(effect([copies]), part) == pytest.approx(getattr(effect([one]), part))


def test_the_interval_holds_zero_exactly_where_p_is_above_the_level() -> None:
    rng = np.random.default_rng(4)
    found = [effect([stratum(rng, 40, slope=0.3), stratum(rng, 60, slope=0.3)]) for _ in range(40)]
    clear = [one.p < 0.05 for one in found]
    assert 5 < sum(clear) < 40
    assert [one.low > 0 or one.high < 0 for one in found] == clear
    assert all(one.low < one.slope < one.high for one in found)


def test_a_layer_needs_twice_as_many_families_as_columns() -> None:
    rng = np.random.default_rng(5)
    assert [stratum(rng, n).usable for n in (15, 16)] == [False, True]
    few = stratum(rng, 40)
    for size in (4, 20):
        assert not Stratum(few.outcome, few.readings, np.arange(40) // size).usable
    assert Stratum(few.outcome, few.readings, np.zeros(40, dtype=int)).usable


def test_a_mean_over_families_is_students_where_each_has_one() -> None:
    values = np.random.default_rng(6).standard_normal(9) + 0.5
    found, p = mean_over_families(values, np.arange(9))
    test = stats.ttest_1samp(values, 0)
    interval = test.confidence_interval()
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), *interval))
    assert p == pytest.approx(test.pvalue)
    again, _ = mean_over_families(np.repeat(values, 3), np.repeat(np.arange(9), 3))
    assert again.low == pytest.approx(found.low)
    three, known = mean_over_families(values, np.arange(9) // 3)
    assert np.isfinite([three.low, three.high, known]).all()
    none, unknown = mean_over_families(values, np.arange(9) // 5)
    assert np.isnan([none.low, none.high, unknown]).all()


def test_holms_adjustment_stops_at_one_keeps_the_order_and_passes_over_unknown() -> None:
    np.testing.assert_allclose(holm(np.array([0.9, 0.6, 0.001])), [1, 1, 0.003])
    np.testing.assert_allclose(holm(np.array([0.04, np.nan, 0.01])), [0.04, np.nan, 0.02])


def test_a_stratum_holds_the_normal_scores_of_its_columns_halves_and_families() -> None:
    rows = pd.DataFrame({"d": [3.0, 9, 1], "t": [1.0, 2, 3], "a": [5.0, 4, 4]})
    found = stratum_of("x", rows, "d", "t", ("a",))
    high = stats.norm.ppf(5 / 6)
    np.testing.assert_allclose(found.outcome, [0, high, -high], atol=EXACT)
    tied = stats.norm.ppf(1 / 3)
    np.testing.assert_allclose(found.readings, [[[-high, 0, high], [high, tied, tied]]], atol=EXACT)
    assert (found.name, found.family.tolist()) == ("x", [0, 1, 2])
    halves = {f"{s}_half{h}": rows[s] * (-1) ** h for s in "ta" for h in (0, 1)}
    whole = stratum_of("x", rows.assign(family=[7, 2, 7], **halves), "d", "t", ("a",))
    assert whole.readings.shape == (3, 2, 3)
    np.testing.assert_allclose(whole.readings[2, 0], [high, 0, -high], atol=EXACT)
    assert whole.family.tolist() == [0, 1, 0]


def test_the_interval_is_the_central_95_percent() -> None:
    assert interval_of(np.arange(1001.0)) == pytest.approx((25, 975))


def test_one_family_has_a_slope_and_nothing_that_says_how_far_it_may_be_off() -> None:
    found = _ratio(np.array([0.3]), np.array([0.2]), np.ones(1), 0)
    assert found.slope == pytest.approx(1.5)
    assert np.isnan([found.low, found.high]).all()
    assert found.p == 1
