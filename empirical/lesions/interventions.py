"""What a lesion or a replacement does to a layer, as pure tensor functions.

An intervention reads the dense output of one layer and returns new values of some of its channels;
it changes nothing in place and knows nothing of hooks, graphs or batching.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from empirical.reading.layers import Layer


class Intervention(Protocol):
    """New values of lesioned channels.

    Called with `y` (N, C, *S), the dense output with channels second, and `channels` (L, k), the k
    channels of each of L lesions, on the host; returns (L, N, k, *S). What it knows of all channels
    stays on the host too: only what these lesions need is sent to where `y` is.
    """

    def __call__(self, y: Tensor, channels: Tensor) -> Tensor:
        """Return the new values."""
        ...


@dataclass(frozen=True)
class ToConstant:
    """The channel at one value at every position of every image: its mean, or zero.

    Parameters
    ----------
    constants : (C,) value of each channel
    """

    constants: Tensor

    def __call__(self, y: Tensor, channels: Tensor) -> Tensor:
        """Return each channel's constant, as wide as the layer."""
        values = self.constants[channels].to(y, non_blocking=True)
        shape = (len(channels), len(y), channels.shape[1], *y.shape[2:])
        return values.reshape(len(channels), 1, -1, *(1,) * (y.ndim - 2)).expand(shape)


@dataclass(frozen=True)
class FromOtherImage:
    """The channel as it is in another image: its statistics stay, what it says is lost.

    Image b of a batch of N gets the map of image (b + s) mod N, with s drawn once for each batch
    size, 1 <= s < N, so that no image ever gets its own.

    Parameters
    ----------
    seed : of s
    """

    seed: int = 0

    def __call__(self, y: Tensor, channels: Tensor) -> Tensor:
        """Return each channel with its images rolled."""
        if len(y) < 2:
            raise ValueError(
                "kind 'resample' takes a channel from another image and needs at least 2 images "
                f"at once; got {len(y)}. Raise the loader's batch size or memory."
            )
        generator = torch.Generator().manual_seed(self.seed)
        shift = int(torch.randint(1, len(y), (1,), generator=generator))
        chosen = y[:, channels.to(y.device, non_blocking=True)]
        return chosen.roll(-shift, dims=0).movedim(1, 0)


@dataclass(frozen=True)
class FromPeers:
    """The channel as an affine function of its peers, position by position.

    Parameters
    ----------
    coefficients : (C, C) row i holds the weights of channel i's peers; its diagonal is 0
    intercepts : (C,)
    """

    coefficients: Tensor
    intercepts: Tensor

    def __call__(self, y: Tensor, channels: Tensor) -> Tensor:
        """Return coefficients @ y + intercepts, for the lesioned channels only."""
        weights = self.coefficients[channels].to(y, non_blocking=True)
        values = torch.einsum("lkc,nc...->lnk...", weights, y)
        shifts = self.intercepts[channels].to(y, non_blocking=True)
        return values + shifts.reshape(len(channels), 1, -1, *(1,) * (y.ndim - 2))


@dataclass(frozen=True, eq=False)
class Job:
    """All lesions of one kind in one layer.

    Parameters
    ----------
    layer : the lesioned layer
    kind : name in the table: "mean", "zero", "resample", or a peer set
    point : where it acts: one of `empirical.reading.points.POINTS`, or "input"
    change : what happens to the channels
    channels : int64 (L, k): the k channels of each of L lesions
    reader : at the point "input", the module whose input the channels are
    """

    layer: Layer
    kind: str
    point: str
    change: Intervention
    channels: Tensor
    reader: str = ""

    @property
    def channel_dim(self) -> int:
        """Which dimension counts channels at the point."""
        if self.point != "pre_norm" and self.layer.norm is not None:
            return self.layer.norm_channel_dim
        return self.layer.channel_dim


def apply(job: Job, output: Tensor, index: int) -> Tensor:
    """Return `output` at the point with lesion `index` of the job in it.

    >>> from torch import nn
    >>> layer = Layer("fc", nn.Linear(2, 3), 3, None, channel_dim=-1)
    >>> job = Job(layer, "zero", "pre_norm", ToConstant(torch.zeros(3)), torch.tensor([[1]]))
    >>> apply(job, torch.ones(1, 3), 0)
    tensor([[1., 0., 1.]])
    """
    changed = output.clone(memory_format=torch.preserve_format)
    y = output.movedim(job.channel_dim, 1)
    channels = job.channels[index : index + 1]
    changed.movedim(job.channel_dim, 1)[:, channels[0]] = job.change(y, channels)[0]
    return changed
