"""Claim C2: do the two axes group the channels of a layer alike?

Channels are clustered by k-means on each axis, k chosen by silhouette, and the two partitions
compared by the adjusted Rand index: 1 for the same groups, 0 on average for unrelated ones. How
much to make of a low index depends on how stable each partition is by itself, so both are given:
the index between axes, and each axis against itself when a group of images is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score

from empirical.measuring.table import AxisTable
from theory import QUANTITIES
from theory.shared.validation import count, one_of

LOCAL_FEATURES = ("input_capture", "peer_overlap")
TARGET_FEATURES = ("task_information", "target_excess")


def layer_groupings(
    table: AxisTable,
    *,
    local: Sequence[str] = LOCAL_FEATURES,
    target: Sequence[str] = TARGET_FEATURES,
    most: int = 6,
    permutations: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per layer: groups on each axis, their agreement, its null, and their stability.

    Parameters
    ----------
    table : a measurement, with replicates for the stability.
    local, target : quantities that span each axis; they enter as ranks.
    most : the largest number of groups tried.
    permutations : draws of the null in which channels keep their groups on each axis but are
        paired at random.
    seed : of k-means and the draws.

    Returns
    -------
    Columns layer, channels, k_local, k_target, silhouette_local, silhouette_target,
    rand_between (adjusted Rand index of the two partitions), null_high (97.5 % point),
    p_value (one-sided, more alike than chance), stability_local, stability_target (mean
    adjusted Rand index with partitions of delete-one-group replicates). Layers of fewer than
    2 `most` channels, or with NaN in the features, are left out.
    """
    for name in (*local, *target):
        one_of("quantity", name, QUANTITIES)
    largest = count("most", most, least=2)
    rng = np.random.default_rng(seed)
    rows = []
    for layer in table.layers:
        values = table[layer].as_dict()
        axes = [_ranks(values, names) for names in (local, target)]
        channels = len(axes[0])
        if channels < 2 * largest or any(np.isnan(axis).any() for axis in axes):
            continue
        groups = [_partition(axis, largest, seed) for axis in axes]
        found = adjusted_rand_score(groups[0], groups[1])
        null = _chance_agreement(groups[0], groups[1], permutations, rng)
        rows.append(
            {
                "layer": layer,
                "channels": channels,
                "k_local": int(groups[0].max()) + 1,
                "k_target": int(groups[1].max()) + 1,
                "silhouette_local": silhouette_score(axes[0], groups[0]),
                "silhouette_target": silhouette_score(axes[1], groups[1]),
                "rand_between": found,
                "null_high": float(np.quantile(null, 0.975)),
                "p_value": (1 + np.count_nonzero(null >= found - 1e-12)) / (1 + permutations),
                "stability_local": _stability(table, layer, local, groups[0], seed),
                "stability_target": _stability(table, layer, target, groups[1], seed),
            }
        )
    return pd.DataFrame(rows)


def _chance_agreement(
    first: NDArray[np.int32], second: NDArray[np.int32], draws: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(draws,) adjusted Rand indices with the channels of `second` permuted.

    Permuting leaves the sizes of the groups, and with them all of the index but the number of
    pairs that are together in both: one contingency table per draw.
    """
    k, m = int(first.max()) + 1, int(second.max()) + 1
    permuted = rng.permuted(np.tile(second, (draws, 1)), axis=1)
    cells = (np.arange(draws)[:, None] * k + first) * m + permuted
    tables = np.bincount(cells.ravel(), minlength=draws * k * m).reshape(draws, -1)
    together = (tables * (tables - 1) // 2).sum(axis=1)
    pairs = [sizes @ (sizes - 1) / 2 for sizes in (np.bincount(first), np.bincount(second))]
    expected = pairs[0] * pairs[1] / (first.size * (first.size - 1) / 2)
    found: NDArray[np.float64] = (together - expected) / (sum(pairs) / 2 - expected)
    return found


def _ranks(values: Mapping[str, NDArray[np.float64]], names: Sequence[str]) -> NDArray[np.float64]:
    """(..., C, features) ranks scaled to [0, 1]: informations are skewed, and scales differ."""
    chosen = np.stack([values[name] for name in names], axis=-1)
    ranks = rankdata(chosen, axis=-2)
    return np.asarray(ranks / chosen.shape[-2])


def _partition(features: NDArray[np.float64], most: int, seed: int) -> NDArray[np.int32]:
    """K-means with the number of groups of the highest silhouette."""
    partitions = [_kmeans(features, k, seed) for k in range(2, most + 1)]
    return max(partitions, key=lambda groups: silhouette_score(features, groups))


def _kmeans(features: NDArray[np.float64], k: int, seed: int) -> NDArray[np.int32]:
    groups: NDArray[np.int32] = KMeans(k, n_init=10, random_state=seed).fit_predict(features)
    return groups


def _stability(
    table: AxisTable, layer: str, names: Sequence[str], groups: NDArray[np.int32], seed: int
) -> float:
    if layer not in table.replicates:
        return np.nan
    k = int(groups.max()) + 1
    scores = [
        adjusted_rand_score(groups, _kmeans(features, k, seed))
        for features in _ranks(table.replicates[layer], names)
    ]
    return float(np.mean(scores))
