"""How many units each channel group keeps, for a requested share of multiply-accumulates.

The allocation is a factor of its own: "uniform" and "sensitivity" give every criterion the same
counts, "global" lets the scores of all groups compete. Which units of a group go is never decided
here, except that counts are exact and ties go by index (`best_units`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, gcd, lcm

import numpy as np
from numpy.typing import NDArray

from empirical.pruning.channel_graph import ChannelGraph

Counts = NDArray[np.int64]
Step = Counts | int
"""Units by which groups go, all by as many or each by its own; see `steps`."""
Room = tuple[Counts, Counts]
"""Fewest and most units of each group."""
NEAR = 0.002
"""Moves stop once the multiply-accumulates are within this share of the request."""
BOX_GROUPS, BOX_REACH = 4, 3
"""Networks of so few groups are searched so many units either way."""


def best_units(scores: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Exactly `count` units with the highest scores, ascending; of equals the first stay.

    >>> best_units(np.array([1.0, 3.0, 1.0, 3.0]), 3)
    array([0, 1, 3])
    """
    return np.sort(np.argsort(-scores, kind="stable")[:count])


def steps(graph: ChannelGraph, round_to: int) -> Counts:
    """Units by which each group goes, so that its layers keep multiples of `round_to` channels.

    A unit may hold several channels (grouped convolutions); a group that is too small for a
    multiple has a single step, the whole of it.
    """
    sizes = graph.sizes
    wanted = [
        lcm(*(round_to // gcd(round_to, member.index.shape[1]) for member in group.producers))
        for group in graph.groups
    ]
    return np.asarray(np.where(wanted <= sizes, wanted, sizes), np.int64)


def floors(graph: ChannelGraph, floor: float, step: Step = 1) -> Counts:
    """Fewest units each group may keep: the share `floor` rounded up to steps, and at least one.

    Where that is more than the whole steps of a group, they are what it keeps.
    """
    least = np.maximum(1, np.ceil(floor * graph.sizes - 1e-9))
    return np.asarray(np.minimum(np.ceil(least / step) * step, most(graph, step)), np.int64)


def most(graph: ChannelGraph, step: Step = 1) -> Counts:
    """Most units each group may keep: the whole steps in its size."""
    return np.asarray(graph.sizes // step * step, np.int64)


def target_macs(graph: ChannelGraph, macs: float, least: Counts) -> int:
    """Translate the share `macs` into a number, or say the least that the floors allow."""
    if not 0 < macs <= 1:
        raise ValueError(
            f"macs must be above 0 and at most 1, the share of multiply-accumulates to keep; "
            f"got {macs!r}."
        )
    lowest = graph.macs(least) / graph.macs()
    if macs < lowest:
        fixed = graph.macs(np.zeros_like(least)) / graph.macs()
        raise ValueError(
            f"macs={macs:g} is below what the floors allow: keeping the least number of channels "
            f"in every layer leaves {ceil(1e4 * lowest) / 1e4:.4f} of the multiply-accumulates "
            f"({fixed:.4f} depend on no channel that can be removed). Ask for at least that, lower "
            "floor or round_to, or shorten skip."
        )
    return round(macs * graph.macs())


def uniform(graph: ChannelGraph, target: int, least: Counts, step: Step = 1) -> Counts:
    """The same share of every group, settled to the target by single steps."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (
            (middle, high)
            if graph.macs(_share(graph, middle, least, step)) <= target
            else (low, middle)
        )
    return settle(graph, _share(graph, low, least, step), target, least, step)


def _share(graph: ChannelGraph, share: float, least: Counts, step: Step) -> Counts:
    nearest = np.rint(share * graph.sizes / step) * step
    return np.asarray(np.clip(nearest, least, most(graph, step)), np.int64)


def competing(
    graph: ChannelGraph,
    scores: Mapping[str, NDArray[np.float64]],
    target: int,
    least: Counts,
    step: Step = 1,
) -> Counts:
    """Counts after the lowest scores anywhere have gone; each group's best `least` are safe.

    Units that go together, by steps, count with the mean of their scores. Of equal scores the one
    further back in the network goes first.
    """
    owner, value = [], []
    width = np.broadcast_to(step, least.shape)
    for g, (group, top) in enumerate(zip(graph.groups, most(graph, step), strict=True)):
        ranked = np.sort(scores[group.name])[::-1][least[g] : top]
        together = ranked.reshape(-1, width[g]).mean(axis=1)
        owner.append(np.full(together.size, g))
        value.append(together)
    owners = np.concatenate(owner)[np.argsort(-np.concatenate(value), kind="stable")]

    def counts(removed: int) -> Counts:
        staying = owners[: owners.size - removed]
        more = width * np.bincount(staying, minlength=len(graph.groups))
        return np.asarray(least + more, np.int64)

    low, high = 0, owners.size
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if graph.macs(counts(middle)) <= target else (middle + 1, high)
    return settle(graph, counts(low), target, least, step)


def by_sensitivity(
    graph: ChannelGraph,
    damage: Mapping[str, Sequence[tuple[float, float]]],
    target: int,
    least: Counts,
    step: Step = 1,
) -> Counts:
    """Counts that cost least by the measured damage of each group at a few shares kept.

    `damage` holds, per group, pairs (share kept, loss increase), the share falling from 1. The
    loss between them is interpolated linearly, made non-decreasing, and units go one step at a
    time from wherever the loss per multiply-accumulate saved is least.
    """
    counts = most(graph, step)
    curves = [_curve(damage[group.name], group.units) for group in graph.groups]
    stride = step * np.maximum(1, graph.sizes // (50 * step))
    while graph.macs(counts) > target:
        fewer = np.maximum(counts - stride, least)
        saved = graph.macs(counts) - graph.macs_of_many(
            np.where(np.eye(len(counts), dtype=bool), fewer, counts)
        )
        lost = np.array([c[f] - c[k] for c, f, k in zip(curves, fewer, counts, strict=True)])
        price = np.full(len(counts), np.inf)
        np.divide(lost, saved, out=price, where=saved > 0)
        g = int(np.argmin(price))
        if saved[g] <= 0:
            break
        counts[g] = fewer[g]
    return settle(graph, counts, target, least, step)


def _curve(points: Sequence[tuple[float, float]], units: int) -> NDArray[np.float64]:
    """Loss increase at 0..units units kept, non-increasing in the number kept."""
    shares, losses = np.array(sorted(points)).T
    losses = np.maximum.accumulate(losses[::-1])[::-1]
    return np.interp(np.arange(units + 1) / units, shares, losses)


def settle(
    graph: ChannelGraph, start: Counts, target: int, least: Counts, step: Step = 1
) -> Counts:
    """Move single steps, then pairs, then a small box, until the target is met closely enough.

    Single steps and pairs go where they help most. Only networks of few groups, whose steps are
    coarse, need the box; there the shortest move that comes within tolerance is taken.
    """
    one = np.eye(len(start), dtype=np.int64) * step
    moves = np.concatenate([one, -one])
    pairs = (moves[:, None] + moves[None]).reshape(-1, len(start))
    room = (least, most(graph, step))
    counts, best = _descend(graph, start, target, room, moves)
    counts, best = _descend(graph, counts, target, room, np.concatenate([moves, pairs]))
    if best > NEAR * target and len(start) <= BOX_GROUPS:
        counts = _nearest_in_box(graph, start, target, room, step)
    return counts


def _descend(
    graph: ChannelGraph, counts: Counts, target: int, room: Room, moves: Counts
) -> tuple[Counts, int]:
    best = abs(graph.macs(counts) - target)
    while best > NEAR * target:
        tried, off = _tried(graph, counts + moves, target, room)
        if not len(off) or off.min() >= best:
            break
        counts, best = tried[int(off.argmin())], int(off.min())
    return counts, best


def _nearest_in_box(
    graph: ChannelGraph, start: Counts, target: int, room: Room, step: Step
) -> Counts:
    axes = [np.arange(-BOX_REACH, BOX_REACH + 1)] * len(start)
    moves = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(start))
    moves = moves[np.argsort(np.abs(moves).sum(axis=1), kind="stable")] * step
    tried, off = _tried(graph, start + moves, target, room)
    near = np.flatnonzero(off <= NEAR * target)
    return np.asarray(tried[near[0] if near.size else off.argmin()], np.int64)


def _tried(
    graph: ChannelGraph, counts: Counts, target: int, room: Room
) -> tuple[Counts, NDArray[np.int64]]:
    """Those counts that stay within `room`, and how far each is from the target."""
    low, high = room
    allowed = counts[((counts >= low) & (counts <= high)).all(axis=1)]
    return allowed, np.abs(graph.macs_of_many(allowed) - target)
