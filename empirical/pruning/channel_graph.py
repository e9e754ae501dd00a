"""Which channels live and die together: groups read from torch-pruning's traced graph.

Removing output channel i of a convolution also removes channel i of the norm behind it, input
channel i of every layer that reads it, and, where a residual sum joins several layers, channel
i of all of them. Such a set is a `Group`; it holds names and indices only, so one trace serves
the model, its copies and its saved form.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, TypeGuard

import numpy as np
import torch
import torch_pruning as tp
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.pruning.macs import (
    CONVOLUTIONS,
    COUNTED,
    Convolution,
    Counted,
    blocks_of,
    counted,
    positions,
)
from empirical.reading.hooks import evaluating
from theory.shared.validation import one_of

THROUGH = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.PReLU,
)
"""Modules besides depthwise convolutions that hand each channel on, one parameter per channel."""

Role = Literal["out", "in", "through"]

_TRACE_ERRORS = (
    RuntimeError,
    AttributeError,
    TypeError,
    AssertionError,
    LookupError,
    ArithmeticError,
)
"""What torch-pruning raises on graphs that it does not understand."""


@dataclass(frozen=True)
class Member:
    """One module's share of a group.

    `role` is "out" (the module produces the channels), "in" (it reads and mixes them) or
    "through" (it hands each on). `index` (units, m) holds the module's channels of each unit;
    m > 1 where a unit covers several, as behind a flattening or with grouped convolutions.
    """

    module: str
    role: Role
    index: NDArray[np.int64]

    def columns(self, module: Counted) -> NDArray[np.int64]:
        """Columns of a consumer's weight that read each unit, (units, m); alike in all blocks."""
        return self.index if blocks_of(module) == 1 else self.index[:, :1] % module.weight.shape[1]


@dataclass(frozen=True)
class Group:
    """Channels that can only be removed together; `units` of them, named by its first producer."""

    name: str
    units: int
    members: tuple[Member, ...]

    @property
    def producers(self) -> tuple[Member, ...]:
        """The layers that compute these channels; several where a residual sum couples them."""
        return tuple(m for m in self.members if m.role == "out")

    @property
    def consumers(self) -> tuple[Member, ...]:
        """The layers that read these channels."""
        return tuple(m for m in self.members if m.role == "in")


