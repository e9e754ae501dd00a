import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from empirical.analysis.couplings import (
    BETWEEN,
    PAIRS,
    WITHIN,
    Pair,
    layer_couplings,
    mean_couplings,
    of_pair,
    separation_steps,
    training_couplings,
)
from empirical.analysis.missing import NoDataError
from empirical.analysis.reliability import corrected_coupling
from empirical.measuring.measurement import measure
from empirical.measuring.table import AxisTable
from empirical.report.coupling import coupling_findings
from theory import coupling, spearman
from theory.rank_coupling import split_half


@pytest.fixture(scope="module")
def table():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 6, 3),
        torch.nn.Flatten(),
        torch.nn.Linear(6 * 16, 4),
    )
    images = torch.randn(80, 1, 8, 8)
    return measure(model, [(images, torch.randint(4, (80,)))])


def test_layer_couplings_are_spearman_with_reliability_and_correction(table):
    frame = layer_couplings(table, pairs=[BETWEEN, WITHIN], permutations=200)
    assert frame["layer"].tolist() == ["0", "0", "2", "2"]
    assert frame["depth"].tolist() == [0, 0, 1, 1]
    for row in frame.itertuples():
        axes, halves = table[row.layer].as_dict(), table.halves[row.layer]
        expected = stats.spearmanr(axes[row.first], axes[row.second]).statistic
        assert row.coupling == pytest.approx(expected)
        reliability = [float(split_half(*halves[name])) for name in (row.first, row.second)]
        assert [row.first_reliability, row.second_reliability] == pytest.approx(reliability)
        parts = table.replicates[row.layer]
        without = parts[row.first], parts[row.second]
        found = corrected_coupling(halves[row.first], halves[row.second], without)
        assert [row.corrected, row.low, row.high] == pytest.approx(
            [found.mean, found.low, found.high], nan_ok=True
        )
    assert frame["corrected"].notna().any()


def test_every_pair_has_the_coupling_and_the_null_of_its_layer(table):
    frame = layer_couplings(table, permutations=50, seed=3).set_index(["layer", "first", "second"])
    assert len(frame) == 2 * len(PAIRS)
    for name in table.layers:
        values = table[name].as_dict()
        for pair in PAIRS:
            row = frame.loc[(name, pair.first, pair.second)]
            found = coupling(values[pair.first], values[pair.second], permutations=50, seed=3)
            assert (row["coupling"], row["channels"]) == (found.value, found.channels)
            assert (row["null_low"], row["null_high"]) == (found.null_low, found.null_high)
            assert (row["p_value"], row["kind"]) == (found.p_value, pair.kind)
    pd.testing.assert_frame_equal(
        layer_couplings(table, pairs=[BETWEEN]),
        layer_couplings(table, pairs=[BETWEEN], permutations=1000, seed=0),
    )


def test_a_single_layer_is_at_the_start_and_without_halves_is_not_resolved(table):
    one = AxisTable({"0": table["0"]}, {}, {}, {}, {}, {})
    row = layer_couplings(one, pairs=[BETWEEN], permutations=9).iloc[0]
    assert row["depth"] == 0
    unknown = ["first_reliability", "second_reliability", "corrected", "low", "high"]
    assert row[unknown].isna().all()


def test_training_couplings_are_in_order_of_seed_and_step_each_with_its_own_draws(table):
    one = AxisTable({"0": table["0"]}, {}, {}, {}, {}, {})
    frame = training_couplings({(1, 5): one, (0, 9): one, (0, 2): one}, permutations=40)
    assert frame.columns[:2].tolist() == ["seed", "step"]
    steps = frame[["seed", "step"]].drop_duplicates()
    assert list(steps.itertuples(index=False, name=None)) == [(0, 2), (0, 9), (1, 5)]
    for step, rows in frame.groupby("step"):
        expected = layer_couplings(one, permutations=40, seed=step)
        found = rows[expected.columns].reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected)
    few = training_couplings({(0, 1): one}, pairs=[BETWEEN])
    pd.testing.assert_series_equal(
        few["p_value"], layer_couplings(one, pairs=[BETWEEN], seed=1)["p_value"]
    )


def test_unknown_quantities_are_named(table):
    with pytest.raises(ValueError, match="Did you mean 'task_information'"):
        layer_couplings(table, pairs=[Pair("input_capture", "task_informatio", "between")])
    with pytest.raises(ValueError, match=r"pairs must be one of .* Did you mean 'input_capture'"):
        layer_couplings(table, pairs=[Pair("input_captur", "task_information", "between")])


