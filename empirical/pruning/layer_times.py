"""How long each layer takes at any width, measured where the network will run.

Every convolution and linear layer is timed by itself at a grid of the widths that can change, on
inputs as the dense network feeds it (batch, resolution, memory layout, device, thread count), and
interpolated between them. What a forward pass takes beyond its layers (norms, activations, sums,
the calls themselves) is measured on the dense network and on one of a single unit in every group:
a fixed part, and one that goes by the elements that the layers compute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.pruning.budgets import LatencyBudget
from empirical.pruning.channel_graph import ChannelGraph, is_depthwise
from empirical.pruning.export import checked_images
from empirical.pruning.latency import latencies, time_once, time_share
from empirical.pruning.macs import Counted, blocks_of, counted
from empirical.pruning.removal import remove
from empirical.reading.hooks import capture_calls, evaluating, run_on
from empirical.reading.layers import TRANSPOSED, turned, weight_of
from empirical.reading.networks import copied, opened
from theory.shared.validation import count

Float = NDArray[np.float64]

WIDTHS = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)
"""Shares of a layer's channels at which it is timed, and a single one (or one of each group)."""

Clock = Callable[[nn.Module, Tensor], float]
"""(module, input) -> seconds of one call."""


@dataclass(frozen=True)
class Grid:
    """Seconds (inputs, outputs) of one layer at the widths of its axes; `more` for each output."""

    inputs: Float
    outputs: Float
    seconds: Float
    more: float

    def at(self, inputs: Float, outputs: Float) -> Float:
        """Interpolated linearly in both widths, (n,)."""
        rows, right = _between(self.inputs, inputs)
        columns, down = _between(self.outputs, outputs)
        found = np.zeros(len(inputs))
        for i, share in ((rows, 1 - right), (np.minimum(rows + 1, len(self.inputs) - 1), right)):
            for j, part in (
                (columns, 1 - down),
                (np.minimum(columns + 1, len(self.outputs) - 1), down),
            ):
                found += share * part * self.seconds[i, j]
        return np.asarray(found + self.more * outputs)


@dataclass(frozen=True, eq=False)
class MeasuredTimes:
    """Layer -> its times; the batch that they were measured on; seconds that no width changes."""

    grids: dict[str, Grid]
    images: Tensor
    rest: float = 0.0

    @classmethod
    def of(
        cls,
        model: nn.Module,
        graph: ChannelGraph,
        images: Tensor,
        *,
        repeats: int = 5,
        clock: Clock = time_once,
    ) -> MeasuredTimes:
        """Time every layer of `model` on `images`; layers of one shape and input share a grid."""
        count("repeats", repeats)
        model, images = opened(model), checked_images("images", images)
        fed, elements = _calls(model, graph.layers, images)
        counts = np.stack([graph.sizes, np.ones_like(graph.sizes)])
        inputs, outputs = (
            dict(zip(graph.layers, widths.T, strict=True)) for widths in graph.widths(counts)
        )
        known: dict[object, Grid] = {}
        grids = {}
        for name, calls in fed.items():
            module = counted(model, name)
            varies = tuple(bool(w[name][0] != w[name][1]) for w in (inputs, outputs))
            key = (repr(module), varies, tuple((x.shape, x.stride()) for x in calls))
            if key not in known:
                known[key] = _grid(module, calls, varies, repeats, clock)
            grids[name] = known[key]
        single = remove(model, graph, {g.name: np.arange(1) for g in graph.groups}, images[:1])
        with evaluating(model), evaluating(single):
            whole = [[clock(m, images) for m in (model, single)] for _ in range(repeats)]
        per_output = {name: number / outputs[name][0] for name, number in elements.items()}
        computed = sum(each * outputs[name] for name, each in per_output.items())
        apart = LatencyBudget(graph, cls(grids, images)).amounts(counts)
        rest, each = _fixed_and_per_element(np.median(whole, axis=0) - apart, computed)
        found = {name: replace(grid, more=each * per_output[name]) for name, grid in grids.items()}
        return cls(found, images, rest)

    def seconds(self, layer: str, inputs: Float, outputs: Float) -> Float:
        """Of one layer at several widths, (n,); 0 of a layer that the forward does not call."""
        if layer not in self.grids:
            return np.zeros(len(inputs))
        return self.grids[layer].at(inputs, outputs)

    def share(self, dense: nn.Module, pruned: nn.Module) -> float:
        """Measured time of the pruned network over the dense one's, in turns."""
        return time_share(latencies, dense, pruned, self.images)


