"""Sinks that keep something of every image, where sums over images do not suffice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from empirical.reading.expansion import Expansion

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ImageSums:
    """Sums over the positions of each image, images in any one order.

    Attributes
    ----------
    samples : (n,) number of positions of each image
    channels : (n, C) sum of each channel over the positions of each image
    targets : (n, q)
    """

    samples: Float
    channels: Float
    targets: Float


class PerImage:
    """Keeps the sums of "y" over each image's positions, and the targets."""

    def __init__(self) -> None:
        self._parts: list[tuple[Float, Float, Float]] = []

    def add(self, values: Mapping[str, Tensor], images_per_group: Sequence[int]) -> None:
        """Add a batch."""
        y = values["y"]
        n, positions, _, _ = y.shape
        channels = y.sum((1, 2), dtype=torch.float64).cpu().numpy()
        self._parts.append((np.full(n, float(positions)), channels, values["t"].cpu().numpy()))

    def sums(self, layer: Expansion | None, weights: Float | None) -> ImageSums:
        """Return all images' sums: of a layer whose inputs were read, and of targets @ weights."""
        samples, channels, targets = map(np.concatenate, zip(*self._parts, strict=True))
        if layer is not None:
            channels = layer.image_sums(samples, channels)
        return ImageSums(samples, channels, targets if weights is None else targets @ weights)


class Kept:
    """Keeps the samples themselves, one group: then images stay in the order of the data."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Tensor]] = {}

    def add(self, values: Mapping[str, Tensor], images_per_group: Sequence[int]) -> None:
        """Add a batch."""
        for name, value in values.items():
            self._parts.setdefault(name, []).append(value)

    def all(self, name: str) -> Tensor:
        """Return every sample of a variable, (n, P, B, A) or (n, q)."""
        return torch.cat(self._parts[name])
