"""What went and why: each removed unit with score and stand-ins, each layer with its error."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.devices import undisturbed
from empirical.pruning.calibration import Calibration
from empirical.pruning.channel_graph import Group
from empirical.pruning.compensation import regression
from empirical.pruning.criterion import Score
from empirical.pruning.macs import counted
from empirical.pruning.reconstruction import kept_outputs
from empirical.pruning.removal import Kept, kept_channels
from empirical.reading.hooks import capture, evaluating

Float = NDArray[np.float64]

IMAGES = 256
"""Calibration images at most that the error of a layer is measured on."""


def removed_units(
    known: Calibration, kept: Kept, criterion: str | Score, *, seed: int = 0, stand_ins: int = 3
) -> pd.DataFrame:
    """One row per removed unit, in the order in which they go.

    Columns: `layer` (of the group), `unit`, `score` (the lowest goes first), `damage` (nats that
    the prediction loses by it once all before it have gone and the rest stand in), `reader` (the
    group's first), and what stands in for the unit there: `unexplained`, the share of its variance
    that no kept unit explains, and `stand_ins`, those of the largest weights in its regression,
    as in "12: +0.43, 7: -0.20". Weights of units as they are, not standardized.
    """
    curves = known.damage_curves(criterion, seed=seed)
    scores = known.scores(criterion, seed=seed)
    parts = []
    for group in known.graph.groups:
        gone = np.setdiff1d(np.arange(group.units), kept[group.name])
        if not len(gone):
            continue
        order = np.argsort(-scores[group.name], kind="stable")[::-1][: len(gone)]
        lost = -np.diff(curves[group.name])[::-1][: len(gone)]
        reader, unexplained, text = _stand_ins(known, group, kept[group.name], order, stand_ins)
        parts.append(
            pd.DataFrame(
                {
                    "layer": group.name,
                    "unit": order,
                    "score": scores[group.name][order],
                    "damage": lost,
                    "reader": reader,
                    "unexplained": unexplained,
                    "stand_ins": text,
                }
            )
        )
    columns = ["layer", "unit", "score", "damage", "reader", "unexplained", "stand_ins"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _stand_ins(
    known: Calibration, group: Group, kept: NDArray[np.int64], order: NDArray[np.int64], most: int
) -> tuple[str, Float, list[str]]:
    """The group's first reader, and of each unit what is unexplained there and what stands in."""
    reader = group.consumers[0].module
    cov = known.input_moments[group.name, reader].cov[0]
    gone = np.setdiff1d(np.arange(group.units), kept)
    weights = regression(cov, kept)
    errors = np.zeros((len(gone), group.units))
    errors[np.arange(len(gone)), gone], errors[:, kept] = 1.0, -weights
    left = np.einsum("ij,jk,ik->i", errors, cov, errors)
    variance = np.diag(cov)[gone]
    unexplained = np.divide(left, variance, out=np.zeros_like(left), where=variance > 0)
    places = np.searchsorted(gone, order)
    text = []
    for row in weights[places]:
        largest = np.argsort(-np.abs(row), kind="stable")[:most]
        text.append(", ".join(f"{kept[j]}: {row[j]:+.2f}" for j in largest if row[j]))
    return reader, unexplained[places], text


@undisturbed()
def layer_errors(
    known: Calibration, kept: Kept, pruned: nn.Module, criterion: str | Score, *, seed: int = 0
) -> pd.DataFrame:
    """One row per group: units before and after, and its error in nats, predicted and realized.

    `predicted` is the damage curve at the units that are kept, the group alone thinned out;
    `realized` Σ over its readers of ½ E Σ_positions δzᵀ Γ δz, δz what the reader's kept outputs
    differ by in the pruned and recovered network from the dense one, so with the errors of all
    groups that its inputs come from. Measured on at most 256 calibration images.
    """
    images = known.images[:IMAGES]
    sides = kept_outputs(known.model, kept_channels(known.model, known.graph.groups, kept))
    readers = [m.module for group in known.graph.groups for m in group.consumers]
    dense, smaller = (_outputs(model, readers, images) for model in (known.model, pruned))
    curves = known.damage_curves(criterion, seed=seed)
    realized = {
        name: _nats(dense[name], smaller[name], known.output_fisher[name], sides.get(name))
        for name in dict.fromkeys(readers)
    }
    rows = [
        (
            group.name,
            group.units,
            len(kept[group.name]),
            float(curves[group.name][len(kept[group.name])]),
            sum(realized[member.module] for member in group.consumers),
        )
        for group in known.graph.groups
    ]
    return pd.DataFrame(rows, columns=["layer", "before", "after", "predicted", "realized"])


def _outputs(model: nn.Module, layers: list[str], images: Tensor) -> Mapping[str, list[Tensor]]:
    """What each layer computes at each of its calls, channels last."""
    found: dict[str, list[Tensor]] = {name: [] for name in layers}

    def keep(name: str) -> Callable[[Tensor], object]:
        linear = isinstance(counted(model, name), nn.Linear)
        return lambda z: found[name].append((z if linear else z.movedim(1, -1)).double().cpu())

    with evaluating(model), capture(model, {name: keep(name) for name in found}):
        model(images)
    return found


def _nats(
    dense: list[Tensor], pruned: list[Tensor], fisher: Float, kept: NDArray[np.int64] | None
) -> float:
    """½ E Σ δzᵀ Γ δz over calls and positions, of the outputs that stay."""
    index = np.arange(len(fisher)) if kept is None else kept
    gram = torch.from_numpy(fisher[np.ix_(index, index)])
    total = 0.0
    for before, after in zip(dense, pruned, strict=True):
        change = (after - before[..., torch.from_numpy(index)]).reshape(-1, len(index))
        total += 0.5 * float(((change @ gram) * change).sum()) / len(before)
    return total