def _fixed_and_per_element(seconds: Float, elements: Float) -> tuple[float, float]:
    """The line through what two networks (large, small) take beyond their layers; neither below 0.

    >>> _fixed_and_per_element(np.array([5.0, 2.0]), np.array([4.0, 1.0]))
    (1.0, 1.0)
    >>> _fixed_and_per_element(np.array([3.0, 0.0]), np.array([4.0, 2.0]))
    (0.0, 0.75)
    """
    if elements[0] == elements[1]:
        return max(0.0, float(seconds.mean())), 0.0
    each = max(0.0, float((seconds[0] - seconds[1]) / (elements[0] - elements[1])))
    rest = float((seconds - each * elements).mean())
    return (rest, each) if rest >= 0 else (0.0, max(0.0, float(seconds[0] / elements[0])))


def _calls(
    model: nn.Module, layers: Sequence[str], images: Tensor
) -> tuple[dict[str, list[Tensor]], Counter[str]]:
    """Inputs of every layer that the forward calls, and the number of elements that it computes."""
    fed: dict[str, list[Tensor]] = {}
    elements: Counter[str] = Counter()

    def keep(name: str, x: Tensor, output: Tensor) -> None:
        fed.setdefault(name, []).append(x.detach())
        elements[name] += output.numel()

    with evaluating(model), capture_calls(model, {name: partial(keep, name) for name in layers}):
        run_on(model, "images", images)
    return fed, elements


def _grid(
    module: Counted, calls: Sequence[Tensor], varies: Sequence[bool], repeats: int, clock: Clock
) -> Grid:
    """Time a layer of every pair of widths, `repeats` times in turns, and take medians.

    Only inputs and outputs that some removal `varies`: what is kept whole may not run otherwise.
    """
    deep, blocks = is_depthwise(module), blocks_of(module)
    made, read = weight_of(module).shape[:2]
    several = made // blocks if deep else 1  # that a depthwise layer makes of each channel
    inputs = [1] if deep else _widths(read * blocks, blocks) if varies[0] else [read * blocks]
    outputs = _widths(made, several if deep else blocks) if varies[1] else [made]
    seconds = np.zeros((len(inputs), len(outputs), repeats))
    for i, given in enumerate(inputs):
        for j, made in enumerate(outputs):
            width = made // several if deep else given
            smaller = _of_width(module, width, made) if any(varies) else module
            fed = [_first_channels(module, x, width) for x in calls]
            with evaluating(smaller):
                for x in fed:
                    smaller(x)  # kernels are chosen, memory is there
                    seconds[i, j] += [clock(smaller, x) for _ in range(repeats)]
    return Grid(np.array(inputs, float), np.array(outputs, float), np.median(seconds, axis=2), 0.0)


def _widths(channels: int, multiple: int) -> list[int]:
    units = channels // multiple
    return sorted({multiple * max(1, round(share * units)) for share in (0.0, *WIDTHS)})


def _of_width(module: Counted, inputs: int, outputs: int) -> Counted:
    """A layer of the same kind with so many channels; its weights do not matter to its time."""
    smaller = copied(module)
    if isinstance(smaller, nn.Linear):
        smaller.in_features, smaller.out_features = inputs, outputs
        weight = smaller.weight[:outputs, :inputs]
    else:
        smaller.in_channels, smaller.out_channels = inputs, outputs
        if is_depthwise(module):
            smaller.groups = inputs
        weight = weight_of(smaller)[:outputs, : inputs // smaller.groups]
        if isinstance(smaller, TRANSPOSED):
            weight = turned(weight, smaller.groups)
    smaller.weight = nn.Parameter(weight.detach().clone(memory_format=torch.preserve_format))
    if smaller.bias is not None:
        smaller.bias = nn.Parameter(smaller.bias.detach()[:outputs].clone())
    return smaller


def _first_channels(module: Counted, x: Tensor, channels: int) -> Tensor:
    if isinstance(module, nn.Linear):
        return x[..., :channels].contiguous()
    return x[:, :channels].clone(memory_format=torch.preserve_format)


def _between(grid: Float, at: Float) -> tuple[NDArray[np.int64], Float]:
    """The grid point below each value, and the share of the way to the next one."""
    if len(grid) == 1:
        return np.zeros(len(at), np.int64), np.zeros(len(at))
    below = np.clip(np.searchsorted(grid, at, side="right") - 1, 0, len(grid) - 2)
    return below, np.clip((at - grid[below]) / (grid[below + 1] - grid[below]), 0, 1)
