"""Criteria that read the weights alone, and random draws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from empirical.pruning.channel_graph import Group
from empirical.pruning.criterion import Knowledge, Scores, over_producers, register_criterion
from empirical.pruning.macs import counted, filters


@register_criterion(
    "random", axis="none", across="raw", source="uniform draws; report several seeds",
    stochastic=True,
)  # fmt: skip
def random(_known: Knowledge, group: Group, generator: np.random.Generator) -> Scores:
    """Independent uniform scores, reproducible from the seed and the group's name."""
    return generator.random(group.units)


def filter_norm(weight: NDArray[np.floating], order: int) -> Scores:
    """Norm of each channel's filter; weight (C, ...).

    >>> filter_norm(np.array([[3.0, 4.0], [0.0, -1.0]]), 2)
    array([5., 1.])
    """
    flat = np.asarray(weight, dtype=np.float64).reshape(len(weight), -1)
    return np.asarray(np.linalg.norm(flat, ord=order, axis=1))


def geometric_spread(weight: NDArray[np.floating]) -> Scores:
    """FPGM (He et al., CVPR 2019): sum of distances of each filter to all others; weight (C, ...).

    >>> geometric_spread(np.array([[0.0], [1.0], [5.0]]))
    array([6., 5., 9.])
    """
    flat = np.asarray(weight, dtype=np.float64).reshape(len(weight), -1)
    return np.asarray(squareform(pdist(flat)).sum(axis=1))


def of_filters(score: Callable[[Scores], Scores]) -> Callable[[Knowledge, Group], Scores]:
    """Turn a score of a layer's filters into one of a group."""

    def of_group(known: Knowledge, group: Group) -> Scores:
        return over_producers(group, lambda m: score(filters(counted(known.model, m.module))))

    return of_group


for _name, _score, _source in (
    ("l1", lambda w: filter_norm(w, 1), "Li et al., ICLR 2017: norm of the channel's filter"),
    ("l2", lambda w: filter_norm(w, 2), "norm of the channel's filter"),
    ("fpgm", geometric_spread, "He et al., CVPR 2019: distance to the geometric median"),
):
    register_criterion(_name, axis="weights", source=_source)(of_filters(_score))