@dataclass(frozen=True)
class ChannelGraph:
    """Every removable group of a network, and what multiply-accumulates depend on.

    `kept_whole` maps a layer whose channels cannot be removed to the reason.
    """

    groups: tuple[Group, ...]
    kept_whole: dict[str, str]
    layers: tuple[str, ...]
    _cost: NDArray[np.float64]
    _inputs: NDArray[np.float64]
    _outputs: NDArray[np.float64]

    def macs(self, counts: NDArray[np.int64] | None = None) -> int:
        """Multiply-accumulates per image with `counts` (groups,) units kept; all by default."""
        return int(self.macs_of_many((self.sizes if counts is None else counts)[None])[0])

    def macs_of_many(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Multiply-accumulates of several choices of counts, (n, groups) -> (n,)."""
        kept = np.column_stack([counts, np.ones(len(counts))]).astype(np.float64)
        per_layer = (kept @ self._inputs.T) * (kept @ self._outputs.T)
        return np.rint(per_layer @ self._cost).astype(np.int64)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Units of each group, (groups,)."""
        return np.array([group.units for group in self.groups], dtype=np.int64)

    def group(self, name: str) -> Group:
        """Return the group of this name."""
        return next(group for group in self.groups if group.name == name)


def trace_channels(
    model: nn.Module, example: Tensor, *, skip: Sequence[str] = (), coupled: bool = True
) -> ChannelGraph:
    """Trace `model` on `example` (1, ...) and return its removable channel groups.

    Groups with a layer of `skip` among their producers stay whole, and without `coupled` those
    that a residual sum joins from several producers. The model itself is left as it is.

    Raises ValueError where the model cannot be traced, where no group can be removed, and for a
    name in `skip` that no layer has.

    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    >>> graph = trace_channels(net, torch.zeros(1, 1, 4, 4))
    >>> [(group.name, group.units, group.consumers[0].index.shape) for group in graph.groups]
    [('0', 4, (4, 4))]
    """
    calls = positions(model, example)
    for name in skip:
        one_of("skip", name, calls)
    traced, dependencies, outputs = trace_copy(model, example)
    names = {module: name for name, module in traced.named_modules()}
    names |= {parameter: name for name, parameter in traced.named_parameters()}
    groups, kept_whole = [], {}
    for found in dependencies.get_all_groups(root_module_types=list(COUNTED)):
        name = names[found[0].dep.target.module]
        reason = _why_not(found, outputs, calls)
        group = None if reason else _read_group(found, names)
        if group is None:
            kept_whole[name] = reason or "its channel groups leave a single unit"
        elif {m.module for m in group.producers} & set(skip):
            kept_whole[name] = "named in skip"
        elif len(group.producers) > 1 and not coupled:
            kept_whole[name] = "coupled by a residual sum, and coupled=False"
        else:
            groups.append(_in_call_order(group, list(calls)))
    groups.sort(key=lambda group: list(calls).index(group.name))
    if not groups:
        raise ValueError(
            "model has no channels that can be removed"
            + "".join(f"; {name}: {reason}" for name, reason in kept_whole.items())
            + ". It needs at least one hidden convolution or linear layer that another one reads."
        )
    return _with_costs(tuple(groups), kept_whole, traced, calls)


def trace_copy(
    model: nn.Module, example: Tensor
) -> tuple[nn.Module, tp.DependencyGraph, set[object]]:
    """Return a copy, torch-pruning's graph of the copy, and its outputs' autograd nodes."""
    model = copy.deepcopy(model).requires_grad_(True)
    outputs: set[object] = set()

    def note(result: object) -> object:
        outputs.update(t.grad_fn for t in tp.utils.flatten_as_list(result))
        return result

    try:
        with evaluating(model), torch.enable_grad():
            graph = tp.DependencyGraph().build_dependency(
                model, example_inputs=example, output_transform=note, verbose=False
            )
    except _TRACE_ERRORS as error:
        raise ValueError(
            f"model ({type(model).__name__}) could not be traced: {error}. Its forward must be "
            "differentiable from the images to the logits and return tensors."
        ) from error
    if outputs == {None} or not outputs:
        raise ValueError(
            f"model ({type(model).__name__}) could not be traced: its output has no gradient. "
            "Remove detach() and no_grad() from its forward."
        )
    return model, graph, outputs


def _why_not(found: tp.Group, outputs: set[object], calls: dict[str, int]) -> str | None:
    consumers = 0
    for dep, _ in found:
        module = dep.target.module
        ends = isinstance(module, tp.ops._OutputOp) or dep.target.grad_fn in outputs
        if ends and not (isinstance(module, COUNTED) and _reads(dep)):
            return "its channels are the network's output"
        known = isinstance(module, (*COUNTED, *THROUGH, nn.Parameter))
        if not known and not type(module).__module__.startswith("torch_pruning"):
            return f"{type(module).__name__} modules cannot be cut"
        consumers += isinstance(module, COUNTED) and not is_depthwise(module) and _reads(dep)
    return None if consumers else "no layer reads its channels"


def is_depthwise(module: nn.Module | None) -> TypeGuard[Convolution]:
    """Whether a convolution hands each channel on by itself."""
    return (
        isinstance(module, CONVOLUTIONS)
        and module.groups == module.out_channels == module.in_channels
        and module.out_channels > 1
    )


def _reads(dep: tp.Dependency) -> bool:
    return bool(dep.handler.__name__ == "prune_in_channels")


def _blocks(module: nn.Module) -> int:
    """In how many equal blocks the module treats its channels."""
    if isinstance(module, nn.GroupNorm):
        return module.num_groups
    return 1 if is_depthwise(module) or not isinstance(module, COUNTED) else blocks_of(module)


def _read_group(found: tp.Group, names: dict[object, str]) -> Group | None:
    """Turn a torch-pruning group into names and indices; None if it is a single unit."""
    channels = len(found[0].idxs)
    blocks = [b for dep, _ in found if (b := _blocks(dep.target.module)) > 1]
    block = max(blocks, default=1)
    if any(block % b for b in blocks) or channels % block or channels // block < 2:
        return None
    units = channels // block
    members: list[Member] = []
    for item in found.items:
        module = item.dep.target.module
        if module not in names:
            continue
        through = is_depthwise(module) or not isinstance(module, COUNTED)
        role: Role = "through" if through else "in" if _reads(item.dep) else "out"
        owned: list[list[int]] = [[] for _ in range(units)]
        for channel, root in zip(item.idxs, item.root_idxs, strict=True):
            owned[root % units].append(channel)
        if len({len(o) for o in owned}) != 1:
            return None
        member = Member(names[module], role, np.array(owned, dtype=np.int64))
        if not any(m.module == member.module and m.role == role == "through" for m in members):
            members.append(member)
    return Group(members[0].module, units, tuple(members))


def _in_call_order(group: Group, calls: list[str]) -> Group:
    """Name the group by its first producer, producers and consumers as the forward meets them."""

    def place(member: Member) -> int:
        return calls.index(member.module) if member.module in calls else len(calls)

    members = tuple(sorted(group.members, key=place))
    first = next(m for m in members if m.role == "out")
    return Group(first.module, group.units, members)


def _with_costs(
    groups: tuple[Group, ...], kept_whole: dict[str, str], model: nn.Module, calls: dict[str, int]
) -> ChannelGraph:
    """Write each layer's inputs and outputs as a whole part plus so many channels per unit."""
    layers = tuple(calls)
    row = {name: i for i, name in enumerate(layers)}
    cost = np.zeros(len(layers))
    inputs, outputs = (np.zeros((len(layers), len(groups) + 1)) for _ in range(2))
    for name, i in row.items():
        module = counted(model, name)
        outputs[i, -1] = len(module.weight)
        inputs[i, -1] = module.weight.shape[1] * blocks_of(module)
        cost[i] = calls[name] * prod(module.weight.shape[2:]) / blocks_of(module)
    for g, group in enumerate(groups):
        for member in group.members:
            if member.module not in row:
                continue
            i, width = row[member.module], member.index.shape[1]
            if member.role == "through":  # depthwise: one input per output, whatever is kept
                taps = counted(model, member.module).weight.shape[2:]
                cost[i] = calls[member.module] * prod(taps)
                inputs[i] = np.eye(len(groups) + 1)[-1]
            side = inputs if member.role == "in" else outputs
            side[i, g] += width
            side[i, -1] -= width * group.units
    return ChannelGraph(groups, kept_whole, layers, cost, inputs, outputs)
