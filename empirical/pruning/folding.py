"""Merging channels by their filters, data-free: model folding (Wang et al., ICLR 2025).

Channels with like filters are one cluster; its members' filters and norms become their mean and
the columns that read them are summed onto one representative. Clusters come from Ward's method,
which lowers the same objective as k-means by merging, so that they nest: `merge_scores` gives an
order of removal for any number kept. Statistics are repaired by recalibrating batch norms.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from empirical.pruning.channel_graph import ChannelGraph, Group, Member
from empirical.pruning.criterion import Knowledge, Scores, register_criterion
from empirical.pruning.macs import COUNTED, counted, filters
from empirical.pruning.removal import Kept
from empirical.reading.layers import TRANSPOSED, weight_of

Float = NDArray[np.float64]


def merge_scores(filters: Float) -> Scores:
    """Height at which each channel's cluster is merged into another; (C, d) -> (C,).

    The smaller cluster goes, of equals the one with the later representative; a cluster is
    represented by the member that outlasts it, so any number kept has one of each cluster.

    >>> merge_scores(np.array([[0.0], [0.1], [5.0]])).argsort()
    array([1, 2, 0])
    """
    count = len(filters)
    members = {i: (i, 1) for i in range(count)}  # cluster -> (representative, size)
    score = np.empty(count)
    for step, (one, other, height, size) in enumerate(linkage(filters, method="ward")):
        pair = [members.pop(int(one)), members.pop(int(other))]
        pair.sort(key=lambda cluster: (-cluster[1], cluster[0]))
        (stays, _), (goes, _) = pair
        score[goes] = height + step * 1e-12  # equal heights leave in the order of merging
        members[count + step] = (stays, int(size))
    (last, _), *_ = members.values()
    score[last] = np.inf if count == 1 else score[np.arange(count) != last].max() * 2 + 1.0
    return score


@register_criterion(
    "folding", axis="weights", source="Wang et al., ICLR 2025, with Ward's clusters"
)
def folding(known: Knowledge, group: Group) -> Scores:
    """Channels whose filters are nearest to another's go first."""
    return merge_scores(_filters(known.model, group))


def _filters(model: nn.Module, group: Group) -> Float:
    """Every producer's filters side by side, each scaled to unit mean square; (units, d)."""
    parts = []
    for member in group.producers:
        rows = filters(counted(model, member.module))[member.index].reshape(group.units, -1)
        scale = np.sqrt(np.mean(np.sum(rows**2, axis=1)))
        parts.append(rows / scale if scale > 0 else rows)
    return np.concatenate(parts, axis=1)


def fold(model: nn.Module, graph: ChannelGraph, kept: Kept) -> None:
    """Fold every removed unit into the kept one with the nearest filters, in place.

    `model` has its original shapes; remove or mask the units afterwards.
    """
    modules = dict(model.named_modules())
    for group in graph.groups:
        units = kept[group.name]
        if len(units) == group.units:
            continue
        rows = _filters(model, group)
        nearest = units[cdist(rows, rows[units]).argmin(axis=1)]
        nearest[units] = units
        with torch.no_grad():
            for member in group.members:
                if member.module in modules:
                    _fold_member(modules[member.module], member, units, nearest)


def _fold_member(
    module: nn.Module, member: Member, units: NDArray[np.int64], nearest: NDArray[np.int64]
) -> None:
    clusters = [np.flatnonzero(nearest == unit) for unit in units]
    if member.role == "in":
        assert isinstance(module, COUNTED)
        columns = member.columns(module)
        weight = weight_of(module)
        original = weight.clone()
        for unit, cluster in zip(units, clusters, strict=True):
            weight[:, columns[unit]] = original[:, columns[cluster]].sum(dim=1)
        return
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensor = getattr(module, name, None)
        if name == "weight" and isinstance(module, TRANSPOSED):
            tensor = weight_of(module)
        if isinstance(tensor, Tensor) and len(tensor) > member.index.max():
            original = tensor.clone()
            for unit, cluster in zip(units, clusters, strict=True):
                tensor[member.index[unit]] = original[member.index[cluster]].mean(dim=0)
