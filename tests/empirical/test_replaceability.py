"""`replaceability` against recomputation, and its nats against the prediction's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from empirical import prune
from empirical.pruning.calibration import Calibration
from empirical.pruning.criteria_compensated import outgoing_gram
from empirical.pruning.output_fisher import output_fisher
from empirical.pruning.replaceability import BLOCK, removal_order, scores_from_order
from empirical.pruning.tracing import trace_channels
from empirical.reading.batches import batches as checked
from tests.empirical.test_removal import Grouped

FLOAT64 = 1e-8
"""Greedy downdates against solving anew, on covariances of condition up to 1e4."""
FLOAT32 = 1e-4
"""Merged weights are stored in float32."""


def greedy_by_recomputation(cov: np.ndarray, weights: np.ndarray) -> tuple[list[int], list[float]]:
    """Try every remaining channel, solve its regression anew, merge, repeat."""
    weights, left = weights.copy(), list(range(len(cov)))
    order, costs, power = [], [], (weights**2).sum(0) @ np.diag(cov)
    while left:
        trials = []
        for i in left:
            rest = [k for k in left if k != i]
            b = np.linalg.solve(cov[np.ix_(rest, rest)], cov[rest, i])
            unexplained = cov[i, i] - cov[i, rest] @ b
            trials.append(((weights[:, i] ** 2).sum() * unexplained, i, rest, b))
        cost, i, rest, b = min(trials, key=lambda trial: trial[0])
        weights[:, rest] += np.outer(weights[:, i], b)
        left = rest
        order.append(i)
        costs.append(cost / power)
    return order, costs


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.integers(1, 4))
def test_downdates_equal_recomputation(seed: int, units: int, outputs: int) -> None:
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((units, units)))
    cov = (basis * 10 ** rng.uniform(-2, 2, units)) @ basis.T
    weights = rng.standard_normal((outputs, units))
    order, cost = removal_order([cov], [weights.T @ weights], ridge=0.0)
    by_hand, costs = greedy_by_recomputation(cov, weights)
    assert cost == pytest.approx(costs, rel=1e-5, abs=FLOAT64)
    assert order.tolist() == by_hand


def test_updates_that_are_multiplied_out_in_blocks_equal_recomputation() -> None:
    """As many units as need several blocks."""
    rng = np.random.default_rng(1)
    units = BLOCK + 20
    cov = np.cov((rng.standard_normal((3 * units, units)) @ rng.standard_normal((units, units))).T)
    weights = rng.standard_normal((7, units))
    order, cost = removal_order([cov], [weights.T @ weights], ridge=0.0)
    by_hand, costs = greedy_by_recomputation(cov, weights)
    assert order.tolist() == by_hand
    assert cost == pytest.approx(costs, rel=1e-5)


def test_costs_add_up_to_the_error_of_the_merged_readout() -> None:
    """The sum of the greedy costs is the residual variance of least squares on what is kept."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((500, 8)) @ rng.standard_normal((8, 8))
    weights = rng.standard_normal((4, 8))
    cov = np.cov(x.T)
    order, cost = removal_order([cov], [weights.T @ weights], ridge=0.0)
    kept = order[3:]
    y = (x - x.mean(0)) @ weights.T
    design = x[:, kept] - x[:, kept].mean(0)
    residual = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    expected = (residual**2).sum() / 499 / ((weights**2).sum(0) @ np.diag(cov))
    assert cost[:3].sum() == pytest.approx(expected, rel=FLOAT64)


def test_of_two_copies_one_goes_first_and_the_other_stays_long() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 6))
    x[:, 5] = x[:, 2]
    order, cost = removal_order([np.cov(x.T)], [np.eye(6)])
    assert order[0] in (2, 5)
    assert cost[0] < 1e-4 < 0.05 < cost[1]
    score = scores_from_order(order, cost)
    assert np.argsort(score).tolist() == order.tolist()


def test_two_copies_cost_what_the_ridge_leaves_between_them() -> None:
    """Of 1, 1 and their covariance 1, the ridge leaves 2r of either: r of their joint power."""
    cov = np.array([[4.0, 4.0], [4.0, 4.0]])
    _, cost = removal_order([cov], [np.eye(2)])
    assert cost[0] == pytest.approx(1e-6, rel=1e-4)
    _, cost = removal_order([cov, 3 * cov], [np.eye(2)] * 2, ridge=0.01)
    assert cost[0] == pytest.approx((1.01 - 1 / 1.01) / 2)