def planted(start, end, seeds=3, layers=4, noise=0.02, corrected=np.nan):
    """Couplings that go from `start` to `end`, half of the way between steps 2 and 4."""
    rng = np.random.default_rng(0)
    path = {0: start, 1: start, 2: start, 4: end, 8: end}
    rows = [
        {
            "seed": seed,
            "step": step,
            "layer": f"l{layer}",
            "first": pair.first,
            "second": pair.second,
            "kind": pair.kind,
            "coupling": value + noise * rng.standard_normal(),
            "null_low": -0.4,
            "null_high": 0.4,
            "corrected": corrected,
            "first_reliability": 0.9,
            "second_reliability": 0.9,
        }
        for pair in (BETWEEN, Pair("input_capture", "peer_overlap", "within"))
        for seed in range(seeds)
        for layer in range(layers)
        for step, value in path.items()
    ]
    return pd.DataFrame(rows)


def test_means_pool_layers_then_seeds_and_the_null_shrinks_with_both():
    frame = planted(0.7, 0.1)
    means = mean_couplings(frame)
    start = means.iloc[0]
    assert start["coupling"] == pytest.approx(0.7, abs=0.03)
    assert start["low"] < start["coupling"] < start["high"]
    # 12 independent rankings: the band of one, 0.4, over √12.
    assert start["null_high"] == pytest.approx(0.4 / np.sqrt(12))


def test_each_mean_has_the_null_of_its_own_pair_in_the_order_of_the_rows():
    frame = planted(0.7, 0.1)
    wide = frame["second"].eq("task_information")
    frame.loc[wide, ["null_low", "null_high"]] = -0.1, 0.3
    frame["second"] = frame["second"].where(~wide, "target_excess")
    means = mean_couplings(frame).query("step == 0")
    assert means["second"].tolist() == ["target_excess", "peer_overlap"]
    assert means["null_high"].tolist() == pytest.approx([0.2 / 12**0.5, 0.4 / 12**0.5])
    assert means["null_low"].tolist() == pytest.approx([-0.2 / 12**0.5, -0.4 / 12**0.5])


def test_a_separation_is_beyond_the_null_of_the_start():
    table = means([1.0, 0.2, 0.0])
    table.loc[table["step"] > 0, "null_high"] = 2.0
    assert separation_steps(table, BETWEEN) == (0, 10)
    table["null_high"] = np.where(table["step"] > 0, 0.1, 2.0)
    assert separation_steps(table, BETWEEN) is None


@pytest.mark.parametrize(
    ("start", "end", "wording", "claim"),
    [
        (0.7, 0.1, "it falls", "holds"),
        (0.7, 0.65, "it falls", "holds in direction"),
        (0.2, 0.05, "it falls", "holds in direction"),
        (0.0, 0.0, "not resolved", "contradicted"),
        (-0.2, 0.2, "it rises", "contradicted"),
    ],
)
def test_verdicts_follow_from_intervals(start, end, wording, claim):
    findings = coupling_findings(planted(start, end, noise=0.005))
    assert str(findings[0]).endswith(f": {wording}.")
    assert findings[-2].values["word"] == claim
    assert f"at least half of it: {claim} (start" in str(findings[-2])


def test_a_fall_as_measured_that_is_one_of_reliability_is_not_claimed():
    frame = planted(0.7, 0.1, noise=0.005, corrected=0.7)
    frame["corrected"] += 0.01 * frame["seed"] * frame["step"]
    findings = coupling_findings(frame)
    assert findings[-2].values["word"] == "contradicted"
    assert "Corrected for attenuation it is +0.70" in str(findings[2])


def test_the_fall_is_early_where_half_of_it_comes_in_the_first_tenth():
    unknown = coupling_findings(planted(0.7, 0.1))[-1]
    assert "between the records at steps 2 and 4 of 8" in str(unknown)
    assert unknown.values["word"] == "not resolved"  # of the first tenth there is but the start
    for last, fallen, word in (
        (60, 0.0, "holds"), (20, 0.15, "holds in direction"), (20, 0.0, "contradicted")
    ):  # fmt: skip
        frame = planted(0.7, 0.1)
        frame.loc[frame["step"].isin([1, 2]), "coupling"] -= fallen
        frame["step"] = frame["step"].map({0: 0, 1: 1, 2: 2, 4: 4, 8: last})
        assert coupling_findings(frame)[-1].values["word"] == word


