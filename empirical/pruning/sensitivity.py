"""How much loss each channel group costs when it alone is thinned out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from empirical.pruning.channel_graph import ChannelGraph, Group
from empirical.pruning.criteria_weights import filter_norm
from empirical.pruning.criterion import over_producers
from empirical.pruning.removal import mask
from empirical.reading.hooks import evaluating

SHARES = (0.75, 0.5, 0.25, 0.1)
"""Shares of a group's units at which the loss is measured, besides all and one unit."""


def loss_by_share(
    model: nn.Module,
    graph: ChannelGraph,
    batches: Sequence[tuple[Tensor, Tensor]],
    *,
    images: int = 512,
) -> dict[str, list[tuple[float, float]]]:
    """Increase of the cross-entropy (nats) per group and share kept, over the first `images`.

    Units leave by the norm of their filters. A group's norms stay as they are.
    """
    inputs = torch.cat([x for x, _ in batches])[:images]
    labels = torch.cat([y for _, y in batches])[:images]
    everything = {group.name: np.arange(group.units) for group in graph.groups}
    dense = _loss(model, inputs, labels)
    found = {}
    for group in graph.groups:
        order = _by_norm(model, group)
        points = [(1.0, 0.0)]
        for count in sorted({max(1, round(s * group.units)) for s in (*SHARES, 0.0)}):
            kept = {**everything, group.name: np.sort(order[:count])}
            loss = _loss(mask(model, graph, kept), inputs, labels)
            points.append((count / group.units, loss - dense))
        found[group.name] = points
    return found


def _by_norm(model: nn.Module, group: Group) -> NDArray[np.int64]:
    def norm(name: str) -> NDArray[np.float64]:
        return filter_norm(model.get_submodule(name).weight.detach().cpu().numpy(), 2)

    return np.argsort(-over_producers(group, lambda m: norm(m.module)), kind="stable")


def _loss(model: nn.Module, inputs: Tensor, labels: Tensor, chunk: int = 256) -> float:
    with evaluating(model):
        total = sum(
            float(functional.cross_entropy(model(x), y, reduction="sum"))
            for x, y in zip(inputs.split(chunk), labels.split(chunk), strict=True)
        )
    return total / len(labels)
