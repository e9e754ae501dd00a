"""What a pruning criterion is: a named score per channel of a group. Higher means keep.

A group's score is the mean over the layers that produce its channels, and over the channels of a
unit where a unit has several.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch_pruning as tp
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.pruning.channel_graph import ChannelGraph, Group, Member
from empirical.pruning.input_moments import InputMoments
from theory import ChannelAxes

Scores = NDArray[np.float64]


class Knowledge(Protocol):
    """The part of a `Calibration` that criteria read."""

    model: nn.Module
    graph: ChannelGraph
    axes: Mapping[str, ChannelAxes]
    hulls: Mapping[str, ChannelAxes]
    input_moments: dict[tuple[str, str], InputMoments]
    output_fisher: Mapping[str, Scores]
    gradients: Mapping[str, dict[str, Tensor]]
    map_ranks: dict[str, Scores]
    map_independence: dict[str, Scores]
    traced: tuple[nn.Module, tp.DependencyGraph]


@dataclass(frozen=True)
class Criterion:
    """A named score of a group's units.

    `axis` is "local", "target", "both", "weights", "gradients", "maps" or "none". `across` says
    how scores of different groups compare under a global allocation: "raw" where the unit is the
    same everywhere, "mean" where each group is first divided by its mean absolute score.
    """

    name: str
    axis: str
    across: str
    score: Callable[[Knowledge, Group, int], Scores]
    source: str


REGISTRY: dict[str, Criterion] = {}


def register(
    name: str, axis: str, across: str, source: str
) -> Callable[
    [Callable[[Knowledge, Group, int], Scores]], Callable[[Knowledge, Group, int], Scores]
]:
    """Add a criterion to the registry under `name`."""

    def add(
        score: Callable[[Knowledge, Group, int], Scores],
    ) -> Callable[[Knowledge, Group, int], Scores]:
        REGISTRY[name] = Criterion(name, axis, across, score, source)
        return score

    return add


def over_producers(group: Group, score: Callable[[Member], Scores]) -> Scores:
    """Mean of a per-channel score over the group's producers and over each unit's channels."""
    return np.mean([score(m)[m.index].mean(axis=1) for m in group.producers], axis=0)


def ranks(values: Scores) -> Scores:
    """Ranks scaled to 0..1, equals sharing their mean rank.

    >>> ranks(np.array([3.0, 1.0, 3.0]))
    array([0.75, 0.  , 0.75])
    """
    order = np.sort(values)
    low = np.searchsorted(order, values, side="left")
    high = np.searchsorted(order, values, side="right") - 1
    return (low + high) / 2 / max(1, len(values) - 1)
