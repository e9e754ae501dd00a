"""The tables of a comparison of prunings, from accuracies of which the answer is known."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from empirical.analysis.pruning import (
    Arm,
    against_reference,
    agreement,
    areas,
    axis_against_axis,
    axis_verdicts,
    best_arm,
    headline,
    mean_accuracy,
    mean_of,
    missing_cells,
    paired,
    rank_stability,
)
from empirical.analysis.seeds import over_networks

VALUES = {
    "replaceability": 0.80,
    "task_replaceability": 0.78,
    "replaceability_at_once": 0.99,
    "l2": 0.70,
    "taylor": 0.74,
    "peer_overlap": 0.76,
    "task_information": 0.60,
}
NOISE = np.array([0.00, 0.01, 0.05])
"""What seeds add, not in proportion to anything."""


def rows(recoveries: tuple[str, ...] = ("recalibrate", "compensate")) -> pd.DataFrame:
    """One row per arm, seed and share; compensation adds 0.1, the share 0.2 of itself."""
    found = []
    for seed, share, recovery, (criterion, value) in product(
        range(3), (0.3, 0.5, 0.9), recoveries, VALUES.items()
    ):
        own = NOISE[(seed + len(criterion)) % 3]
        accuracy = value + own + 0.1 * (recovery == "compensate") + 0.2 * (share - 0.5)
        found.append(
            {
                "network": "n", "seed": seed, "allocation": "uniform", "recovery": recovery,
                "criterion": criterion, "share": share, "draw": 0, "accuracy": accuracy,
            }
        )  # fmt: skip
    return pd.DataFrame(found)


def values(criterion: str, extra: float = 0.0) -> np.ndarray:
    return VALUES[criterion] + extra + NOISE[(np.arange(3) + len(criterion)) % 3]


def ends(values: np.ndarray) -> tuple[float, float]:
    found = over_networks(values)
    return found.low, found.high


def test_areas_are_trapezoids_over_uneven_shares_and_dense_rows_stay_out() -> None:
    frame = rows()
    frame.loc[frame["share"] == 0.5, "accuracy"] += 0.06  # a bend, between 0.3 and 0.9
    dense = frame.iloc[:1].assign(criterion="dense", share=1.0)
    lost = frame.iloc[:1].assign(accuracy=np.nan, share=0.4)
    table = areas(pd.concat([dense, lost, frame.sample(frac=1, random_state=0)]))
    found = Arm("l2", "recalibrate").of(table, "area")
    # the line's mean is at its middle share, 0.6; the bend adds half its height
    expected = values("l2") + 0.2 * 0.1 + 0.03
    np.testing.assert_allclose(found, expected)
    assert set(table["criterion"]) == set(VALUES)
    assert len(table) == 3 * 2 * len(VALUES)


def test_a_missing_accuracy_takes_its_own_curve_and_no_other_and_is_named() -> None:
    frame = rows()
    lost = (frame["seed"] == 1) & (frame["criterion"] == "l2") & (frame["share"] == 0.3)
    lost &= frame["recovery"] == "compensate"
    for broken in (frame[~lost], frame.assign(accuracy=frame["accuracy"].mask(lost))):
        table, whole = areas(broken), areas(frame)
        kept = whole.merge(table, on=[name for name in whole if name != "area"], how="left")
        np.testing.assert_array_equal(
            kept["area_y"].dropna(), kept["area_x"][kept["area_y"].notna()]
        )
        gone = kept[kept["area_y"].isna()].iloc[0]
        assert len(table) == len(whole) - 1
        assert (gone["seed"], gone["criterion"], gone["recovery"]) == (1, "l2", "compensate")
        (cell,) = missing_cells(broken).to_dict("records")
        assert (cell["seed"], cell["criterion"], cell["share"]) == (1, "l2", 0.3)
    assert missing_cells(frame).empty
    draws = pd.concat([frame, frame[lost].assign(draw=1, accuracy=np.nan)])
    assert len(missing_cells(draws)) == 1
    other = frame.assign(network="m")[frame["share"] != 0.3]  # its own shares, none of them missing
    assert missing_cells(pd.concat([frame, other])).empty
    assert len(areas(pd.concat([frame, other]))) == 2 * len(whole)


def test_without_any_accuracy_there_is_nothing_to_compare() -> None:
    with pytest.raises(ValueError, match="have no accuracy of a pruned network"):
        areas(rows().assign(accuracy=np.nan))


LOCAL, TARGET = {"local": ("peer_overlap",), "target": ("task_information",)}.items()


def axis_table(gain: float, own: float, rng: np.random.Generator) -> pd.DataFrame:
    """Areas of two architectures in three recoveries, which share each network's own part."""
    return pd.DataFrame(
        [
            {
                "network": network, "seed": seed, "allocation": "u", "recovery": recovery,
                "criterion": name, "area": (shared + gain) * (name == LOCAL[1][0]) + 0.001 * noise,
            }
            for network in "pq"
            for seed in range(3)
            for shared in [own * rng.standard_normal()]
            for recovery in "abc"
            for name, noise in zip((LOCAL[1][0], TARGET[1][0]), rng.standard_normal(2), strict=True)
        ]
    )  # fmt: skip


