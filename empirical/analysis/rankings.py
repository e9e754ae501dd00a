"""Claim C7: does a ranking of criteria depend on the network more than on a network's seed?

Two trainings of one network rank criteria differently by noise alone; two networks do so by noise
and by what they are. How much more often trainings of one network agree than trainings of it and of
another is what the network itself is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pandas as pd
from scipy import stats

from empirical.analysis.seeds import LEAST
from empirical.analysis.statistics import LEVEL
from theory import spearman
from theory.shared.findings import Estimate

SETTING = ["allocation", "recovery"]


def ranking_gap(table: pd.DataFrame, network: str) -> Estimate:
    """Agreement of a network's rankings over its seeds, less that with other networks' rankings.

    Spearman over the criteria that both have, averaged over settings and over pairs of different
    seeds. The interval is the jackknife's over seeds, which leaves out one seed of all networks;
    none for fewer than three.

    Parameters
    ----------
    table : of `empirical.analysis.pruning.areas`: network, seed, allocation, recovery, criterion
        and area.
    network : the one that is held against all others.
    """
    wide = table.pivot_table(
        index="criterion", columns=[*SETTING, "network", "seed"], values="area"
    )
    seeds = sorted(table.loc[table["network"] == network, "seed"].unique())
    whole = _gap(wide, network, seeds)
    n = len(seeds)
    if n < LEAST:
        return Estimate(whole, np.nan, np.nan)
    without = np.array([_gap(wide, network, [s for s in seeds if s != left]) for left in seeds])
    error = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * error)
    return Estimate(whole, whole - half, whole + half)


def _gap(wide: pd.DataFrame, network: str, seeds: Sequence[int]) -> float:
    """Mean agreement with itself less that with others, over settings and pairs of these seeds."""
    gaps = []
    for _, columns in wide.T.groupby(level=[0, 1]):
        by = columns.droplevel([0, 1]).T
        names = by.columns.get_level_values(0)
        others = [name for name in dict.fromkeys(names) if name != network]
        pairs = [
            (one, other)
            for one, other in permutations(seeds, 2)
            if (network, one) in by and (network, other) in by
        ]
        own = [_agreement(by[network, one], by[network, other]) for one, other in pairs]
        across = [
            _agreement(by[network, one], by[name, other])
            for one, other in pairs
            for name in others
            if (name, other) in by
        ]
        if own and across:
            gaps.append(np.nanmean(own) - np.nanmean(across))
    return float(np.mean(gaps)) if gaps else np.nan


def _agreement(one: pd.Series, other: pd.Series) -> float:
    return float(spearman(one.to_numpy(), other.to_numpy()))
