"""The angle between the two axes' gradients with respect to each channel's weights.

For a channel Y = wᵀX with D = Var(Y), b = Cov(Y, T) and c = Cov(X, T),

    ∇_w I_X ∝ Σw,    ∇_w I_T ∝ b (c - (b/D) Σw),

so their cosine needs Σw and c only. And Σw = Cov(X, Y): the covariance of the input patches with
the channels, by linearity, which costs d × C numbers per layer where Σ itself would cost d × d.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.devices import placed
from empirical.measuring.targets import TargetFunction, batch_target, reads_classes, target_function
from empirical.reading.batches import Batch, batches
from empirical.reading.layers import Layer, find_layers
from empirical.reading.networks import Adapter, opened
from empirical.reading.positions import Sampler
from empirical.reading.readings import PatchesAndOutputs
from empirical.reading.recorder import Recorder, Target
from empirical.reading.sums import Sums, Totals
from empirical.seeding import checked_seed
from theory.rank_coupling import jackknife_standard_error
from theory.shared.validation import count

PRODUCTS = (("x", "y"), ("x", "t"), ("y", ""), ("y", "t"))
"""What the cosines need: Σw, c, D and b."""


@dataclass(frozen=True, eq=False)
class GradientGeometry:
    """Cosines of the capture and the task gradient.

    Attributes
    ----------
    cosines : layer name -> (C,) Euclidean cosines; NaN for a channel without variance
    replicates : layer name -> (G, C) the same without one group of images at a time
    dimensions : layer name -> d, the number of weights of one channel. Random directions in d
        dimensions have a mean absolute cosine of about √(2/(πd))
    """

    cosines: dict[str, np.ndarray]
    replicates: dict[str, np.ndarray]
    dimensions: dict[str, int]

    def to_frame(self) -> pd.DataFrame:
        """One row per channel: `layer`, `channel`, `cosine`, `cosine_se`."""
        return pd.concat(
            [
                pd.DataFrame(
                    {
                        "layer": name,
                        "channel": np.arange(len(values)),
                        "cosine": values,
                        "cosine_se": jackknife_standard_error(self.replicates[name]),
                    }
                )
                for name, values in self.cosines.items()
            ],
            ignore_index=True,
        )

    def by_layer(self) -> pd.DataFrame:
        """One row per layer: mean absolute cosine, its standard error, d, and that of chance."""
        rows = []
        for name, values in self.cosines.items():
            replicates = np.nanmean(np.abs(self.replicates[name]), axis=1)
            rows.append(
                {
                    "layer": name,
                    "mean_absolute_cosine": np.nanmean(np.abs(values)),
                    "mean_absolute_cosine_se": float(jackknife_standard_error(replicates)),
                    "dimension": self.dimensions[name],
                    "random_directions": np.sqrt(2 / (np.pi * self.dimensions[name])),
                }
            )
        return pd.DataFrame(rows)


def gradient_cosines(
    model: nn.Module,
    loader: Iterable[object],
    *,
    target: str | TargetFunction = "logit_margin",
    layers: Sequence[str] | None = None,
    positions: int = 16,
    groups: int = 10,
    seed: int = 0,
    device: torch.device | str | None = None,
    adapt: Adapter | None = None,
) -> GradientGeometry:
    """Cosine of ∇_w I_X and ∇_w I_T for every channel, from one pass over `loader`.

    Memory: 8 bytes per group and weight of the measured layers.

    Parameters
    ----------
    model, loader, target, positions, groups, seed, device, adapt : as in `empirical.measure`; the
        target must be scalar
    layers : dotted names of Conv2d and Linear layers; None means all of them

    Raises
    ------
    TypeError, ValueError
        naming the argument, its value and the remedy

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> images = torch.randn(40, 3, 8, 8, generator=generator)
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))
    >>> found = gradient_cosines(model, [(images, torch.arange(40) % 5)])
    >>> found.by_layer()[["layer", "dimension"]].values.tolist()
    [['0', 27]]
    """
    model = opened(model, adapt)
    loader = loader if adapt is None else adapt.loader(loader)
    place = placed(model, device)
    sampler = Sampler(
        count("positions", positions),
        groups=count("groups", groups, least=2),
        seed=checked_seed("seed", seed),
        device=place,
    )
    stream = batches(loader, place, classes=reads_classes(target))
    first = next(stream)
    chosen = _supported(find_layers(model, first.images, layers), strict=layers is not None)
    sums = {name: Sums(PRODUCTS, groups=groups, device=place) for name in chosen}
    recorder = Recorder(
        [(PatchesAndOutputs(name, module), [sums[name]]) for name, module in chosen.items()],
        sampler,
        target=_scalar(batch_target(target_function(target))),
    )
    recorder.read(model, chain([first], stream))
    if recorder.n_images < groups:
        raise ValueError(
            f"loader must yield at least groups = {groups} images; got {recorder.n_images}."
        )
    return GradientGeometry(
        {name: _cosines(total.total()) for name, total in sums.items()},
        {
            name: np.stack([_cosines(total.total(without=g)) for g in range(groups)])
            for name, total in sums.items()
        },
        {name: module.weight[0].numel() for name, module in chosen.items()},
    )


def _scalar(target: Target) -> Target:
    def checked(returned: object, batch: Batch) -> Tensor:
        t = target(returned, batch)
        if t.shape[1] != 1:
            raise ValueError(
                f"target must be scalar for a gradient direction; got {t.shape[1]} columns."
            )
        return t

    return checked


def _supported(layers: list[Layer], *, strict: bool) -> dict[str, nn.Conv2d | nn.Linear]:
    kept = {
        layer.name: layer.module
        for layer in layers
        if isinstance(layer.module, (nn.Conv2d, nn.Linear))
    }
    if (strict and len(kept) < len(layers)) or not kept:
        other = next(layer for layer in layers if layer.name not in kept)
        raise ValueError(
            f"layers must be Conv2d or Linear; {other.name!r} is {type(other.module).__name__}."
        )
    return kept


def _cosines(sums: Totals) -> NDArray[np.float64]:
    """(C,) cosines, from sums over X, Y and T."""
    capture = sums.covariance("x", "y")  # Σw, (blocks, d, C / blocks)
    cross = sums.covariance("x", "t")  # c, (blocks, d, 1)
    power = sums.variance("y")
    with_target = sums.covariance("y", "t")[:, :, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = with_target / power
        residual = cross - slope[:, None] * capture
        inner = (capture * residual).sum(1)
        lengths = (capture**2).sum(1) * (residual**2).sum(1)
        cosine = np.sign(with_target) * inner / np.sqrt(lengths)
    return np.where(power > 0, cosine, np.nan).ravel()
