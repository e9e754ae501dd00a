"""Which units stay: criterion, budget and allocation, and the check that they can go."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from empirical.pruning import allocation as alloc
from empirical.pruning.calibration import Calibration
from empirical.pruning.channel_graph import ChannelGraph
from empirical.pruning.criteria import comparable
from empirical.pruning.criterion import Score
from empirical.pruning.damage_allocation import by_damage
from empirical.pruning.removal import Kept, mask, remove
from empirical.pruning.verification import check_same, misread
from theory.shared.validation import count, one_of

ALLOCATIONS = ("uniform", "global", "sensitivity", "damage")
"""Rules for how many units each group keeps."""


def choose(
    known: Calibration,
    share: float,
    criterion: str | Score,
    allocation: str,
    *,
    resource: str = "macs",
    floor: float = 0.05,
    round_to: int = 1,
    counts: Mapping[str, int] | None = None,
    seed: int = 0,
) -> Kept:
    """Which units of each group stay, for a share of a resource: group name -> ascending indices.

    `resource` is "macs", "parameters" or "latency".
    """
    graph = known.graph
    found = known.scores(criterion, seed=seed)
    if counts is not None:
        keep = _given(graph, counts)
    else:
        budget = known.budget(resource)
        step = alloc.steps(graph, round_to)
        least = alloc.floors(graph, floor, step)
        target = alloc.target_amount(budget, share, least, resource)
        if allocation == "uniform":
            keep = alloc.uniform(budget, target, least, step)
        elif allocation == "global":
            keep = alloc.competing(budget, comparable(criterion, found), target, least, step)
        elif allocation == "damage":
            curves = list(known.damage_curves(criterion, seed=seed).values())
            keep = by_damage(budget, curves, target, least, step)
        else:
            keep = alloc.by_sensitivity(budget, known.sensitivity, target, least, step)
    return {
        group.name: alloc.best_units(found[group.name], int(keep[g]))
        for g, group in enumerate(graph.groups)
    }


def counts_of(known: Calibration, kept: Kept) -> alloc.Counts:
    """Units that stay of each group, (groups,)."""
    return np.array([len(kept[group.name]) for group in known.graph.groups], dtype=np.int64)


def verified(known: Calibration, wanted: Callable[[Calibration], Kept]) -> tuple[Calibration, Kept]:
    """What is `wanted` and can go; groups that cannot are kept whole, and the choice made anew."""
    while True:
        kept = wanted(known)
        wrong = refusals(known, kept)
        if not wrong:
            return known, kept
        known = known.keeping(refused=wrong)


def refusals(known: Calibration, kept: Kept) -> dict[str, str]:
    """Producers whose channels cannot go as `kept` says, with the reason; empty where all can.

    The removed network is run beside the masked one on calibration images; only where they
    disagree, or the removed one does not run, the groups at fault are sought.
    """
    images = known.batch
    try:
        removed = remove(known.model, known.graph, kept, known.example)
        check_same(removed, mask(known.model, known.graph.groups, kept), images)
    except ValueError as error:
        found = misread(known.model, images, known.graph.groups, kept)
        if not found:
            raise ValueError(
                f"{error} No single group is at fault; name layers in skip."
            ) from error
        return found
    return {}


def _given(graph: ChannelGraph, counts: Mapping[str, int]) -> alloc.Counts:
    names = {group.name: group.units for group in graph.groups}
    for name, wanted in counts.items():
        if name in graph.kept_whole:
            raise ValueError(
                f"counts asks for {wanted!r} channels of {name!r}, which is kept whole: "
                f"{graph.kept_whole[name]}. Leave it out."
            )
        one_of("counts", name, names)
        if count(f"counts[{name!r}]", wanted, least=0) not in range(1, names[name] + 1):
            raise ValueError(
                f"counts[{name!r}] must be from 1 to {names[name]}, its number of channels; got "
                f"{wanted!r}. A layer cannot be emptied."
            )
    return np.array([counts.get(name, units) for name, units in names.items()], dtype=np.int64)
