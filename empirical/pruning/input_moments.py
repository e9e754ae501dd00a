"""Second moments at the inputs of the layers that read removable channels.

They are all that peer compensation and `replaceability` need: one pass over the calibration
images serves every criterion, allocation and target of a network.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.devices import device_of
from empirical.pruning.channel_graph import ChannelGraph, Member
from empirical.reading.apart import channels_last
from empirical.reading.batches import Batch
from empirical.reading.positions import Sampler
from empirical.reading.recorder import Recorder, Samples
from empirical.reading.sums import Sums
from theory.moments import Moments, trusted_moments

Float = NDArray[np.float64]

GROUPS = 10
"""Of images, whose moments are kept apart: each is foretold by what is fitted on the others."""

WIDEST = 1024
"""Most units of a group for which they are: their sums take 84 MB for each layer that reads them,
and 1.3 GB at 4,096 units. With wider groups there is one group of images, and nothing foretold."""


class FewImagesError(ValueError):
    """A layer reads more channels than there are samples of them."""


@dataclass(frozen=True)
class InputMoments:
    """Moments of a group's units as one consumer reads them.

    mean (blocks, units) and cov (blocks, units, units). A grouped convolution reads its blocks
    through separate weights and has one block each; every other consumer has one. `parts`: of each
    block, the moments of each group of images.
    """

    mean: Float
    cov: Float
    n: int
    parts: tuple[tuple[Moments, ...], ...]


def input_moments(
    model: nn.Module,
    graph: ChannelGraph,
    batches: Iterable[Batch],
    *,
    positions: int = 64,
    seed: int = 0,
) -> dict[tuple[str, str], InputMoments]:
    """Run `model` once over `batches`; (group name, consumer name) -> `InputMoments`.

    Convolutions are read at `positions` random positions of each image; a unit that covers several
    inputs of a consumer (behind a flattening) counts as several positions of one.

    Raises ValueError where an input is not finite (naming layer and batch) or the batches hold
    fewer samples than a consumer reads units, which leaves the regression undetermined.
    """
    device = device_of(model)
    groups = GROUPS if max(group.units for group in graph.groups) <= WIDEST else 1
    sums = {
        (group.name, member.module): Sums([("x", "x")], groups=groups, device=device)
        for group in graph.groups
        for member in group.consumers
    }
    recorder = Recorder(
        [
            (_Units(member, model.get_submodule(member.module)), [sums[group.name, member.module]])
            for group in graph.groups
            for member in group.consumers
        ],
        Sampler(positions, groups=groups, seed=seed, device=device),
    )
    recorder.read(model, batches)
    return {key: _moments(*key, total, groups) for key, total in sums.items()}


def _moments(group: str, consumer: str, sums: Sums, groups: int) -> InputMoments:
    totals = sums.total()
    units = totals.first["x"].shape[-1]
    if totals.n < units:
        raise FewImagesError(
            f"loader is too small for calibration: layer {consumer!r} reads {units} "
            f"channels of {group!r} and saw {totals.n} samples. Give more images."
        )
    mean, cov = totals.mean("x"), totals.covariance("x", "x")
    of_group = [sums.total(only=g) for g in range(groups)]
    read = [(t.n, t.mean("x"), t.covariance("x", "x")) for t in of_group if t.n]
    parts = (
        tuple(trusted_moments(means[block], covs[block], 0, n) for n, means, covs in read)
        for block in range(len(mean))
    )
    return InputMoments(mean, cov, totals.n, tuple(parts))


class _Units:
    """A consumer's view of a group, "x" (n, P m, blocks, units)."""

    def __init__(self, member: Member, module: nn.Module) -> None:
        self.name = self.module = member.module
        self._channel_dim = -1 if isinstance(module, nn.Linear) else 1
        self._index = torch.as_tensor(member.of_blocks(module))

    def take(self, inputs: Tensor, _output: Tensor, sampler: Sampler) -> Samples:
        """Sample the units among the inputs."""
        rows = channels_last(inputs, self._channel_dim, len(sampler.order))
        samples = sampler.take(self.name, rows, -1)
        units = samples[:, :, self._index.to(samples.device)]  # (n, P, units, blocks, m)
        return {"x": units.permute(0, 1, 4, 3, 2).flatten(1, 2)}
