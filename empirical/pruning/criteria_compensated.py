"""Criteria that ask what the next layer loses once the kept channels stand in for the removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from empirical.pruning.channel_graph import Group, Member
from empirical.pruning.criterion import Knowledge, Scores, register_criterion
from empirical.pruning.macs import Counted, blocks_of, counted, filters
from empirical.pruning.replaceability import RIDGE, removal_order, scores_from_order
from empirical.reading.layers import phases

Float = NDArray[np.float64]


def outgoing_rows(module: Counted, member: Member) -> Iterator[tuple[slice, Float]]:
    """A consumer's weights on the units, (units, m, taps, outputs), of each block's outputs."""
    weight = filters(module)
    flat = weight.reshape(*weight.shape[:2], -1)  # (outputs, inputs, taps)
    outputs = len(flat) // blocks_of(module)
    for start in range(0, len(flat), outputs):
        mine = slice(start, start + outputs)
        yield mine, flat[mine][:, member.columns(module)].transpose(1, 2, 3, 0)


def outgoing_gram(module: Counted, member: Member, fisher: Float | None = None) -> list[Float]:
    """Σ wᵀw over outputs and taps of a consumer's weights on the units; (units, units) per block.

    With `fisher` (outputs, outputs) it is Σ wᵀΓw. Units that cover several inputs sum over them;
    the blocks of a grouped convolution are apart.
    """
    grams = []
    for mine, rows in outgoing_rows(module, member):
        minded = rows if fisher is None else rows @ fisher[mine, mine]
        gram = rows.reshape(len(rows), -1) @ minded.reshape(len(rows), -1).T
        grams.append(gram / phases(module))
    return grams


def _consumers(
    known: Knowledge, group: Group, fisher: Mapping[str, Float] | None = None
) -> tuple[list[Float], list[Float]]:
    """Covariances and outgoing Gram matrices of a group, one pair per consumer and block."""
    covariances: list[Float] = []
    outgoing: list[Float] = []
    for member in group.consumers:
        covariances += list(known.input_moments[group.name, member.module].cov)
        minded = None if fisher is None else fisher[member.module]
        outgoing += outgoing_gram(counted(known.model, member.module), member, minded)
    return covariances, outgoing


@register_criterion(
    "replaceability", axis="local", across="raw", source="greedy block identity with downdates"
)
def replaceability(known: Knowledge, group: Group) -> Scores:
    """Relative variance the next layers lose by the time a unit goes, peers standing in."""
    return scores_from_order(*removal_order(*_consumers(known, group)))


@register_criterion(
    "task_replaceability", axis="both", across="raw",
    source="greedy block identity, in nats of the prediction",
)  # fmt: skip
def task_replaceability(known: Knowledge, group: Group) -> Scores:
    """Nats by which the prediction moves by the time a unit goes, peers standing in.

    Both axes in one: `replaceability` with the next layer's outputs weighted by how much the
    network's prediction minds them, ½ tr(Γ W Cov(residual) Wᵀ) with Γ their Fisher information.
    """
    order, cost = removal_order(*_consumers(known, group, known.output_fisher), relative=False)
    return scores_from_order(order, 0.5 * cost)


def damage_curve(known: Knowledge, group: Group, scores: Scores) -> Scores:
    """Nats that the prediction loses with 0, 1, ..., all units kept, (units + 1,).

    Units go from the lowest score up, of equals the last first, and those that stay stand in for
    them: ½ tr(Γ W Cov(residual) Wᵀ) summed over the layers that read the group, residuals at
    different taps and positions taken as uncorrelated. At all units it is 0.
    """
    order = np.argsort(-scores, kind="stable")[::-1]
    readers = _consumers(known, group, known.output_fisher)
    _, cost = removal_order(*readers, relative=False, given=order)
    return np.concatenate([[0.0], np.cumsum(0.5 * np.maximum(cost, 0.0))])[::-1]


@register_criterion(
    "replaceability_at_once", axis="local", across="raw", source="A_ii / P_ii, without updates"
)
def replaceability_at_once(known: Knowledge, group: Group) -> Scores:
    """Relative variance the next layers lose by each unit alone: what the updates are worth."""
    total = np.zeros(group.units)
    for cov, gram in zip(*_consumers(known, group), strict=True):
        power = float(np.diag(cov) @ np.diag(gram))
        if power > 0:
            regular = cov + RIDGE * np.trace(cov) / len(cov) * np.eye(len(cov))
            total += np.diag(gram) / np.diag(np.linalg.inv(regular)) / power
    return total


@register_criterion(
    "outgoing_power", axis="local", across="raw",
    source="A_ii K_ii: what the next layers lose without peers",
)  # fmt: skip
def outgoing_power(known: Knowledge, group: Group) -> Scores:
    """Relative variance the next layers lose if each unit is replaced by its mean."""
    total = np.zeros(group.units)
    for cov, gram in zip(*_consumers(known, group), strict=True):
        power = np.diag(cov) * np.diag(gram)
        total += power / power.sum() if power.sum() > 0 else 0.0
    return total
