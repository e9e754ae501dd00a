"""Damage curves set right by what each group, thinned out alone, is measured to cost.

A damage curve is of second order about the dense network, and takes what changes at different
positions as independent. How far that falls short differs between layers: measured over foretold,
peers standing in, is 3 to 15 in most layers of a trained ResNet-20, and 38 to 89 in the block in
front of its pooling, where errors of all positions add up. Curves that compete for units have to
be wrong by the same factor. So each group alone is cut once, and its curve multiplied by what was
found over what was foretold.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import nn

from empirical.pruning.allocation import best_units
from empirical.pruning.channel_graph import Group
from empirical.pruning.compensation import merge
from empirical.pruning.criterion import Knowledge, Scores
from empirical.pruning.forecast_law import Answers
from empirical.pruning.removal import mask
from empirical.reading.batches import leading
from empirical.reading.networks import copied

KEPT = 0.5
"""Share of its units that a group keeps while its damage is measured."""

PASSES, FEWEST, MOST = 3000, 32, 300
"""Images that pass the network for all groups together; fewest and most for one group."""


def measured_curves(
    known: Knowledge, scores: Mapping[str, Scores], foretold: Mapping[str, Scores]
) -> dict[str, Scores]:
    """Damage of every group by units kept, in nats, as measured at half of its units: (units + 1,).

    Parameters
    ----------
    known : the dense network with the moments by which kept units stand in, and images, of which
        the first are used
    scores : group -> one per unit, by which they go; the highest stay
    foretold : group -> damage by units kept, nats, (units + 1,)

    Nothing counts less than was foretold: few images say little of what seldom matters. A group
    that is foretold to lose nothing at half has the geometric mean of the others' factors.
    """
    images = min(MOST, max(FEWEST, PASSES // max(1, len(known.graph.groups))))
    some = list(leading(known.batches(), images))
    dense = Answers.of(known.model, some, classes=False)
    factors = {}
    for group in known.graph.groups:
        count = max(1, round(KEPT * group.units))
        said = float(foretold[group.name][count])
        if said > 0:
            cut = _cut(known, group, best_units(scores[group.name], count))
            lost = dense.distance(Answers.of(cut, some, classes=False))
            factors[group.name] = max(1.0, lost / said)
    usual = float(np.exp(np.mean(np.log([*factors.values()])))) if factors else 1.0
    return {name: curve * factors.get(name, usual) for name, curve in foretold.items()}


def _cut(known: Knowledge, group: Group, staying: NDArray[np.int64]) -> nn.Module:
    """The network with `staying` alone of one group, standing in for its other units."""
    graph = known.graph
    kept = {g.name: np.arange(g.units) for g in graph.groups} | {group.name: staying}
    compensated = copied(known.model)
    merge(compensated, graph, kept, known.input_moments)
    return mask(compensated, graph.groups, kept)
