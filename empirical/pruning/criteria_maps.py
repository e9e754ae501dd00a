"""Criteria that read feature maps: HRank and CHIP.

Both look at what a producer's channels show after its norm and a ReLU, image by image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from empirical.pruning.channel_graph import Group
from empirical.pruning.criterion import Knowledge, Scores, over_producers, register_criterion
from empirical.reading.batches import Batch
from empirical.reading.layers import find_layers
from empirical.reading.passes import mean_over_images


def average_rank(maps: Tensor) -> Tensor:
    """HRank (Lin et al., CVPR 2020): mean rank of each channel's map; maps (n, C, H, W) -> (C,).

    >>> flat, sharp = torch.ones(2, 2), torch.eye(2)
    >>> average_rank(torch.stack([flat, sharp])[None])
    tensor([1., 2.])
    """
    ranks: Tensor = torch.linalg.matrix_rank(maps.float())
    return ranks.float().mean(0)


def channel_independence(maps: Tensor) -> Tensor:
    """CHIP (Sui et al., NeurIPS 2021): nuclear norm lost with a channel; (n, C, H, W) -> (C,).

    The maps of one image are the rows of a matrix A (C, HW); channel i scores
    ‖A‖* - ‖A without row i‖*, averaged over images. Singular values come from the smaller Gram
    matrix, of which removing a row is a deletion or a rank-one downdate.

    >>> channel_independence(torch.eye(2).reshape(1, 2, 1, 2))
    tensor([1., 1.], dtype=torch.float64)
    """
    matrices = maps.flatten(2).double()
    return torch.stack([_independence(matrix) for matrix in matrices]).mean(0)


def _independence(rows: Tensor) -> Tensor:
    channels, positions = rows.shape
    if positions < channels:
        gram = rows.T @ rows
        without = gram - rows[:, :, None] * rows[:, None, :]
        return _nuclear(gram) - _nuclear(without)
    gram = rows @ rows.T
    kept = ~torch.eye(channels, dtype=torch.bool, device=rows.device)
    without = torch.stack([gram[keep][:, keep] for keep in kept])
    return _nuclear(gram) - _nuclear(without)


def _nuclear(gram: Tensor) -> Tensor:
    if gram.shape[-1] == 0:
        return gram.new_zeros(gram.shape[:-2])
    # rounding leaves zero singular values as eigenvalues slightly below zero
    values: Tensor = torch.linalg.eigvalsh(gram)
    return values.clamp(min=0).sqrt().sum(-1)


def map_scores(
    model: nn.Module,
    layers: Sequence[str],
    example: Tensor,
    batches: Iterable[Batch],
    images: int,
    score: Callable[[Tensor], Tensor],
) -> dict[str, Scores]:
    """Average `score` (a function of maps) over the first `images` images, layer by layer."""

    def of_output(dim: int) -> Callable[[Tensor], Tensor]:
        def read(output: Tensor) -> Tensor:
            maps = output.movedim(dim, 1)
            maps = maps.reshape(*maps.shape[:2], *(1,) * (4 - maps.ndim), *maps.shape[2:])
            return score(maps.relu())

        return read

    found = find_layers(model, example, names=list(layers))
    readers = {
        layer.norm or layer.name: of_output(
            layer.norm_channel_dim if layer.norm else layer.channel_dim
        )
        for layer in found
    }
    means = mean_over_images(model, batches, images, readers)
    return {layer.name: np.asarray(means[layer.norm or layer.name]) for layer in found}


@register_criterion("hrank", axis="maps", source="Lin et al., CVPR 2020")
def hrank(known: Knowledge, group: Group) -> Scores:
    """Mean rank of a channel's feature maps."""
    return over_producers(group, lambda member: known.map_ranks[member.module])


@register_criterion("chip", axis="maps", source="Sui et al., NeurIPS 2021")
def chip(known: Knowledge, group: Group) -> Scores:
    """Channel independence."""
    return over_producers(group, lambda member: known.map_independence[member.module])
