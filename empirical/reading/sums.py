"""Streaming moments of (Y, T) on the device, kept apart by group of images.

Sums are of deviations from a per-channel shift, the mean over a few images, so that a mean a
thousand times the deviation costs no digits. A target is constant over the positions of its
image; its products with the channels therefore need only the sums over each image's positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from theory._lapack import add_symmetric_product
from theory.moments import Moments

BLOCK = 256
"""Width of the column blocks in which the upper triangle of YᵀY is computed where no symmetric
product is at hand. Above it the triangle saves more than narrower products cost."""

FEW = 8
"""Images of the first batch whose mean is the shift."""

IN_NUMPY = (torch.float16, torch.float32, torch.float64)


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
        self.n_channels, self.n_targets = c, q
        self._device, self._precision = torch.device(device), precision
        self._on_host = self._device.type == "cpu" and precision is torch.float64
        self._shift: Tensor | None = None
        self._buffer = np.empty(0)
        self._counts = np.zeros(groups, dtype=np.int64)
        self._sums = self._zeros(groups, c + q)
        # only the upper triangle of each YᵀY is filled
        self._channels = self._zeros(groups, c, c)
        self._cross = self._zeros(groups, c, q)
        self._targets = self._zeros(groups, q, q)

    def _zeros(self, *shape: int) -> Any:
        """Arrays on the host, tensors on a device: their arithmetic reads the same."""
        if self._on_host:
            return np.zeros(shape)
        return torch.zeros(shape, dtype=torch.float64, device=self._device)

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
            # in float64: any finite value serves as a shift, and a few images give a good one
            few = samples[:FEW].double().mean((0, 1))
            self._shift = torch.cat([few, targets.double().mean(0)])
        shifted: Any = targets.double() - self._shift[c:]
        if self._on_host:
            shifted = shifted.numpy()
        add_channels = self._add_on_host if self._on_host else self._add_on_device
        start = 0
        for group, n in enumerate(images_per_group):
            if n == 0:
                continue
            part = slice(start, start + n)
            start += n
            per_image = add_channels(group, samples[part])
            self._counts[group] += n * positions
            self._sums[group, :c] += per_image.sum(0)
            self._sums[group, c:] += positions * shifted[part].sum(0)
            self._cross[group] += per_image.T @ shifted[part]
            self._targets[group] += positions * (shifted[part].T @ shifted[part])

    def _add_on_host(self, group: int, samples: Tensor) -> NDArray[np.float64]:
        """Add the products of one group's channels; return each image's sums of deviations.

        In NumPy and BLAS, a group at a time: its deviations stay in a core's cache, and none of
        the calls holds Python's lock, so that layers are added side by side.
        """
        # NumPy has no bfloat16
        values = (samples if samples.dtype in IN_NUMPY else samples.float()).numpy()
        if self._buffer.shape[0] < values.size:
            self._buffer = np.empty(values.size)
        deviations = self._buffer[: values.size].reshape(values.shape)
        np.subtract(values, self._shift[: self.n_channels].numpy(), out=deviations)
        add_symmetric_product(self._channels[group], deviations.reshape(-1, self.n_channels))
        total: NDArray[np.float64] = deviations.sum(axis=1)
        return total

    def _add_on_device(self, group: int, samples: Tensor) -> Tensor:
        """The same with torch, where the samples are, in the chosen precision."""
        deviations = torch.sub(samples, self._shift[: self.n_channels]).to(self._precision)
        rows, products = deviations.reshape(-1, self.n_channels), self._channels[group]
        for left in range(0, self.n_channels, BLOCK):
            right = min(left + BLOCK, self.n_channels)
            products[left:right, left:] += rows[:, left:right].T @ rows[:, left:]
        return deviations.sum(1, dtype=torch.float64)

    def moments(self) -> list[Moments]:
        """Moments of each group, groups without samples left out."""
        return [self._group(g) for g in range(len(self._counts)) if self._counts[g] > 0]

    def _group(self, group: int) -> Moments:
        """Turn sums of deviations from the shift into mean and covariance."""
        # in NumPy: these matrices are too small for torch's threads to be worth waking
        n, c = int(self._counts[group]), self.n_channels
        sums, shift = _host(self._sums[group]), _host(self._shift)
        mean = sums / n
        cov = np.zeros((sums.size, sums.size))  # only its upper triangle is filled
        cov[:c, :c] = _host(self._channels[group])
        cov[:c, c:] = _host(self._cross[group])
        cov[c:, c:] = _host(self._targets[group])
        cov -= np.outer(mean, sums)
        cov /= max(n - 1, 1)
        upper = np.triu(cov)
        upper += np.triu(cov, 1).T
        return Moments(shift + mean, upper, self.n_targets, n)


def _host(values: Any) -> NDArray[np.float64]:
    return values.cpu().numpy() if isinstance(values, Tensor) else values
