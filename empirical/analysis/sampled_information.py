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
from torch import Tensor, nn

from empirical.devices import device_of
from empirical.measuring.targets import evaluate_target, target_function
from empirical.reading.batches import batches
from empirical.reading.hooks import capture, evaluating
from empirical.reading.layers import find_layers
from empirical.reading.points import taps
from empirical.reading.positions import Sampler
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
    stream = batches(loader, where)
    first = next(stream)
    found, _ = taps(find_layers(model.to(where), first[0], None), "pre_norm", strict=False)
    sampler = Sampler("positions", 1, 1, seed, where)
    function = target_function(target)
    kept: dict[str, list[Float]] = {tap.layer.name: [] for tap in found}
    targets: list[Float] = []

    def reader(name: str, channel_dim: int):
        def read(output: Tensor) -> None:
            taken = sampler.take(output, channel_dim)[:, 0]
            kept[name].append(taken.double().cpu().numpy())

        return read

    readers = {tap.module: reader(tap.layer.name, tap.channel_dim) for tap in found}
    seen = 0
    with evaluating(model), capture(model, readers):
        for inputs, labels in chain([first], stream):
            part = slice(0, images - seen)
            sampler.begin(seen, len(inputs[part]))
            logits = model(inputs[part])
            value = evaluate_target(function, logits, labels[part])[sampler.order]
            targets.append(value.double().cpu().numpy())
            seen += len(inputs[part])
            if seen >= images:
                break
    uses_once = {name: parts for name, parts in kept.items() if len(parts) == len(targets)}
    return Samples(
        {name: np.concatenate(parts) for name, parts in uses_once.items()}, np.concatenate(targets)
    )


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
