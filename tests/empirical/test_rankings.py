"""Rankings of criteria: one everywhere is no gap, one of each network is."""

import numpy as np
import pandas as pd
import pytest

from empirical.analysis.rankings import ranking_gap
from theory.shared.findings import verdict

CRITERIA, NETWORKS, SETTINGS = 9, 4, (("uniform", "none"), ("global", "compensate"))


def areas(rng, *, own, noise, seeds=3):
    """Areas of criteria whose worth is shared, and `own` of each network's, with noise by seed."""
    shared = rng.standard_normal(CRITERIA)
    rows = []
    for network in range(NETWORKS):
        worth = shared + own * rng.standard_normal(CRITERIA)
        for seed in range(seeds):
            trained = worth + noise * rng.standard_normal(CRITERIA)
            for allocation, recovery in SETTINGS:
                values = trained + 0.3 * noise * rng.standard_normal(CRITERIA)
                rows += [
                    {"network": f"n{network}", "seed": seed, "allocation": allocation,
                     "recovery": recovery, "criterion": f"c{c}", "area": value}
                    for c, value in enumerate(values)
                ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_ranking_of_its_own_is_found():
    found = ranking_gap(areas(np.random.default_rng(0), own=2.0, noise=0.2), "n0")
    assert verdict(found) == "holds"
    assert found.mean > 0.3


def test_one_ranking_with_noise_is_seldom_said_to_depend_on_the_network():
    """The level of the verdict: 2.5 % of comparisons, one-sided, of three seeds."""
    rng, said, draws = np.random.default_rng(1), 0, 60
    for _ in range(draws):
        said += verdict(ranking_gap(areas(rng, own=0.0, noise=0.7), "n1")) == "holds"
    assert said / draws < 0.025 + 4 * np.sqrt(0.025 * 0.975 / draws)


def test_the_gap_is_what_its_definition_says_and_two_seeds_have_no_interval():
    table = areas(np.random.default_rng(2), own=1.0, noise=0.5, seeds=2)
    found = ranking_gap(table, "n2")
    assert np.isnan([found.low, found.high]).all()
    by = {key: g.set_index("criterion")["area"] for key, g in
          table.groupby(["network", "seed", "allocation"])}  # fmt: skip

    def agreement(one, other):
        return one.rank().corr(other.rank())

    gaps = []
    for allocation, _ in SETTINGS:
        own = agreement(by["n2", 0, allocation], by["n2", 1, allocation])
        across = [
            agreement(by["n2", s, allocation], by[other, 1 - s, allocation])
            for s in (0, 1) for other in ("n0", "n1", "n3")
        ]  # fmt: skip
        gaps.append(own - np.mean(across))
    assert found.mean == pytest.approx(np.mean(gaps))
    assert np.isnan(ranking_gap(table[table["network"] == "n2"], "n2").mean)
