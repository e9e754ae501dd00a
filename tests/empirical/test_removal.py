"""Removal against masking, masking against hooks, and counts against torch-pruning and by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn

from empirical.pruning.channel_graph import ChannelGraph
from empirical.pruning.macs import count_macs
from empirical.pruning.removal import mask, remove
from empirical.pruning.tracing import trace_channels
from tests.empirical.pruning_networks import SIZES, awakened, network, plain

FLOAT32_TOLERANCE = 1e-5
"""Outputs of order 1 in float32: sums over fewer channels are rounded in another order."""


def some_units(graph: ChannelGraph, share: float = 0.6, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        g.name: np.sort(rng.permutation(g.units)[: max(1, round(share * g.units))])
        for g in graph.groups
    }


def assert_same(one: Tensor, other: Tensor) -> None:
    scale = max(1.0, float(other.abs().max()))
    assert float((one - other).abs().max()) <= FLOAT32_TOLERANCE * scale


class Grouped(nn.Module):
    """Grouped and depthwise convolutions with a residual sum and a group norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.grouped = nn.Conv2d(12, 12, 3, padding=1, groups=3)
        self.norm = nn.GroupNorm(3, 12)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.mix = nn.Conv2d(12, 12, 1)
        self.head = nn.Linear(12, 5)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.stem(images)
        inner = self.norm(self.grouped(stem.sigmoid())).sigmoid()
        return self.head((stem + self.mix(self.depthwise(inner))).mean((2, 3)))


class Joined(nn.Module):
    """Two branches that are concatenated, one of them of a single channel."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 6, 3)
        self.single = nn.Conv2d(3, 1, 3)
        self.act = nn.PReLU(7)
        self.last = nn.Conv2d(7, 5, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.act(torch.cat([self.left(images), self.single(images)], 1))).mean(
            (2, 3)
        )


class NormedEach(nn.Module):
    """A group norm that takes each channel by itself: nothing ties them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 6, 1)
        self.norms = nn.ModuleList([nn.GroupNorm(12, 12), nn.GroupNorm(6, 6, affine=False)])
        self.head = nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.norms[0](self.one(images)).sigmoid()
        return self.head(self.norms[1](self.two(hidden)).sigmoid().mean((2, 3)))


@pytest.mark.parametrize("name", SIZES)
def test_pruned_equals_masked_on_every_architecture(name: str) -> None:
    model = network(name)
    images = torch.randn(2, 3, SIZES[name], SIZES[name], generator=torch.Generator().manual_seed(0))
    graph = trace_channels(model, images[:1])
    kept = some_units(graph)
    pruned, masked = remove(model, graph, kept, images[:1]), mask(model, graph.groups, kept)
    with torch.no_grad():
        assert_same(pruned(images), masked(images))
        assert float((masked(images) - model(images)).abs().max()) > 1e-3
    assert count_macs(pruned, images[:1]) < 0.6 * count_macs(model, images[:1])


