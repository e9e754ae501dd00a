"""What lesions and replacements know of the dense network: moments from calibration images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from empirical.reading.batches import batches, image_digests
from empirical.reading.hooks import capture, evaluating
from empirical.reading.layers import Layer
from theory.moments import Moments
from theory.shared.validation import Float, count

POSITIONS = 16
"""Random positions per image, as in `measure`."""


@dataclass(frozen=True)
class LayerMoments:
    """Moments of each layer at one point, and which images they come from.

    Parameters
    ----------
    moments
        Layer name -> `Moments`; targets, where it has them, are not used here.
    images
        Digests of the images, or None where they are not known.
    """

    moments: Mapping[str, Moments]
    images: frozenset[bytes] | None = None

    def of(self, layer: Layer) -> tuple[Float, Float]:
        """Return (C,) means and (C, C) covariance of a layer's channels.

        Raises
        ------
        ValueError
            No moments of that layer, or of another number of channels.
        """
        if layer.name not in self.moments:
            raise ValueError(
                f"calibration must hold moments of layer {layer.name!r}; it holds "
                f"{', '.join(map(repr, self.moments)) or 'none'}. Measure that layer too."
            )
        moments, c = self.moments[layer.name], layer.n_channels
        if moments.n_channels != c:
            raise ValueError(
                f"calibration has {moments.n_channels} channels for layer {layer.name!r}, which "
                f"has {c}. Measure this very model."
            )
        return moments.mean[:c], moments.cov[:c, :c]


def calibrate(
    model: nn.Module,
    source: Any,
    layers: Sequence[Layer],
    *,
    point: str = "pre_norm",
    positions: int = POSITIONS,
    seed: int = 0,
) -> LayerMoments:
    """Return the calibration that `source` is, or make one from a loader.

    Parameters
    ----------
    source
        What `measure` returned, a mapping of layer name to `Moments`, a `LayerMoments`, or a
        loader of calibration images.
    point
        Where the channels are read.
    positions, seed
        For a loader: how many random positions of each map count, and their seed.
    """
    if isinstance(source, LayerMoments):
        return source
    if isinstance(source, Mapping):
        return LayerMoments(source)
    if isinstance(getattr(source, "moments", None), Mapping):
        measured_at = getattr(source, "settings", {}).get("point", "pre_norm")
        if measured_at != point:
            raise ValueError(
                f"calibration must be measured at point {point!r}; got one measured at "
                f"{measured_at!r}. Call measure(..., point={point!r})."
            )
        return LayerMoments(source.moments, getattr(source, "image_digests", None) or None)
    if not isinstance(source, Iterable):
        raise TypeError(
            "calibration must be the result of measure(), a mapping of layer name to Moments, or a "
            f"loader of calibration images; got {type(source).__name__}."
        )
    return _from_loader(model, source, layers, point, count("positions", positions), seed)


def _from_loader(
    model: nn.Module,
    loader: Iterable[object],
    layers: Sequence[Layer],
    point: str,
    positions: int,
    seed: int,
) -> LayerMoments:
    """One pass in evaluation mode; every layer at random positions of each image."""
    generator = torch.Generator().manual_seed(seed)
    moments: dict[str, Moments] = {}
    seen: set[bytes] = set()

    def reader(layer: Layer, activation: Callable[[Tensor], Tensor] | None, channel_dim: int):
        def read(output: Tensor) -> None:
            value = output if activation is None else activation(output)
            found = Moments.from_samples(sample_positions(value, channel_dim, positions, generator))
            moments[layer.name] = moments[layer.name] + found if layer.name in moments else found

        return read

    readers = {}
    for layer in layers:
        before = layer.name if point == "pre_norm" or layer.norm is None else layer.norm
        channel_dim = layer.channel_dim if before == layer.name else layer.norm_channel_dim
        activation = layer.activation if point == "post_activation" else None
        readers[before] = reader(layer, activation, channel_dim)

    device = next(model.parameters()).device
    with evaluating(model), capture(model, readers):
        for images, _ in batches(loader, device):
            seen.update(image_digests(images))
            model(images)
    return LayerMoments(moments, frozenset(seen))


def sample_positions(
    output: Tensor, channel_dim: int, positions: int, generator: torch.Generator
) -> Float:
    """Return float64 (N * p, C): `positions` random positions of each map, or all of fewer."""
    maps = output.movedim(channel_dim, 1).flatten(2) if output.ndim > 2 else output[:, :, None]
    n, c, s = maps.shape
    if s > positions:
        chosen = torch.rand(n, s, generator=generator).argsort(1)[:, :positions].to(maps.device)
        maps = maps.gather(2, chosen[:, None].expand(-1, c, -1))
    samples = maps.movedim(1, 2).reshape(-1, c).double().cpu().numpy()
    return np.asarray(samples, dtype=np.float64)
