"""Predictors of damage against what their definitions say, resample by resample."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from empirical.analysis.missing import NoDataError
from empirical.analysis.predictors import at_matched, compare_predictors
from empirical.analysis.statistics import Stratum, holm, interval_of, stratum_of

DRAWS = 80
SCORES = ["weak", "strong", "copy", "against", "some"]


def resampled(strata: list[Stratum], seed: int, draws: int) -> np.ndarray:
    """Pooled correlations of resampled channels, channel by channel; and of none resampled."""
    rng, found = np.random.default_rng(seed), []
    for stratum in strata:
        n = len(stratum.outcome)
        times = [np.ones(n, dtype=int), *rng.multinomial(n, np.ones(n) / n, draws)]
        index = [np.repeat(np.arange(n), t) for t in times]
        pair = stratum.outcome, stratum.readings[0, 0]
        constant = [min(np.ptp(pair[0][i]), np.ptp(pair[1][i])) == 0 for i in index]
        found.append(
            [0 if c else np.corrcoef(pair[0][i], pair[1][i])[0, 1]
             for i, c in zip(index, constant, strict=True)]
        )  # fmt: skip
    weights = [len(stratum.outcome) - 3 for stratum in strata]
    return np.tanh(np.average(np.arctanh(found), axis=0, weights=weights))


def layers() -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(0)
    frames = {}
    for name, n in (("narrow", 12), ("wide", 30)):
        damage = rng.standard_normal(n)
        frame = pd.DataFrame({"damage": damage, "none": np.nan, "constant": 1.0})
        frame["weak"] = 0.2 * damage + rng.standard_normal(n)
        frame["strong"] = damage + 0.5 * rng.standard_normal(n)
        frame["copy"] = 2 * frame["strong"]
        frame["against"] = 0.6 * rng.standard_normal(n) - damage
        frame["binary"] = (frame["weak"] > 0).astype(float)
        frame["some"] = frame["weak"] + 0.1 * damage
        frames[name] = frame
    frames["wide"].loc[3, "some"] = np.nan
    return frames


def compared(scores: list[str]) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return compare_predictors(layers(), "damage", scores, DRAWS, rng).set_index("score")


def test_every_column_is_what_its_name_says() -> None:
    found, frames = compared(SCORES), layers()
    replicates = {}
    for score in SCORES:
        used = {k: f for k, f in frames.items() if f[score].notna().all()}
        strata = [stratum_of(k, f, "damage", score, ()) for k, f in used.items()]
        observed, *replicates[score] = resampled(strata, 1, DRAWS)
        row = found.loc[score]
        assert row["correlation"] == pytest.approx(observed)
        assert row["strength"] == abs(row["correlation"])
        assert (row["low"], row["high"]) == pytest.approx(interval_of(np.array(replicates[score])))
    for score in SCORES:
        used = {k: f for k, f in frames.items() if f[score].notna().all()}
        best, own = (
            np.abs(
                resampled([stratum_of(k, f, "damage", s, ()) for k, f in used.items()], 1, DRAWS)
            )
            for s in ("strong", score)
        )
        observed, *behind = best - own
        row = found.loc[score]
        assert row["behind"] == pytest.approx(observed)
        assert (row["behind_low"], row["behind_high"]) == pytest.approx(interval_of(behind))
        if score not in ("strong", "copy"):
            below = np.mean(np.array(behind) <= 0)
            assert row["p"] == max(2 * min(below, 1 - below), 2 / (DRAWS + 1))
    assert found["strength"].is_monotonic_decreasing
    assert found.loc["against", "correlation"] < 0
    assert 2 / (DRAWS + 1) < found.loc["against", "p"] < 1
    assert found.loc["weak", "p"] == 2 / (DRAWS + 1)


def test_a_negative_correlation_can_be_the_best() -> None:
    found = compared(["weak", "against", "binary"])
    assert found.index[0] == "against"
    for score in ("weak", "binary"):
        row = found.loc[score]
        assert row["behind"] == found["strength"]["against"] - row["strength"] > 0
        assert row["behind_low"] < row["behind"] < row["behind_high"]
    assert found.loc["weak", "behind_low"] > 0


def test_rows_are_numbered_from_the_best() -> None:
    table = compare_predictors(
        layers(), "damage", ["weak", "strong"], DRAWS, np.random.default_rng(1)
    )
    assert table["score"].to_dict() == {0: "strong", 1: "weak"}


def test_the_best_may_be_behind_another_in_most_resamples() -> None:
    rng = np.random.default_rng(27)
    damage = rng.standard_normal(10)
    scores = {name: damage + rng.standard_normal(10) for name in ("best", "other")}
    frame = pd.DataFrame({"damage": damage, **scores})
    rng = np.random.default_rng(2)
    found = compare_predictors({"x": frame}, "damage", ["other", "best"], 99, rng)
    drawn = {}
    for name in scores:
        one = stratum_of("x", frame, "damage", name, ())
        drawn[name] = np.abs(resampled([one], 2, 99)[1:])
    ahead = np.mean(drawn["best"] >= drawn["other"])
    assert found["score"].tolist() == ["best", "other"]
    assert 0.4 < ahead < 0.5
    assert found["p"][1] == 2 * ahead


def test_the_best_and_what_equals_it_are_not_behind() -> None:
    found = compared(SCORES)
    assert found.index[0] == "strong"
    assert found.loc["strong", ["p", "p_holm", "behind"]].tolist() == [1, 1, 0]
    assert found.loc["copy", "p"] == 1
    others = found.drop(index="strong")
    np.testing.assert_array_equal(others["p_holm"], holm(others["p"].to_numpy()))


def test_scores_that_no_layer_knows_or_that_are_constant_are_left_out() -> None:
    assert compared(["none", "constant", "weak"]).index.tolist() == ["weak"]


def test_scores_are_compared_in_the_layers_that_both_have() -> None:
    """A score that is constant where damage is hard to predict is not ahead by that."""
    rng = np.random.default_rng(8)
    frames = {}
    for name, signal in (("easy", 2.0), ("hard", 0.0)):
        damage = rng.standard_normal(60)
        scores = {s: signal * damage + rng.standard_normal(60) for s in ("hull", "other")}
        frames[name] = pd.DataFrame({"damage": damage, **scores})
    frames["hard"]["hull"] = 1.0
    found = compare_predictors(frames, "damage", ["hull", "other"], 200, rng).set_index("score")
    assert found.index[0] == "hull"
    assert found["correlation"]["other"] < found["correlation"]["hull"] - 0.2
    assert abs(found["behind"]["other"]) < 0.1
    assert found["behind_low"]["other"] < 0 < found["behind_high"]["other"]
    assert found["p"]["other"] > 0.05


def test_scores_of_different_layers_are_not_compared() -> None:
    frames = layers()
    frames["narrow"]["strong"] = np.nan
    frames["wide"]["weak"] = 0.0
    rng = np.random.default_rng(9)
    found = compare_predictors(frames, "damage", ["weak", "strong"], DRAWS, rng).set_index("score")
    assert found.loc["weak", ["behind", "behind_low", "behind_high"]].isna().all()
    assert found.loc["weak", "p"] == found.loc["weak", "p_holm"] == 1


def test_channels_without_damage_are_left_out() -> None:
    frames, rng = layers(), np.random.default_rng(1)
    frames["wide"].loc[[2, 5], "damage"] = np.nan
    found = compare_predictors(frames, "damage", ["strong"], DRAWS, rng)
    frames["wide"] = frames["wide"].dropna(subset=["damage"])
    rng = np.random.default_rng(1)
    pd.testing.assert_frame_equal(
        found, compare_predictors(frames, "damage", ["strong"], DRAWS, rng)
    )


@pytest.mark.parametrize("case", ["constant", "few families"])
def test_without_a_score_that_counts_the_reason_is_named(case: str) -> None:
    frames = layers()
    if case == "few families":
        frames = {k: f.assign(constant=f["weak"], family=f.index % 4) for k, f in frames.items()}
    with pytest.raises(NoDataError, match="constant varies over a layer of at least 5 families"):
        compare_predictors(frames, "damage", ["constant"], DRAWS, np.random.default_rng(1))


def test_a_single_score_is_the_best() -> None:
    found = compared(["weak"]).loc["weak"]
    assert (found["p"], found["p_holm"], found["behind_low"], found["behind_high"]) == (1, 1, 0, 0)


def test_copies_of_a_family_are_resampled_together() -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(rng.standard_normal((20, 2)), columns=["damage", "score"])
    copies = frame.loc[np.repeat(frame.index, 5)].assign(family=np.repeat(frame.index, 5))
    widths = []
    for rows in (frame, copies, copies.drop(columns="family")):
        one = compare_predictors({"x": rows}, "damage", ["score"], 400, np.random.default_rng(4))
        widths.append(float((one["high"] - one["low"]).iloc[0]))
    assert widths[1] == pytest.approx(widths[0], rel=0.05)
    assert widths[2] < 0.6 * widths[0]


def confounded(rng: np.random.Generator, hull: float, family: int = 1) -> dict[str, pd.DataFrame]:
    """Layers whose damage follows the control, bent, and by `hull` a score; "close" follows it.

    Channels come in families of `family` copies.
    """
    frames, members = {}, np.arange(64) // family
    for layer in range(3):
        control, score, one, two, noise = rng.standard_normal((5, 64))[:, members]
        frames[f"layer{layer}"] = pd.DataFrame(
            {
                "control": np.exp(control),
                "hull": score + 0.5 * control,
                "close": control + 0.2 * one,
                "other": two - 0.5 * control,
                "damage": control + 0.3 * control**2 + hull * score + 0.5 * noise,
                "family": members,
            }
        )
    return frames


def test_at_a_matched_control_only_what_says_more_predicts() -> None:
    rng = np.random.default_rng(5)
    frames, scores = confounded(rng, hull=0.5), ["hull", "close", "other"]
    raw = compare_predictors(frames, "damage", scores, 200, rng)
    assert raw["score"].iloc[0] == "close"
    matched = at_matched(frames, "damage", scores, "control")
    for name, rows in matched.items():
        control = frames[name]["control"].rank()
        assert rows[["damage", *scores]].corrwith(control).abs().max() < 0.05
    found = compare_predictors(matched, "damage", scores, 200, rng).set_index("score")
    assert found.index[0] == "hull"
    assert found["low"]["hull"] > 0.3
    assert (found["p_holm"].drop("hull") < 0.05).all()


def test_where_damage_follows_the_control_alone_nothing_leads_at_its_match() -> None:
    """The level: one of the scores is said to be ahead of all others in at most 5 %."""
    rng, scores, said, draws = np.random.default_rng(6), ["hull", "close", "other"], 0, 60
    for _ in range(draws):
        matched = at_matched(confounded(rng, hull=0.0), "damage", scores, "control")
        found = compare_predictors(matched, "damage", scores, 100, rng)
        said += bool((found["p_holm"].iloc[1:] < 0.05).all())
    assert said / draws < 0.05 + 4 * np.sqrt(0.05 * 0.95 / draws)


def test_channels_without_a_score_and_layers_with_too_few_are_left_out() -> None:
    frames = confounded(np.random.default_rng(7), hull=0.0)
    frames["layer0"].loc[:5, "hull"] = np.nan
    frames["layer1"] = frames["layer1"].iloc[:6]
    frames["layer2"]["hull"] = np.nan
    matched = at_matched(frames, "damage", ["hull", "other"], "control")
    assert {name: len(rows) for name, rows in matched.items()} == {"layer0": 58}
