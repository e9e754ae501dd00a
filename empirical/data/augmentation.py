"""Which images each training step sees, shifted and mirrored how: drawn once per epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class EpochPlan:
    """The order of one epoch's images, and the shift and mirroring of each.

    A function of (seed, epoch) alone, so that a resumed run continues with the same images.
    """

    order: Tensor
    shift: Tensor
    mirrored: Tensor
    augmented: bool

    @classmethod
    def draw(
        cls, n_images: int, *, padding: int, flip: bool, seed: int, epoch: int, device: torch.device
    ) -> EpochPlan:
        """Draw the plan of `epoch`: shifts of up to `padding` pixels, mirroring if `flip`."""
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(n_images)
        shift = rng.integers(-padding, padding + 1, size=(n_images, 2))
        mirrored = rng.random(n_images) < (0.5 if flip else 0.0)
        return cls(
            order=torch.from_numpy(order).to(device),
            shift=torch.from_numpy(shift).to(device),
            mirrored=torch.from_numpy(mirrored).to(device),
            augmented=flip or padding > 0,
        )

    def batch(
        self, images: Tensor, start: int, stop: int, stride: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Return the augmented images of positions start:stop:stride, and their indices."""
        where = slice(start, stop, stride)
        chosen = self.order[where]
        if not self.augmented:
            return images[chosen], chosen
        return shift_and_mirror(images, chosen, self.shift[where], self.mirrored[where]), chosen


def shift_and_mirror(images: Tensor, chosen: Tensor, shift: Tensor, mirrored: Tensor) -> Tensor:
    """Return images[chosen], shifted with reflection at the borders and mirrored left to right.

    A random crop of a padded image is a shifted image. One gather does both, and its result is
    channels-last in memory.

    Parameters
    ----------
    images
        (n, C, H, W).
    chosen
        (b,) indices into `images`.
    shift
        (b, 2) rows and columns, each smaller than H and W.
    mirrored
        (b,) bool.

    Returns
    -------
    Tensor
        (b, C, H, W), of the type of `images`.

    Examples
    --------
    >>> row = torch.tensor([[[[1, 2, 3]]]])
    >>> one, right = torch.tensor([0]), torch.tensor([[0, 1]])
    >>> shift_and_mirror(row, one, right, torch.tensor([False])).flatten().tolist()
    [2, 3, 2]
    >>> shift_and_mirror(row, one, right, torch.tensor([True])).flatten().tolist()
    [2, 3, 2]
    >>> shift_and_mirror(row, one, 0 * right, torch.tensor([True])).flatten().tolist()
    [3, 2, 1]
    """
    height, width = images.shape[2:]
    rows = _reflected(torch.arange(height, device=images.device) + shift[:, :1], height)
    columns = _reflected(torch.arange(width, device=images.device) + shift[:, 1:], width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    gathered = images[chosen[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return gathered.permute(0, 3, 1, 2)


def _reflected(position: Tensor, size: int) -> Tensor:
    inside = position.abs()
    return torch.where(inside < size, inside, 2 * (size - 1) - inside)
