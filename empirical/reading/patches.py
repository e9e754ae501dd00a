"""The one extractor of patches: what a layer multiplies its filters with, at chosen positions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from empirical.reading.layers import CONVOLUTIONS, Convolution

Patched = Convolution | nn.Linear
PATCHED = (*CONVOLUTIONS, nn.Linear)
"""Layers each of whose outputs is its filter times a patch of the inputs."""


def patches(module: Patched, inputs: Tensor, places: Tensor) -> Tensor:
    """Return what channels see at some positions of their map, (n, P, B, d).

    B is the number of blocks of a grouped convolution, else 1, and d the number of weights of one
    channel, in their order.

    Parameters
    ----------
    module : convolution, grouped or not, or linear layer
    inputs : its input, images first
    places : (n, P) positions on the flattened map of its output

    Examples
    --------
    >>> layer = nn.Conv2d(2, 3, 2, padding=1)
    >>> images = torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    >>> found = patches(layer, images, torch.tensor([[0, 35, 7]] * 4))
    >>> outputs = found[:, :, 0] @ layer.weight.flatten(1).T + layer.bias
    >>> bool(torch.allclose(outputs, layer(images).flatten(2).mT[:, [0, 35, 7]], atol=1e-6))
    True
    """
    rows = torch.arange(len(inputs), device=inputs.device)[:, None]
    if isinstance(module, nn.Linear):
        return inputs.reshape(len(inputs), -1, inputs.shape[-1])[rows, places][:, :, None]
    padding = _padding(module)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = functional.pad(inputs, padding, mode=mode)
    taps = torch.from_numpy(_taps(module, padded.shape[2:])).to(inputs.device)
    found = padded.flatten(2).mT[rows[..., None], taps[places]]  # (n, P, taps, inputs)
    return found.mT.reshape(*places.shape, module.groups, -1)


def map_size(module: Patched, inputs: Tensor) -> int:
    """Return how many positions the layer's output has on `inputs`, images first.

    >>> map_size(nn.Conv2d(2, 3, 2, stride=2), torch.zeros(1, 2, 8, 6))
    12
    """
    if isinstance(module, nn.Linear):
        return inputs[0].numel() // inputs.shape[-1]
    around = _padding(module)[::-1]
    padded = [
        n + a + b for n, a, b in zip(inputs.shape[2:], around[::2], around[1::2], strict=True)
    ]
    return int(np.prod(_map_shape(module, padded)))


def _padding(module: Convolution) -> list[int]:
    """Before and after each dimension, the last one first, also for "same"; as torch applies it."""
    return list(module._reversed_padding_repeated_twice)


def _map_shape(module: Convolution, size: Sequence[int]) -> list[int]:
    reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    return [(n - r - 1) // s + 1 for n, r, s in zip(size, reach, module.stride, strict=True)]


def _taps(module: Convolution, size: Sequence[int]) -> NDArray[np.int64]:
    """(positions, taps) places on the flattened padded input that each output position reads."""
    shape = _map_shape(module, size)
    corners = np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), axis=-1) * module.stride
    offsets = np.array(list(product(*map(range, module.kernel_size)))) * module.dilation
    where = corners[:, None] + offsets
    flat = np.ravel_multi_index(tuple(np.moveaxis(where, -1, 0)), tuple(size))
    return np.asarray(flat, dtype=np.int64)
