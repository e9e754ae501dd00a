"""How many units each channel group keeps, for a requested share of a budget.

The budget is the channel graph itself (multiply-accumulates), or parameters, or measured time.
The allocation is a factor of its own: "uniform" and "sensitivity" give every criterion the same
counts, "global" lets the scores of all groups compete. Which units of a group go is never decided
here, except that counts are exact and ties go by index (`best_units`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, gcd, lcm
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from empirical.pruning.channel_graph import Group

Counts = NDArray[np.int64]
Step = Counts | int
"""Units by which groups go, all by as many or each by its own; see `steps`."""
Room = tuple[Counts, Counts]
"""Fewest and most units of each group."""


class Budget(Protocol):
    """What counts of units cost: multiply-accumulates, parameters, seconds."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """Every removable group."""

    @property
    def sizes(self) -> Counts:
        """Units of each group, (groups,)."""

    @property
    def resource(self) -> str:
        """What is counted, as in "multiply-accumulates"."""

    def amounts(self, counts: Counts) -> NDArray[np.float64]:
        """How much several choices of counts cost, (n, groups) -> (n,)."""


def amount(budget: Budget, counts: Counts | None = None) -> float:
    """What one choice of counts costs, (groups,); that of all units by default."""
    return float(budget.amounts((budget.sizes if counts is None else counts)[None])[0])


NEAR = 0.002
"""Moves stop once the amount is within this share of the request."""
BOX_GROUPS, BOX_REACH, BOX_POINTS = 4, 3, 100_000
"""Networks of so few groups are searched so many units either way, then twice as many while that
is needed, up to so many choices."""


def best_units(scores: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Exactly `count` units with the highest scores, ascending; of equals the first stay.

    >>> best_units(np.array([1.0, 3.0, 1.0, 3.0]), 3)
    array([0, 1, 3])
    """
    return np.sort(np.argsort(-scores, kind="stable")[:count])


