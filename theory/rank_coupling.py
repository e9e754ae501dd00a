"""Rank coupling of two quantities across the channels of a layer, and how sure one can be of it.

Two kinds of uncertainty: the finite set of channels (permutation null: would channels paired at
random be as aligned?), and the finite set of images (delete-one-group jackknife).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from theory.moments import Moments, merge
from theory.shared.validation import Float, count, instance, real_array

MOST_DRAWN = 100_000_000
"""Values, channels times permutations, that a null may hold at a time: 0.8 GB."""


def spearman(a: ArrayLike, b: ArrayLike) -> Float:
    """Spearman rank correlation along the last axis, ties at their mean rank.

    Channels where either value is NaN are left out. Fewer than three channels, or a constant
    quantity, leave no ranking: NaN.

    >>> float(spearman([1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 40.0, 30.0]))
    0.8
    """
    x, y = real_array("a", a), real_array("b", b)
    if x.ndim == 0 or y.ndim == 0 or x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"a and b must have the same number of channels, last; got {x.shape} and {y.shape}."
        )
    x, y = np.broadcast_arrays(x, y)
    known = ~(np.isnan(x) | np.isnan(y))
    if not known.all():
        if x.ndim > 1:
            rows = [spearman(u, v) for u, v in zip(x, y, strict=True)]
            return np.asarray(rows)
        x, y = x[known], y[known]
    if x.shape[-1] < 3:
        return np.full(x.shape[:-1], np.nan)
    ranks = [scipy.stats.rankdata(v, axis=-1) for v in (x, y)]
    first, second = (r - r.mean(axis=-1, keepdims=True) for r in ranks)
    scale = np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1))
    with np.errstate(invalid="ignore"):
        result: Float = (first * second).sum(axis=-1) / scale
    return result


def split_half(one: Float, other: Float) -> Float:
    """Reliability of the whole from two halves (..., C): 2r/(1 + r), at least -1.

    r is the halves' rank correlation (Spearman 1910; Brown 1910).

    >>> float(split_half(np.arange(4.0), np.arange(4.0)))
    1.0
    """
    r = spearman(one, other)
    return np.asarray(np.maximum(2 * r / (1 + np.maximum(r, -0.999)), -1.0))


def delete_one_group(groups: Sequence[Moments]) -> list[Moments]:
    """For each group, the moments of all the others; O(groups) merges by prefixes and suffixes.

    Raises
    ------
    ValueError
        fewer than two groups.
    """
    instance("groups", groups, Sequence, "Pass a list of Moments.")
    for group in groups:
        instance("groups", group, Moments, "Build each with Moments.from_samples.")
    if len(groups) < 2:
        raise ValueError(f"groups must hold at least 2 Moments for a jackknife; got {len(groups)}.")
    before: list[Moments | None] = [None]
    after: list[Moments | None] = [None]
    for group in groups[:-1]:
        before.append(group if before[-1] is None else before[-1] + group)
    for group in reversed(groups[1:]):
        after.append(group if after[-1] is None else group + after[-1])
    after.reverse()
    return [
        merge([part for part in (left, right) if part is not None])
        for left, right in zip(before, after, strict=True)
    ]


def jackknife_standard_error(replicates: ArrayLike) -> Float:
    """Standard error from delete-one-group replicates stacked along the first axis.

    √((g - 1)/g Σ (θ_(k) - mean)²) for g groups of equal size (Efron and Stein 1981).

    >>> float(jackknife_standard_error([1.0, 2.0, 3.0]).round(6))
    1.154701
    """
    values = real_array("replicates", replicates)
    g = len(np.atleast_1d(values))
    if g < 2:
        raise ValueError(f"replicates must hold at least 2 groups; got {g}.")
    result: Float = np.sqrt((g - 1) / g * ((values - values.mean(axis=0)) ** 2).sum(axis=0))
    return result


def jackknife_quantile(groups: int, level: float = 0.95) -> float:
    """Standard errors on either side of an estimate that hold the truth in `level` of cases.

    A jackknife over few groups knows its own standard error badly: Student's quantile with one
    degree of freedom less than groups.

    >>> round(jackknife_quantile(10), 2)
    2.26
    """
    return float(scipy.stats.t.ppf((1 + level) / 2, count("groups", groups, least=2) - 1))


def jackknife(groups: Sequence[Moments], statistic: Callable[[Moments], ArrayLike]) -> Float:
    """Standard error of `statistic` under deletion of one group of images at a time."""
    instance("statistic", statistic, Callable, "Pass a function of Moments.")  # type: ignore[arg-type]
    return jackknife_standard_error(
        np.stack([np.asarray(statistic(rest)) for rest in delete_one_group(groups)])
    )


@dataclass(frozen=True)
class Coupling:
    """Spearman coupling of two quantities across the channels of a layer.

    Attributes
    ----------
    value : the rank correlation.
    null_low, null_high : 2.5 and 97.5 % points when channels are paired at random.
    p_value : two-sided, of the permutation null, counting the observed pairing itself.
    channels : how many channels entered.
    """

    value: float
    null_low: float
    null_high: float
    p_value: float
    channels: int


def coupling(a: ArrayLike, b: ArrayLike, *, permutations: int = 1000, seed: int = 0) -> Coupling:
    """Coupling of two quantities of one layer against the null of randomly paired channels.

    Parameters
    ----------
    a : (C,) one quantity.
    b : (C,) the other.
    permutations : draws of the null.
    seed : of the draws.

    Raises
    ------
    ValueError
        shapes that differ, or fewer than one permutation.
    """
    x, y = real_array("a", a), real_array("b", b)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"a and b must be of one length (C,); got {x.shape} and {y.shape}.")
    draws = count("permutations", permutations, most=MOST_DRAWN // max(x.size, 1))
    count("seed", seed, least=0)
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    value = float(spearman(x, y))
    if np.isnan(value):
        return Coupling(np.nan, np.nan, np.nan, np.nan, x.size)
    rng = np.random.default_rng(seed)
    null = spearman(x, rng.permuted(np.tile(y, (draws, 1)), axis=1))
    extreme = np.count_nonzero(np.abs(null) >= abs(value) - 1e-12)
    low, high = np.quantile(null, [0.025, 0.975])
    return Coupling(value, float(low), float(high), (1 + extreme) / (1 + draws), x.size)
