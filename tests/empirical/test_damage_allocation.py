"""Counts of least predicted damage: against exhaustive search, and what the curves say."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from empirical.pruning.allocation import amount, floors, steps
from empirical.pruning.budgets import ParameterBudget
from empirical.pruning.calibration import Calibration
from empirical.pruning.choosing import Request, counts_of
from empirical.pruning.criteria_compensated import damage_curve
from empirical.pruning.damage_allocation import by_damage, total_damage
from empirical.pruning.pruner import prune
from empirical.pruning.removal import remove
from tests.empirical.pruning_networks import (
    SIZES,
    batches,
    fisher_of_change,
    linear_network,
    network,
    plain,
)
from tests.empirical.test_allocation import graph_of, small

NEAR = 0.002


def every(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.array(list(product(*(range(a, b + 1) for a, b in zip(low, high, strict=True)))))


def test_no_choice_within_the_budget_costs_less_in_small_networks() -> None:
    """Found by exchanges what a search of all choices finds, of steep, uneven, hollow curves."""
    graph = small((3, 9, 7, 8))
    least = floors(graph, 0.1)
    choices = every(least, graph.sizes)
    macs = graph.macs_of_many(choices)
    above = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        curves = [np.r_[np.cumsum(rng.exponential(size=u) ** 3)[::-1], 0] for u in graph.sizes]
        limit = rng.uniform(0.25, 0.9) * graph.macs()
        counts = by_damage(graph, curves, limit, least)
        allowed = choices[macs <= limit * (1 + NEAR)]
        best = min(total_damage(curves, c) for c in allowed)
        assert graph.macs(counts) <= limit * (1 + NEAR)
        above.append(total_damage(curves, counts) / best - 1)
    assert np.mean(np.array(above) < 1e-9) >= 0.9
    assert max(above) < 0.3


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("round_to", [1, 8])
def test_the_request_is_met_on_every_architecture(name: str, round_to: int) -> None:
    graph = graph_of(name)
    step = steps(graph, round_to)
    least, rng = floors(graph, 0.05, step), np.random.default_rng(0)
    curves = [np.r_[np.cumsum(np.sort(rng.exponential(size=u)))[::-1], 0] for u in graph.sizes]
    counts = by_damage(graph, curves, 0.5 * graph.macs(), least, step)
    assert graph.macs(counts) / graph.macs() == pytest.approx(0.5, abs=0.002 * (1 + 2 * round_to))
    assert (counts % step == 0).all()
    assert (counts >= least).all()


def test_what_costs_nothing_goes_first_and_what_is_left_over_of_the_budget_is_used() -> None:
    graph = small((3, 20, 20, 20))
    free, dear = np.zeros(21), np.arange(20, -1, -1.0)
    counts = by_damage(graph, [dear, free, dear], 0.4 * graph.macs(), floors(graph, 0.1))
    assert counts[0] > counts[1]
    assert counts[2] > counts[1]
    assert by_damage(graph, [free] * 3, graph.macs(), floors(graph, 0.1)).tolist() == [20] * 3
    spent = graph.macs(by_damage(graph, [free] * 3, 0.4 * graph.macs(), floors(graph, 0.1)))
    assert spent / graph.macs() == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("criterion", ["task_replaceability", "l2", "input_capture"])
def test_the_curve_of_a_linear_network_is_what_compensation_leaves(criterion: str) -> None:
    """½ E δzᵀ Γ δz of the logits' change, measured on the compensated network, to 1e-6 nats."""
    model, loader = linear_network()
    known = Calibration(model, loader)
    (group,) = known.graph.groups
    scores = known.scores(criterion)[group.name]
    curve = damage_curve(known, group, scores)
    assert curve[-1] == 0
    for kept in range(1, 9):
        units = {group.name: np.sort(np.argsort(-scores, kind="stable")[:kept])}
        measured = fisher_of_change(model, known, units)
        assert curve[kept] == pytest.approx(measured, abs=1e-6)


def test_damage_allocation_costs_least_of_all_by_the_curves() -> None:
    model = plain((3, 12, 16, 20))
    known = Calibration(model, batches(3, 6, count=4))
    curves = list(known.damage_curves("task_replaceability").values())
    found = {
        allocation: total_damage(
            curves, counts_of(known, Request(0.5, "task_replaceability", allocation).kept(known))
        )
        for allocation in ("damage", "global", "uniform")
    }
    assert found["damage"] <= min(found.values())


@pytest.mark.parametrize("name", SIZES)
def test_parameters_are_those_of_the_pruned_network(name: str) -> None:
    model, graph = network(name), graph_of(name)
    budget = ParameterBudget.of(graph, model)
    assert amount(budget) == sum(p.numel() for p in model.parameters())
    rng = np.random.default_rng(0)
    counts = rng.integers(1, graph.sizes + 1)
    kept = {g.name: np.arange(k) for g, k in zip(graph.groups, counts, strict=True)}
    pruned = remove(model, graph, kept, torch.zeros(1, 3, SIZES[name], SIZES[name]))
    assert amount(budget, counts) == sum(p.numel() for p in pruned.parameters())


def test_prune_meets_a_share_of_the_parameters() -> None:
    pruned = prune(plain((3, 20, 30)), batches(3, 6), parameters=0.4, criterion="l2",
                   recovery="none")  # fmt: skip
    report = pruned.report
    assert report.parameters_after / report.parameters_before == pytest.approx(0.4, rel=0.02)
    assert report.reached == pytest.approx(report.parameters_after / report.parameters_before)
    assert "parameters: 4" in str(report)
    with pytest.raises(ValueError, match="macs and parameters are both given"):
        prune(plain(), batches(3, 6), macs=0.5, parameters=0.5)
