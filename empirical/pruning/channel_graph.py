"""Which channels live and die together, and what multiply-accumulates depend on.

Removing output channel i of a convolution also removes channel i of the norm behind it, input
channel i of every layer that reads it, and, where a residual sum joins several layers, channel
i of all of them. Such a set is a `Group`; it holds names and indices only, so one trace serves
the model, its copies and its saved form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import ClassVar, TypeGuard

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.pruning.labels import Role
from empirical.pruning.macs import Counted, blocks_of, count_macs, counted, positions
from empirical.reading.layers import CONVOLUTIONS, Convolution, weight_of


@dataclass(frozen=True)
class Member:
    """One module's share of a group.

    `role` is "out" (the module produces the channels), "in" (it reads and mixes them) or
    "through" (it hands each on). `index` (units, m) holds the module's channels of each unit;
    m > 1 where a unit covers several, as behind a flattening or with grouped convolutions.
    `module` names a module, or a bare parameter or buffer with its channels along `dim`.
    """

    module: str
    role: Role
    index: NDArray[np.int64]
    dim: int = 0

    def of_blocks(self, module: nn.Module) -> NDArray[np.int64]:
        """A consumer's inputs of each unit by the block that reads them, (units, blocks, m)."""
        blocks = blocks_of(module)
        if blocks == 1:
            return self.index[:, None]
        return np.sort(self.index, axis=1).reshape(len(self.index), blocks, -1)

    def columns(self, module: Counted) -> NDArray[np.int64]:
        """Columns of a consumer's weight that read each unit, (units, m); alike in all blocks."""
        return self.of_blocks(module)[:, 0]


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

    `kept_whole` maps a layer whose channels cannot be removed to the reason. `rest` counts the
    multiply-accumulates outside of `layers`, as in attention, which removal does not change.
    """

    groups: tuple[Group, ...]
    kept_whole: dict[str, str]
    layers: tuple[str, ...]
    rest: int
    _cost: NDArray[np.float64]
    _inputs: NDArray[np.float64]
    _outputs: NDArray[np.float64]

    resource: ClassVar[str] = "multiply-accumulates"
    """What `amounts` counts, so that a graph is the budget that allocations meet by default."""

    def macs(self, counts: NDArray[np.int64] | None = None) -> int:
        """Multiply-accumulates per image with `counts` (groups,) units kept; all by default."""
        return int(self.macs_of_many((self.sizes if counts is None else counts)[None])[0])

    def macs_of_many(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Multiply-accumulates of several choices of counts, (n, groups) -> (n,)."""
        inputs, outputs = self.widths(counts)
        return np.rint((inputs * outputs) @ self._cost).astype(np.int64) + self.rest

    def amounts(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """`macs_of_many` as floats."""
        return self.macs_of_many(counts).astype(np.float64)

    def widths(self, counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Channels that each layer reads and computes at several choices of counts, (n, layers).

        A depthwise layer reads one channel for each that it computes.
        """
        kept = np.column_stack([counts, np.ones(len(counts))]).astype(np.float64)
        return kept @ self._inputs.T, kept @ self._outputs.T

    def terms(self) -> Iterator[tuple[float, NDArray[np.float64], NDArray[np.float64]]]:
        """Of each layer of `layers`: cost, inputs and outputs, whose product it multiplies.

        Inputs and outputs are (groups + 1,) channels per unit of each group, and a part that no
        removal changes.
        """
        for cost, inputs, outputs in zip(self._cost, self._inputs, self._outputs, strict=True):
            yield float(cost), inputs, outputs

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Units of each group, (groups,)."""
        return np.array([group.units for group in self.groups], dtype=np.int64)

    @property
    def producers(self) -> list[str]:
        """Every layer that produces removable channels."""
        return [m.module for group in self.groups for m in group.producers]

    def group(self, name: str) -> Group:
        """Return the group of this name."""
        return next(group for group in self.groups if group.name == name)


def is_depthwise(module: nn.Module | None) -> TypeGuard[Convolution]:
    """Whether a convolution reads each channel by itself, and makes one or several of it."""
    return isinstance(module, CONVOLUTIONS) and module.groups == module.in_channels > 1


def is_norm_of_each(module: nn.Module | None) -> TypeGuard[nn.GroupNorm]:
    """Whether a group norm takes each channel by itself."""
    return isinstance(module, nn.GroupNorm) and module.num_groups == module.num_channels > 1


def is_norm_by_hand(module: nn.Module) -> bool:
    """Whether a module of no library layer's type holds nothing but one parameter per channel.

    Means over channels that it takes are then those of a norm (ConvNeXtV2's response norm, layer
    norms written out): with fewer channels they are the means of those that are left.
    """
    own = [p for p in module._parameters.values() if p is not None]
    return (
        not type(module).__module__.startswith("torch.nn")
        and not any(True for _ in (*module.children(), *module.buffers()))
        and len({p.numel() for p in own}) == 1
        and all(1 < p.numel() == max(p.shape) for p in own)
    )


def with_costs(
    groups: tuple[Group, ...], kept_whole: dict[str, str], model: nn.Module, example: Tensor
) -> ChannelGraph:
    """Write each layer's inputs and outputs as a whole part plus so many channels per unit.

    Costs are those of the first image of `example`; nothing of layers that only others run.
    """
    calls = dict.fromkeys(positions(model, example), 0) | positions(model, example[:1])
    layers = tuple(calls)
    row = {name: i for i, name in enumerate(layers)}
    cost = np.zeros(len(layers))
    inputs, outputs = (np.zeros((len(layers), len(groups) + 1)) for _ in range(2))
    for name, i in row.items():
        module = counted(model, name)
        outputs[i, -1], read = weight_of(module).shape[:2]
        inputs[i, -1] = read * blocks_of(module)
        cost[i] = calls[name] * prod(module.weight.shape[2:]) / blocks_of(module)
    rest = count_macs(model, example) - round(float((inputs[:, -1] * outputs[:, -1]) @ cost))
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
    return ChannelGraph(groups, kept_whole, layers, rest, cost, inputs, outputs)