def test_costs_are_averaged_over_consumers_or_summed_as_they_are() -> None:
    """Independent units: each costs its weight times its variance."""
    first, second = np.diag([1.0, 4.0, 5.0]), np.diag([2.0, 1.0, 7.0])
    weights = [np.diag([1.0, 1.0, 2.0]), np.diag([3.0, 1.0, 1.0])]
    order, cost = removal_order([first, second], weights, ridge=0.0)
    shares = np.array([1, 4, 10]) / 15 + np.array([6, 1, 7]) / 14
    assert order.tolist() == np.argsort(shares).tolist()
    assert cost == pytest.approx(np.sort(shares) / 2)
    order, cost = removal_order([first, second], weights, ridge=0.0, relative=False)
    assert order.tolist() == [1, 0, 2]
    assert cost == pytest.approx([5.0, 7.0, 17.0])


def test_scores_add_up_along_the_order_and_are_never_equal() -> None:
    order = np.array([2, 0, 3, 1])
    found = scores_from_order(order, np.array([0.5, -1e-9, 0.25, 1.0]))
    assert found[order] == pytest.approx([0.5, 0.5, 0.75, 1.75])
    assert (np.diff(found[order]) > 0).all()
    nothing = scores_from_order(order, np.zeros(4))
    assert (np.diff(nothing[order]) > 0).all()
    assert nothing.max() < 1e-300


def test_a_consumer_without_weight_or_input_has_no_say() -> None:
    cov, gram = np.diag([1.0, 2.0]), np.eye(2)
    alone = removal_order([cov], [gram])
    both = removal_order([cov, np.zeros((2, 2)), cov], [gram, gram, np.zeros((2, 2))])
    assert alone[0].tolist() == both[0].tolist()
    assert alone[1] == pytest.approx(both[1])
    order, cost = removal_order([np.zeros((3, 3))], [np.eye(3)])
    assert (order.tolist(), cost.tolist()) == ([2, 1, 0], [0, 0, 0])


def test_fisher_of_the_logits_is_that_of_the_predicted_classes() -> None:
    """By hand: the score of a drawn class has covariance diag(p) - p pᵀ, given the image."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).eval()
    images = torch.randn(20000, 4)
    found = output_fisher(
        model, ["0", "2"], checked([(images, torch.zeros(20000, dtype=torch.long))]), images=20000
    )
    with torch.no_grad():
        p = model(images).softmax(1).double()
    expected = torch.diag_embed(p).mean(0) - (p.mT @ p) / len(p)
    sampling = 4 / len(p) ** 0.5  # standard deviations of the entries are below 1
    assert found["2"] == pytest.approx(expected.numpy(), abs=sampling)
    slope = 1 - model[:2](images).detach().double() ** 2
    weight = model[2].weight.detach().double()
    mixed = torch.einsum("ok,nk->nok", weight, slope)
    middle = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    below = torch.einsum("nok,nop,npl->kl", mixed, middle, mixed) / len(p)
    assert model[0].weight.grad is None
    with torch.no_grad():
        assert found["0"].shape == (6, 6)
    assert found["0"] == pytest.approx(below.numpy(), abs=sampling)


def test_fisher_weights_the_outgoing_gram() -> None:
    model = Grouped()
    graph = trace_channels(model, torch.zeros(1, 3, 8, 8))
    member = next(m for m in graph.group("stem").consumers if m.module == "grouped")
    weight = model.grouped.weight.detach().double().numpy()
    root = np.random.default_rng(0).standard_normal((len(weight), 30))
    fisher = root @ root.T
    for block, gram in enumerate(outgoing_gram(model.grouped, member, fisher)):
        mine = slice(4 * block, 4 * block + 4)
        rows = weight[mine].reshape(4, weight.shape[1], -1)
        by_hand = sum(
            rows[..., t].T @ fisher[mine, mine] @ rows[..., t] for t in range(rows.shape[2])
        )
        assert gram == pytest.approx(by_hand)


def test_task_replaceability_foretells_how_far_the_prediction_moves() -> None:
    """Small changes: nats by the score against the measured Kullback-Leibler divergence."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3)).double().eval()
    with torch.no_grad():
        model[2].weight.mul_(0.3)
    images = torch.randn(4000, 6, dtype=torch.double)
    known = Calibration(model, [(images, torch.arange(4000) % 3)])
    known.output_fisher = output_fisher(model, ["2"], known.batches(), images=4000)
    order = np.argsort(known.scores("task_replaceability")["0"])
    pruned = prune(model, known, counts={"0": 9}, criterion="task_replaceability", recovery="merge")
    assert sorted(order[3:]) == pruned.kept["0"].tolist()
    with torch.no_grad():
        dense, left = model(images).log_softmax(1), pruned.model(images).log_softmax(1)
    measured = float((dense.exp() * (dense - left)).sum(1).mean())
    foretold = known.scores("task_replaceability")["0"][order[2]]
    assert foretold == pytest.approx(measured, rel=0.3)
