"""Which samples of a layer's output enter the sums: random positions, or the pooled map.

The positions of an image depend on the seed, on the image's index in the data and on the layer, and
on nothing else: neither on how the data is cut into batches nor on how it is shared between
processes.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 256
"""Images whose positions are drawn at once; small batches share a block."""


def random_positions(
    seed: int, layer: str, first_image: int, n_images: int, n_positions: int, size: int
) -> NDArray[np.int64]:
    """Draw (n_images, min(n_positions, size)) distinct positions out of `size` for each image.

    Floyd's method, all images at once: every subset of the given length is equally likely. Image
    i reads the numbers of its own stretch of the layer's counter-based stream.

    Parameters
    ----------
    seed, layer : of the stream
    first_image : index of the first image in the data
    n_images, n_positions, size : whole numbers >= 1

    Examples
    --------
    >>> whole = random_positions(0, "conv1", 0, 5, 3, 64)
    >>> bool((random_positions(0, "conv1", 2, 3, 3, 64) == whole[2:]).all())
    True
    """
    if size <= n_positions:
        return np.tile(np.arange(size), (n_images, 1))
    raw = _stream(seed, layer, first_image, n_images, n_positions)
    chosen = np.empty((n_images, n_positions), dtype=np.int64)
    for k in range(n_positions):
        last = size - n_positions + k
        # the remainder's bias is (last + 1) / 2**64
        drawn = (raw[:, k] % np.uint64(last + 1)).astype(np.int64)
        taken = (chosen[:, :k] == drawn[:, None]).any(axis=1)
        chosen[:, k] = np.where(taken, last, drawn)
    return chosen


def random_fractions(
    seed: int, purpose: str, first_image: int, n_images: int
) -> NDArray[np.float64]:
    """Draw one number in [0, 1) for each image, (n_images,): a function of seed and image alone."""
    raw = _stream(seed, purpose, first_image, n_images, 1)[:, 0]
    # the 53 highest bits, as many as a float64 holds
    return np.asarray((raw >> np.uint64(11)).astype(np.float64) / 2.0**53)


def random_signs(
    seed: int, purpose: str, first_image: int, n_images: int, signs: int
) -> NDArray[np.int8]:
    """Draw (n_images, signs) of -1 and 1 for each image: a function of seed and image alone."""
    raw = _stream(seed, purpose, first_image, n_images, -(-signs // 64))
    bits = np.unpackbits(raw.view(np.uint8), axis=1)[:, :signs]
    return 2 * bits.astype(np.int8) - 1


def _stream(
    seed: int, name: str, first_image: int, n_images: int, numbers: int
) -> NDArray[np.uint64]:
    """(n_images, at least `numbers`) of 64 bit, each image's from its own place in the stream."""
    # one step of the counter gives four numbers of 64 bit
    steps = -(-numbers // 4)
    key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    stream = np.random.Philox(key=[seed, key]).advance(first_image * steps)
    return stream.random_raw(n_images * steps * 4).reshape(n_images, steps * 4)


class Sampler:
    """Take samples of one batch's outputs, images reordered so that groups are contiguous.

    Image i of the data belongs to group i modulo `groups`.

    Parameters
    ----------
    positions : random positions of each image's map; all where it has no more
    groups : number of groups of images
    seed : of the positions
    device : where outputs are
    pooled : take the mean over each map instead of positions
    """

    def __init__(
        self,
        positions: int,
        *,
        groups: int = 1,
        seed: int = 0,
        device: torch.device | str = "cpu",
        pooled: bool = False,
    ) -> None:
        self.groups = groups
        self._pooled, self._positions, self._seed = pooled, positions, seed
        self.device = torch.device(device)
        self.first_image = 0
        self.host_order: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._blocks: dict[tuple[str, int], dict[int, NDArray[np.int64]]] = {}
        self._places: dict[tuple[str, int], Tensor] = {}
        self.order: Tensor = torch.empty(0, dtype=torch.int64)
        self.images_per_group: list[int] = []

    def begin(self, first_image: int, n_images: int) -> None:
        """Announce the images whose outputs come next."""
        group = (first_image + np.arange(n_images)) % self.groups
        self.first_image = first_image
        self.host_order = np.argsort(group, kind="stable")
        self.order = torch.from_numpy(self.host_order).to(self.device)
        self.images_per_group = np.bincount(group, minlength=self.groups).tolist()
        self._places.clear()

    def take(self, layer: str, output: Tensor, channel_dim: int) -> Tensor:
        """Copy samples (n, P, C) out of a layer's output, images in the order `self.order`."""
        if output.shape[0] != len(self.order):
            raise ValueError(
                "model must keep images along the first dimension of every measured output; of "
                f"{len(self.order)} images layer {layer!r} gave an output of shape "
                f"{tuple(output.shape)}. Leave it out of layers=[...], or name it in skip."
            )
        samples = output.movedim(channel_dim, -1)
        samples = samples.unsqueeze(1) if samples.ndim == 2 else samples.flatten(1, -2)
        if self._pooled:
            samples = samples.mean(1, keepdim=True, dtype=torch.float64)
        if samples.shape[1] <= (1 if self._pooled else self._positions):
            return samples.index_select(0, self.order)
        return samples[self.order[:, None], self.places(layer, samples.shape[1])]

    def places(self, layer: str, size: int) -> Tensor:
        """Positions (n, P) on a layer's maps of `size`, images in the order `self.order`."""
        if (layer, size) not in self._places:
            chosen = self._chosen(layer, size, len(self.host_order))[self.host_order]
            self._places[layer, size] = torch.from_numpy(chosen).to(self.device)
        return self._places[layer, size]

    def _chosen(self, layer: str, size: int, n_images: int) -> NDArray[np.int64]:
        numbers = range(self.first_image // BLOCK, (self.first_image + n_images - 1) // BLOCK + 1)
        known = self._blocks.get((layer, size), {})
        blocks = {
            b: known[b]
            if b in known
            else random_positions(self._seed, layer, b * BLOCK, BLOCK, self._positions, size)
            for b in numbers
        }
        self._blocks[layer, size] = blocks
        start = self.first_image - numbers[0] * BLOCK
        return np.concatenate(list(blocks.values()))[start : start + n_images]
