"""Criteria that read feature maps: HRank, CHIP and LinDeps.

The first two look at what a producer's channels show after its norm and a ReLU, image by image;
LinDeps at the maps as the next layers read them, all images at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import lapack
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


def pivot_shares(second: NDArray[np.float64]) -> Scores:
    """Share of the total power at which each channel enters a pivoted QR; (C, C) -> (C,).

    With columns X of the maps and second moment XᵀX / n, channels enter by what those before them
    leave unexplained, the largest first: the pivots R_kk² / n of the pivoted QR of X are those of
    the pivoted Cholesky decomposition of XᵀX / n. A channel that depends on those before it has 0.

    >>> x = np.array([[3.0, 0.0, 3.0], [0.0, 2.0, 1.0]])  # the third depends on both
    >>> (pivot_shares(x.T @ x) * 23).round(3).tolist()  # of 9 + 4 + 10; of 4 it leaves 4 - 4 / 10
    [0.0, 3.6, 10.0]
    """
    root, order, rank, _ = lapack.dpstrf(second, lower=1)
    share = np.zeros(len(second))
    share[order[:rank] - 1] = np.diag(root)[:rank] ** 2
    return share / max(float(np.trace(second)), np.finfo(float).tiny)


@register_criterion(
    "lindeps", axis="maps", across="raw",
    source="Henry et al., arXiv:2507.21573: pivoted QR of the maps that the next layers read",
)  # fmt: skip
def lindeps(known: Knowledge, group: Group) -> Scores:
    """Pivots of the maps, each reading layer's scaled to a power of one."""
    total = np.zeros((group.units, group.units))
    for member in group.consumers:
        found = known.input_moments[group.name, member.module]
        for mean, cov in zip(found.mean, found.cov, strict=True):
            second = cov * (found.n - 1) / found.n + np.outer(mean, mean)
            total += second / max(float(np.trace(second)), np.finfo(float).tiny)
    return pivot_shares(total)
