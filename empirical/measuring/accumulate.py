"""Streaming moments of (Y, T) on the device, kept apart by group of images.

Sums are of deviations from a per-channel shift, the mean over the first batch, so that a mean a
thousand times the deviation costs no digits. A target is constant over the positions of its
image; its products with the channels therefore need only the sums over each image's positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.linalg import blas
from torch import Tensor

from theory.moments import Moments

BLOCK = 256
"""Width of the column blocks in which the upper triangle of YᵀY is computed where no symmetric
product is at hand. Above it the triangle saves more than narrower products cost."""


class GroupedMoments:
    """Sums over samples of one layer's channels and of the targets, per group of images.

    Parameters
    ----------
    n_channels, n_targets, groups : C, q and G
    device : where the sums are kept and computed
    precision : of the products within a batch; totals are float64 in either case

    Examples
    --------
    >>> sums = GroupedMoments(n_channels=2, n_targets=1, groups=1)
    >>> sums.add(torch.tensor([[[1., 0.]], [[3., 2.]]]), torch.tensor([[0.], [1.]]), [2])
    >>> sums.moments()[0].cov
    array([[2. , 2. , 1. ],
           [2. , 2. , 1. ],
           [1. , 1. , 0.5]])
    """

    def __init__(
        self,
        n_channels: int,
        n_targets: int,
        groups: int,
        device: torch.device | str = "cpu",
        precision: torch.dtype = torch.float64,
    ) -> None:
        c, q = n_channels, n_targets
        options = {"dtype": torch.float64, "device": device}
        self.n_channels, self.n_targets = c, q
        self._precision = precision
        self._shift: Tensor | None = None
        self._counts = np.zeros(groups, dtype=np.int64)
        self._sums = torch.zeros(groups, c + q, **options)
        # only the upper triangle of each YᵀY is filled
        self._channels = torch.zeros(groups, c, c, **options)
        self._cross = torch.zeros(groups, c, q, **options)
        self._targets = torch.zeros(groups, q, q, **options)

    def add(self, samples: Tensor, targets: Tensor, images_per_group: Sequence[int]) -> None:
        """Add a batch.

        Parameters
        ----------
        samples : (n, P, C), the images of a group next to each other, groups in order
        targets : (n, q), images in the same order
        images_per_group : how many of the n images belong to each group
        """
        _, positions, c = samples.shape
        if self._shift is None:
            self._shift = torch.cat(
                [samples.double().mean((0, 1)), targets.double().mean(0)]
            )  # in float64: any finite value serves as a shift
        # promoted to float64 in one pass over the samples
        channels = torch.sub(samples, self._shift[:c]).to(self._precision)
        shifted = targets.double() - self._shift[c:]
        per_image = channels.sum(1, dtype=torch.float64)
        start = 0
        for group, n in enumerate(images_per_group):
            if n == 0:
                continue
            part = slice(start, start + n)
            start += n
            self._add_channels(group, channels[part].reshape(-1, c))
            self._counts[group] += n * positions
            self._sums[group, :c] += per_image[part].sum(0)
            self._sums[group, c:] += positions * shifted[part].sum(0)
            self._cross[group].addmm_(per_image[part].T, shifted[part])
            self._targets[group].addmm_(shifted[part].T, shifted[part], alpha=positions)

    def _add_channels(self, group: int, rows: Tensor) -> None:
        products = self._channels[group]
        if products.device.type == "cpu" and rows.dtype is torch.float64:
            # BLAS writes the lower triangle of the transpose, which is this upper one, in place
            blas.dsyrk(1.0, rows.numpy().T, beta=1.0, c=products.numpy().T, lower=1, overwrite_c=1)
            return
        for left in range(0, self.n_channels, BLOCK):
            right = min(left + BLOCK, self.n_channels)
            products[left:right, left:] += rows[:, left:right].T @ rows[:, left:]

    def moments(self) -> list[Moments]:
        """Moments of each group, groups without samples left out."""
        return [self._group(g) for g in range(len(self._counts)) if self._counts[g] > 0]

    def _group(self, group: int) -> Moments:
        """Turn sums of deviations from the shift into mean and covariance."""
        # in NumPy: these matrices are too small for torch's threads to be worth waking
        n, c = int(self._counts[group]), self.n_channels
        sums, shift = self._sums[group].cpu().numpy(), self._shift.cpu().numpy()
        mean = sums / n
        cov = np.zeros((sums.size, sums.size))  # only its upper triangle is filled
        cov[:c, :c] = self._channels[group].cpu().numpy()
        cov[:c, c:] = self._cross[group].cpu().numpy()
        cov[c:, c:] = self._targets[group].cpu().numpy()
        cov -= np.outer(mean, sums)
        cov /= max(n - 1, 1)
        upper = np.triu(cov)
        upper += np.triu(cov, 1).T
        return Moments(shift + mean, upper, self.n_targets, n)