def test_a_network_counts_once_however_many_settings_it_is_in() -> None:
    axes = dict((LOCAL, TARGET))
    rng = np.random.default_rng(5)
    found = axis_verdicts(axis_table(0.1, 0.01, rng), axes)
    assert found["network"].tolist() == ["p", "q", "all"]
    assert found["seeds"].tolist() == [3, 3, 6]
    assert (found["low"] > 0).all()
    null = [axis_table(0.0, 0.05, rng) for _ in range(40)]
    clear = [axis_verdicts(table, axes)["low"].iloc[-1] > 0 for table in null]
    settings = [(axis_against_axis(table, axes)["p_holm"] < 0.05).any() for table in null]
    # one-sided, at 0.025: 5 or more of 40 happen with probability 0.003
    assert sum(clear) < 5
    assert sum(settings) < 7
    table = axis_table(0.1, 0.01, rng)
    each = table.pivot_table(index=["network", "seed"], columns="criterion", values="area")
    values = (each[LOCAL[1][0]] - each[TARGET[1][0]]).unstack("seed")
    row = axis_verdicts(table, axes).set_index("network").loc["p"]
    assert (row["low"], row["high"]) == pytest.approx(ends(values.loc["p"].to_numpy()))


def test_a_seed_without_one_of_an_axis_criteria_is_left_out() -> None:
    axes = {"local": ("peer_overlap", "l2"), "target": ("task_information",)}
    table = areas(rows())
    lost = (table["seed"] == 2) & (table["criterion"] == "l2")
    found = axis_against_axis(table[~lost], axes)
    assert found["seeds"].tolist() == [2, 2]
    assert axis_verdicts(table[~lost], axes)["seeds"].tolist() == [2]


def test_settings_come_in_the_order_of_the_rows_and_other_columns_may_be_unknown() -> None:
    parts = [
        rows().assign(network=network, allocation=allocation)
        for network in ("z", "a")
        for allocation in ("uniform", "global")
    ]
    frame = pd.concat(parts).assign(error=None, latency_share=np.nan)
    table = areas(frame).assign(note=np.nan)
    assert paired(table, Arm("taylor"), Arm("l2"))["network"].tolist() == ["a", "z"]
    axes = {"local": ("peer_overlap",), "target": ("task_information",)}
    assert len(axis_against_axis(table, axes)) == 2 * 2 * 2
    settings = rank_stability(table)[["recovery", "allocation"]]
    assert list(settings.itertuples(index=False, name=None)) == [
        (recovery, allocation)
        for allocation in ("uniform", "global")
        for recovery in ("recalibrate", "compensate")
    ]
    means = mean_accuracy(frame)
    assert means["network"].drop_duplicates().tolist() == ["z", "a"]
    assert means["criterion"].drop_duplicates().tolist() == list(VALUES)
    cells = headline(frame)[["network", "allocation"]].drop_duplicates()
    assert list(cells.itertuples(index=False, name=None)) == list(
        product(("z", "a"), ("uniform", "global"))
    )


