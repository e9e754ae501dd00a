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
    """Sums over the positions of each image, images in the order of the data.

    Attributes
    ----------
    samples : (n,) number of positions of each image
    channels : (n, C) sum of each channel over the positions of each image
    targets : (n, q)
    """

    samples: Float
    channels: Float
    targets: Float


class Kept:
    """Keeps the samples themselves."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Tensor]] = {}
        self._images: list[NDArray[np.int64]] = []

    def add(
        self,
        values: Mapping[str, Tensor],
        images_per_group: Sequence[int],
        images: NDArray[np.int64],
    ) -> None:
        """Add a batch."""
        self._images.append(images)
        for name, value in self._kept(values).items():
            self._parts.setdefault(name, []).append(value)

    def _kept(self, values: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return values

    def all(self, name: str) -> Tensor:
        """Return every image's part of a variable, images in the order of the data."""
        order = np.argsort(np.concatenate(self._images), kind="stable")
        joined = torch.cat(self._parts[name])
        return joined[torch.from_numpy(order).to(joined.device)]


class PerImage(Kept):
    """Keeps the sums of "y" over each image's positions, and the targets."""

    def _kept(self, values: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        y = values["y"]
        samples = torch.full((len(y),), float(y.shape[1]), dtype=torch.float64)
        return {"n": samples, "y": y.sum((1, 2), dtype=torch.float64), "t": values["t"]}

    def sums(self, layer: Expansion | None, weights: Float | None) -> ImageSums:
        """Return all images' sums: of a layer whose inputs were read, and of targets @ weights."""
        samples, channels, targets = (self.all(name).cpu().numpy() for name in ("n", "y", "t"))
        if layer is not None:
            channels = layer.image_sums(samples, channels)
        return ImageSums(samples, channels, targets if weights is None else targets @ weights)
