"""What follows a lesioned layer, run again for many lesions at once.

The intact network's values on a batch are computed once. A chunk of M pairs (lesion, image) then
carries k changed channels as far as `lesion_rules` can, and whole values from there on. A pair
whose only changed value equals the intact one (a channel that ReLU silences on that image with the
lesion and without) cannot change the output: it is dropped, or, where a queue would have to be
waited for, marked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from empirical.devices import queued
from empirical.lesions.execution import Lesioned
from empirical.lesions.graph import Program
from empirical.lesions.interventions import Job
from empirical.lesions.rules import Changed, Setting, mixed, rule_for, saturates
from empirical.reading.hooks import altered

LEAST_DROPPED = 0.05
"""Share of pairs below which dropping them is not worth the copies."""

OVERHEAD = 2
"""Workspace of an operation, as a multiple of what it reads and writes."""


@dataclass
class Fused:
    """A convolution with the batch norm that alone reads it, as one convolution."""

    norm: fx.Node
    weight: Tensor
    bias: Tensor


class Suffix:
    """The part of a program that depends on one node, for one lesioned site.

    Parameters
    ----------
    program : of the model
    site : the node whose value is lesioned
    constant : nodes that do not depend on the images
    fused : convolution -> its fusion, for all of the program
    """

    def __init__(
        self, program: Program, site: fx.Node, constant: set[fx.Node], fused: dict[fx.Node, Fused]
    ) -> None:
        self.program, self.site, self.constant, self.fused = program, site, constant, fused
        useful = program.before(program.result)
        self.nodes = [node for node in program.after(site) if node in useful]
        self.rules = {node: rule_for(program, node) for node in self.nodes}
        last = {read: node for node in self.nodes for read in node.all_input_nodes}
        inside = {site, *self.nodes} - {program.result}
        self.beside = last.keys() - {site, *self.nodes} - constant
        self.done: dict[fx.Node, list[fx.Node]] = {node: [] for node in self.nodes}
        for read in inside & last.keys():  # what no later node reads
            self.done[last[read]].append(read)

    def run(self, dense: dict[fx.Node, Any], job: Job, most_pairs: int) -> Iterator[Lesioned]:
        """Yield the logits of the job's lesions, at most `most_pairs` pairs at a time."""
        if self.program.result not in (self.site, *self.nodes):
            return  # nothing that is lesioned reaches the logits
        y = dense[self.site].movedim(job.channel_dim, 1)
        n_images, n_lesions = len(y), len(job.channels)
        everyone = torch.arange(n_images, device=y.device).repeat(n_lesions)
        lesions = torch.arange(n_lesions, device=y.device).repeat_interleave(n_images)
        members = job.channels.to(y.device, non_blocking=True).repeat_interleave(n_images, dim=0)
        step = max(1, most_pairs // n_images)
        for first in range(0, n_lesions, step):
            channels = job.channels[first : first + step]
            pairs = slice(first * n_images, (first + len(channels)) * n_images)
            image, lesion = everyone[pairs], lesions[pairs]
            changed = Changed(job.change(y, channels).flatten(0, 1), members[pairs])
            start: Changed | Tensor = changed
            if job.channel_dim % y.ndim != 1:  # the rules take channels to be second
                start = written(y, image, changed).movedim(1, job.channel_dim)
            chunk = _Chunk(self, dense, image, lesion)
            yield chunk.run(start)


class _Chunk:
    """One pass of M pairs through a suffix."""

    def __init__(
        self, suffix: Suffix, dense: dict[fx.Node, Any], image: Tensor, lesion: Tensor
    ) -> None:
        self.suffix, self.dense, self.image, self.lesion = suffix, dense, image, lesion
        self.state: dict[fx.Node, Changed | Tensor] = {}
        self.unchanged: Tensor | None = None

    def run(self, start: Changed | Tensor) -> Lesioned:
        suffix = self.suffix
        self.state[suffix.site] = start
        for node in suffix.nodes:
            if node not in self.state:
                self._step(node)
            for read in suffix.done[node]:
                self.state.pop(read, None)
            if list(self.state) == [node] and saturates(suffix.program, node):
                self._drop_unchanged(node)
                if len(self.image) == 0:
                    return Lesioned(self.lesion, self.image, self.dense[suffix.program.result][:0])
        logits = self._whole(suffix.program.result)
        return Lesioned(self.lesion, self.image, logits, self.unchanged)

    def _step(self, node: fx.Node) -> None:
        """Compute a node; a convolution with a fused norm computes the norm's node instead."""
        suffix = self.suffix
        setting = Setting(suffix.program, self.dense, self.image, self.state)
        read = [self.state[n] for n in node.all_input_nodes if n in self.state]
        fusion = suffix.fused.get(node)
        if fusion is not None:
            module: Any = suffix.program.module_of(node)
            first = read[0]
            if isinstance(first, Changed):
                result = mixed(setting, node, fusion.norm, module, fusion.weight, first)
            else:
                result = functional.conv2d(
                    first, fusion.weight, fusion.bias,
                    module.stride, module.padding, module.dilation,
                )  # fmt: skip
            self.state[fusion.norm] = result
            self.state[node] = result
            return
        rule = suffix.rules[node]
        if rule is not None and isinstance(read[0], Changed):
            found = rule(setting, node, read[0])
            if found is not None:
                self.state[node] = found
                return
        self.state[node] = suffix.program.call(node, self._whole)

    def _whole(self, node: fx.Node) -> Any:
        """Return a node's value for all pairs, (M, ...)."""
        if node in self.state:
            found = self.state[node]
            if isinstance(found, Changed):
                found = written(self.dense[node], self.image, found)
                self.state[node] = found
            return found
        value = self.dense[node]
        if node in self.suffix.constant:
            return value
        if isinstance(value, Tensor):
            return _gather(value, self.image)
        return self._shape(node)

    def _shape(self, node: fx.Node) -> Any:
        """Recompute a number that may hold the batch size, on tensors without memory."""

        def wide(read: fx.Node) -> Any:
            value = self.dense[read]
            if read in self.suffix.constant:
                return value
            if isinstance(value, Tensor):
                return torch.empty(
                    (len(self.image), *value.shape[1:]), dtype=value.dtype, device="meta"
                )
            return self._shape(read)

        return self.suffix.program.call(node, wide)

    def _drop_unchanged(self, node: fx.Node) -> None:
        found = self.state[node]
        if not isinstance(found, Changed):
            return
        intact = self.dense[node][self.image[:, None], found.channels]
        same = (found.values == intact).flatten(1).all(1)
        if queued(same.device):  # to drop them now is to wait until their number is known
            self.unchanged = same
            return
        kept = ~same
        if float(kept.float().mean()) > 1 - LEAST_DROPPED:
            return
        self.image, self.lesion = self.image[kept], self.lesion[kept]
        self.state[node] = Changed(found.values[kept], found.channels[kept])


def written(value: Tensor, image: Tensor, changed: Changed) -> Tensor:
    """Return (M, C, *S): the intact value of each pair's image with the changed channels in it."""
    whole = _gather(value, image)
    pairs = torch.arange(len(image), device=value.device)
    whole[pairs[:, None], changed.channels] = changed.values.to(whole.dtype)
    return whole


def _gather(value: Tensor, image: Tensor) -> Tensor:
    """Select images, keeping the memory layout."""
    if value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last):
        return value.permute(0, 2, 3, 1).index_select(0, image).permute(0, 3, 1, 2)
    return value.index_select(0, image)


