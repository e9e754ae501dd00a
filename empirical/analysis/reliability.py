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
from scipy.special import log_ndtr

from empirical.analysis.statistics import HALVES
from empirical.measuring.table import AxisTable
from theory import QUANTITIES, jackknife_standard_error, spearman
from theory.rank_coupling import jackknife_quantile, split_half
from theory.shared.findings import Estimate
from theory.shared.validation import Float

RELIABLE = 0.6
"""The least reliability of a quantity over a layer's channels from which a verdict is drawn."""

LEAST_LEFT = 0.05
"""Correlation of halves below which nothing is corrected any more: the interval then is all."""

LOG_2 = math.log(2)

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
        the jackknife's of the coupling as measured, widened as the coupling is; by the reliability
        as measured, and by what having passed `RELIABLE` leaves of it (`after_passing`). None: no
        interval.
    """
    own = np.array([spearman(*first), spearman(*second)])
    if not min(split_half(*first), split_half(*second)) >= RELIABLE:
        return Estimate(np.nan, np.nan, np.nan)
    across = float(spearman(first[0], second[1]) + spearman(first[1], second[0])) / 2
    value = across / math.sqrt(own.prod())
    if without is None:
        return Estimate(value, np.nan, np.nan)
    error = float(jackknife_standard_error(spearman(*without)))
    ends = []
    for halves in (own, after_passing(own, first.shape[1])):
        whole = math.sqrt((2 * halves / (1 + halves)).prod())
        half = jackknife_quantile(len(without[0])) * error / whole
        ends += [across / math.sqrt(halves.prod()) + sign * half for sign in (-1, 1)]
    low, high = np.clip([min(ends), max(ends)], -1.0, 1.0)
    return Estimate(value, float(low), float(high))


def after_passing(correlation: Float, channels: int) -> Float:
    """What halves may correlate by, seen that they passed `RELIABLE`; at least `LEAST_LEFT`.

    Of layers whose true reliability is below the bound only those pass whose halves agree by luck.
    The value at which, on the scale of Fisher's z, half of those that pass correlate by more: next
    to what was seen well above the bound, and nothing at it. The standard error of a rank
    correlation there is √(1.06 / (C - 3)) (Fieller, Hartley and Pearson 1957).

    >>> after_passing(np.array([0.44, 0.6, 0.9]), 64).round(2).tolist()
    [0.05, 0.6, 0.9]
    """
    error = math.sqrt(1.06 / max(channels - 3, 1))
    seen = np.arctanh(np.minimum(correlation, 1 - 1e-9))
    bound = math.atanh(RELIABLE / (2 - RELIABLE))
    low, high = np.full_like(seen, math.atanh(LEAST_LEFT)), seen.copy()
    for _ in range(50):
        middle = (low + high) / 2
        more = log_ndtr((middle - seen) / error) - log_ndtr((middle - bound) / error)
        low, high = np.where(more < -LOG_2, middle, low), np.where(more < -LOG_2, high, middle)
    return np.asarray(np.tanh(low))


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
