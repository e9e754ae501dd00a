"""From a divergence of predictions to their accuracy, through the margins of images.

What pruning does to the logits of an image is taken as noise, z' = z + s ε with ε ~ N(0, I). To
second order it moves the prediction p by ½ s² tr(diag p − p pᵀ) nats, its Fisher metric; beyond,
the divergence is averaged over drawn ε, which grows with s along every draw since it is convex
in s and least at 0. So a mean divergence over the images singles out one s, and with it the share
of images whose largest logit stays the largest (agreement), and of those that are still right
(accuracy): images of a small margin go first. With two classes of logits Δ apart, agreement is
Φ(|Δ| / (√2 s)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from empirical.reading.outputs import divergences

Float = NDArray[np.float64]

DRAWS = 32
"""Of the noise, alike for every scale."""

SCALES = np.geomspace(1e-3, 1e2, 61)
"""Standard deviations of the noise, over the root mean square of the centred logits."""


@dataclass(frozen=True)
class Margins:
    """Mean divergence (nats), agreement and accuracy of predictions under noise of each scale.

    All (scales,), scales rising from 0; accuracy is NaN where there are no class numbers.
    """

    scales: Float
    divergence: Float
    agreement: Float
    accuracy: Float

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor | None, *, seed: int = 0) -> Margins:
        """Read off a network's logits (n, K) on images, and their classes (n,).

        No noise brings back a class of probability 0.
        """
        z = logits.double().cpu()
        possible = z.softmax(1) > 0
        z = z - (z.where(possible, 0).sum(1) / possible.sum(1)).unsqueeze(1)
        z = z.masked_fill(~possible, -torch.inf)
        right = None if labels is None else labels.cpu()
        generator = torch.Generator().manual_seed(seed)
        scales = np.r_[0.0, SCALES * max(float(z[possible].square().mean().sqrt()), 1e-12)]
        found = np.zeros((3, len(scales)))
        for _ in range(DRAWS):
            noise = torch.randn(z.shape, generator=generator, dtype=z.dtype)
            found += np.array([_under(z, s * noise, right) for s in scales]).T / DRAWS
        return cls(scales, np.maximum.accumulate(found[0]), found[1], found[2])

    def scale(self, divergence: Float) -> Float:
        """The scale of noise that moves predictions by so many nats, (n,)."""
        return np.interp(np.sqrt(divergence), np.sqrt(self.divergence), self.scales)

    def scale_of_agreement(self, agreement: Float) -> Float:
        """The scale of noise that leaves a share of predictions as they were, (n,)."""
        falling = np.minimum.accumulate(self.agreement)
        return np.interp(-agreement, -falling, self.scales)

    def at(self, scale: Float) -> tuple[Float, Float]:
        """Agreement and accuracy under noise of a scale, (n,) each."""
        agreement = np.interp(scale, self.scales, self.agreement)
        return agreement, np.interp(scale, self.scales, self.accuracy)


def _under(z: Tensor, noise: Tensor, right: Tensor | None) -> tuple[float, float, float]:
    """Divergence, agreement and accuracy of z + noise."""
    moved = z + noise
    before, after = z.log_softmax(1), moved.log_softmax(1)
    divergence = float(divergences(before, after).mean())
    now = moved.argmax(1)
    agreement = float((now == z.argmax(1)).double().mean())
    accuracy = np.nan if right is None else float((now == right).double().mean())
    return divergence, agreement, accuracy
