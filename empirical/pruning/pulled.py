"""What the prediction does when units change as the layers that read them see it, image by image.

For unit inputs x of a reading layer, with g their gradient under a random root s of the
prediction's curvature (`empirical.measuring.curvature`), the products

    V_ij = Σ_p g_ip (x_jp - μ_j)

of every image and draw give the damage of removing any set of units, by second order, whatever
regression on the others stands in for them: the change of s·f is linear in V.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.devices import device_of
from empirical.measuring.curvature import OfPrediction
from empirical.pruning.channel_graph import ChannelGraph, Member
from empirical.pruning.input_moments import InputMoments
from empirical.reading.apart import channels_last
from empirical.reading.batches import Batch, leading
from empirical.reading.hooks import edit_inputs, evaluating

Key = tuple[str, str]
"""Group and the layer that reads it."""

Products = NDArray[np.float32]
"""V (images x draws, units, units) of one block of a reading layer."""

MOST_BYTES = 512_000_000
"""Of all products together; with more units fewer images are read."""

IMAGES, DRAWS = 500, 2


def pulled_products(
    model: nn.Module,
    graph: ChannelGraph,
    moments: Mapping[Key, InputMoments],
    batches: Iterable[Batch],
    *,
    images: int = IMAGES,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[Key, list[Products]]:
    """(group, reading layer) -> V of each block, from the first images; no labels are read.

    Parameters
    ----------
    model, graph : the dense network, left as it is, and its groups
    moments : of the units at each reading layer, for their means
    images : at most so many, and no more than `MOST_BYTES` holds
    draws : of s, for each image
    """
    readers = [(group, member) for group in graph.groups for member in group.consumers]
    bytes_each = 4 * sum(g.units**2 * len(moments[g.name, m.module].mean) for g, m in readers)
    few = max(1, min(images, MOST_BYTES // max(1, bytes_each * draws)))
    found: dict[Key, list[list[Products]]] = {(g.name, m.module): [] for g, m in readers}
    names = dict.fromkeys(member.module for _, member in readers)
    inputs: dict[str, list[Tensor]] = {name: [] for name in names}
    curvature = OfPrediction(draws, seed)

    def keep(name: str) -> Callable[[Tensor], Tensor]:
        def kept(x: Tensor) -> Tensor:
            # its own node: what other layers make of the same units is not this one's
            x = x.view_as(x) if x.requires_grad else x.detach().requires_grad_(True)
            inputs[name].append(x)
            return x

        return kept

    with evaluating(model), edit_inputs(model, {name: keep(name) for name in names}):
        for batch in leading(batches, few):
            for drawn in _gradients(model, batch, inputs, curvature):
                for group, member in readers:
                    key = group.name, member.module
                    module = model.get_submodule(member.module)
                    means = torch.from_numpy(moments[key].mean).to(device_of(model))
                    calls = drawn[member.module]
                    n = len(batch.images)
                    found[key].append(_products(member, module, means, calls, n))
            for kept in inputs.values():
                kept.clear()
    return {
        key: [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
        for key, blocks in found.items()
    }


def _gradients(
    model: nn.Module, batch: Batch, inputs: Mapping[str, list[Tensor]], curvature: OfPrediction
) -> list[dict[str, list[tuple[Tensor, Tensor]]]]:
    """Of each draw: reading layer -> (input, gradient) of each of its calls."""
    with torch.enable_grad():
        returned = model(batch.images)
        cotangents = curvature.cotangents(returned, batch)
        flat = [(name, x) for name, kept in inputs.items() for x in kept]
        tensors = [x for _, x in flat]
        drawn = []
        for number, cotangent in enumerate(cotangents):
            more = number + 1 < len(cotangents)
            gradients = torch.autograd.grad(returned, tensors, cotangent, retain_graph=more)
            own: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in inputs}
            for (name, x), gradient in zip(flat, gradients, strict=True):
                own[name].append((x.detach(), gradient))
            drawn.append(own)
    return drawn


def _products(
    member: Member,
    module: nn.Module,
    means: Tensor,
    calls: Sequence[tuple[Tensor, Tensor]],
    n: int,
) -> list[Products]:
    """V (n, units, units) of each block, summed over calls, positions and a unit's inputs."""
    dim = -1 if isinstance(module, nn.Linear) else 1
    index = torch.as_tensor(member.of_blocks(module), device=means.device)
    blocks = len(means)
    total: list[Tensor] = []
    for x, gradient in calls:
        # (n, units, blocks, inputs of a unit in the block, positions)
        values, slopes = (channels_last(t, dim, n).mT[:, index] for t in (x, gradient))
        for block in range(blocks):
            shift = means[block].to(values)[None, :, None, None]
            deviations = (values[:, :, block] - shift).flatten(2)
            product = slopes[:, :, block].flatten(2) @ deviations.transpose(1, 2)
            if block < len(total):
                total[block] = total[block] + product
            else:
                total.append(product)
    return [part.float().cpu().numpy() for part in total]
