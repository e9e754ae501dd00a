"""Criteria by what the next layers' whole kernels lose, refitted to the channels that stay."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from empirical.pruning.channel_graph import Group, Member
from empirical.pruning.criteria_compensated import outgoing_rows
from empirical.pruning.criterion import Knowledge, Scores, register_criterion
from empirical.pruning.kernel_replaceability import kernel_removal_order
from empirical.pruning.macs import Counted, counted
from empirical.pruning.replaceability import scores_from_order

Float = NDArray[np.float64]


def outgoing_weights(module: Counted, member: Member, fisher: Float | None = None) -> list[Float]:
    """A consumer's weights on the units, (units · channels of a unit · taps, outputs) per block.

    With `fisher` (outputs, outputs) they are W Γ^½, so that squares are those that Γ weights.
    """
    found = []
    for mine, rows in outgoing_rows(module, member):
        flat = rows.reshape(-1, rows.shape[-1])
        found.append(flat if fisher is None else flat @ _root(fisher[mine, mine]))
    return found


def _root(matrix: Float) -> Float:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _consumers(
    known: Knowledge,
    group: Group,
    fisher: Mapping[str, Float] | None = None,
    *,
    about_zero: bool = False,
) -> tuple[list[Float], list[Float], int]:
    """Patch moments and outgoing weights of a group, one pair per consumer and block."""
    moments: list[Float] = []
    weights: list[Float] = []
    for member in group.consumers:
        found = known.patch_moments[group.name, member.module]
        moments += list(found.second if about_zero else found.cov)
        minded = None if fisher is None else fisher[member.module]
        weights += outgoing_weights(counted(known.model, member.module), member, minded)
    return moments, weights, group.units


@register_criterion(
    "replaceability_kernels", axis="local", across="raw",
    source="greedy least squares of whole kernels, relative",
)  # fmt: skip
def replaceability_kernels(known: Knowledge, group: Group) -> Scores:
    """Relative variance the next layers lose by the time a unit goes, their kernels refitted."""
    return scores_from_order(*kernel_removal_order(*_consumers(known, group)))


@register_criterion(
    "task_replaceability_kernels", axis="both", across="raw",
    source="greedy least squares of whole kernels, in nats of the prediction",
)  # fmt: skip
def task_replaceability_kernels(known: Knowledge, group: Group) -> Scores:
    """Nats by which the prediction moves by the time a unit goes, whole kernels refitted."""
    readers = _consumers(known, group, known.output_fisher)
    order, cost = kernel_removal_order(*readers, relative=False)
    return scores_from_order(order, 0.5 * cost)


@register_criterion(
    "osscar", axis="local",
    source="Meng et al., ICML 2024 (arXiv:2403.12983): layerwise least squares, without its swaps",
)  # fmt: skip
def osscar(known: Knowledge, group: Group) -> Scores:
    """Squared error of the next layers by the time a unit goes, kernels refitted without a bias.

    Its squares are about zero, and summed over the layers that read the group as they are.
    """
    readers = _consumers(known, group, about_zero=True)
    return scores_from_order(*kernel_removal_order(*readers, relative=False))
