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
from empirical.report.grouping import grouping_findings
from theory import LOCAL_AXIS, QUANTITIES, ChannelAxes

CHANNELS = 60


def table_of(local, target, jitter=0.01, rng=None):
    """A table whose local and target features follow two given groupings."""
    rng = np.random.default_rng(0) if rng is None else rng

    def values(*draws):
        return {
            name: (local if name in LOCAL_AXIS else target)
            + jitter * rng.standard_normal((*draws, CHANNELS))
            for name in QUANTITIES
        }

    axes = ChannelAxes(**values(), affected={}, noise_power=1.0, n=100)
    return AxisTable({"layer": axes}, {}, {}, {}, {}, {}, halves={"layer": values(2)})


def test_one_grouping_on_both_axes_is_found_as_one():
    groups = np.repeat([0.0, 1.0, 2.0], CHANNELS // 3)
    row = layer_groupings(table_of(groups, groups), permutations=99).iloc[0]
    assert row["between"] > 0.9
    assert row["shared"] > 0.9


def test_unrelated_groupings_agree_no_more_than_chance_though_each_is_stable():
    local = np.repeat([0.0, 1.0], CHANNELS // 2)
    target = np.tile([0.0, 1.0], CHANNELS // 2)
    row = layer_groupings(table_of(local, target), permutations=99).iloc[0]
    assert abs(row["between"]) < row["null_high"]
    assert min(row["local"], row["target"]) == row["shared"] > 0.9


def test_a_row_is_what_its_columns_say():
    groups = np.repeat([0.0, 1.0, 2.0], CHANNELS // 3)
    table = table_of(groups, np.roll(groups > 1, 7) * 1.0, jitter=0.6)
    row = layer_groupings(table, permutations=60, seed=4).iloc[0]

    def parted(values, k):
        features = np.column_stack([rankdata(v) / CHANNELS for v in values])
        fit = KMeans(k, n_init=10, random_state=4).fit_predict(features)
        return fit, silhouette_score(features, fit)

    axes = LOCAL_FEATURES, TARGET_FEATURES
    whole, halves = table["layer"].as_dict(), table.halves["layer"]
    scores = {
        k: sum(parted([whole[n] for n in names], k)[1] for names in axes) for k in range(2, 7)
    }
    k = max(scores, key=scores.get)
    local, target = (
        [parted([halves[n][h] for n in names], k)[0] for h in (0, 1)] for names in axes
    )
    pairs = [(local[0], target[1]), (local[1], target[0])]
    assert row["groups"] == k
    assert row["between"] == pytest.approx(np.mean([adjusted_rand_score(*p) for p in pairs]))
    assert row["local"] == pytest.approx(adjusted_rand_score(*local))
    assert row["target"] == pytest.approx(adjusted_rand_score(*target))
    assert row["shared"] == min(row["local"], row["target"])
    rng = np.random.default_rng(4)
    null = [_chance_agreement(*pair, 60, rng) for pair in pairs]
    assert row["null_high"] == pytest.approx(np.quantile(np.mean(null, axis=0), 0.975))
    assert (row["layer"], row["channels"]) == ("layer", CHANNELS)


def test_other_groups_are_found_and_the_same_ones_measured_badly_are_not():
    rng = np.random.default_rng(6)
    verdicts = {}
    for name, error, same in (("planted", 0.2, False), ("null", 0.7, True)):
        frames = []
        for seed in range(3):
            groups = rng.integers(3, size=(2, CHANNELS)) * 1.0
            tables = [table_of(groups[0], groups[0 if same else 1], error, rng) for _ in range(3)]
            rows = pd.concat([layer_groupings(t, most=4, permutations=1) for t in tables])
            frames.append(rows.assign(seed=seed))
        (finding,) = grouping_findings(pd.concat(frames))
        verdicts[name] = finding.values["word"]
        assert finding.values["shared"].mean > 0.05
    assert verdicts["planted"] == "holds"
    assert verdicts["null"] in ("not resolved", "contradicted")


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
    halves = good.halves["layer"]
    layers = {"holes": holes, "good": good["layer"], "alone": good["layer"]}
    table = AxisTable(layers, {}, {}, {}, {}, {}, halves={"holes": halves, "good": halves})
    found = layer_groupings(table, permutations=9)
    assert found["layer"].tolist() == ["good"]


def test_the_least_number_of_groups_tried_is_two_and_the_defaults_are_said():
    groups = np.repeat([0.0, 1.0, 2.0], CHANNELS // 3)
    table = table_of(groups, groups)
    assert layer_groupings(table, most=2, permutations=9)["groups"].tolist() == [2]
    with pytest.raises(ValueError, match="most must be a whole number >= 2; got 1"):
        layer_groupings(table, most=1)
    with pytest.raises(ValueError, match="Did you mean 'task_information'"):
        layer_groupings(table, target=["task_informations"])
    default = layer_groupings(table)
    pd.testing.assert_frame_equal(default, layer_groupings(table, most=6, permutations=500, seed=0))


def test_chance_agreement_is_the_adjusted_rand_index_of_permuted_groups():
    rng = np.random.default_rng(5)
    first, second = rng.integers(0, 3, 40), rng.integers(0, 4, 40)
    fast = _chance_agreement(first, second, 6, np.random.default_rng(9))
    permuted = np.random.default_rng(9).permuted(np.tile(second, (6, 1)), axis=1)
    np.testing.assert_allclose(fast, [adjusted_rand_score(first, p) for p in permuted])


@pytest.mark.parametrize("axis", ["local", "target"])
def test_a_layer_whose_features_have_fewer_values_than_groups_is_left_out(axis):
    groups, alike = np.repeat([0.0, 1.0, 2.0], CHANNELS // 3), np.zeros(CHANNELS)
    pair = (alike, groups) if axis == "local" else (groups, alike)
    assert layer_groupings(table_of(*pair, jitter=0.0), permutations=9).empty


def test_axes_that_do_not_group_their_own_channels_twice_alike_support_no_claim():
    """Agreement far below chance across axes, and none within: nothing is shown."""
    rows = {"between": [-0.4, -0.41, -0.39], "local": 0.0, "target": 0.01, "shared": 0.0}
    frame = pd.DataFrame({"seed": [0, 1, 2], "layer": "a", "null_high": 0.1, **rows})
    (finding,) = grouping_findings(frame)
    assert finding.values["gap"].low > 0
    assert finding.values["word"] == "not resolved"
