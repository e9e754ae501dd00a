"""The analysis finds what was planted, nothing where nothing was, and nothing after a shuffle."""

from __future__ import annotations

from dataclasses import replace as with_fields

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from empirical.analysis.lesions import CONTROLS, PREDICTORS, LesionAnalysis, analyze_lesions
from empirical.analysis.statistics import Stratum, bootstrap_pooled, holm, partial_test, ranks
from empirical.lesions.table import DAMAGES, LesionTable

LAYERS, CHANNELS, IMAGES = 6, 40, 150
SMALL = {"permutations": 499, "draws": 300}


def scores(rng: np.random.Generator) -> pd.DataFrame:
    """Six layers whose scores are correlated with each other, as real ones are."""
    frame = pd.DataFrame(
        {
            "layer": np.repeat([f"conv{i}" for i in range(LAYERS)], CHANNELS),
            "channel": np.tile(np.arange(CHANNELS), LAYERS),
        }
    )
    common = rng.standard_normal(len(frame))
    for name in PREDICTORS:
        frame[name] = 0.5 * common + rng.standard_normal(len(frame))
    return frame


def planted(
    frame: pd.DataFrame, weight: float, noise: float, rng: np.random.Generator
) -> LesionTable:
    """Damage image by image: both controls hurt, peer support helps with `weight`."""
    signal = (
        frame["input_capture"] + frame["task_information"] - weight * frame["peer_predictability"]
    ).to_numpy()
    damage = signal[:, None] + noise * rng.standard_normal((len(frame), IMAGES))
    return LesionTable(
        layer=frame["layer"].to_numpy(dtype=str),
        kind=np.full(len(frame), "mean"),
        point=np.full(len(frame), "pre_norm"),
        channels=tuple((int(c),) for c in frame["channel"]),
        damage={name: damage.astype(np.float32) for name in DAMAGES},
        dense={},
        fallback={},
    )


def analysed(table: LesionTable, frame: pd.DataFrame) -> LesionAnalysis:
    return analyze_lesions(table.to_frame().merge(frame, on=["layer", "channel"]), **SMALL)


def last(table: pd.DataFrame) -> pd.Series:
    assert table["layer"].iloc[-1] == "pooled"
    return table.iloc[-1]


def test_a_planted_effect_of_peer_support_is_found_by_all_three_views() -> None:
    rng = np.random.default_rng(1)
    frame = scores(rng)
    result = analysed(planted(frame, weight=1.0, noise=2.0, rng=rng), frame)
    partial, bins = last(result.partial), last(result.bins)
    assert partial.partial < -0.5
    assert partial.high < -0.3
    assert partial.p == pytest.approx(1 / 500)
    assert partial.r2_gain > 0.1
    assert bins.effect < -0.15
    assert bins.p == pytest.approx(1 / 500)
    assert bins.damage_high < bins.damage_low
    assert (result.partial["p_holm"][:-1] < 0.05).sum() >= 5


def test_no_effect_beyond_the_controls_is_none_although_scores_correlate() -> None:
    rng = np.random.default_rng(2)
    p_values = []
    for _ in range(20):
        frame = scores(rng)
        result = analysed(planted(frame, weight=0.0, noise=2.0, rng=rng), frame)
        p_values.append((last(result.partial).p, last(result.bins).p))
        plain = result.prediction.set_index("score").loc["peer_predictability"]
        assert plain.low > 0  # without the controls there is a correlation
    # Of 20 tests at level 0.05, 5 or more fall below it with probability 0.003.
    assert (np.array(p_values)[:, 0] < 0.05).sum() < 5


def test_the_best_predictor_is_the_planted_one() -> None:
    rng = np.random.default_rng(3)
    frame = scores(rng)
    table = planted(frame, weight=0.0, noise=1.0, rng=rng)
    table = with_fields(
        table,
        damage={
            name: values + 3 * frame["hull_score"].to_numpy(dtype=np.float32)[:, None]
            for name, values in table.damage.items()
        },
    )
    result = analysed(table, frame).prediction
    assert result["score"].iloc[0] == "hull_score"
    assert result["behind"].iloc[0] == 0
    assert (result["behind_low"].iloc[1:] > 0).all()
    assert (result["p_holm"].iloc[1:] < 0.05).all()


def test_shuffling_damage_between_channels_within_images_removes_every_effect() -> None:
    rng = np.random.default_rng(4)
    frame = scores(rng)
    table = planted(frame, weight=1.0, noise=2.0, rng=rng)
    below = []
    for _ in range(10):
        result = analysed(table.shuffled(rng), frame)
        strength = result.prediction["correlation"].abs().max()
        # Six pooled correlations over 222 degrees of freedom, of which the largest is taken.
        assert strength < 4.0 / np.sqrt(LAYERS * (CHANNELS - 3))
        tests = [last(result.partial).p, last(result.bins).p]
        tests += [result.partial["p_holm"][:-1].min(), result.bins["p_holm"][:-1].min()]
        below.append([p < 0.05 for p in tests])
    # Each p-value is below 0.05 once in 20; 4 of 10 happen with probability 0.001.
    assert (np.sum(below, axis=0) < 4).all()


