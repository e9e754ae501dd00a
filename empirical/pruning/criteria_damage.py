"""Criteria by the law of damage: nats of the prediction, unit by unit or by sets with peers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from empirical.pruning.channel_graph import Group
from empirical.pruning.criterion import Knowledge, Scores, register_criterion
from empirical.pruning.pulled import Products
from empirical.pruning.replaceability import RIDGE, scores_from_order

Float = NDArray[np.float64]


@register_criterion(
    "damage", axis="both", across="raw",
    source="second-order divergence of the prediction, the unit at its mean",
)  # fmt: skip
def damage(known: Knowledge, group: Group) -> Scores:
    """Nats by which the prediction moves when the unit is held at its mean."""
    products, _ = _of(known, group)
    change = sum(np.einsum("nii->ni", v).astype(np.float64) for v in products)
    return np.asarray(0.5 * (change**2).mean(axis=0))


@register_criterion(
    "damage_with_peers", axis="both", across="raw",
    source="second-order divergence of the prediction, the unit regressed on all others",
)  # fmt: skip
def damage_with_peers(known: Knowledge, group: Group) -> Scores:
    """Nats by which the prediction moves when the unit's peers stand in for it."""
    readers = [_Reader(v, cov) for v, cov in zip(*_of(known, group), strict=True)]
    return np.asarray(0.5 * (_changes(readers) ** 2).mean(axis=0))


@register_criterion(
    "damage_of_sets", axis="both", across="raw",
    source="greedy second-order divergence of all that went, the kept regressing",
)  # fmt: skip
def damage_of_sets(known: Knowledge, group: Group) -> Scores:
    """Nats by which the prediction has moved once a unit and all before it went, peers standing in.

    Greedy: the next to go is the one whose set with all before it does the least damage.
    """
    order, total = damage_order(*_of(known, group))
    return scores_from_order(order, np.diff(np.maximum.accumulate(total), prepend=0.0))


def _of(known: Knowledge, group: Group) -> tuple[list[Products], list[Float]]:
    """Products and covariances of a group, one pair per reading layer and block."""
    products: list[Products] = []
    covariances: list[Float] = []
    for member in group.consumers:
        key = group.name, member.module
        products += known.pulled_products[key]
        covariances += list(known.input_moments[key].cov)
    return products, covariances


def damage_order(
    products: Sequence[Products], covariances: Sequence[Float], *, ridge: float = RIDGE
) -> tuple[NDArray[np.int64], Float]:
    """Greedy order of removal, and the damage of all that have gone at each step, in nats.

    Parameters
    ----------
    products : per reader, V (samples, C, C)
    covariances : per reader, of the units at its input, (C, C)
    ridge : share of the mean variance added to the diagonal

    Of equals the last index goes first.

    >>> v = np.array([[[1.0, 0.9], [0.5, 2.0]]], dtype=np.float32)
    >>> order, total = damage_order([v], [np.diag([1.0, 1.0])], ridge=0.0)
    >>> order.tolist(), total.tolist()  # uncorrelated: ½ 1², then ½ (1 + 2)²
    ([0, 1], [0.5, 4.5])
    """
    readers = [_Reader(v, cov, ridge) for v, cov in zip(products, covariances, strict=True)]
    units = len(covariances[0])
    staying = np.ones(units, dtype=bool)
    moved = np.zeros((len(products[0]), 1))
    order, total = np.empty(units, dtype=np.int64), np.empty(units)
    for step in range(units):
        changes = moved + _changes(readers)
        cost = np.where(staying, 0.5 * (changes**2).mean(axis=0), np.inf)
        gone = units - 1 - int(np.argmin(cost[::-1]))
        order[step], total[step] = gone, cost[gone]
        moved, staying[gone] = changes[:, [gone]], False
        for reader in readers:
            reader.take_out(gone)
    return order, total


def _changes(readers: Sequence[_Reader]) -> Float:
    """(samples, C) change of s·f when each unit goes next, over all layers that read it."""
    return np.asarray(sum(reader.changes() for reader in readers), dtype=np.float64)


class _Reader:
    """V and P of one reading layer over the units that are left.

    With P the inverse of their covariance, unit k less its regression on the others is
    Σ_j P_kj d_j / P_kk. Once it has gone its regression b = -P_k / P_kk is merged into what reads
    the others, which takes its gradients over to them: V_j += b_j V_k; and P loses its row.
    """

    def __init__(self, products: Products, cov: Float, ridge: float = RIDGE) -> None:
        scale = max(float(np.trace(cov)) / len(cov), np.finfo(float).tiny)
        self.products = products.copy()
        self.precision = np.asarray(np.linalg.inv(cov + ridge * scale * np.eye(len(cov))))

    def changes(self) -> Float:
        """(samples, C) of each unit left; 0 of those gone."""
        pivot = np.diag(self.precision)
        rows = self.precision / np.where(pivot > 0, pivot, 1.0)[:, None]
        return np.asarray(np.einsum("nkj,kj->nk", self.products, rows.astype(np.float32)))

    def take_out(self, gone: int) -> None:
        """Merge the regression of unit `gone` into the others, and drop it."""
        row, pivot = self.precision[gone].copy(), self.precision[gone, gone]
        onto = (-row / pivot).astype(np.float32)
        onto[gone] = 0.0
        self.products += onto[:, None] * self.products[:, [gone], :]
        self.precision -= np.outer(row, row) / pivot
        self.precision[gone], self.precision[:, gone] = 0.0, 0.0