@pytest.mark.parametrize("make", [Grouped, Joined, NormedEach])
def test_pruned_equals_masked_with_groups_and_concatenation(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = awakened(make())
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    graph = trace_channels(model, images[:1])
    kept = some_units(graph, 0.5)
    pruned = remove(model, graph, kept, images[:1])
    with torch.no_grad():
        assert_same(pruned(images), mask(model, graph.groups, kept)(images))


def test_a_norm_of_each_channel_ties_none() -> None:
    graph = trace_channels(NormedEach(), torch.zeros(1, 3, 8, 8))
    assert [(group.name, group.units) for group in graph.groups] == [("one", 12), ("two", 6)]


def test_units_of_a_grouped_convolution_take_one_channel_from_every_group() -> None:
    graph = trace_channels(Grouped(), torch.zeros(1, 3, 8, 8))
    inner = graph.group("grouped")
    assert inner.units == 4
    producer = next(m for m in inner.members if m.module == "grouped")
    assert producer.index.tolist() == [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]


def test_a_layer_of_one_channel_is_kept_whole() -> None:
    graph = trace_channels(Joined(), torch.zeros(1, 3, 8, 8))
    assert [group.name for group in graph.groups] == ["left"]
    assert "single" in graph.kept_whole


def test_masking_equals_zeroing_what_the_next_layer_reads() -> None:
    """Independent route: hooks on the model as it is, whatever norm and bias come before."""
    model = plain()
    images = torch.randn(3, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    graph = trace_channels(model, images[:1])
    kept = some_units(graph, 0.5)
    handles = []
    for layer, group in (("3", "0"), ("7", "3")):
        stays = torch.zeros(graph.group(group).units)
        stays[torch.as_tensor(kept[group])] = 1.0
        shape = (1, -1, 1, 1) if layer == "3" else (1, -1)
        weights = (stays if layer == "3" else stays.repeat_interleave(36)).reshape(shape)
        handles.append(
            model.get_submodule(layer).register_forward_pre_hook(
                lambda _, inputs, w=weights: (inputs[0] * w,)
            )
        )
    with torch.no_grad():
        hooked = model(images)
    for handle in handles:
        handle.remove()
    with torch.no_grad():
        assert_same(mask(model, graph.groups, kept)(images), hooked)
        assert_same(remove(model, graph, kept, images[:1])(images), hooked)


def test_macs_by_hand_and_by_torch_pruning() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Conv2d(8, 4, 1, stride=2, bias=False)
    )
    example = torch.zeros(1, 3, 6, 6)
    assert count_macs(model, example) == 36 * 27 * 8 + 9 * 8 * 4
    assert count_macs(model, example) == tp.utils.count_ops_and_params(model, example)[0]


@pytest.mark.parametrize("name", SIZES)
def test_foretold_macs_are_those_counted(name: str) -> None:
    model = network(name)
    example = torch.zeros(1, 3, SIZES[name], SIZES[name])
    graph = trace_channels(model, example)
    assert graph.macs() == count_macs(model, example)
    kept = some_units(graph, 0.3, seed=3)
    counts = np.array([len(kept[g.name]) for g in graph.groups])
    assert graph.macs(counts) == count_macs(remove(model, graph, kept, example), example)


def test_the_model_is_left_as_it_was() -> None:
    model = plain().train()
    before = copy.deepcopy(model.state_dict())
    graph = trace_channels(model, torch.zeros(1, 3, 6, 6))
    remove(model, graph, some_units(graph), torch.zeros(1, 3, 6, 6))
    mask(model, graph.groups, some_units(graph))
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_frozen_parameters_stay_frozen() -> None:
    model = plain()
    model[0].weight.requires_grad_(False)
    graph = trace_channels(model, torch.zeros(1, 3, 6, 6))
    pruned = remove(model, graph, some_units(graph), torch.zeros(1, 3, 6, 6))
    assert not pruned[0].weight.requires_grad
    assert pruned[3].weight.requires_grad


class Chunked(nn.Module):
    """Splits at a fixed channel number, which no dependency graph can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = (
            nn.Conv2d(3, 8, 1), nn.Conv2d(4, 4, 1), nn.Linear(4, 2),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.first(images)
        return self.head((self.second(hidden[:, :4]) + hidden[:, 4:8]).mean((2, 3)))


def test_what_cannot_be_traced_is_refused() -> None:
    example = torch.zeros(1, 3, 6, 6)
    with pytest.raises(ValueError, match=r"must run on the images.*\(1, 3, 6, 6\)"):
        trace_channels(nn.Sequential(nn.Conv2d(4, 4, 1)), example)
    with pytest.raises(ValueError, match=r"no channels that can be removed.*network's output"):
        trace_channels(nn.Sequential(nn.Flatten(), nn.Linear(108, 4)), example)
    with pytest.raises(ValueError, match=r"skip must be one of .*'0'.*got 'O'"):
        trace_channels(plain(), example, skip=["O"])


def test_a_split_at_a_fixed_channel_keeps_its_layer_whole() -> None:
    with pytest.raises(ValueError, match=r"first: its channels are not alike"):
        trace_channels(Chunked(), torch.zeros(1, 3, 6, 6))


def test_skip_and_uncoupled_keep_groups_whole() -> None:
    model, example = network("resnet18"), torch.zeros(1, 3, 16, 16)
    everything = trace_channels(model, example)
    inner = trace_channels(model, example, coupled=False)
    assert all(len(g.producers) == 1 for g in inner.groups)
    assert len(inner.groups) == 8 < len(everything.groups)
    without = trace_channels(model, example, skip=["layer2.0.conv1"])
    assert without.kept_whole["layer2.0.conv1"] == "named in skip"
    assert without.macs() == everything.macs()
