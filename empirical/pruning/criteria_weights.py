"""Criteria that read the weights alone, and random draws."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from empirical.pruning.channel_graph import Group
from empirical.pruning.criterion import Knowledge, Scores, over_producers, register


@register("random", "none", "raw", "uniform draws; report several seeds")
def random(known: Knowledge, group: Group, seed: int) -> Scores:
    """Independent uniform scores, reproducible from the seed and the group's name."""
    generator = np.random.default_rng([seed, zlib.crc32(group.name.encode())])
    return generator.random(group.units)


def filter_norm(weight: NDArray[np.floating], order: int) -> Scores:
    """Norm of each channel's filter; weight (C, ...).

    >>> filter_norm(np.array([[3.0, 4.0], [0.0, -1.0]]), 2)
    array([5., 1.])
    """
    flat = np.asarray(weight, dtype=np.float64).reshape(len(weight), -1)
    return np.asarray(np.linalg.norm(flat, ord=order, axis=1))


def _norm(order: int) -> Callable[[Knowledge, Group, int], Scores]:
    def score(known: Knowledge, group: Group, _: int) -> Scores:
        return over_producers(
            group,
            lambda m: filter_norm(
                known.model.get_submodule(m.module).weight.detach().cpu().numpy(), order
            ),
        )

    return score


register("l1", "weights", "mean", "Li et al., ICLR 2017: norm of the channel's filter")(_norm(1))
register("l2", "weights", "mean", "norm of the channel's filter")(_norm(2))


def geometric_spread(weight: NDArray[np.floating]) -> Scores:
    """FPGM (He et al., CVPR 2019): sum of distances of each filter to all others; weight (C, ...).

    >>> geometric_spread(np.array([[0.0], [1.0], [5.0]]))
    array([6., 5., 9.])
    """
    flat = np.asarray(weight, dtype=np.float64).reshape(len(weight), -1)
    return np.asarray(squareform(pdist(flat)).sum(axis=1))


@register("fpgm", "weights", "mean", "He et al., CVPR 2019: distance to the geometric median")
def fpgm(known: Knowledge, group: Group, _: int) -> Scores:
    """Filters near the geometric median of their layer go first."""
    return over_producers(
        group,
        lambda m: geometric_spread(
            known.model.get_submodule(m.module).weight.detach().cpu().numpy()
        ),
    )
