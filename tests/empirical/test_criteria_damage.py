"""The law of damage as pruning criteria: against edited networks, and greedy by recomputation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from empirical import prune
from empirical.pruning.calibration import Calibration
from empirical.pruning.criteria_damage import damage_order
from empirical.pruning.pulled import pulled_products
from tests.empirical.test_removal import Grouped

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randn(48, 3, 6, 6, generator=GENERATOR, dtype=torch.float64)
LOADER = [(IMAGES[:20], torch.arange(20) % 4), (IMAGES[20:], torch.arange(28) % 4)]


class Residual(nn.Module):
    """Two layers read the same units, one of them around the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 5, 3)
        self.inner = nn.Conv2d(5, 6, 1)
        self.outer = nn.Conv2d(6, 4, 1)
        self.skip = nn.Conv2d(5, 4, 1)
        self.last = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu()
        return self.last((self.outer(self.inner(x).relu()) + self.skip(x)).mean((2, 3)))


def model() -> nn.Module:
    torch.manual_seed(0)
    return Residual().double().eval()


def divergence(net: nn.Module, change) -> float:
    """Exact mean divergence when a change of the first layer's units is made of size ε, over ε²."""
    size = 1e-4
    with torch.no_grad():
        log = [torch.log_softmax(logits, 1) for logits in (net(IMAGES), change(size))]
    per_image = (log[0].exp() * (log[0] - log[1])).sum(1)
    return float(per_image.mean()) / size**2


def test_scores_are_the_divergence_of_small_changes_of_what_is_read() -> None:
    """A unit goes from both of its readers; averaged over draws the law is the second order."""
    net = model()
    known = Calibration(net, LOADER)
    products = pulled_products(net, known.graph, known.input_moments, known.batches(), draws=300)
    assert all(products["first", r][0].shape == (48 * 300, 5, 5) for r in ("inner", "skip"))
    mean = torch.from_numpy(known.input_moments["first", "inner"].mean[0])
    y = net.first(IMAGES).relu().detach()

    def without(unit: int):
        def change(size: float) -> torch.Tensor:
            moved = y.clone()
            moved[:, unit] -= size * (y[:, unit] - mean[unit])
            x = net.outer(net.inner(moved).relu()) + net.skip(moved)
            return net.last(x.mean((2, 3)))

        return change

    alone = sum(np.einsum("nii->ni", products["first", r][0]) for r in ("inner", "skip"))
    law = 0.5 * (alone.astype(np.float64) ** 2).mean(axis=0)
    for unit in range(5):
        assert law[unit] == pytest.approx(divergence(net, without(unit)), rel=0.08)


def by_recomputation(products, covariances):
    """Every set's regression on what is kept, solved anew."""
    units, gone, order, total = len(covariances[0]), [], [], []
    while len(gone) < units:
        trials = []
        for k in [k for k in range(units) if k not in gone]:
            lost = [*gone, k]
            kept = [j for j in range(units) if j not in lost]
            change = 0.0
            for v, cov in zip(products, covariances, strict=True):
                b = np.linalg.solve(cov[np.ix_(kept, kept)], cov[np.ix_(kept, lost)])
                own = v[:, lost][:, :, lost].trace(axis1=1, axis2=2)
                change = change + own - np.einsum("nij,ji->n", v[:, lost][:, :, kept], b)
            trials.append((0.5 * np.mean(change**2), k))
        cost, k = min(trials)
        gone.append(k)
        order.append(k)
        total.append(cost)
    return order, total


@pytest.mark.parametrize("seed", range(3))
def test_greedy_on_sets_equals_solving_every_set_anew(seed: int) -> None:
    rng = np.random.default_rng(seed)
    products, covariances = [], []
    for _ in range(2):
        root = rng.standard_normal((6, 6))
        covariances.append(root @ root.T + 0.1 * np.eye(6))
        products.append(rng.standard_normal((40, 6, 6)).astype(np.float32))
    order, total = damage_order(products, covariances, ridge=0.0)
    expected, totals = by_recomputation(products, covariances)
    assert order.tolist() == expected
    np.testing.assert_allclose(total, totals, rtol=1e-3)


def test_of_two_copies_only_one_goes_for_nothing() -> None:
    net = model()
    with torch.no_grad():
        net.first.bias.fill_(0.5)  # no unit is silent
        net.first.weight[3] = net.first.weight[1]
    known = Calibration(net, LOADER)
    alone, peers, sets = (
        known.scores(name)["first"] for name in ("damage", "damage_with_peers", "damage_of_sets")
    )
    assert alone.min() > 100 * max(peers[1], peers[3])
    assert max(peers[1], peers[3]) < 1e-3 * np.median(peers)
    first, second = sorted((sets[1], sets[3]))
    assert first < 1e-3 * np.median(sets)
    assert second > 0.1 * np.median(sets)
    smaller = prune(net, known, macs=0.6, criterion="damage_of_sets", recovery="compensate")
    assert smaller.report.macs_after < smaller.report.macs_before


def test_the_blocks_of_a_grouped_layer_are_readers_of_their_own() -> None:
    torch.manual_seed(0)
    net = Grouped().eval()
    images = torch.randn(40, 3, 8, 8, generator=GENERATOR)
    known = Calibration(net, [(images, torch.arange(40) % 4)])
    grouped = [
        (group, member)
        for group in known.graph.groups
        for member in group.consumers
        if len(known.input_moments[group.name, member.module].mean) > 1
    ]
    assert grouped
    for group, member in grouped:
        found = known.pulled_products[group.name, member.module]
        assert len(found) == len(known.input_moments[group.name, member.module].mean)
        assert all(v.shape[1:] == (group.units, group.units) for v in found)
    for name in ("damage", "damage_with_peers", "damage_of_sets"):
        assert all(np.isfinite(v).all() and (v >= 0).all() for v in known.scores(name).values())
