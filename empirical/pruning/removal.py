"""Removing channels physically, and the mask that is its exact counterpart.

`remove` slices every tensor of a copy, so that the pruned network is smaller and faster.
`mask` leaves all shapes and silences the same channels where they are *read*: the consumers'
weight columns are zero, and norms that mix channels take their statistics over the kept ones.
Masked so, a network equals the pruned one to rounding whatever biases, norms and nonlinearities
lie between; zeroing at the producer would not, since a bias or a norm's shift revives a zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.pruning.channel_graph import (
    ChannelGraph,
    Group,
    Member,
    is_depthwise,
    is_norm_by_hand,
    is_norm_of_each,
)
from empirical.pruning.labels import Role
from empirical.pruning.macs import COUNTED, Counted, blocks_of, count_macs
from empirical.reading.hooks import module_at
from empirical.reading.layers import TRANSPOSED, weight_of
from empirical.reading.networks import copied

OUTPUTS = ("out_channels", "out_features", "num_features", "num_channels")
"""What modules call the number of channels that they hand on."""

DOES_NOT_RUN = (RuntimeError, AttributeError, TypeError, ValueError, AssertionError, LookupError)
"""What a forward pass raises that does not take its images, or whose channel numbers do not fit."""

Kept = Mapping[str, NDArray[np.int64]]
"""Group name -> the units that stay, ascending."""

Choice = frozenset[tuple[str, bytes]]
"""The same as a key."""

Side = tuple[str, Role, int]
"""Module (or bare parameter), the side that has the channels, and a parameter's dimension."""


def choice(kept: Kept) -> Choice:
    """What stays, as a key."""
    return frozenset((name, units.tobytes()) for name, units in kept.items())


def remove(model: nn.Module, graph: ChannelGraph, kept: Kept, example: Tensor) -> nn.Module:
    """Return a copy of `model` without the units that `kept` leaves out, checked by a forward.

    Raises ValueError where the smaller network does not run, or does not have the
    multiply-accumulates that the graph foretells: the model then does something with its
    channels that tracing did not see.
    """
    pruned = copied(model)
    for side, indices in kept_channels(pruned, graph.groups, kept).items():
        cut(pruned, side, indices)
    counts = np.array([len(kept[group.name]) for group in graph.groups])
    try:
        counted = count_macs(pruned, example)
    except DOES_NOT_RUN as error:
        raise ValueError(
            f"the pruned model does not run: {error}. Its forward depends on channel numbers in a "
            "way that tracing does not show; name the layers to keep whole in skip."
        ) from error
    if counted != graph.macs(counts):
        raise ValueError(
            f"the pruned model has {counted} multiply-accumulates, {graph.macs(counts)} expected: "
            "tracing missed a dependency. Name the layers to keep whole in skip."
        )
    return pruned


def mask(model: nn.Module, groups: Sequence[Group], kept: Kept) -> nn.Module:
    """Return a copy of `model`, all shapes unchanged, that computes what the pruned one does."""
    masked = copied(model)
    for (name, role, _), indices in kept_channels(masked, groups, kept).items():
        module = module_at(masked, name)
        if role == "in" and isinstance(module, COUNTED):
            _silence_inputs(module, indices)
        elif isinstance(module, MIXING_NORMS):
            masked.set_submodule(name, _KeptNorm(module, indices))
        elif module is None and is_norm_by_hand(masked.get_submodule(owner := _owner(name))):
            masked.set_submodule(owner, _KeptNorm(masked.get_submodule(owner), indices))
    return masked


