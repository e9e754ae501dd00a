"""Which units stay: criterion, budget and allocation, and the check that they can go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from empirical.pruning import allocation as alloc
from empirical.pruning.calibration import Calibration
from empirical.pruning.channel_graph import ChannelGraph
from empirical.pruning.criteria import comparable
from empirical.pruning.criterion import Score, Scores
from empirical.pruning.damage_allocation import by_damage
from empirical.pruning.removal import DOES_NOT_RUN, Kept, choice, mask, remove
from empirical.pruning.verification import check_same, misread
from empirical.seeding import checked_seed
from theory.shared.validation import count, instance, one_of, positive, within

ALLOCATIONS = ("uniform", "global", "sensitivity", "damage", "measured_damage")
"""Rules for how many units each group keeps."""

RESOURCES = ("macs", "parameters", "latency")
"""What a share may be kept of."""


@dataclass(frozen=True)
class Request:
    """What is asked of a network: a share of a resource, or `counts` (group -> units), and how.

    `resource` is "macs", "parameters" or "latency"; the other fields are those of `prune`.
    """

    share: float
    criterion: str | Score
    allocation: str
    resource: str = "macs"
    floor: float = 0.05
    round_to: int = 1
    counts: Mapping[str, int] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("resource", self.resource, RESOURCES)
        one_of("allocation", self.allocation, ALLOCATIONS)
        checked_seed("seed", self.seed)
        within("floor", positive("floor", self.floor, zero=True), "[0, 1]")
        if self.counts is not None:
            instance("counts", self.counts, Mapping, 'Pass a dict, as {"conv1": 8}.')
        if count("round_to", self.round_to) > 1 and self.counts is not None:
            raise ValueError(
                f"round_to={self.round_to} chooses counts, and counts gives them. Pass one of the "
                "two."
            )

    def least(self, known: Calibration) -> alloc.Counts:
        """Fewest units that each group may keep."""
        return alloc.floors(known.graph, self.floor, alloc.steps(known.graph, self.round_to))

    def counted(self, known: Calibration) -> alloc.Counts:
        """Units that each group keeps, (groups,)."""
        if self.counts is not None:
            return _given(known.graph, self.counts)
        budget, least = known.budget(self.resource), self.least(known)
        step = alloc.steps(known.graph, self.round_to)
        target = alloc.target_amount(budget, self.share, least, self.resource)
        if self.allocation == "uniform":
            return alloc.uniform(budget, target, least, step)
        if self.allocation == "global":
            found = comparable(self.criterion, known.scores(self.criterion, seed=self.seed))
            return alloc.competing(budget, found, target, least, step)
        if self.allocation in ("damage", "measured_damage"):
            return by_damage(budget, self.curves(known), target, least, step)
        return alloc.by_sensitivity(budget, known.sensitivity, target, least, step)

    def curves(self, known: Calibration) -> list[Scores]:
        """Per group, nats lost by units kept, in the criterion's order, for this allocation."""
        measured = self.allocation == "measured_damage"
        found = known.damage_curves(self.criterion, seed=self.seed, measured=measured)
        return list(found.values())

    def kept(self, known: Calibration) -> Kept:
        """Which units stay: group name -> ascending indices."""
        found = known.scores(self.criterion, seed=self.seed)
        return {
            group.name: alloc.best_units(found[group.name], int(units))
            for group, units in zip(known.graph.groups, self.counted(known), strict=True)
        }


def counts_of(known: Calibration, kept: Kept) -> alloc.Counts:
    """Units that stay of each group, (groups,)."""
    return np.array([len(kept[group.name]) for group in known.graph.groups], dtype=np.int64)


def chosen(known: Calibration, request: Request, path: str = "removed") -> tuple[Calibration, Kept]:
    """What stays on a path; what is to be removed is checked first, see `verified`."""
    return verified(known, request.kept) if path == "removed" else (known, request.kept(known))


def verified(known: Calibration, wanted: Callable[[Calibration], Kept]) -> tuple[Calibration, Kept]:
    """What is `wanted` and can go; groups that cannot are kept whole, and the choice made anew.

    Each choice is tried once, whatever recoveries follow.
    """
    while True:
        kept = wanted(known)
        key = choice(kept)
        wrong = {} if key in known.sound else refusals(known, kept)
        if not wrong:
            known.sound.add(key)
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
    except DOES_NOT_RUN as error:
        found = misread(known.model, images, known.graph.groups, kept)
        if not found:
            raise ValueError(
                f"{error} No single group is at fault; name layers in skip."
            ) from error
        return found
    return {}


def _given(graph: ChannelGraph, counts: Mapping[str, int]) -> alloc.Counts:
    names = {m.module: g for g, group in enumerate(graph.groups) for m in group.producers}
    keep = graph.sizes
    said: dict[int, str] = {}
    for name, wanted in counts.items():
        if name in graph.kept_whole:
            raise ValueError(
                f"counts asks for {wanted!r} channels of {name!r}, which is kept whole: "
                f"{graph.kept_whole[name]}. Leave it out."
            )
        g = names[one_of("counts", name, names)]
        units = graph.groups[g].units
        if count(f"counts[{name!r}]", wanted, least=0) not in range(1, units + 1):
            raise ValueError(
                f"counts[{name!r}] must be from 1 to {units}, its number of channels; got "
                f"{wanted!r}. A layer cannot be emptied."
            )
        if g in said and wanted != keep[g]:
            raise ValueError(
                f"counts asks for {keep[g]} channels of {said[g]!r} and {wanted!r} of {name!r}, "
                "which go together. Name one of them."
            )
        keep[g], said[g] = wanted, name
    return keep
