"""How much loss each channel group costs when it alone is thinned out."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from torch import nn

from empirical.pruning.allocation import best_units
from empirical.pruning.channel_graph import ChannelGraph
from empirical.pruning.criteria_weights import filter_norm
from empirical.pruning.criterion import over_producers
from empirical.pruning.macs import counted, filters
from empirical.pruning.removal import mask
from empirical.reading.batches import Batch, leading
from empirical.training.evaluation import evaluate

SHARES = (0.75, 0.5, 0.25, 0.1)
"""Shares of a group's units at which the loss is measured, besides all and one unit."""


def loss_by_share(
    model: nn.Module, graph: ChannelGraph, batches: Iterable[Batch], *, images: int = 512
) -> dict[str, list[tuple[float, float]]]:
    """Increase of the cross-entropy (nats) per group and share kept, over the first `images`.

    Units leave by the norm of their filters. A group's norms stay as they are.
    """
    some = list(leading(batches, images))
    everything = {group.name: np.arange(group.units) for group in graph.groups}
    dense = evaluate(model, some).loss
    found = {}
    for group in graph.groups:
        norms = over_producers(group, lambda m: filter_norm(filters(counted(model, m.module)), 2))
        points = [(1.0, 0.0)]
        for count in sorted({max(1, round(s * group.units)) for s in (*SHARES, 0.0)}):
            kept = {**everything, group.name: best_units(norms, count)}
            points.append(
                (count / group.units, evaluate(mask(model, graph.groups, kept), some).loss - dense)
            )
        found[group.name] = points
    return found
