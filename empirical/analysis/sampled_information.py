"""Task information of every channel without the Gaussian assumption, from stored samples.

The moments of `measure` know second-order dependence only. Here one random position per image is
kept, so that samples are independent, and I(Y_i; T) is estimated three ways on the same samples:
Gaussian, Gaussian copula, and nearest neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from empirical.devices import device_of
from empirical.measuring.targets import batch_target, target_function
from empirical.reading.batches import batches, leading
from empirical.reading.kept import Kept
from empirical.reading.layers import find_layers
from empirical.reading.points import taps
from empirical.reading.positions import Sampler
from empirical.reading.readings import channel_readings
from empirical.reading.recorder import Recorder
from theory import Moments, channel_axes
from theory.nonparametric import copula_moments, nearest_neighbor_information

Float = NDArray[np.float64]

ESTIMATORS = ("gaussian", "copula", "nearest neighbours")


@dataclass(frozen=True)
class Samples:
    """One sample per image: layer -> (n, C), and the target (n, q)."""

    layers: Mapping[str, Float]
    target: Float


def draw_samples(
    model: nn.Module,
    loader: Iterable[object],
    *,
    target: str = "logit_margin",
    images: int = 1000,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> Samples:
    """Keep one random position of each of the first `images` images, before the norm."""
    where = device_of(model) if device is None else torch.device(device)
    stream = leading(batches(loader, where), images)
    first = next(stream)
    layers = find_layers(model.to(where), first.images, None)
    found, _ = taps([layer for layer in layers if layer.calls == 1], "pre_norm", strict=False)
    kept = {tap.layer.name: Kept() for tap in found}
    recorder = Recorder(
        [(reading, [kept[reading.name]]) for reading in channel_readings(found, {})],
        Sampler(1, seed=seed, device=where),
        target=batch_target(target_function(target)),
    )
    recorder.read(model, chain([first], stream))

    def host(sink: Kept, name: str) -> Float:
        return sink.all(name).double().flatten(1).cpu().numpy()

    any_layer = next(iter(kept.values()))
    return Samples({name: host(sink, "y") for name, sink in kept.items()}, host(any_layer, "t"))


def task_information(samples: Float, target: Float, estimator: str) -> Float:
    """I(Y_i; T) in nats of every channel, (C,); zero where a channel does not vary.

    >>> rng = np.random.default_rng(0)
    >>> t = rng.standard_normal((1000, 1))
    >>> y = np.hstack([t**2, rng.standard_normal((1000, 1))])
    >>> [(task_information(y, t, e) > 0.2).tolist() for e in ("gaussian", "nearest neighbours")]
    [[False, False], [True, False]]
    """
    found = np.zeros(samples.shape[1])
    varies = samples.std(axis=0) > 0
    alive = samples[:, varies]
    if estimator == "nearest neighbours":
        found[varies] = [nearest_neighbor_information(y, target) for y in alive.T]
    else:
        make = copula_moments if estimator == "copula" else Moments.from_samples
        found[varies] = channel_axes(make(alive, target), hull=False).task_information
    return found
