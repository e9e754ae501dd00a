"""How reliable measured quantities are, and what that does to their couplings.

The two halves of the images have independent errors. Their rank correlation over channels gives
the reliability of the whole by the formula of Spearman and Brown; correlations across halves, of
one quantity with another over those with themselves, are free of attenuation and of errors that
two quantities of the same images share (Spearman 1904).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from empirical.analysis.statistics import HALVES
from empirical.measuring.table import AxisTable
from theory import QUANTITIES, jackknife_standard_error, spearman
from theory.rank_coupling import jackknife_quantile, split_half
from theory.shared.findings import Estimate
from theory.shared.validation import Float

RELIABLE = 0.6
"""The least reliability of a quantity over a layer's channels from which a verdict is drawn."""

ALIKE = 0.5
"""Mean absolute correlation from which channels are of one family."""


def corrected_coupling(
    first: Float, second: Float, without: tuple[Float, Float] | None = None
) -> Estimate:
    """Rank coupling of two quantities free of attenuation; NaN where one is unreliable.

    The mean of the couplings across halves over the geometric mean of those of each quantity with
    itself. It may exceed 1, as estimates do; the interval does not.

    Parameters
    ----------
    first, second : (2, C) values from either half of the images.
    without : (G, C) values of both with one group of images left out. The interval over images is
        the jackknife's of the coupling as measured, widened as the coupling is. None: no interval.
    """
    own = float(spearman(*first)), float(spearman(*second))
    reliable = split_half(*first), split_half(*second)
    if not min(reliable) >= RELIABLE:
        return Estimate(np.nan, np.nan, np.nan)
    across = float(spearman(first[0], second[1]) + spearman(first[1], second[0])) / 2
    value = across / math.sqrt(own[0] * own[1])
    if without is None:
        return Estimate(value, np.nan, np.nan)
    error = float(jackknife_standard_error(spearman(*without)))
    half = jackknife_quantile(len(without[0])) * error / math.sqrt(reliable[0] * reliable[1])
    return Estimate(value, max(value - half, -1.0), min(value + half, 1.0))


def layer_reliability(table: AxisTable, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Layer -> quantity -> reliability; empty for a layer without halves."""
    return {
        layer: {name: float(split_half(*halves[name])) for name in names}
        for layer in table.layers
        if (halves := table.in_halves(layer))
    }


def families(correlation: Float, alike: float = ALIKE) -> np.ndarray:
    """(C,) family of each channel: average linkage by |correlation|, down to `alike`.

    Channels without variance have no correlation and are families of their own.

    >>> families(np.array([[1.0, -0.9, 0.1], [-0.9, 1.0, 0.0], [0.1, 0.0, 1.0]])).tolist()
    [0, 0, 1]
    """
    if len(correlation) < 2:
        return np.zeros(len(correlation), dtype=int)
    distance = 1 - np.abs(np.nan_to_num(correlation))
    np.fill_diagonal(distance, 0)
    distance = np.maximum(distance + distance.T, 0) / 2
    tree = hierarchy.linkage(squareform(distance, checks=False), "average")
    return np.asarray(hierarchy.fcluster(tree, 1 - alike, "distance")) - 1


def channel_scores(table: AxisTable, names: Sequence[str] = QUANTITIES) -> pd.DataFrame:
    """One row per channel: layer, channel, the scores, their halves, and the channel's family."""
    frames = []
    for layer in table.layers:
        values, halves = table.values(layer), table.in_halves(layer)
        columns = {name: values[name] for name in names}
        for name in names if halves else ():
            for index, ending in enumerate(HALVES[1:]):
                columns[name + ending] = halves[name][index]
        n = len(values["signal_power"])
        if layer in table.moments:
            cov = table.moments[layer].cov[:n, :n]
            power = np.sqrt(np.diagonal(cov))
            with np.errstate(invalid="ignore", divide="ignore"):
                columns["family"] = families(cov / np.outer(power, power))
        frames.append(pd.DataFrame({"layer": layer, "channel": np.arange(n), **columns}))
    return pd.concat(frames, ignore_index=True)
