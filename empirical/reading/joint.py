"""Two networks on the same images: correlations of the channels of one with those of the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.reading.batches import Batch
from empirical.reading.networks import copied
from empirical.reading.points import Tap
from empirical.reading.positions import Sampler
from empirical.reading.readings import Outputs
from empirical.reading.recorder import Recorder, Samples
from empirical.reading.sums import Sums, Totals
from theory.shared.validation import Float
from theory.standardize import ROUNDING

PRODUCTS = (("x", "y"), ("x", "z"), ("x", ""), ("y", ""), ("z", ""))
"""Of the first network's channels "x", the second's "y" on the same image and "z" on another."""


@dataclass(frozen=True, eq=False)
class CrossCorrelation:
    """Of one layer.

    Attributes
    ----------
    same : (C_a, C_b) correlation of the channels of two networks at the same image and position;
        NaN where one of them has no variance
    other : (C_a, C_b) the same with each image of the second network exchanged for the one half a
        batch away: what chance makes of it
    deviation : (C_a,) and (C_b,) standard deviations
    """

    same: Float
    other: Float
    deviation: tuple[Float, Float]


class _Both(nn.Module):
    """Runs two networks one after the other."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        shared = {*first.modules()} & {*second.modules()}
        self.first, self.second = first, copied(second) if shared else second

    def forward(self, images: Tensor) -> tuple[object, object]:
        return self.first(images), self.second(images)


@dataclass(frozen=True)
class _First(Outputs):
    """The first network's channels, which wait until the second's have come."""

    waiting: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def take(self, inputs: Tensor, output: Tensor, sampler: Sampler) -> Samples:
        taken = super().take(inputs, output, sampler)
        self.waiting.append((sampler.order, taken["y"]))
        return taken


@dataclass(frozen=True)
class _Second(Outputs):
    """The second network's channels beside the first's."""

    first: _First

    def take(self, inputs: Tensor, output: Tensor, sampler: Sampler) -> Samples:
        own = super().take(inputs, output, sampler)["y"]
        waiting = self.first.waiting
        while waiting and waiting[0][0] is not sampler.order:  # of a part that memory did not take
            waiting.pop(0)
        other = waiting.pop(0)[1] if waiting else own[:0]
        if other.shape[:2] != own.shape[:2]:
            raise ValueError(
                f"layer {self.name!r} must run at the same positions in both networks; the first "
                f"gave samples of shape {tuple(other.shape[:2])}, the second "
                f"{tuple(own.shape[:2])}. Leave it out by passing layers=[...]."
            )
        return {"x": other, "y": own, "z": own.roll(len(own) // 2, 0)}


def cross_correlations(
    networks: tuple[nn.Module, nn.Module],
    tapped: Mapping[str, tuple[Tap, Tap]],
    first_batch: Batch,
    rest: Iterable[Batch],
    sampler: Sampler,
) -> dict[str, CrossCorrelation]:
    """Run both networks once over the batches; nothing but sums is kept.

    Parameters
    ----------
    networks : in evaluation order
    tapped : layer -> its tap in either
    first_batch, rest : the batches, the first of which may have been looked at
    sampler : of positions, with one group
    """
    device = first_batch.images.device
    sums = {name: Sums(PRODUCTS, device=device) for name in tapped}
    readings: list[tuple[Outputs, Sequence[Sums]]] = []
    for name, pair in tapped.items():
        one, other = (
            replace(tap, module=f"{side}.{tap.module}")
            for side, tap in zip(("first", "second"), pair, strict=True)
        )
        waiting = _First(one)
        readings += [(waiting, ()), (_Second(other, waiting), (sums[name],))]
    both, recorder = _Both(*networks), Recorder(readings, sampler)
    recorder.read(both, chain([first_batch], rest))
    return {name: _correlation(own.total()) for name, own in sums.items()}


def _correlation(totals: Totals) -> CrossCorrelation:
    scales = {name: _scale(totals, name) for name in "xyz"}

    def of(name: str) -> Float:
        cov = totals.covariance("x", name)[0]
        return np.asarray(np.clip(cov * scales["x"][:, None] * scales[name], -1, 1))

    with np.errstate(divide="ignore"):
        x, y = (1 / scales[name] for name in "xy")
    return CrossCorrelation(of("y"), of("z"), (np.nan_to_num(x), np.nan_to_num(y)))


def _scale(totals: Totals, name: str) -> NDArray[np.float64]:
    """1 / deviation of each channel; NaN where that is the mean's rounding."""
    deviation = np.sqrt(np.maximum(totals.variance(name)[0], 0))
    live = deviation > ROUNDING * np.abs(totals.mean(name)[0])
    return np.where(live, 1 / np.where(live, deviation, 1), np.nan)