def test_with_one_common_share_the_area_is_the_accuracy_there() -> None:
    table = areas(rows().query("share == 0.9"))
    np.testing.assert_allclose(
        Arm("taylor", "recalibrate").of(table, "area"), values("taylor") + 0.08
    )


def test_areas_tell_curves_apart_by_the_columns_given() -> None:
    frame = rows(("none",)).rename(columns={"share": "kept"})
    table = areas(frame, ["seed", "criterion"], share="kept")
    assert table.columns.tolist() == ["seed", "criterion", "area"]
    found = table.query("criterion == 'l2'").sort_values("seed")["area"]
    np.testing.assert_allclose(found, values("l2") + 0.02)


def test_a_reference_is_subtracted_seed_by_seed() -> None:
    table = areas(rows(("none",)), ["seed", "criterion"])
    found = against_reference(table, "l2").set_index("criterion")
    differences = values("taylor") - values("l2")
    assert found.index.tolist() == list(VALUES)
    assert found.loc["taylor", "area"] == pytest.approx(values("taylor").mean() + 0.02)
    assert found.loc["taylor", "difference"] == pytest.approx(differences.mean())
    assert tuple(found.loc["taylor", ["low", "high"]]) == pytest.approx(ends(differences))
    assert found.loc["taylor", ["minus", "seeds"]].tolist() == ["l2", 3]
    one = against_reference(table.query("seed == 0"), "l2").set_index("criterion")
    assert one.loc["l2", ["difference", "low", "high"]].tolist() == [0, 0, 0]
    assert one.loc["taylor", ["low", "high"]].isna().all()


def test_an_arm_averages_over_what_it_does_not_name() -> None:
    frame = rows().query("share == 0.5")
    for arm, extra in (
        (Arm("l2"), 0.05),
        (Arm("l2", "compensate"), 0.1),
        (Arm("l2", None, "uniform"), 0.05),
        (Arm("l2", "compensate", "uniform"), 0.1),
    ):
        found = arm.of(frame, "accuracy")
        assert found.index.tolist() == [("n", seed) for seed in range(3)]
        np.testing.assert_allclose(found, values("l2", extra))
    assert Arm("l2", "compensate", "global").of(frame, "accuracy").empty
    assert str(Arm("l2", None, "uniform")) == "l2, uniform"
    assert str(Arm("l2", "none", "uniform")) == "l2, none, uniform"


def test_pairs_are_of_one_network_and_seeds_without_a_partner_stay_out() -> None:
    frame = rows().query("share == 0.5")
    lonely = frame[~((frame["criterion"] == "l2") & (frame["seed"] == 1))]
    row = paired(lonely, Arm("taylor"), Arm("l2", "compensate"), "accuracy").iloc[0]
    differences = (values("taylor", 0.05) - values("l2", 0.1))[[0, 2]]
    assert row["difference"] == pytest.approx(differences.mean())
    assert row[["low", "high"]].isna().all()  # of two seeds there is no interval
    assert row[["network", "one", "other", "seeds"]].tolist() == [
        "n",
        "taylor",
        "l2, compensate",
        2,
    ]
    default = paired(areas(rows()), Arm("taylor"), Arm("l2")).iloc[0]
    assert default["difference"] == pytest.approx((values("taylor") - values("l2")).mean())


def test_the_best_arm_has_the_highest_mean_under_its_recovery() -> None:
    table = areas(rows())
    table.loc[(table["criterion"] == "l2") & (table["recovery"] == "compensate"), "area"] = 2.0
    names = ["l2", "taylor", "peer_overlap"]
    assert best_arm(table, names, "recalibrate") == Arm("peer_overlap", "recalibrate")
    assert best_arm(table, names, "compensate") == Arm("l2", "compensate")


def test_an_axis_is_the_mean_of_its_criteria() -> None:
    axes = {"local": ("peer_overlap", "replaceability"), "target": ("task_information",)}
    table = areas(rows())
    found = axis_against_axis(table, axes).set_index("recovery").loc["compensate"]
    local = (values("peer_overlap", 0.1) + values("replaceability", 0.1)) / 2 + 0.02
    target = values("task_information", 0.1) + 0.02
    assert found[["local", "target"]].tolist() == pytest.approx([local.mean(), target.mean()])
    assert found["difference"] == pytest.approx((local - target).mean())
    assert (found["low"], found["high"]) == pytest.approx(ends(local - target))
    assert found[["network", "allocation", "seeds"]].tolist() == ["n", "uniform", 3]


