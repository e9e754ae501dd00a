"""Planted silence: channels that say nothing at their producers, taken out, change nothing.

An oracle of removal that knows nothing of masks: a random half of each group's units gets zero
filters (and, where a norm follows, zero scale and shift), so that the dense network does not use
it. What is left after exactly those are cut must compute the same.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from empirical.pruning.channel_graph import ChannelGraph, Group
from empirical.pruning.removal import remove
from empirical.reading.hooks import evaluating, module_at

PLANTED_TOLERANCE = 1e-5
"""Of the largest output: float32 sums over fewer terms, rounded in another order."""


def silent_half(group: Group, seed: int = 0) -> np.ndarray:
    """Units that stay, (units - half,)."""
    rng = np.random.default_rng([seed, group.units])
    return np.sort(rng.permutation(group.units)[: group.units - group.units // 2])


@torch.no_grad()
def silenced(model: nn.Module, group: Group, kept: np.ndarray) -> nn.Module:
    """A copy in which all but `kept` of a group's units are zero wherever they are computed."""
    model = copy.deepcopy(model)
    gone = np.setdiff1d(np.arange(group.units), kept)
    for member in group.members:
        module = module_at(model, member.module)
        if member.role == "in" or module is None or isinstance(module, nn.PReLU):
            continue
        rows = torch.as_tensor(member.index[gone].ravel())
        for name in ("weight", "bias"):
            tensor = getattr(module, name, None)
            if isinstance(tensor, Tensor):
                tensor[rows] = 0.0
        for name, value in (("running_mean", 0.0), ("running_var", 1.0)):
            tensor = getattr(module, name, None)
            if isinstance(tensor, Tensor):
                tensor[rows] = value
    return model


def largest_change(
    model: nn.Module, graph: ChannelGraph, images: Tensor, *, seed: int = 0
) -> float:
    """Largest change of an output, of the largest one, over all groups silenced and cut at once."""
    kept = {group.name: silent_half(group, seed) for group in graph.groups}
    planted = model
    for group in graph.groups:
        planted = silenced(planted, group, kept[group.name])
    pruned = remove(planted, graph, kept, images[:1])
    with evaluating(planted), evaluating(pruned):
        dense, small = planted(images), pruned(images)
    return float((dense - small).abs().max() / dense.abs().max())
