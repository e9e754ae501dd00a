"""Budgets other than multiply-accumulates: the parameters of a network, and its measured time."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from empirical.pruning.channel_graph import ChannelGraph, Group
from empirical.pruning.macs import COUNTED, blocks_of, counted
from empirical.reading.hooks import module_at

Float = NDArray[np.float64]


@dataclass(frozen=True)
class _OfGraph:
    """The groups of a traced network."""

    graph: ChannelGraph

    @property
    def groups(self) -> tuple[Group, ...]:
        """Every removable group."""
        return self.graph.groups

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Units of each group."""
        return self.graph.sizes


@dataclass(frozen=True)
class ParameterBudget(_OfGraph):
    """Parameters of the network that is left.

    Those of a layer's weight are inputs × outputs × taps, over its groups; `per_unit` (groups,)
    those that go with each unit besides: biases, norms, bare parameters; `whole`: all others.
    """

    per_weight: Float
    per_unit: Float
    whole: float
    resource: str = "parameters"

    @classmethod
    def of(cls, graph: ChannelGraph, model: nn.Module) -> ParameterBudget:
        """Read off a network that was traced to `graph`."""
        per_weight = np.zeros(len(graph.layers))
        alone = {m.module for g in graph.groups for m in g.members if m.role == "through"}
        for i, name in enumerate(graph.layers):
            module = counted(model, name)
            taps = prod(module.weight.shape[2:])
            per_weight[i] = taps if name in alone else taps / blocks_of(module)
        per_unit = np.array([_beside_weights(model, group) for group in graph.groups])
        empty = cls(graph, per_weight, per_unit, 0.0)
        everything = sum(parameter.numel() for parameter in model.parameters())
        given = float(empty.amounts(graph.sizes[None])[0])
        return cls(graph, per_weight, per_unit, everything - given)

    def amounts(self, counts: NDArray[np.int64]) -> Float:
        """Parameters at several choices of counts, (n, groups) -> (n,)."""
        inputs, outputs = self.graph.widths(counts)
        weights = (inputs * outputs) @ self.per_weight
        return np.asarray(weights + counts @ self.per_unit + self.whole, np.float64)


def _beside_weights(model: nn.Module, group: Group) -> float:
    """Parameters that go with one unit, besides the weights of convolutions and linear layers."""
    found = 0.0
    for member in group.members:
        module, width = module_at(model, member.module), member.index.shape[1]
        if module is None:
            owner, _, attribute = member.module.rpartition(".")
            tensor = getattr(model.get_submodule(owner), attribute)
            if isinstance(tensor, nn.Parameter):
                found += width * tensor.numel() / tensor.shape[member.dim]
        elif member.role != "in":
            beside = [
                parameter
                for name, parameter in module._parameters.items()
                if parameter is not None and not (name == "weight" and isinstance(module, COUNTED))
            ]
            found += width * sum(len(p) > 1 for p in beside)
    return found


@runtime_checkable
class LayerTimes(Protocol):
    """Seconds of every layer at any width, and a clock for whole networks."""

    @property
    def rest(self) -> float:
        """Seconds of all that is no convolution or linear layer."""

    def seconds(self, layer: str, inputs: Float, outputs: Float) -> Float:
        """Of one layer at several widths, (n,)."""

    def share(self, dense: nn.Module, pruned: nn.Module) -> float:
        """Measured time of a pruned network over the dense one's."""


@dataclass(frozen=True)
class LatencyBudget(_OfGraph):
    """Seconds of a forward pass: the sum of its layers' measured times at their widths."""

    times: LayerTimes
    resource: str = "time"

    def amounts(self, counts: NDArray[np.int64]) -> Float:
        """Seconds at several choices of counts, (n, groups) -> (n,)."""
        inputs, outputs = self.graph.widths(counts)
        total = np.full(len(counts), self.times.rest)
        for i, name in enumerate(self.graph.layers):
            total += self.times.seconds(name, inputs[:, i], outputs[:, i])
        return total
