"""Peer compensation: what the kept channels can say about the removed ones, merged into weights.

At the input of a layer that read them, the removed channels x_R are replaced by their regression
on the kept ones, x_R ≈ μ_R + B (x_K - μ_K) with B = Σ_RK (Σ_KK + rI)⁻¹. Linear as it is, it
merges into that layer: W_K + W_R B, and W_R (μ_R - B μ_K) into its bias. Closed form, no labels;
under any selector (GRAIL, arXiv:2602.23795; channel pruning by least squares, He et al. 2017).
Where a convolution pads with zeros, the bias is off at the border, as the padded channels are 0;
a transposed one of a stride gets the mean of what its positions would need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from empirical.pruning.channel_graph import ChannelGraph
from empirical.pruning.input_moments import InputMoments
from empirical.pruning.macs import Counted, counted, in_parts
from empirical.pruning.removal import Kept
from empirical.reading.groups import without
from empirical.reading.layers import phases, weight_of
from theory.moments import Moments
from theory.moments import merge as merged

Float = NDArray[np.float64]

RIDGE = 1e-4
"""Default ridge, as a share of the kept channels' mean variance."""


def regression(cov: Float, kept: NDArray[np.int64], *, ridge: float = RIDGE) -> Float:
    """B of the removed units on the kept ones, (removed, kept), from cov (units, units).

    A removed unit without variance gets zeros, and so does every unit if no kept one varies.

    >>> regression(np.array([[1.0, 0.5], [0.5, 1.0]]), np.array([0]), ridge=0.0)
    array([[0.5]])
    """
    gone = np.setdiff1d(np.arange(len(cov)), kept)
    peers = cov[np.ix_(kept, kept)]
    scale = float(np.trace(peers)) / max(1, len(kept))
    if scale <= 0:
        return np.zeros((len(gone), len(kept)))
    if ridge == 0:
        return np.asarray(np.linalg.lstsq(peers, cov[np.ix_(kept, gone)], rcond=None)[0].T)
    peers = peers + ridge * scale * np.eye(len(kept))
    return np.asarray(np.linalg.solve(peers, cov[np.ix_(kept, gone)]).T)


def merge(
    model: nn.Module,
    graph: ChannelGraph,
    kept: Kept,
    moments: Mapping[tuple[str, str], InputMoments],
    *,
    ridge: float = RIDGE,
) -> None:
    """Merge every removed unit's regression into the layers that read it, in place.

    `model` has its original shapes; remove or mask the units afterwards. A layer without a bias
    gets one.
    """
    for group in graph.groups:
        units = kept[group.name]
        if len(units) == group.units:
            continue
        for member in group.consumers:
            module, known = counted(model, member.module), moments[group.name, member.module]
            outputs = len(weight_of(module)) // len(known.mean)  # that read one block
            for block, (mean, cov) in enumerate(zip(known.mean, known.cov, strict=True)):
                coefficients = regression(cov, units, ridge=ridge)
                gone = np.setdiff1d(np.arange(group.units), units)
                offset = mean[gone] - coefficients @ mean[units]
                columns, each = member.columns(module), weight_of(module)[0].numel()
                for rows in in_parts(block * outputs, outputs, each):
                    _merge_block(module, rows, columns, units, coefficients, offset)


def recovered_outside(
    graph: ChannelGraph,
    kept: Kept,
    moments: Mapping[tuple[str, str], InputMoments],
    *,
    ridge: float = RIDGE,
) -> dict[str, float]:
    """Share of the removed units' variance that the kept ones will supply on other images.

    Group name -> 1 - Σ unexplained / Σ variance over its removed units and the layers that read
    them; groups that lost none, or only units without variance, are left out. Each group of
    calibration images is foretold by regressions fitted on the others, which costs `merge`'s
    regression once per group of images. Below 0 where merging harms.
    """
    found = {}
    for group in graph.groups:
        units = kept[group.name]
        blocks = [
            parts
            for member in group.consumers
            for parts in moments[group.name, member.module].parts
            if len(parts) > 1
        ]
        if len(units) < group.units and blocks:
            sums = np.sum([_left_out(parts, units, ridge) for parts in blocks], axis=0)
            if sums[1] > 0:
                found[group.name] = float(1 - sums[0] / sums[1])
    return found


def _left_out(
    parts: Sequence[Moments], kept: NDArray[np.int64], ridge: float
) -> tuple[float, float]:
    """Sums of squares of the removed units: what others' regressions leave, and all there is."""
    total = merged(parts)
    gone = np.setdiff1d(np.arange(total.n_channels), kept)
    left = 0.0
    for part in parts:
        others, n = without(total, part), int(part.n or 0)
        coefficients = regression(others.cov, kept, ridge=ridge)
        shift = part.mean - others.mean
        errors = np.zeros((len(gone), total.n_channels))  # of a removed unit, in terms of all
        errors[np.arange(len(gone)), gone] = 1.0
        errors[:, kept] = -coefficients
        spread = np.einsum("ij,ij->", errors @ part.cov, errors)
        left += float((n - 1) * spread + n * ((errors @ shift) ** 2).sum())
    return left, float(np.diagonal(total.cov)[gone].sum()) * int(total.n or 0)


@torch.no_grad()
def _merge_block(
    module: Counted,
    rows: slice,
    columns: NDArray[np.int64],
    units: NDArray[np.int64],
    coefficients: Float,
    offset: Float,
) -> None:
    """Add W_R B to W_K and W_R offset to the bias, for the outputs `rows`."""
    gone = np.setdiff1d(np.arange(len(columns)), units)
    stored = weight_of(module)[rows]
    weight = stored.reshape(*stored.shape[:2], -1).double()
    device = weight.device
    lost = weight[:, torch.as_tensor(columns[gone], device=device)]  # (outputs, R, m, taps)
    mixing = torch.as_tensor(coefficients, device=device)
    gained = torch.einsum("ormt,rk->okmt", lost, mixing)
    weight[:, torch.as_tensor(columns[units], device=device)] += gained
    stored.copy_(weight.reshape(stored.shape))
    shift = torch.einsum("ormt,r->o", lost, torch.as_tensor(offset, device=device))
    if module.bias is None:
        module.bias = nn.Parameter(module.weight.new_zeros(len(weight_of(module))))
    module.bias[rows] += (shift / phases(module)).to(module.bias.dtype)
