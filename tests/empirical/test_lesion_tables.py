"""Which layers the lesion analysis uses, and what its tables say of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from empirical.analysis.lesions import CONTROLS, PREDICTORS, analyze_lesions
from empirical.analysis.statistics import effect, holm, stratum_of

SMALL = {"permutations": 19, "draws": 20}
SCORES = ["peer_predictability", *CONTROLS]


def frame(sizes: dict[str, int], seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame({"layer": np.repeat(list(sizes), list(sizes.values()))})
    rows["channel"] = rows.groupby("layer").cumcount()
    rows["kind"] = "mean"
    for name in (*SCORES, "loss_increase"):
        rows[name] = rng.standard_normal(len(rows))
    return rows


def test_sixteen_channels_are_enough_and_what_is_left_out_says_why() -> None:
    rows = frame({"sixteen": 16, "fifteen": 15, "flat": 16, "dull": 16, "holes": 19})
    rows.loc[rows["layer"] == "flat", "loss_increase"] = 1.0
    rows.loc[rows["layer"] == "dull", "peer_predictability"] = 1.0
    rows.loc[(rows["layer"] == "holes") & (rows["channel"] < 3), "task_information"] = np.nan
    result = analyze_lesions(rows, **SMALL)
    assert result.beyond["layer"].tolist() == ["sixteen", "holes", "pooled"]
    assert result.beyond["channels"].tolist() == [16, 16, 32]
    assert result.skipped == {
        "fifteen": "15 families of channels, fewer than 16",
        "flat": "constant values",
        "dull": "constant values",
    }


def test_two_values_are_enough_and_scores_that_only_compete_may_have_holes() -> None:
    rows = frame({"b": 16, "a": 18})
    rows["loss_increase"] = (rows["loss_increase"] > 0).astype(float)
    rows["peer_predictability"] = (rows["peer_predictability"] > 0).astype(float)
    rows["hull_score"] = np.where(rows["channel"] < 3, np.nan, rows["input_capture"])
    result = analyze_lesions(rows, **SMALL)
    assert result.beyond["layer"].tolist() == ["b", "a", "pooled"]  # as the network has them
    assert result.beyond["channels"].tolist() == [16, 18, 34]
    assert result.skipped == {}
    assert "hull_score" not in set(result.prediction["score"])


def test_the_layers_of_each_network_are_strata_of_their_own() -> None:
    several = [frame({"a": 16, "b": 16}, seed).assign(seed=seed) for seed in (3, 4)]
    two = analyze_lesions(pd.concat(several), **SMALL)
    names = [f"{layer} (seed {seed})" for seed in (3, 4) for layer in "ab"]
    assert two.depth["layer"].tolist() == names
    one = analyze_lesions(several[0], **SMALL)
    assert one.depth["layer"].tolist() == ["a", "b"]
    small = analyze_lesions(pd.concat([several[0], frame({"a": 9}).assign(seed=5)]), **SMALL)
    unnamed = analyze_lesions(frame({"a": 16, "b": 16}), **SMALL)
    networks = [found.settings["networks"] for found in (two, one, small, unnamed)]
    assert networks == [2, 1, 1, 1]


def test_tables_hold_the_tests_of_their_layers() -> None:
    rows = frame({"a": 16, "b": 18})
    result = analyze_lesions(rows, seed=5, **SMALL)
    layers = dict(iter(rows.groupby("layer")))
    strata = [
        stratum_of(n, f, "loss_increase", "peer_predictability", CONTROLS)
        for n, f in layers.items()
    ]
    each, pooled = [effect([stratum]) for stratum in strata], effect(strata)
    table = result.beyond
    for name in ("slope", "low", "high", "p"):
        expected = [float(getattr(one, name)) for one in (*each, pooled)]
        np.testing.assert_array_equal(table[name], expected, err_msg=name)
    p_values = np.array([float(one.p) for one in each])
    np.testing.assert_array_equal(table["p_holm"], [*holm(p_values), pooled.p])
    assert table["families"].tolist() == [16, 18, 34]
    for position, (name, own) in enumerate(layers.items()):
        row = result.depth.iloc[position]
        damage = own["loss_increase"]
        assert (row["layer"], row["position"], row["channels"]) == (name, position, len(own))
        assert row["mean_damage"] == pytest.approx(damage.mean())
        assert row["mean_damage_se"] == pytest.approx(damage.sem())
        assert row["median_damage"] == damage.median()
        expected = own["peer_predictability"].mean()
        assert row["mean_peer_predictability"] == pytest.approx(expected)


def test_only_the_lesions_of_one_kind_and_the_scores_asked_for_enter() -> None:
    rows = frame({"a": 16})
    zero = rows.assign(kind="zero", loss_increase=-rows["loss_increase"])
    both = pd.concat([rows, zero])
    alone = analyze_lesions(zero, kind="zero", **SMALL)
    mixed = analyze_lesions(both, kind="zero", **SMALL)
    pd.testing.assert_frame_equal(mixed.beyond, alone.beyond)
    assert set(mixed.prediction["score"]) == set(SCORES) == set(PREDICTORS) & set(rows)
    few = analyze_lesions(both, predictors=["input_capture"], controls=(), **SMALL)
    assert few.prediction["score"].tolist() == ["input_capture"]
    assert few.settings == {
        "damage": "loss_increase",
        "kind": "mean",
        "tested": "peer_predictability",
        "controls": [],
        **SMALL,
        "seed": 0,
        "halves": False,
        "networks": 1,
    }


def test_the_defaults_are_200_permutations_and_1000_resamples() -> None:
    settings = analyze_lesions(frame({"a": 16})).settings
    assert (settings["permutations"], settings["draws"], settings["seed"]) == (200, 1000, 0)


@pytest.mark.parametrize(("name", "least"), [("permutations", 19), ("draws", 20)])
def test_too_few_draws_for_a_level_of_5_percent_are_refused(name: str, least: int) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a whole number >= {least}; got"):
        analyze_lesions(frame({"a": 16}), **{**SMALL, name: least - 1})


@pytest.mark.parametrize("column", ["layer", "channel", "kind", "input_capture"])
def test_a_missing_column_is_named(column: str) -> None:
    with pytest.raises(ValueError, match=f"column of frame must be one of .* got '{column}'"):
        analyze_lesions(frame({"a": 16}).drop(columns=column), predictors=[], **SMALL)


def test_a_frame_without_a_usable_layer_is_refused_with_its_reasons() -> None:
    with pytest.raises(ValueError, match=r"got \{'a': '7 families of channels, fewer than 16'\}"):
        analyze_lesions(frame({"a": 7}), **SMALL)
    with pytest.raises(ValueError, match="kind must be one of 'mean'; got 'zero'"):
        analyze_lesions(frame({"a": 9}), kind="zero", **SMALL)
