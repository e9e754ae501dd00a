"""Counts that cost the prediction least: the sum of the groups' damage curves under a budget.

Minimized is Σ_g F_g(k_g), F_g the nats that group g costs at k_g units kept, over counts within a
budget. The Lagrangian Σ_g F_g(k_g) + λ · amount(k) is minimized group by group until no group
moves, and λ found by bisection; that reaches the lower hull of the curves only, so units are then
exchanged one for another, singly and in pairs, as long as the damage falls within the budget.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from empirical.pruning.allocation import NEAR, Budget, Counts, Step, amount, most

Float = NDArray[np.float64]

HALVINGS = 30
"""Of the range of log λ."""

STRIDES = (1, 2, 4)
"""Steps by which units are exchanged."""


def by_damage(
    budget: Budget, curves: Sequence[Float], target: float, least: Counts, step: Step = 1
) -> Counts:
    """Counts of least total damage that keep to the target within 0.2 %.

    Parameters
    ----------
    budget : what counts cost.
    curves : per group, damage at 0, 1, ..., all of its units kept, (units + 1,).
    target : amount of the budget to keep.
    least : fewest units of each group.
    step : units by which groups go.
    """
    falling = [_falling(curve) for curve in curves]
    start = _lagrangian(budget, falling, target, least, step)
    return _exchanged(budget, falling, start, target, least, step)


def total_damage(curves: Sequence[Float], counts: Counts) -> float:
    """Σ_g F_g(k_g)."""
    return float(sum(curve[k] for curve, k in zip(curves, counts, strict=True)))


def _falling(curve: Float) -> Float:
    """Fewer units never cost less."""
    return np.asarray(np.maximum.accumulate(curve[::-1])[::-1], np.float64)


def _lagrangian(
    budget: Budget, curves: Sequence[Float], target: float, least: Counts, step: Step
) -> Counts:
    """The best choice within the target that some price of the budget singles out."""
    top = most(budget, step)
    if amount(budget, top) <= target:
        return top
    unit = max(float(curve[0]) for curve in curves) / amount(budget)
    low, high = np.log(unit or 1.0) + np.log(1e-9), np.log(unit or 1.0) + np.log(1e9)
    counts = within = top
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        counts = _cheapest(budget, curves, np.exp(middle), counts, least, step)
        if amount(budget, counts) > target:
            low = middle
        else:
            high, within = middle, counts
    return within if amount(budget, within) <= target else least.copy()


def _cheapest(
    budget: Budget, curves: Sequence[Float], price: float, start: Counts, least: Counts, step: Step
) -> Counts:
    """Minimize damage + price · amount over one group after another, until none moves."""
    counts, top = start.copy(), most(budget, step)
    stride = np.broadcast_to(step, counts.shape)
    moved = True
    while moved:
        moved = False
        for g, curve in enumerate(curves):
            choices = np.arange(least[g], top[g] + 1, stride[g])
            many = np.repeat(counts[None], len(choices), axis=0)
            many[:, g] = choices
            cost = curve[choices] + price * budget.amounts(many)
            best, now = int(cost.argmin()), int((counts[g] - least[g]) // stride[g])
            if cost[best] < cost[now]:
                counts[g], moved = choices[best], True
    return counts


def _exchanged(
    budget: Budget, curves: Sequence[Float], start: Counts, target: float, least: Counts, step: Step
) -> Counts:
    """Take the move of one or two groups that lowers the damage most, until none does.

    Of moves that change no damage, those that use more of the budget are taken.
    """
    moves = _moves(len(start), step)
    counts, top, limit = start.copy(), most(budget, step), target * (1 + NEAR)
    damage, used = total_damage(curves, counts), amount(budget, counts)
    while True:
        tried = counts + moves
        tried = tried[((tried >= least) & (tried <= top)).all(axis=1)]
        cost = np.sum([curve[tried[:, g]] for g, curve in enumerate(curves)], axis=0)
        tried, cost = tried[cost <= damage], cost[cost <= damage]
        amounts = budget.amounts(tried)
        better = np.flatnonzero((amounts <= limit) & ((cost < damage) | (amounts > used)))
        if not better.size:
            return counts
        best = better[np.lexsort((-amounts[better], cost[better]))[0]]
        counts, damage, used = tried[best], float(cost[best]), float(amounts[best])


def _moves(groups: int, step: Step) -> Counts:
    """Some more of one group, with or without fewer of another, (moves, groups)."""
    one = np.eye(groups, dtype=np.int64) * step
    more = np.concatenate([stride * one for stride in STRIDES])
    return np.concatenate([more, (more[:, None] - more[None]).reshape(-1, groups)])