def steps(budget: Budget, round_to: int) -> Counts:
    """Units by which each group goes, so that its layers keep multiples of `round_to` channels.

    A unit may hold several channels (grouped convolutions); a group that is too small for a
    multiple has a single step, the whole of it.
    """
    sizes = budget.sizes
    wanted = [
        lcm(*(round_to // gcd(round_to, member.index.shape[1]) for member in group.producers))
        for group in budget.groups
    ]
    return np.asarray(np.where(wanted <= sizes, wanted, sizes), np.int64)


def floors(budget: Budget, floor: float, step: Step = 1) -> Counts:
    """Fewest units each group may keep: the share `floor` rounded up to steps, and at least one.

    Where that is more than the whole steps of a group, they are what it keeps.
    """
    least = np.maximum(1, np.ceil(floor * budget.sizes - 1e-9))
    return np.asarray(np.minimum(np.ceil(least / step) * step, most(budget, step)), np.int64)


def most(budget: Budget, step: Step = 1) -> Counts:
    """Most units each group may keep: the whole steps in its size."""
    return np.asarray(budget.sizes // step * step, np.int64)


def target_amount(budget: Budget, share: float, least: Counts, name: str = "macs") -> float:
    """Translate the share of the argument `name` into an amount, or say the least possible."""
    if not 0 < share <= 1:
        raise ValueError(
            f"{name} must be above 0 and at most 1, the share of {budget.resource} to keep; "
            f"got {share!r}."
        )
    lowest = amount(budget, least) / amount(budget)
    if share < lowest >= 1 and (least < budget.sizes).any():  # a matter of times
        raise ValueError(
            f"{name}={share:g} cannot be met: the least number of channels in every layer takes "
            f"{lowest:.2f} of the {budget.resource}. It is spent on the calls of its layers; give "
            "larger batches or images, or ask for a share of macs."
        )
    if share < lowest:
        fixed = amount(budget, np.zeros_like(least)) / amount(budget)
        raise ValueError(
            f"{name}={share:g} is below what the floors allow: keeping the least number of "
            f"channels in every layer leaves {ceil(1e4 * lowest) / 1e4:.4f} of the "
            f"{budget.resource} ({fixed:.4f} depend on no channel that can be removed). Ask for at "
            "least that, lower floor or round_to, or shorten skip."
        )
    return share * amount(budget)


def uniform(budget: Budget, target: float, least: Counts, step: Step = 1) -> Counts:
    """The same share of every group, settled to the target by single steps."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (
            (middle, high)
            if amount(budget, _share(budget, middle, least, step)) <= target
            else (low, middle)
        )
    return settle(budget, _share(budget, low, least, step), target, least, step)


def _share(budget: Budget, share: float, least: Counts, step: Step) -> Counts:
    nearest = np.rint(share * budget.sizes / step) * step
    return np.asarray(np.clip(nearest, least, most(budget, step)), np.int64)


def competing(
    budget: Budget,
    scores: Mapping[str, NDArray[np.float64]],
    target: float,
    least: Counts,
    step: Step = 1,
) -> Counts:
    """Counts after the lowest scores anywhere have gone; each group's best `least` are safe.

    Units that go together, by steps, count with the mean of their scores. Of equal scores the one
    further back in the network goes first.
    """
    owner, value = [], []
    width = np.broadcast_to(step, least.shape)
    for g, (group, top) in enumerate(zip(budget.groups, most(budget, step), strict=True)):
        ranked = np.sort(scores[group.name])[::-1][least[g] : top]
        together = ranked.reshape(-1, width[g]).mean(axis=1)
        owner.append(np.full(together.size, g))
        value.append(together)
    owners = np.concatenate(owner)[np.argsort(-np.concatenate(value), kind="stable")]

    def counts(removed: int) -> Counts:
        staying = owners[: owners.size - removed]
        more = width * np.bincount(staying, minlength=len(budget.groups))
        return np.asarray(least + more, np.int64)

    low, high = 0, owners.size
    while low < high:
        middle = (low + high) // 2
        enough = amount(budget, counts(middle)) <= target
        low, high = (low, middle) if enough else (middle + 1, high)
    return settle(budget, counts(low), target, least, step)


def by_sensitivity(
    budget: Budget,
    damage: Mapping[str, Sequence[tuple[float, float]]],
    target: float,
    least: Counts,
    step: Step = 1,
) -> Counts:
    """Counts that cost least by the measured damage of each group at a few shares kept.

    `damage` holds, per group, pairs (share kept, loss increase), the share falling from 1. The
    loss between them is interpolated linearly, made non-decreasing, and units go one step at a
    time from wherever the loss per amount saved is least.
    """
    counts = most(budget, step)
    curves = [_curve(damage[group.name], group.units) for group in budget.groups]
    stride = step * np.maximum(1, budget.sizes // (50 * step))
    while amount(budget, counts) > target:
        fewer = np.maximum(counts - stride, least)
        saved = amount(budget, counts) - budget.amounts(
            np.where(np.eye(len(counts), dtype=bool), fewer, counts)
        )
        lost = np.array([c[f] - c[k] for c, f, k in zip(curves, fewer, counts, strict=True)])
        price = np.full(len(counts), np.inf)
        np.divide(lost, saved, out=price, where=saved > 0)
        g = int(np.argmin(price))
        if saved[g] <= 0:
            break
        counts[g] = fewer[g]
    return settle(budget, counts, target, least, step)


def _curve(points: Sequence[tuple[float, float]], units: int) -> NDArray[np.float64]:
    """Loss increase at 0..units units kept, non-increasing in the number kept."""
    shares, losses = np.array(sorted(points)).T
    losses = np.maximum.accumulate(losses[::-1])[::-1]
    return np.interp(np.arange(units + 1) / units, shares, losses)


def settle(budget: Budget, start: Counts, target: float, least: Counts, step: Step = 1) -> Counts:
    """Move single steps, then pairs, then a small box, until the target is met closely enough.

    Single steps and pairs go where they help most. Only networks of few groups, whose steps are
    coarse, need the box; there the shortest move that comes within tolerance is taken.
    """
    one = np.eye(len(start), dtype=np.int64) * step
    moves = np.concatenate([one, -one])
    pairs = (moves[:, None] + moves[None]).reshape(-1, len(start))
    room = (least, most(budget, step))
    counts, best = _descend(budget, start, target, room, moves)
    counts, best = _descend(budget, counts, target, room, np.concatenate([moves, pairs]))
    if best > NEAR * target and len(start) <= BOX_GROUPS:
        counts = _nearest_in_box(budget, start, target, room, step)
    return counts


def _descend(
    budget: Budget, counts: Counts, target: float, room: Room, moves: Counts
) -> tuple[Counts, float]:
    best = abs(amount(budget, counts) - target)
    while best > NEAR * target:
        tried, off = _tried(budget, counts + moves, target, room)
        if not len(off) or off.min() >= best:
            break
        counts, best = tried[int(off.argmin())], float(off.min())
    return counts, best


def _nearest_in_box(budget: Budget, start: Counts, target: float, room: Room, step: Step) -> Counts:
    reach = BOX_REACH
    while True:
        axes = [np.arange(-reach, reach + 1)] * len(start)
        moves = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(start))
        moves = moves[np.argsort(np.abs(moves).sum(axis=1), kind="stable")] * step
        tried, off = _tried(budget, start + moves, target, room)
        near = np.flatnonzero(off <= NEAR * target)
        everything = bool((reach * np.asarray(step) >= room[1] - room[0]).all())
        reach *= 2
        if near.size or everything or (2 * reach + 1) ** len(start) > BOX_POINTS:
            return np.asarray(tried[near[0] if near.size else off.argmin()], np.int64)


def _tried(
    budget: Budget, counts: Counts, target: float, room: Room
) -> tuple[Counts, NDArray[np.float64]]:
    """Those counts that stay within `room`, and how far each is from the target."""
    low, high = room
    allowed = counts[((counts >= low) & (counts <= high)).all(axis=1)]
    return allowed, np.abs(budget.amounts(allowed) - target)
