"""Claim C2: do the two axes group the channels of a layer alike?

Channels are clustered by k-means on each axis, and partitions compared by the adjusted Rand index:
1 for the same groups, 0 on average for unrelated ones. What images allow is the agreement of an
axis with itself between the two halves of the images; the axes are compared across halves too. Were
both axes noisy views of the same groups, they would agree by the geometric mean of both axes'
agreement with themselves, never by less than the lesser of the two: that is the null.
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
    """One row per layer: agreement between the axes, with its null, and of each with itself.

    Parameters
    ----------
    table : a measurement with halves.
    local, target : quantities that span each axis; they enter as ranks.
    most : the largest number of groups tried.
    permutations : draws of the null in which channels keep their groups on each axis but are
        paired at random.
    seed : of k-means and the draws.

    Returns
    -------
    Columns layer, channels, groups (one number for both axes, that of the highest mean silhouette:
    partitions into different numbers of groups disagree by that alone), between (mean adjusted
    Rand index of one axis in one half with the other axis in the other half), null_high (97.5 %
    point of pairing at random), local and target (each axis, one half with the other), shared
    (the lesser of these two: what the axes reach at least if their groups are the same). Layers of
    fewer than 2 `most` channels, without halves, or with NaN in the features, are left out.
    """
    for name in (*local, *target):
        one_of("quantity", name, QUANTITIES)
    largest = count("most", most, least=2)
    rng = np.random.default_rng(seed)
    rows = []
    for layer, halves in table.halves.items():
        whole = [_ranks(table[layer].as_dict(), names) for names in (local, target)]
        parts = [_ranks(halves, names) for names in (local, target)]
        channels = len(whole[0])
        features = [*whole, *(half for axis in parts for half in axis)]
        if channels < 2 * largest or any(np.isnan(a).any() for a in features):
            continue
        if any(len(np.unique(a, axis=0)) < largest for a in features):
            continue  # fewer kinds of channels than groups
        k = _number(whole, largest, seed)
        (l0, l1), (t0, t1) = ([_kmeans(half, k, seed) for half in axis] for axis in parts)
        null = [_chance_agreement(*pair, permutations, rng) for pair in ((l0, t1), (l1, t0))]
        own = adjusted_rand_score(l0, l1), adjusted_rand_score(t0, t1)
        rows.append(
            {
                "layer": layer,
                "channels": channels,
                "groups": k,
                "between": (adjusted_rand_score(l0, t1) + adjusted_rand_score(l1, t0)) / 2,
                "null_high": float(np.quantile(np.mean(null, axis=0), 0.975)),
                "local": own[0],
                "target": own[1],
                "shared": min(own),
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


def _number(axes: Sequence[NDArray[np.float64]], most: int, seed: int) -> int:
    """The number of groups with the highest mean silhouette over the axes."""

    def silhouette(k: int) -> float:
        return sum(float(silhouette_score(axis, _kmeans(axis, k, seed))) for axis in axes)

    return max(range(2, most + 1), key=silhouette)


def _kmeans(features: NDArray[np.float64], k: int, seed: int) -> NDArray[np.int32]:
    groups: NDArray[np.int32] = KMeans(k, n_init=10, random_state=seed).fit_predict(features)
    return groups
