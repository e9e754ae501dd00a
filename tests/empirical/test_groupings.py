import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from empirical.analysis.groupings import _chance_agreement, layer_groupings
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


def test_small_layers_are_left_out():
    table = table_of(np.arange(CHANNELS) * 1.0, np.arange(CHANNELS) * 1.0)
    assert layer_groupings(table, most=CHANNELS // 2 + 1, permutations=9).empty


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
