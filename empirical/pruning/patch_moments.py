"""Second moments of the patches that the layers which read removable channels multiply.

A unit is all its taps here, where `input_moments` has one number for it: what whole kernels need.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.devices import device_of
from empirical.pruning.channel_graph import ChannelGraph, Member
from empirical.pruning.input_moments import FewImagesError
from empirical.reading.batches import Batch
from empirical.reading.patches import PATCHED, Patched
from empirical.reading.positions import Sampler
from empirical.reading.readings import PatchesAndOutputs
from empirical.reading.recorder import Recorder, Samples
from empirical.reading.sums import Sums

Float = NDArray[np.float64]

WIDEST = 5000
"""Most rows, units times taps, that a layer may read: its moments then take 200 MB, and twice that
while units go. A 3 x 3 convolution of 512 channels has 4,608."""


@dataclass(frozen=True)
class PatchMoments:
    """Moments of a group's units, all taps, as one consumer reads them.

    mean (blocks, rows) and cov (blocks, rows, rows); the rows of a unit are next to each other, in
    the order of the weights. A grouped convolution has one block for each of its groups.
    """

    mean: Float
    cov: Float
    n: int

    @property
    def second(self) -> Float:
        """Second moments about zero, (blocks, rows, rows)."""
        outer = self.mean[:, :, None] * self.mean[:, None, :]
        return np.asarray(self.cov * (self.n - 1) / self.n + outer)


def patch_moments(
    model: nn.Module,
    graph: ChannelGraph,
    batches: Iterable[Batch],
    *,
    positions: int = 64,
    seed: int = 0,
) -> dict[tuple[str, str], PatchMoments]:
    """Run `model` once over `batches`; (group name, consumer name) -> `PatchMoments`.

    Convolutions are read at `positions` random positions of each image's output.

    Raises ValueError where a consumer is a transposed convolution or reads more than `WIDEST` rows,
    and FewImagesError where the batches hold fewer samples than rows.
    """
    device = device_of(model)
    readings = {
        (group.name, member.module): _Kernels(member, model.get_submodule(member.module))
        for group in graph.groups
        for member in group.consumers
    }
    sums = {key: Sums([("x", "x")], device=device) for key in readings}
    recorder = Recorder(
        [(reading, [sums[key]]) for key, reading in readings.items()],
        Sampler(positions, seed=seed, device=device),
    )
    recorder.read(model, batches)
    return {key: _moments(*key, total) for key, total in sums.items()}


def _moments(group: str, consumer: str, sums: Sums) -> PatchMoments:
    total = sums.total()
    mean, cov = total.mean("x"), total.covariance("x", "x")
    if total.n < mean.shape[1]:
        raise FewImagesError(
            f"loader is too small for whole kernels: layer {consumer!r} reads {mean.shape[1]} "
            f"values of {group!r} at a position and saw {total.n} positions. Give more images, or "
            "take criterion 'replaceability'."
        )
    return PatchMoments(mean, cov, total.n)


def rows_of(member: Member, module: Patched) -> NDArray[np.int64]:
    """Where a block's patches hold the units, (units · channels of a unit · taps,)."""
    taps = module.weight[0, 0].numel()
    columns = member.columns(module)
    return (columns[:, :, None] * taps + np.arange(taps)).ravel()


class _Kernels:
    """A consumer's patches of a group, "x" (n, P, blocks, rows)."""

    def __init__(self, member: Member, module: nn.Module) -> None:
        self.name = self.module = member.module
        if not isinstance(module, PATCHED):
            raise ValueError(
                f"criterion of whole kernels is not defined on layer {member.module!r}, a "
                f"{type(module).__name__}, which multiplies no patches. Take 'replaceability', or "
                "name in skip what it reads."
            )
        self._patches = PatchesAndOutputs(member.module, module)
        self._rows = rows_of(member, module)
        if len(self._rows) > WIDEST:
            raise ValueError(
                f"criterion of whole kernels takes layers of at most {WIDEST} values at a "
                f"position; {member.module!r} reads {len(self._rows)}. Take 'replaceability', or "
                "name in skip what it reads."
            )

    def take(self, inputs: Tensor, output: Tensor, sampler: Sampler) -> Samples:
        """Sample the units among the patches."""
        return {"x": self._patches.take(inputs, output, sampler)["x"][..., self._rows]}