def fuse_norms(program: Program) -> dict[fx.Node, Fused]:
    """Fold each batch norm into the convolution before it, where nothing else reads that."""
    fused = {}
    for node in program.nodes:
        module = program.module_of(node)
        if type(module) is not nn.Conv2d or module.padding_mode != "zeros" or module.groups != 1:
            continue
        if isinstance(module.padding, str) or len(node.users) != 1 or altered(module):
            continue
        reader = next(iter(node.users))
        norm = program.module_of(reader)
        if type(norm) is not nn.BatchNorm2d or norm.running_mean is None or altered(norm):
            continue
        fused[node] = Fused(reader, *_fold(module, norm))
    return fused


@torch.no_grad()
def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution, in float64 before they are rounded."""

    def exact(tensor: Any) -> Any:
        return None if tensor is None else tensor.double()

    fused = fuse_conv_bn_weights(
        exact(convolution.weight), exact(convolution.bias), exact(norm.running_mean),
        exact(norm.running_var), norm.eps, exact(norm.weight), exact(norm.bias),
    )  # fmt: skip
    weight, bias = (tensor.detach().to(convolution.weight.dtype) for tensor in fused)
    return weight, bias


def batch_free(program: Program) -> set[fx.Node]:
    """Return the nodes that do not depend on the images: parameters, and what follows from them."""
    dependent = {program.input}
    for node in program.nodes:
        if not dependent.isdisjoint(node.all_input_nodes):
            dependent.add(node)
    return set(program.nodes) - dependent


def pair_bytes(suffix: Suffix, sizes: dict[fx.Node, int]) -> int:
    """Return the most bytes that one pair needs at once, all its values taken whole."""
    alive = {suffix.site: sizes.get(suffix.site, 0)}
    most = alive[suffix.site]
    for node in suffix.nodes:
        touched = sizes.get(node, 0) + sum(sizes.get(n, 0) for n in node.all_input_nodes)
        alive[node] = sizes.get(node, 0)
        most = max(most, sum(alive.values()) + OVERHEAD * touched)
        for read in suffix.done[node]:
            alive.pop(read, None)
    return most


def value_bytes(values: dict[fx.Node, Any]) -> dict[fx.Node, int]:
    """Return the bytes of every node's tensor."""
    return {
        node: value.numel() * value.element_size()
        for node, value in values.items()
        if isinstance(value, Tensor)
    }
