"""What "auto" stands for: a criterion and an allocation; recoveries are `recovering`'s."""

from __future__ import annotations

from empirical.pruning.allocation import amount
from empirical.pruning.calibration import Calibration
from empirical.pruning.choosing import Request, chosen
from empirical.pruning.criterion import Score
from empirical.pruning.holding_out import Fold
from empirical.pruning.output_fisher import foretells
from empirical.pruning.recovering import distances
from empirical.pruning.recovery import AUTO

BY_DAMAGE = ("damage", "measured_damage")
"""Allocations among which held-out images decide."""

HALF = 0.5
"""Share of the multiply-accumulates at which they decide."""

TOGETHER = {"replaceability": "global"}
"""Criterion that "auto" takes -> the allocation that goes with it, where images need not decide."""


def best_criterion(known: Calibration, criterion: str | Score = AUTO) -> str | Score:
    """The criterion that "auto" stands for; others as they are.

    `task_replaceability` where the network returns logits that have gradients at the layers that
    read what may go, else `replaceability`. See benchmarks/pruning_peers.py.
    """
    if criterion != AUTO:
        return criterion
    readers = {m.module: None for group in known.graph.groups for m in group.consumers}
    told = foretells(known.model, list(readers), known.example)
    return "task_replaceability" if told else "replaceability"


def best_allocation(
    known: Calibration,
    criterion: str | Score,
    recovery: str = AUTO,
    *,
    path: str = "removed",
    seed: int = 0,
) -> str:
    """The allocation that "auto" stands for under a criterion.

    Under `task_replaceability` *damage* or *measured_damage*: once per network and images, cut to
    half of its multiply-accumulates (halfway to the fewest possible, where these are many),
    whichever stays nearer to the dense network on every fifth calibration image, by the closed form
    that the recovery is or starts from (the better one where it is "auto") fitted on the others. A
    layer in front of a pooling can cost 89 times what the second order foretells, as in a trained
    ResNet-20; elsewhere its curves need no correction, and one measurement a layer adds noise.
    *global* under `replaceability`; *uniform* under others, whose scores seldom compare between
    layers. Images that decide nothing, as too few, leave *damage*.
    """
    if criterion != "task_replaceability":
        return TOGETHER.get(str(criterion), "uniform")
    if not Fold(known.batches, held=True) or not known.graph.groups:
        return BY_DAMAGE[0]
    lowest = amount(known.graph, Request(1.0, criterion, BY_DAMAGE[0]).least(known))
    lowest /= amount(known.graph)
    share = HALF if lowest < HALF / 2 else (1 + lowest) / 2
    left = {}
    for allocation in BY_DAMAGE:
        fits, kept = chosen(known, Request(share, criterion, allocation, seed=seed), path)
        left[allocation] = min(distances(fits, kept, recovery, path).values())
    return min(left, key=lambda allocation: left[allocation])