def test_the_shuffle_keeps_each_image_and_each_layer() -> None:
    rng = np.random.default_rng(5)
    frame = scores(rng)
    table = planted(frame, weight=1.0, noise=1.0, rng=rng)
    shuffled = table.shuffled(rng)
    first = table.layer == "conv0"
    for name in DAMAGES:
        before, after = table.damage[name][first], shuffled.damage[name][first]
        assert not np.array_equal(before, after)
        np.testing.assert_array_equal(np.sort(before, axis=0), np.sort(after, axis=0))
    # All damages of one lesion on one image move together.
    np.testing.assert_array_equal(shuffled.damage["loss_increase"], shuffled.damage["margin_drop"])


def test_partial_correlation_is_that_of_regression_residuals() -> None:
    rng = np.random.default_rng(6)
    a, b, c, d = rng.standard_normal((4, 30))
    stratum = Stratum("x", ranks(a + c), ranks(b + c), np.column_stack([ranks(c), ranks(d)]))
    design = np.column_stack([np.ones(30), stratum.controls])
    residuals = [
        v - design @ np.linalg.lstsq(design, v)[0] for v in (stratum.outcome, stratum.tested)
    ]
    expected = np.corrcoef(*residuals)[0, 1]
    result = partial_test([stratum], permutations=19, rng=rng)
    assert result.correlation[0] == pytest.approx(expected, abs=1e-12)
    full = np.column_stack([design, stratum.tested])

    def r_squared(x: np.ndarray) -> float:
        fitted = x @ np.linalg.lstsq(x, stratum.outcome)[0]
        return (
            1
            - ((stratum.outcome - fitted) ** 2).sum()
            / ((stratum.outcome - stratum.outcome.mean()) ** 2).sum()
        )

    assert result.gain[0] == pytest.approx(r_squared(full) - r_squared(design), abs=1e-12)
    assert result.pooled == pytest.approx(expected, abs=1e-12)


def test_permutation_p_values_are_uniform_under_the_null() -> None:
    rng = np.random.default_rng(7)
    p_values = []
    for _ in range(300):
        control, tested, noise = rng.standard_normal((3, 20))
        stratum = Stratum("x", control + noise, tested + control, control[:, None])
        p_values.append(partial_test([stratum], permutations=99, rng=rng).pooled_p)
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3


def test_bootstrap_interval_covers_the_correlation() -> None:
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(100):
        tested = rng.standard_normal(60)
        outcome = 0.5 * tested + np.sqrt(0.75) * rng.standard_normal(60)
        replicates = bootstrap_pooled(
            [Stratum("x", outcome, tested, np.empty((60, 0)))], draws=300, rng=rng
        )
        low, high = np.quantile(replicates, [0.025, 0.975])
        covered += low <= 0.5 <= high
    # 95 % nominal; 87 or fewer of 100 happen with probability 0.001.
    assert covered > 87


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm(np.array([0.5, 0.01, 0.02])), [0.5, 0.03, 0.04])


def test_layers_too_small_are_left_out_and_listed() -> None:
    rng = np.random.default_rng(9)
    frame = scores(rng)
    table = planted(frame, weight=1.0, noise=1.0, rng=rng)
    damaged = table.to_frame().merge(frame, on=["layer", "channel"])
    damaged.loc[damaged["layer"] == "conv1", "peer_predictability"] = np.nan
    result = analyze_lesions(damaged, **SMALL)
    assert result.skipped == {"conv1": "0 usable channels, fewer than 8"}
    assert "conv1" not in set(result.partial["layer"])
    with pytest.raises(ValueError, match="frame must have a layer with at least 8 channels"):
        analyze_lesions(damaged[damaged["layer"] == "conv1"], **SMALL)


def test_unknown_names_are_refused() -> None:
    rng = np.random.default_rng(10)
    frame = scores(rng)
    damaged = planted(frame, 1.0, 1.0, rng).to_frame().merge(frame, on=["layer", "channel"])
    with pytest.raises(ValueError, match="kind must be one of 'mean'; got 'zero'"):
        analyze_lesions(damaged, kind="zero", **SMALL)
    with pytest.raises(ValueError, match=r"column of frame must be one of .* got 'loss_increas'"):
        analyze_lesions(damaged, damage="loss_increas", **SMALL)
    assert set(CONTROLS) <= set(PREDICTORS)
