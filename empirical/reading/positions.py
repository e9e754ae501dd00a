"""Which samples of a layer's output enter the moments: random positions, or the pooled map.

The positions of an image depend on the seed, on the image's index in the data and on the size of
the map, and on nothing else: neither on how the data is cut into batches nor on how it is shared
between processes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def random_positions(
    seed: int, first_image: int, n_images: int, n_positions: int, size: int
) -> NDArray[np.int64]:
    """Draw (n_images, min(n_positions, size)) distinct positions out of `size` for each image.

    Floyd's method, all images at once: every subset of the given length is equally likely. Image
    i reads the numbers of its own stretch of one counter-based stream.

    Parameters
    ----------
    seed : of the stream
    first_image : index of the first image in the data
    n_images, n_positions, size : whole numbers >= 1

    Examples
    --------
    >>> whole = random_positions(0, 0, 5, 3, 64)
    >>> bool((random_positions(0, 2, 3, 3, 64) == whole[2:]).all())
    True
    """
    if size <= n_positions:
        return np.tile(np.arange(size), (n_images, 1))
    # one step of the counter gives four numbers of 64 bit
    steps = -(-n_positions // 4)
    stream = np.random.Philox(key=[seed, size]).advance(first_image * steps)
    raw = stream.random_raw(n_images * steps * 4).reshape(n_images, steps * 4)
    chosen = np.empty((n_images, n_positions), dtype=np.int64)
    for k in range(n_positions):
        last = size - n_positions + k
        # the remainder's bias is (last + 1) / 2**64
        drawn = (raw[:, k] % np.uint64(last + 1)).astype(np.int64)
        taken = (chosen[:, :k] == drawn[:, None]).any(axis=1)
        chosen[:, k] = np.where(taken, last, drawn)
    return chosen


class Sampler:
    """Take samples of one batch's outputs, images reordered so that groups are contiguous.

    Image i of the data belongs to group i modulo `groups`.
    """

    def __init__(
        self, sampling: str, positions: int, groups: int, seed: int, device: torch.device
    ) -> None:
        self._pooled = sampling == "pooled"
        self._positions, self._groups, self._seed = positions, groups, seed
        self._device = device
        self._chosen: dict[int, Tensor] = {}
        self._first, self.order = 0, torch.empty(0)
        self.images_per_group: list[int] = []

    def begin(self, first_image: int, n_images: int) -> None:
        """Announce the batch whose outputs come next."""
        group = (first_image + np.arange(n_images)) % self._groups
        self._first, self._order = first_image, np.argsort(group, kind="stable")
        self.order = torch.from_numpy(self._order).to(self._device)
        self.images_per_group = np.bincount(group, minlength=self._groups).tolist()
        self._chosen.clear()

    def take(self, output: Tensor, channel_dim: int) -> Tensor:
        """Copy samples (n, P, C) out of `output`, images in the order `self.order`."""
        if output.shape[0] != len(self.order):
            raise ValueError(
                "model must keep images along the first dimension of every measured output; a "
                f"batch of {len(self.order)} images gave an output of shape "
                f"{tuple(output.shape)}. Leave this layer out by passing layers=[...]."
            )
        samples = output.movedim(channel_dim, -1)
        samples = samples.unsqueeze(1) if samples.ndim == 2 else samples.flatten(1, -2)
        if self._pooled:
            return samples.mean(1, keepdim=True, dtype=torch.float64).index_select(0, self.order)
        size = samples.shape[1]
        if size <= self._positions:
            return samples.index_select(0, self.order)
        return samples[self.order[:, None], self.chosen(size)]

    def chosen(self, size: int) -> Tensor:
        """Positions (n, P) of each image on maps of `size`, images in the order `self.order`."""
        if size not in self._chosen:
            chosen = random_positions(
                self._seed, self._first, len(self._order), self._positions, size
            )
            self._chosen[size] = torch.from_numpy(chosen[self._order]).to(self._device)
        return self._chosen[size]
