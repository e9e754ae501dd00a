"""Measured sensitivity of a group against masks worked by hand, and what is pruned by it."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from empirical import Calibration, prune
from empirical.pruning.allocation import best_units, by_sensitivity, floors
from empirical.pruning.sensitivity import SHARES, loss_by_share
from empirical.pruning.tracing import trace_channels
from empirical.reading.batches import batches as checked
from tests.empirical.pruning_networks import batches, plain

FLOAT32 = 1e-5
"""Absolute, in nats: losses of order 3 of a network in float32."""


def hidden(units: int = 12) -> nn.Sequential:
    """Two linear layers; the first layer's filters get shorter from its last unit to its first.

    Of neighbours one reads a single input and one all alike, so that no other norm orders them so.
    """
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, units), nn.Tanh(), nn.Linear(units, 3)).eval()
    with torch.no_grad():
        lengths = 2 + 0.1 * torch.arange(1.0, units + 1)
        model[0].weight[::2], model[0].weight[1::2] = torch.eye(5)[0], 1.0
        model[0].weight.mul_(lengths[:, None] / model[0].weight.norm(dim=1, keepdim=True))
        model[2].weight.mul_(4)
    return model


def data(*sizes: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [
        (torch.randn(n, 5, generator=generator), torch.randint(3, (n,), generator=generator))
        for n in sizes
    ]


def test_loss_by_share_of_the_shortest_filters_silenced() -> None:
    """By hand: columns of the reading layer at zero, on the first images only."""
    model, loader = hidden(), data(60, 60, 60)
    graph = trace_channels(model, loader[0][0][:1])
    found = loss_by_share(model, graph, checked(loader), images=100)["0"]
    images, labels = (torch.cat(part)[:100] for part in zip(*loader, strict=True))

    def loss(kept: int) -> float:
        thin = copy.deepcopy(model)
        with torch.no_grad():
            thin[2].weight[:, : 12 - kept] = 0.0
            return float(functional.cross_entropy(thin(images).double(), labels))

    counts = [12, 1, 1, 3, 6, 9]  # all; one unit; a tenth, a quarter, a half, three quarters
    assert sorted({max(1, round(s * 12)) for s in SHARES}) == counts[2:]
    assert [share for share, _ in found] == pytest.approx([12 / 12, 1 / 12, 3 / 12, 6 / 12, 9 / 12])
    expected = [loss(round(12 * share)) - loss(12) for share, _ in found]
    assert [increase for _, increase in found] == pytest.approx(expected, abs=FLOAT32)
    assert np.ptp(expected) > 0.3


def test_sensitivity_reads_512_images_unless_told_otherwise() -> None:
    model = hidden()
    graph = trace_channels(model, data(1)[0][0])
    loader = data(512, 100)
    assert loss_by_share(model, graph, checked(loader)) == loss_by_share(
        model, graph, checked(loader[:1])
    )
    assert loss_by_share(model, graph, checked(loader)) != loss_by_share(
        model, graph, checked(loader), images=511
    )


def test_sensitivity_reads_and_keeps_no_more_batches_than_it_needs() -> None:
    """Batches of 200: 512 images are in the first three."""
    model, read, alive = hidden(), [], weakref.WeakSet()
    graph = trace_channels(model, data(1)[0][0])

    def endless() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            read.append(len(alive))
            images, labels = data(200)[0]
            alive.add(images)
            yield images, labels

    loss_by_share(model, graph, checked(endless()))
    assert read == [0, 1, 2]


def test_the_mode_of_every_module_stays() -> None:
    model = nn.Sequential(*hidden()[:2], nn.Dropout(), hidden()[2]).train()
    model[2].eval()
    loss_by_share(model, trace_channels(model, data(1)[0][0]), checked(data(20)))
    assert [m.training for m in model] == [True, True, False, True]
    assert model.training


@pytest.mark.parametrize("criterion", ["l2", "taylor", "random"])
def test_a_sensitivity_allocation_keeps_each_groups_best_units(criterion: str) -> None:
    """How many by the measured damage, alike for all criteria; which ones by the criterion."""
    model = plain((3, 12, 16))
    known = Calibration(model, batches(3, 6, count=3))
    pruned = prune(
        model, known, macs=0.4, criterion=criterion, allocation="sensitivity", recovery="none"
    )
    graph = known.graph
    counts = by_sensitivity(
        graph,
        loss_by_share(model, graph, known.batches()),
        round(0.4 * graph.macs()),
        floors(graph, 0.05),
    )
    found = known.scores(criterion)
    for group, count in zip(graph.groups, counts, strict=True):
        assert count < group.units
        expected = sorted(np.argsort(-found[group.name])[:count].tolist())
        assert pruned.kept[group.name].tolist() == expected
        assert best_units(found[group.name], int(count)).tolist() == expected