def test_where_no_fall_is_shown_it_is_not_called_late():
    frame = planted(0.3, 0.3, noise=0.0)
    dip = frame["seed"].eq(0) & frame["step"].eq(8)
    frame.loc[dip, "coupling"] = 0.0  # one network falls, at the end
    frame.loc[frame["step"].isin([1, 2]), "coupling"] = 0.8  # and all rise at first
    frame["step"] = frame["step"].map({0: 0, 1: 1, 2: 2, 4: 4, 8: 20})
    found = coupling_findings(frame)[-1]
    assert found.values["early"].high < 0
    assert found.values["word"] == "not resolved"


def test_every_row_says_how_differentiated_its_layer_is(table):
    frame = layer_couplings(table, permutations=9)
    for name in table.layers:
        own = table[name]
        rest = own.signal_power * (1 - own.peer_predictability)
        rows = frame[frame["layer"] == name]
        assert rows["residual_spread"].nunique() == 1
        assert rows["residual_spread"].iloc[0] == pytest.approx(rest.std() / rest.mean())
        expected = spearman(own.peer_predictability, own.signal_power)
        assert rows["predictability_with_power"].iloc[0] == pytest.approx(float(expected))


def means(values, width=0.2):
    """A pair's means at steps 0, 10, 20 ..., listed from the last."""
    steps = range(0, 10 * len(values), 10)
    rows = {"first": BETWEEN.first, "second": BETWEEN.second, "null_high": width}
    return pd.DataFrame(
        [rows | {"step": s, "coupling": v} for s, v in zip(steps, values, strict=True)][::-1]
    )


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([1.0, 0.9, 0.3, 0.0], (10, 20)),
        ([1.0, 0.5, 0.4, 0.0], (0, 10)),  # half of the way counts
        ([1.0, 0.1, 0.9, 0.2, 0.0], (20, 30)),  # it must stay there
        ([-1.0, -0.8, 0.4, 0.9], (10, 20)),
        ([0.3, 0.2, 0.1], None),  # just the null's width apart
        ([0.1, 0.2, 0.4], (10, 20)),
    ],
)
def test_the_separation_is_the_step_from_which_the_end_stays_nearer(values, step):
    null = 0.2 if step is not None else abs(values[0] - values[-1])
    assert separation_steps(means(values, null), BETWEEN) == step


def test_a_pair_in_words_and_its_rows():
    frame = planted(0.7, 0.1)
    for pair in (BETWEEN, WITHIN):
        rows = of_pair(frame, pair)
        assert len(rows) == len(frame) / 2
        assert set(rows["kind"]) == {pair.kind}
    assert BETWEEN.label == "input capture ~ task information"


def test_fewer_than_three_seeds_have_no_interval_and_no_verdict():
    for seeds in (1, 2):
        findings = coupling_findings(planted(0.7, 0.1, seeds=seeds))
        texts = [str(finding) for finding in findings]
        assert texts[0].endswith(f"[no interval] ({seeds} of {seeds} seeds fall): not resolved.")
        assert "nan" not in " ".join(texts)
        assert {finding.values.get("word", "not resolved") for finding in findings} == {
            "not resolved"
        }


def test_networks_without_an_end_are_named_and_not_counted():
    frame = planted(0.7, 0.1, seeds=4)
    frame.loc[frame["seed"].eq(3) & frame["step"].eq(8), "coupling"] = np.nan
    found, whole = coupling_findings(frame), coupling_findings(frame[frame["seed"] < 3])
    assert "(3 of 3 seeds fall; 1 more lack an end)" in str(found[0])
    for value in ("start", "end", "change"):
        assert found[0].values[value] == whole[0].values[value]
    assert found[-2].values["coupling"] == whole[-2].values["coupling"]


def test_without_two_ends_no_change_is_told():
    frame = planted(0.7, 0.1)
    with pytest.raises(NoDataError, match="one checkpoint has no change"):
        coupling_findings(frame[frame["step"] == 0])
    frame.loc[frame["step"] == 8, "coupling"] = np.nan
    with pytest.raises(NoDataError, match="no network has a first and a last coupling"):
        coupling_findings(frame)
