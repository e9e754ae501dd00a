"""`replaceability`: which channel costs the next layer least once its peers stand in for it.

By the block identity of lesions, removing channel i and replacing it by its regression on the
channels that are left changes what the next layer computes by the variance

    A_ii / P_ii,   A = Σ over outputs and taps of wᵀw (units, units),   P = Cov(x)⁻¹,

the outgoing weights times the variance no peer explains. The residual is orthogonal to all that
stays, so costs of successive removals add up exactly, provided that after each one the regression
(P) and the outgoing weights (A, into which it was merged) are updated: two copies of one feature
are then not both removed. Both updates are rank one or two, so a layer takes O(C³) altogether.
Taps are taken as uncorrelated in their residuals, which is exact for 1 × 1 kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dsyr, dsyr2

Float = NDArray[np.float64]

RIDGE = 1e-6
"""Added to covariances as a share of their mean variance, so that exact copies have an inverse."""


def removal_order(
    covariances: Sequence[Float], outgoing: Sequence[Float], *, ridge: float = RIDGE
) -> tuple[NDArray[np.int64], Float]:
    """Greedy order of removal and the relative cost of each step.

    Args:
        covariances: per consumer, the covariance of the units at its input, (C, C).
        outgoing: per consumer, A = Σ wᵀw over outputs and taps, (C, C).
        ridge: share of the mean variance added to the diagonal.

    Returns:
        order: the unit that goes first, second, ..., (C,).
        cost: variance lost at each step as a share of Σ_i A_ii K_ii, averaged over consumers, (C,).

    Of equals the last index goes first. A consumer whose inputs do not vary, or that gives them
    no weight, has no say.

    >>> cov = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.5]])
    >>> order, cost = removal_order([cov], [np.eye(3)])
    >>> order, (cost > 1e-3)
    (array([1, 2, 0]), array([False,  True,  True]))
    """
    precisions, weights = [], []
    for cov, gram in zip(covariances, outgoing, strict=True):
        power = float(np.diag(cov) @ np.diag(gram))
        scale = float(np.trace(cov)) / len(cov)
        if power <= 0:
            continue
        regular = cov + ridge * scale * np.eye(len(cov))
        precisions.append(np.asfortranarray(np.linalg.inv(regular)))
        weights.append(np.asfortranarray(gram / power))
    return _greedy(precisions, weights, len(covariances[0]))


def _greedy(
    precisions: list[Float], weights: list[Float], units: int
) -> tuple[NDArray[np.int64], Float]:
    """Remove one unit after another, downdating the lower triangles in place."""
    staying = np.ones(units, dtype=bool)
    order, costs = np.empty(units, dtype=np.int64), np.empty(units)
    for step in range(units):
        cost = np.zeros(units)
        for precision, weight in zip(precisions, weights, strict=True):
            cost += np.where(staying, np.diag(weight) / np.diag(precision), 0.0)
        cost = np.where(staying, cost / max(1, len(precisions)), np.inf)
        gone = units - 1 - int(np.argmin(cost[::-1]))
        order[step], costs[step] = gone, cost[gone]
        staying[gone] = False
        for precision, weight in zip(precisions, weights, strict=True):
            _downdate(precision, weight, gone)
    return order, costs


def _downdate(precision: Float, weight: Float, gone: int) -> None:
    """Take unit `gone` out of P, and merge its regression b = -P_i/P_ii into A; lower triangles.

    P ← P - P_i P_iᵀ / P_ii and A ← A + A_i bᵀ + b A_iᵀ + A_ii b bᵀ, with row and column i set so
    that later steps leave them alone.
    """
    column = _column(precision, gone)
    pivot = column[gone]
    onto = -column / pivot
    onto[gone] = 0.0
    column[gone] = 0.0
    carried = _column(weight, gone)
    own = carried[gone]
    carried[gone] = 0.0
    dsyr(-1.0 / pivot, column, a=precision, lower=1, overwrite_a=1)
    dsyr2(1.0, carried + 0.5 * own * onto, onto, a=weight, lower=1, overwrite_a=1)
    precision[gone, :] = precision[:, gone] = 0.0
    weight[gone, :] = weight[:, gone] = 0.0
    precision[gone, gone] = 1.0


def _column(lower: Float, i: int) -> Float:
    """Column i of a symmetric matrix of which the lower triangle is kept."""
    return np.concatenate([lower[i, :i], lower[i:, i]])


def scores_from_order(order: NDArray[np.int64], cost: Float) -> Float:
    """Higher = keep: the relative variance lost once a unit and all before it have gone.

    Strictly increasing along the order, so that any number of units is removed in that order.
    """
    total = np.cumsum(np.maximum(cost, 0.0)) + np.arange(len(cost)) * 1e-12
    score = np.empty(len(cost))
    score[order] = total
    return score
