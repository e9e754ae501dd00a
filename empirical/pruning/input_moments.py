"""Second moments at the inputs of the layers that read removable channels.

They are all that peer compensation and `replaceability` need: one pass over the calibration
images serves every criterion, allocation and target of a network.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.pruning.channel_graph import ChannelGraph, Member
from empirical.reading.hooks import evaluating

Float = NDArray[np.float64]


@dataclass(frozen=True)
class InputMoments:
    """Moments of a group's units as one consumer reads them.

    mean (blocks, units) and cov (blocks, units, units). A grouped convolution reads its blocks
    through separate weights and has one block each; every other consumer has one.
    """

    mean: Float
    cov: Float
    n: int


def input_moments(
    model: nn.Module,
    graph: ChannelGraph,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    positions: int = 64,
    seed: int = 0,
) -> dict[tuple[str, str], InputMoments]:
    """Run `model` once over `batches`; (group name, consumer name) -> `InputMoments`.

    Convolutions are read at `positions` random positions per image, drawn anew for each batch;
    a unit that covers several inputs of a consumer (behind a flattening) counts as several
    positions of one. Sums are kept in float64 around the first batch's mean.

    Raises ValueError where an input is not finite (naming layer and batch) or the batches hold
    fewer samples than a consumer reads units, which leaves the regression undetermined.
    """
    generator = torch.Generator().manual_seed(seed)
    sums: dict[tuple[str, str], _Sums] = {}
    modules = dict(model.named_modules())
    with ExitStack() as stack, evaluating(model):
        for group in graph.groups:
            for member in group.consumers:
                kept = sums.setdefault((group.name, member.module), _Sums(modules, member))

                def read(module: nn.Module, inputs: tuple[Tensor, ...], kept: _Sums = kept) -> None:
                    kept.add(inputs[0], positions, generator)

                handle = modules[member.module].register_forward_pre_hook(read)
                stack.callback(handle.remove)
        for images, _ in batches:
            model(images)
    return {key: kept.moments(*key) for key, kept in sums.items()}


class _Sums:
    """Running sums of one consumer's view of a group."""

    def __init__(self, modules: dict[str, nn.Module], member: Member) -> None:
        module = modules[member.module]
        self.name = member.module
        self.linear = isinstance(module, nn.Linear)
        self.index = torch.as_tensor(member.index)
        self.blocks = member.index.shape[1] if getattr(module, "groups", 1) > 1 else 1
        self.pivot: Tensor | None = None
        self.batch = self.n = 0

    def add(self, inputs: Tensor, positions: int, generator: torch.Generator) -> None:
        """Add one batch of the consumer's input."""
        rows = self._rows(inputs.detach(), positions, generator).double()
        if not bool(torch.isfinite(rows).all()):
            raise ValueError(
                f"input of layer {self.name!r} is not finite in calibration batch {self.batch}. "
                "Check the images and the model's weights."
            )
        if self.pivot is None:
            self.pivot = rows.mean(1, keepdim=True)
            self.first = torch.zeros_like(self.pivot)
            self.second = rows.new_zeros(len(rows), rows.shape[2], rows.shape[2])
        rows -= self.pivot
        self.first += rows.sum(1, keepdim=True)
        self.second += rows.mT @ rows
        self.n += rows.shape[1]
        self.batch += 1

    def _rows(self, inputs: Tensor, positions: int, generator: torch.Generator) -> Tensor:
        """Samples of the units, (blocks, n, units)."""
        flat = inputs.reshape(-1, inputs.shape[-1], 1) if self.linear else inputs.flatten(2)
        if flat.shape[2] > positions:
            drawn = torch.randperm(flat.shape[2], generator=generator)[:positions]
            flat = flat[:, :, drawn.to(flat.device)]
        units = flat[:, self.index.to(flat.device)]  # (n, units, m, positions)
        blocks = units.unflatten(2, (self.blocks, -1))
        return blocks.permute(2, 0, 3, 4, 1).flatten(1, 3)

    def moments(self, group: str, consumer: str) -> InputMoments:
        """Mean and covariance, once all batches are in."""
        if self.pivot is None or self.n < len(self.index):
            raise ValueError(
                f"loader is too small for calibration: layer {consumer!r} reads {len(self.index)} "
                f"channels of {group!r} and saw {self.n} samples. Give more images."
            )
        mean = self.first / self.n
        cov = (self.second - self.n * mean.mT @ mean) / max(1, self.n - 1)
        center = (self.pivot + mean).squeeze(1)
        return InputMoments(center.cpu().numpy(), cov.cpu().numpy(), self.n)
