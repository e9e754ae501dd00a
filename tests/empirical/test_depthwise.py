"""Depthwise convolutions that make several channels of each, and slopes of a channel's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from empirical.pruning.budgets import ParameterBudget
from empirical.pruning.removal import mask, remove
from empirical.pruning.tracing import trace_channels
from empirical.pruning.verification import check_same
from tests.empirical.planted import PLANTED_TOLERANCE, largest_change
from tests.empirical.pruning_networks import awakened
from tests.empirical.test_tracing import images


class Multiplied(nn.Module):
    """Several channels of each by a depthwise convolution, or slopes of a channel's own."""

    def __init__(self, several: int, slopes: str = "none") -> None:
        super().__init__()
        self.one, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6 * several)
        self.deep = nn.Conv2d(6, 6 * several, 3, groups=6)
        self.read, self.out = nn.Conv2d(6 * several, 12, 1), nn.Linear(12, 4)
        self.slopes, self.slope = slopes, nn.Parameter(torch.rand(6 * several))
        self.act = nn.PReLU(1 if slopes == "one" else 6 * several)
        nn.init.uniform_(self.act.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.deep(self.one(x)))
        acts = {"none": lambda x: x, "bare": lambda x: functional.prelu(x, self.slope)}
        return self.out(self.read(acts.get(self.slopes, self.act)(x)).relu().mean((2, 3)))


@pytest.mark.parametrize("several", [1, 2, 3])
@pytest.mark.parametrize("slopes", ["none", "one", "module", "bare"])
def test_depthwise_multiples_and_slopes_go_with_their_channels(several: int, slopes: str) -> None:
    torch.manual_seed(0)
    model = awakened(Multiplied(several, slopes))
    graph = trace_channels(model, images(1))
    assert [(group.name, group.units) for group in graph.groups] == [("one", 6), ("read", 12)]
    kept = {"one": np.array([0, 2, 3, 5]), "read": np.arange(1, 12, 2)}
    removed = remove(model, graph, kept, images(1))
    assert (removed.deep.in_channels, removed.deep.groups) == (4, 4)
    assert removed.deep.out_channels == len(removed.deep.weight) == 4 * several
    assert len(removed.slope) == (4 * several if slopes == "bare" else 6 * several)
    assert largest_change(model, graph, images()) <= PLANTED_TOLERANCE
    check_same(removed, mask(model, graph.groups, kept), images())
    half = np.array([3, 6])
    budget = ParameterBudget.of(graph, model)
    small = remove(model, graph, {"one": np.arange(3), "read": np.arange(6)}, images(1))
    assert budget.amounts(half[None])[0] == sum(p.numel() for p in small.parameters())


def test_a_depthwise_layer_of_the_image_is_cut_by_one_of_each() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3, groups=3), nn.ReLU(), nn.Conv2d(12, 8, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    ).eval()  # fmt: skip
    graph = trace_channels(model, images(1))
    assert [(group.name, group.units) for group in graph.groups] == [("0", 4), ("2", 8)]
    removed = remove(model, graph, {"0": np.array([1]), "2": np.arange(8)}, images(1))
    assert (removed[0].in_channels, removed[0].groups, removed[0].out_channels) == (3, 3, 3)
    assert largest_change(model, graph, images()) <= PLANTED_TOLERANCE