def test_axes_are_compared_only_where_both_were_run() -> None:
    axes = {"local": ("peer_overlap",), "target": ("task_information",)}
    table = areas(rows(("none",)))
    assert axis_against_axis(table[table["criterion"] != "peer_overlap"], axes).empty
    assert axis_against_axis(table[table["criterion"] == "l2"], axes).empty
    lost = (table["criterion"] == "task_information") & (table["seed"] == 1)
    assert axis_against_axis(table[~lost], axes)["seeds"].tolist() == [2]


def test_rankings_are_compared_between_every_two_networks_by_setting() -> None:
    order = {"a": [1, 2, 3, 4], "b": [1, 3, 2, 4], "c": [4, 3, 2, 1]}
    table = pd.DataFrame(
        [
            {"network": n, "criterion": c, "recovery": r, "allocation": "u", "area": v}
            for n, ranking in order.items()
            for c, v in zip("pqrs", ranking, strict=True)
            for r in ("none", "compensate")
        ]
        + [{"network": "a", "criterion": "x", "recovery": "none", "allocation": "u", "area": 9}]
    )
    found = rank_stability(table).set_index(["recovery", "one", "other"])
    assert len(found) == 6
    for recovery in ("none", "compensate"):
        assert found["spearman"][recovery, "a", "b"] == pytest.approx(0.8)
        assert found["spearman"][recovery, "a", "c"] == pytest.approx(-1)
        row = found.loc[(recovery, "b", "c")]
        assert row[["criteria", "best_of_one", "best_of_other"]].tolist() == [4, "s", "p"]


def test_agreement_averages_over_the_groups_that_have_both() -> None:
    scores = {
        "x|g": np.array([1.0, 2, 9]), "y|g": np.array([10.0, 20, 30]),
        "x|h": np.array([1.0, 2, 3, 4]), "z|h": np.array([1.0, 3, 2, 4]),
        "x|i": np.array([1.0, 2, 3]), "y|i": np.array([1.0, 3, 2]),
    }  # fmt: skip
    table = agreement(scores)
    assert table.index.tolist() == table.columns.tolist() == ["x", "y", "z"]
    assert table.loc["x", "y"] == table.loc["y", "x"] == pytest.approx((1 + 0.5) / 2)  # of ranks
    assert table.loc["x", "z"] == pytest.approx(0.8)
    assert np.isnan(table.loc["y", "z"])


def test_mean_tables_keep_the_order_of_names() -> None:
    one = pd.DataFrame([[1.0, 0.2], [0.2, 1.0]], index=["q", "p"], columns=["q", "p"])
    other = pd.DataFrame([[1.0, 0.6], [0.6, 1.0]], index=["p", "q"], columns=["p", "q"])
    found = mean_of([one, other])
    assert found.index.tolist() == found.columns.tolist() == ["q", "p"]
    np.testing.assert_allclose(found, [[1, 0.4], [0.4, 1]])


def test_mean_accuracy_averages_draws_within_a_seed_and_keeps_the_spread_over_seeds() -> None:
    frame = rows(("none",))
    random = frame.query("criterion == 'l2'").assign(draw=1)
    random["accuracy"] += 0.2
    lost = frame.assign(accuracy=np.nan, draw=2)
    table = mean_accuracy(pd.concat([frame, random, lost])).set_index(["criterion", "share"])
    row = table.loc[("l2", 0.5)]
    assert row["accuracy"] == pytest.approx(values("l2", 0.1).mean())
    assert row["sd"] == pytest.approx(NOISE.std(ddof=1))
    assert row["seeds"] == 3
    assert "latency_share" not in table
    timed = mean_accuracy(frame.assign(latency_share=frame["share"] + frame["seed"]))
    np.testing.assert_allclose(timed["latency_share"], timed["share"] + 1)