def _owner(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def kept_channels(
    model: nn.Module, groups: Sequence[Group], kept: Kept
) -> dict[Side, NDArray[np.int64]]:
    """Translate kept units into kept channels of every side."""
    staying: dict[Side, NDArray[np.bool_]] = {}
    for group in groups:
        gone = np.ones(group.units, dtype=bool)
        gone[kept[group.name]] = False
        for member in group.members:
            key = (member.module, member.role, member.dim)
            if key not in staying:
                staying[key] = np.ones(_width(model, member), dtype=bool)
            staying[key][member.index[gone].ravel()] = False
    return {key: np.flatnonzero(stays) for key, stays in staying.items()}


def cut(model: nn.Module, side: Side, kept: NDArray[np.int64]) -> None:
    """Keep only the channels `kept` of one module (or bare parameter) on one side, in place."""
    name, role, dim = side
    module = module_at(model, name)
    if module is None:
        owner, _, attribute = name.rpartition(".")
        _slice(model.get_submodule(owner), attribute, dim, kept)
    elif role == "in" and isinstance(module, COUNTED):
        _cut_inputs(module, kept)
    else:
        if role == "through" and is_depthwise(module):
            several = module.out_channels // module.in_channels
            module.in_channels = module.groups = len(kept) // several
        _cut_outputs(module, kept)


def _cut_inputs(module: Counted, kept: NDArray[np.int64]) -> None:
    setattr(module, "in_features" if isinstance(module, nn.Linear) else "in_channels", len(kept))
    dim = 0 if isinstance(module, TRANSPOSED) else 1
    _slice(module, "weight", dim, kept[kept < module.weight.shape[dim]])


def _cut_outputs(module: nn.Module, kept: NDArray[np.int64]) -> None:
    if is_norm_of_each(module):
        module.num_groups = len(kept)
    for size in OUTPUTS:
        if hasattr(module, size):
            setattr(module, size, len(kept))
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        module.normalized_shape = (len(kept),)
    if isinstance(module, nn.PReLU):
        if module.num_parameters == 1:
            return
        module.num_parameters = len(kept)
    for name in ("weight", "bias", "running_mean", "running_var"):
        if getattr(module, name, None) is not None:
            transposed = name == "weight" and isinstance(module, TRANSPOSED)
            _slice(module, name, 1 if transposed else 0, kept)


def _slice(module: nn.Module, name: str, dim: int, kept: NDArray[np.int64]) -> None:
    old = getattr(module, name)
    new = old.detach().index_select(dim, torch.as_tensor(kept, device=old.device))
    new = new.contiguous(memory_format=_memory_format(old))
    if isinstance(old, nn.Parameter):
        setattr(module, name, nn.Parameter(new, requires_grad=old.requires_grad))
    else:
        setattr(module, name, new)


def _memory_format(weight: Tensor) -> torch.memory_format:
    last = weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _width(model: nn.Module, member: Member) -> int:
    """How many channels a member has on its side of the group."""
    module = module_at(model, member.module)
    if module is None:
        owner, _, attribute = member.module.rpartition(".")
        return int(getattr(model.get_submodule(owner), attribute).shape[member.dim])
    if member.role == "in" and isinstance(module, COUNTED):
        return weight_of(module).shape[1] * blocks_of(module)
    if isinstance(module, MIXING_NORMS):
        return _width_of(module)
    if isinstance(module, nn.PReLU):  # one parameter may serve all channels
        return max(module.num_parameters, int(member.index.max()) + 1)
    found = [getattr(module, size) for size in OUTPUTS if hasattr(module, size)]
    return int(found[0]) if found else int(member.index.max()) + 1


def _silence_inputs(module: Counted, kept: NDArray[np.int64]) -> None:
    weight = weight_of(module)
    gone = np.setdiff1d(np.arange(weight.shape[1]), kept[kept < weight.shape[1]])
    with torch.no_grad():
        weight[:, torch.as_tensor(gone, device=weight.device)] = 0.0


MIXING_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)
"""Norms whose statistics run over channels, and so change with those that are there."""


class _KeptNorm(nn.Module):
    """A norm whose statistics run over the kept channels; zero elsewhere."""

    kept: Tensor

    def __init__(self, norm: nn.Module, kept: NDArray[np.int64]) -> None:
        super().__init__()
        self.width = _width_of(norm)
        self.norm = copied(norm)
        if isinstance(norm, MIXING_NORMS):
            _cut_outputs(self.norm, kept)
        else:
            for name, parameter in norm.named_parameters():
                _slice(self.norm, name, parameter.shape.index(self.width), kept)
        self.register_buffer("kept", torch.as_tensor(kept))

    def forward(self, images: Tensor) -> Tensor:
        dim = self._dim(images)
        kept = self.kept.to(images.device)
        normed = self.norm(images.index_select(dim, kept))
        return torch.zeros_like(images).index_copy(dim, kept, normed)

    def _dim(self, images: Tensor) -> int:
        """Channels lie last, or second for group norms and layer norms that move them there."""
        if isinstance(self.norm, nn.GroupNorm) or images.shape[-1] != self.width:
            return 1
        two = images.ndim == 4 and images.shape[1] == self.width
        return 1 if two and "2d" in type(self.norm).__name__.lower() else -1


def _width_of(norm: nn.Module) -> int:
    if isinstance(norm, nn.GroupNorm):
        return norm.num_channels
    if isinstance(norm, (nn.LayerNorm, nn.RMSNorm)):
        return int(norm.normalized_shape[-1])
    return next(norm.parameters()).numel()
