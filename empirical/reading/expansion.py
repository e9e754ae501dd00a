"""Wide linear layers after narrow inputs, whose moments follow from those of their inputs.

A linear layer Y = W X + b of C channels from D inputs has Cov(Y) = W Cov(X) Wᵀ. Where C is several
times D, as in inverted bottlenecks, bottlenecks' last layers and transformers' hidden layers,
sampling X costs (D/C)² of the products and of the memory. The result is that of Y in exact
arithmetic; the network's own float32 rounding of Y does not enter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.reading.layers import TRANSPOSED, Convolution
from empirical.reading.patches import PATCHED
from empirical.reading.points import Tap
from theory.moments import Moments

WIDENING = 3
"""Least C / D for which inputs are sampled."""


@dataclass(frozen=True)
class Expansion:
    """A layer's weights W (C, D), offset b (C,), and the strides of its map."""

    weights: NDArray[np.float64]
    offset: NDArray[np.float64]
    stride: tuple[int, ...]

    def inputs(self, images: Tensor) -> Tensor:
        """Return the inputs that the layer reads: a strided convolution skips positions."""
        for dim, step in enumerate(reversed(self.stride), start=1):
            images = images.movedim(-dim, -1)[..., ::step].movedim(-1, -dim)
        return images

    def moments(self, of_inputs: Moments, channels: NDArray[np.intp] | None = None) -> Moments:
        """Moments of (Y, T) from those of (X, T), of some channels or of all."""
        if channels is None:
            return of_inputs.transform_channels(self.weights, self.offset)
        return of_inputs.transform_channels(self.weights[channels], self.offset[channels])

    def image_sums(self, samples: np.ndarray, of_inputs: np.ndarray) -> np.ndarray:
        """(n, C) sums of Y over each image's samples from the (n, D) sums of X."""
        return of_inputs @ self.weights.T + samples[:, None] * self.offset


def expansions(taps: Sequence[Tap]) -> dict[str, Expansion]:
    """Return layer name -> expansion, of those taps that read one."""
    found = {tap.layer.name: _expansion(tap) for tap in taps}
    return {name: layer for name, layer in found.items() if layer is not None}


def _expansion(tap: Tap) -> Expansion | None:
    """Return the expansion that a tap reads, or None where its outputs must be sampled.

    Only torch's own layers count, and only without forward hooks: a subclass, a parametrization or
    a hook may do something else than W X + b.
    """
    module = tap.layer.module
    if type(module) not in PATCHED or isinstance(module, TRANSPOSED):
        return None
    weight = module.weight.detach()
    usable = weight.dtype in (torch.float32, torch.float64) and bool(torch.isfinite(weight).all())
    if tap.module != tap.layer.name or tap.change is not None or module._forward_hooks:
        return None
    if not usable or len(weight) < WIDENING * weight[0].numel():
        return None
    if not isinstance(module, nn.Linear) and not _is_pointwise(module):
        return None
    bias = torch.zeros(len(weight)) if module.bias is None else module.bias.detach()
    return Expansion(
        weight.flatten(1).double().cpu().numpy(),
        bias.double().cpu().numpy(),
        () if isinstance(module, nn.Linear) else tuple(module.stride),
    )


def _is_pointwise(module: Convolution) -> bool:
    # "same" and "valid" pad nothing around a single tap
    padded = not isinstance(module.padding, str) and any(module.padding)
    return module.groups == 1 and module.weight[0, 0].numel() == 1 and not padded
