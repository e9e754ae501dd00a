import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score

from empirical.analysis.groupings import (
    LOCAL_FEATURES,
    TARGET_FEATURES,
    _chance_agreement,
    layer_groupings,
)
from empirical.measuring.table import AxisTable
from theory import LOCAL_AXIS, QUANTITIES, ChannelAxes

CHANNELS = 60


def table_of(local, target, jitter=0.01):
    """A table whose local and target features follow two given groupings."""
    rng = np.random.default_rng(0)

    def values(*draws):
        return {
            name: (local if name in LOCAL_AXIS else target)
            + jitter * rng.standard_normal((*draws, CHANNELS))
            for name in QUANTITIES
        }

    axes = ChannelAxes(**values(), affected={}, noise_power=1.0, n=100)
    replicates = values(5)
    return AxisTable({"layer": axes}, {"layer": replicates}, {}, {}, {}, {})


def test_one_grouping_on_both_axes_is_found_as_one():
    groups = np.repeat([0.0, 1.0, 2.0], CHANNELS // 3)
    row = layer_groupings(table_of(groups, groups), permutations=99).iloc[0]
    assert row["rand_between"] > 0.9
    assert row["p_value"] == pytest.approx(0.01)
    assert row["stability_local"] > 0.9


def test_unrelated_groupings_agree_no_more_than_chance_though_each_is_stable():
    local = np.repeat([0.0, 1.0], CHANNELS // 2)
    target = np.tile([0.0, 1.0], CHANNELS // 2)
    row = layer_groupings(table_of(local, target), permutations=99).iloc[0]
    assert abs(row["rand_between"]) < row["null_high"]
    assert row["p_value"] > 0.1
    assert min(row["stability_local"], row["stability_target"]) > 0.9


def features(table, names):
    """Ranks of the two quantities, as fractions of the layer."""
    return np.column_stack([rankdata(table["layer"].as_dict()[n]) / CHANNELS for n in names])


def test_a_row_is_what_its_columns_say():
    groups = np.repeat([0.0, 1.0, 2.0], CHANNELS // 3)
    table = table_of(groups, np.roll(groups > 1, 7) * 1.0)
    row = layer_groupings(table, permutations=60, seed=4).iloc[0]
    parts, rng = {}, np.random.default_rng(4)
    for axis, names in (("local", LOCAL_FEATURES), ("target", TARGET_FEATURES)):
        values = features(table, names)
        fits = {k: KMeans(k, n_init=10, random_state=4).fit_predict(values) for k in range(2, 7)}
        scores = {k: silhouette_score(values, fit) for k, fit in fits.items()}
        k = max(scores, key=scores.get)
        parts[axis] = fits[k]
        assert row[f"k_{axis}"] == k
        assert row[f"silhouette_{axis}"] == pytest.approx(scores[k])
        again = []
        for draw in range(5):
            replicate = np.column_stack(
                [rankdata(table.replicates["layer"][n][draw]) / CHANNELS for n in names]
            )
            fit = KMeans(k, n_init=10, random_state=4).fit_predict(replicate)
            again.append(adjusted_rand_score(parts[axis], fit))
        assert row[f"stability_{axis}"] == pytest.approx(np.mean(again))
    between = adjusted_rand_score(parts["local"], parts["target"])
    shuffled = rng.permuted(np.tile(parts["target"], (60, 1)), axis=1)
    null = np.array([adjusted_rand_score(parts["local"], one) for one in shuffled])
    assert row["rand_between"] == pytest.approx(between)
    assert row["null_high"] == pytest.approx(np.quantile(null, 0.975))
    assert row["p_value"] == pytest.approx((1 + np.sum(null >= between - 1e-9)) / 61)
    assert (row["layer"], row["channels"]) == ("layer", CHANNELS)


def test_four_channels_pair_up_alike_by_chance_once_in_three():
    groups = np.array([0.0, 0.0, 1.0, 1.0])
    values = {name: groups + 0.01 * np.arange(4) for name in QUANTITIES}
    axes = ChannelAxes(**values, affected={}, noise_power=1.0, n=100)
    table = AxisTable({"layer": axes}, {}, {}, {}, {}, {})
    row = layer_groupings(table, most=2, permutations=999).iloc[0]
    assert row["rand_between"] == 1
    # draws that agree as much count; their share deviates by 0.015
    assert row["p_value"] == pytest.approx(1 / 3, abs=0.06)


def test_draws_that_agree_as_much_count_against_a_finding():
    """One channel apart from the rest: chance finds the same one once in 60."""
    first = np.where(np.arange(CHANNELS) == 0, 1, 0)
    null = _chance_agreement(first, first, 2000, np.random.default_rng(3))
    assert np.mean(null >= 1 - 1e-12) == pytest.approx(1 / CHANNELS, abs=0.012)
    assert np.isfinite(null).all()


def test_layers_of_twice_the_most_groups_are_used_and_smaller_ones_left_out():
    table = table_of(np.arange(CHANNELS) * 1.0, np.arange(CHANNELS) * 1.0)
    assert len(layer_groupings(table, most=CHANNELS // 2, permutations=9)) == 1
    assert layer_groupings(table, most=CHANNELS // 2 + 1, permutations=9).empty


def test_only_layers_with_unknown_features_are_left_out():
    groups = np.repeat([0.0, 1.0], CHANNELS // 2)
    good = table_of(groups, groups)
    holes = table_of(groups, groups)["layer"]
    holes.task_information[3] = np.nan
    table = AxisTable({"holes": holes, "good": good["layer"]}, {}, {}, {}, {}, {})
    found = layer_groupings(table, permutations=9)
    assert found["layer"].tolist() == ["good"]
    assert found[["stability_local", "stability_target"]].isna().all(axis=None)


def test_the_least_number_of_groups_tried_is_two_and_the_defaults_are_said():
    groups = np.repeat([0.0, 1.0, 2.0], CHANNELS // 3)
    table = table_of(groups, groups)
    assert layer_groupings(table, most=2, permutations=9)["k_local"].tolist() == [2]
    with pytest.raises(ValueError, match="most must be a whole number >= 2; got 1"):
        layer_groupings(table, most=1)
    with pytest.raises(ValueError, match="Did you mean 'task_information'"):
        layer_groupings(table, target=["task_informations"])
    default = layer_groupings(table)
    assert default["p_value"].tolist() == [1 / 501]
    pd.testing.assert_frame_equal(default, layer_groupings(table, most=6, permutations=500, seed=0))


def test_unknown_quantities_are_named():
    table = table_of(np.zeros(CHANNELS), np.zeros(CHANNELS))
    with pytest.raises(ValueError, match="Did you mean 'peer_overlap'"):
        layer_groupings(table, local=["peer_overlaps"])


def test_chance_agreement_is_the_adjusted_rand_index_of_permuted_groups():
    rng = np.random.default_rng(5)
    first, second = rng.integers(0, 3, 40), rng.integers(0, 4, 40)
    fast = _chance_agreement(first, second, 6, np.random.default_rng(9))
    permuted = np.random.default_rng(9).permuted(np.tile(second, (6, 1)), axis=1)
    np.testing.assert_allclose(fast, [adjusted_rand_score(first, p) for p in permuted])
