"""The time that a network takes in ONNX Runtime, as the budget of `prune(latency=...)`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.pruning.channel_graph import ChannelGraph
from empirical.pruning.latency import onnx_latencies, time_share

Float = NDArray[np.float64]

BLOCK = 16
"""Channels that its convolutions take at once, with AVX-512; 8 with AVX2."""


@dataclass(frozen=True, eq=False)
class OnnxTimes:
    """Whole networks by the clock of ONNX Runtime, their layers by multiply-accumulates.

    `known.times = OnnxTimes(known.graph, images)` of a `Calibration` lets `latency` mean its time,
    for batches as `images`. Ask for `round_to=BLOCK` with it: its convolutions take channels in
    blocks, and a network of other widths can be slower than the dense one. Two cores, 16 images,
    VGG-16 of width 1/4 by `l2`, time over the dense network's at 60 and 30 % of the
    multiply-accumulates: 1.91 and 1.26 at any widths, .92 and .62 in multiples of 4, .74 and .60
    of 8, .68 and .42 of 16.
    """

    graph: ChannelGraph
    images: Tensor

    @property
    def rest(self) -> float:
        """Multiply-accumulates that no removal changes."""
        return float(self.graph.rest)

    @cached_property
    def _costs(self) -> dict[str, float]:
        return {
            name: cost
            for name, (cost, *_) in zip(self.graph.layers, self.graph.terms(), strict=True)
        }

    def seconds(self, layer: str, inputs: Float, outputs: Float) -> Float:
        """Multiply-accumulates of one layer at several widths, (n,): shares are all that counts."""
        return np.asarray(self._costs[layer] * inputs * outputs)

    def share(self, dense: nn.Module, pruned: nn.Module) -> float:
        """Measured time of the pruned network over the dense one's, in turns."""
        return time_share(onnx_latencies, dense, pruned, self.images)
