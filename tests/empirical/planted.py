"""Planted silence: channels that say nothing at their producers, taken out, change nothing.

An oracle of removal that knows nothing of masks: a random half of each group's units gets zero
filters (and, where a norm follows, zero scale and shift), so that the dense network does not use
it. What is left after exactly those are cut must compute the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from empirical.pruning.channel_graph import ChannelGraph, Group, Member, is_norm_by_hand
from empirical.pruning.removal import MIXING_NORMS, remove
from empirical.reading.hooks import capture_calls, evaluating, module_at
from empirical.reading.layers import TRANSPOSED, weight_of

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
            if name == "weight" and isinstance(module, TRANSPOSED):
                tensor = weight_of(module)
            if isinstance(tensor, Tensor):
                tensor[rows] = 0.0
        for name, value in (("running_mean", 0.0), ("running_var", 1.0)):
            tensor = getattr(module, name, None)
            if isinstance(tensor, Tensor):
                tensor[rows] = value
    return model


def heard(model: nn.Module, group: Group, kept: np.ndarray, images: Tensor) -> bool:
    """Whether silence at the producers is not silence where the channels are read.

    So it is behind a nonlinearity that turns zero into something, and where a norm takes its
    statistics over the channels, which changes with those that are gone.
    """
    gone = np.setdiff1d(np.arange(group.units), kept)
    found = [_mixes(model, m) for m in group.members]

    def reader(member: Member) -> Callable[[Tensor, Tensor], None]:
        def note(inputs: Tensor, _output: Tensor) -> None:
            dim = -1 if isinstance(module_at(model, member.module), nn.Linear) else 1
            columns = torch.as_tensor(member.index[gone].ravel())
            found.append(bool((inputs.index_select(dim, columns) != 0).any()))

        return note

    with evaluating(model), capture_calls(model, {m.module: reader(m) for m in group.consumers}):
        model(images)
    return any(found)


def _mixes(model: nn.Module, member: Member) -> bool:
    """Whether a norm takes its statistics over the member's channels."""
    module = module_at(model, member.module)
    if module is None:
        return is_norm_by_hand(model.get_submodule(member.module.rpartition(".")[0]))
    return isinstance(module, MIXING_NORMS)


def largest_change(
    model: nn.Module, graph: ChannelGraph, images: Tensor, *, seed: int = 0
) -> float:
    """Largest change of an output, of the largest one, over all groups silenced and cut at once.

    Groups whose silence is heard are left whole; NaN where none is left.
    """
    kept, planted, cut = {}, model, 0
    for group in graph.groups:
        kept[group.name] = silent_half(group, seed)
        silent = silenced(planted, group, kept[group.name])
        if heard(silent, group, kept[group.name], images[:1]):
            kept[group.name] = np.arange(group.units)
        else:
            planted, cut = silent, cut + 1
    if not cut:
        return float("nan")
    pruned = remove(planted, graph, kept, images[:1])
    with evaluating(planted), evaluating(pruned):
        dense, small = planted(images), pruned(images)
    return float((dense - small).abs().max() / dense.abs().max())
