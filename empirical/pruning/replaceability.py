"""`replaceability`: which channel costs the next layer least once its peers stand in for it.

By the block identity of lesions, removing channel i and replacing it by its regression on the
channels that are left changes what the next layer computes by the variance

    A_ii / P_ii,   A = Σ over outputs and taps of wᵀw (units, units),   P = Cov(x)⁻¹,

the outgoing weights times the variance no peer explains. The residual is orthogonal to all that
stays, so costs of successive removals add up exactly, provided that after each one the regression
(P) and the outgoing weights (A, into which it was merged) are updated: two copies of one feature
are then not both removed. Both updates are of rank one or two, so a layer takes O(C³) altogether.
Taps are taken as uncorrelated in their residuals, which is exact for 1 × 1 kernels;
`kernel_replaceability` does without that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

RIDGE = 1e-6
"""Added to covariances as a share of their mean variance, so that exact copies have an inverse."""


BLOCK = 64
"""Removals whose updates are multiplied out together."""


def removal_order(
    covariances: Sequence[Float],
    outgoing: Sequence[Float],
    *,
    ridge: float = RIDGE,
    relative: bool = True,
    given: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], Float]:
    """Greedy order of removal and the relative cost of each step.

    Parameters
    ----------
    covariances : per consumer, the covariance of the units at its input, (C, C).
    outgoing : per consumer, A = Σ wᵀw over outputs and taps, (C, C).
    ridge : share of the mean variance added to the diagonal.
    relative : costs as a share of Σ_i A_ii K_ii, averaged over consumers; else as they are,
        summed.
    given : units in the order in which they are to go, (C,), instead of the cheapest first.

    Returns
    -------
    order : the unit that goes first, second, ..., (C,).
    cost : variance lost at each step, (C,).

    Of equals the last index goes first. A consumer whose inputs do not vary, or that gives them
    no weight, has no say.

    >>> cov = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.5]])
    >>> order, cost = removal_order([cov], [np.eye(3)])
    >>> order, (cost > 1e-3)
    (array([1, 2, 0]), array([False,  True,  True]))
    """
    readers: list[Reader] = []
    for cov, gram in zip(covariances, outgoing, strict=True):
        power = float(np.diag(cov) @ np.diag(gram))
        scale = float(np.trace(cov)) / len(cov)
        if power <= 0:
            continue
        precision = np.asarray(np.linalg.inv(cov + ridge * scale * np.eye(len(cov))), np.float64)
        readers.append(_Reader(precision, gram / power if relative else gram))
    order, cost = greedy(readers, len(covariances[0]), given)
    return order, cost / max(1, len(readers)) if relative else cost


class Reader(Protocol):
    """What one consumer knows of the units that are left."""

    def costs(self, staying: NDArray[np.bool_]) -> Float:
        """Variance that is lost with each unit of `staying`, (units that stay,)."""

    def take_out(self, gone: int, staying: NDArray[np.bool_]) -> None:
        """Let the others stand in for unit `gone`, which is none of `staying` any more."""

    def settle(self, staying: NDArray[np.bool_]) -> None:
        """Keep only the units that stay; they are counted anew."""


def greedy(
    readers: Sequence[Reader], units: int, given: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], Float]:
    """Order of removal and the cost of each step: one unit after another, the cheapest first.

    Costs are summed over readers; of equals the last index goes first. `given` is an order to go
    in instead.
    """
    left = np.arange(units)
    staying = np.ones(units, dtype=bool)  # of `left`
    order, costs = np.empty(units, dtype=np.int64), np.empty(units)
    for step in range(units):
        cost = np.zeros(len(left))
        for reader in readers:
            cost[staying] += reader.costs(staying)
        cost = np.where(staying, cost, np.inf)
        gone = len(left) - 1 - int(np.argmin(cost[::-1]))
        if given is not None:
            gone = int(np.searchsorted(left, given[step]))
        order[step], costs[step] = left[gone], cost[gone]
        staying[gone] = False
        for reader in readers:
            reader.take_out(gone, staying)
        if (step + 1) % BLOCK == 0:
            for reader in readers:
                reader.settle(staying)
            left, staying = left[staying], np.ones(units - step - 1, dtype=bool)
    return order, costs


class _Reader:
    """P and A of one consumer over the units that are left, with updates pending.

    Taking out unit i changes P by -P_i P_iᵀ / P_ii and, with the regression b = -P_i / P_ii of
    the unit on the others, A by A_i bᵀ + b A_iᵀ + A_ii b bᵀ. A step needs the diagonals and one
    column only, so the updates wait as thin factors and are multiplied out once per block, which
    a matrix product does many times faster than one rank at a time.
    """

    def __init__(self, precision: Float, weight: Float) -> None:
        self.precision, self.weight = precision, weight
        self.precision_diagonal = np.diag(precision).copy()
        self.weight_diagonal = np.diag(weight).copy()
        self._empty()

    def _empty(self) -> None:
        self.pending = 0
        self.down, self.carried, self.onto = (
            np.zeros((len(self.precision), BLOCK), order="F") for _ in range(3)
        )

    def costs(self, staying: NDArray[np.bool_]) -> Float:
        """A_ii / P_ii of the units that stay."""
        return np.asarray(self.weight_diagonal[staying] / self.precision_diagonal[staying])

    def take_out(self, gone: int, staying: NDArray[np.bool_]) -> None:
        """Update the diagonals for the removal of unit `gone`, and remember the rest."""
        k = self.pending
        down, carried, onto = (f[:, :k] for f in (self.down, self.carried, self.onto))
        column = (self.precision[gone] - down @ down[gone]) * staying
        pivot = self.precision_diagonal[gone]
        regression = -column / pivot
        weights = self.weight[gone] + carried @ onto[gone] + onto @ carried[gone]
        half = weights * staying + 0.5 * self.weight_diagonal[gone] * regression
        self.precision_diagonal -= column**2 / pivot
        self.weight_diagonal += 2.0 * half * regression
        self.down[:, k] = column / np.sqrt(pivot)
        self.carried[:, k], self.onto[:, k] = half, regression
        self.pending += 1

    def settle(self, staying: NDArray[np.bool_]) -> None:
        """Multiply the pending updates out, and keep only the units that stay."""
        left = np.flatnonzero(staying)
        down, carried, onto = (f[left] for f in (self.down, self.carried, self.onto))
        crossed = carried @ onto.T
        self.precision = self.precision[np.ix_(left, left)] - down @ down.T
        self.weight = self.weight[np.ix_(left, left)] + crossed + crossed.T
        self.precision_diagonal = self.precision_diagonal[left]
        self.weight_diagonal = self.weight_diagonal[left]
        self._empty()


def scores_from_order(order: NDArray[np.int64], cost: Float) -> Float:
    """Higher = keep: the relative variance lost once a unit and all before it have gone.

    Strictly increasing along the order, so that any number of units is removed in that order.
    """
    total = np.cumsum(np.maximum(cost, 0.0))
    total += np.arange(len(cost)) * 1e-12 * max(float(total[-1]), np.finfo(float).tiny)
    score = np.empty(len(cost))
    score[order] = total
    return score
