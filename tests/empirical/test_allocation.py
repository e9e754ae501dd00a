"""Exact counts, floors, and the multiply-accumulates that an allocation meets."""

from __future__ import annotations

from functools import cache
from itertools import product
from math import ceil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from empirical.pruning.allocation import (
    best_units,
    by_sensitivity,
    competing,
    floors,
    most,
    settle,
    steps,
    target_amount,
    uniform,
)
from empirical.pruning.channel_graph import ChannelGraph
from empirical.pruning.tracing import trace_channels
from tests.empirical.pruning_networks import SIZES, network, plain

NEAR = 0.002
"""How close to the request counts are settled, as a share of it, where whole units allow it."""

REACH = 3
"""How far networks of up to four groups are searched, in units of each group."""


@cache
def graph_of(name: str = "resnet18") -> ChannelGraph:
    return trace_channels(network(name), torch.zeros(1, 3, SIZES[name], SIZES[name]))


@cache
def small(channels: tuple[int, ...]) -> ChannelGraph:
    return trace_channels(plain(channels), torch.zeros(1, 3, 6, 6))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.data())
def test_exactly_so_many_stay_and_ties_go_by_index(scores: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(scores)))
    kept = best_units(np.array(scores, dtype=float), count)
    assert len(kept) == count
    by_hand = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:count]
    assert kept.tolist() == sorted(by_hand)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("share", [0.9, 0.7, 0.5, 0.3, 0.2, 0.1])
def test_every_allocation_meets_the_request(name: str, share: float) -> None:
    graph = graph_of(name)
    least = floors(graph, 0.05)
    target = target_amount(graph, share, least)
    rng = np.random.default_rng(0)
    scores = {g.name: rng.random(g.units) * rng.random() for g in graph.groups}
    damage = {g.name: [(1.0, 0.0), (0.5, rng.random()), (0.0, 2.0)] for g in graph.groups}
    for counts in (
        uniform(graph, target, least),
        competing(graph, scores, target, least),
        by_sensitivity(graph, damage, target, least),
    ):
        assert abs(graph.macs(counts) / graph.macs() / share - 1) <= 2 * NEAR
        assert (counts >= least).all()
        assert (counts <= graph.sizes).all()


def test_uniform_keeps_about_the_same_share_everywhere() -> None:
    graph = graph_of()
    counts = uniform(graph, graph.macs() // 2, floors(graph, 0.05))
    assert np.abs(counts - np.median(counts / graph.sizes) * graph.sizes).max() <= 3


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_global_keeps_the_best_of_every_group_and_honours_floors(seed: int) -> None:
    """A group whose scores are all lowest is thinned to its floor, not below."""
    graph = trace_channels(plain((3, 16, 16, 16)), torch.zeros(1, 3, 6, 6))
    rng = np.random.default_rng(seed)
    scores = {g.name: rng.random(g.units) for g in graph.groups}
    scores[graph.groups[1].name] -= 10
    least = floors(graph, 0.25)
    counts = competing(graph, scores, round(0.4 * graph.macs()), least)
    assert counts[1] <= least[1] + 3  # settling may give back a few units
    assert (counts >= 4).all()


def test_a_target_below_the_floors_says_the_least_possible() -> None:
    graph = graph_of()
    least = floors(graph, 0.5)
    lowest = ceil(1e4 * graph.macs(least) / graph.macs()) / 1e4
    with pytest.raises(ValueError, match=rf"macs=0\.1 is below.*leaves {lowest:.4f}.*lower floor"):
        target_amount(graph, 0.1, least)
    assert target_amount(graph, lowest, least) >= graph.macs(least)
    with pytest.raises(ValueError, match=r"macs must be above 0 and at most 1.*got 1\.5"):
        target_amount(graph, 1.5, least)


def test_what_no_removal_changes_is_stated() -> None:
    """The layer that skip keeps: its own multiply-accumulates, read from the images."""
    graph = trace_channels(plain((3, 10, 6)), torch.zeros(1, 3, 6, 6), skip=("0",))
    fixed = 6 * 6 * 9 * 3 * 10 / graph.macs()
    with pytest.raises(ValueError, match=rf"\({fixed:.4f} depend on no channel"):
        target_amount(graph, 0.1, floors(graph, 0.05))


@pytest.mark.parametrize(
    ("floor", "expected"),
    [(0.0, [1, 1, 1]), (0.07, [7, 1, 4]), (0.25, [25, 3, 13]), (1.0, [100, 10, 50])],
)
def test_floors_are_rounded_up_and_at_least_one(floor: float, expected: list[int]) -> None:
    assert floors(small((3, 100, 10, 50)), floor).tolist() == expected


def test_a_share_is_so_many_multiply_accumulates() -> None:
    graph = small((3, 10, 6))
    least = floors(graph, 0.5)
    lowest = graph.macs(least) / graph.macs()
    assert target_amount(graph, 1.0, least) == graph.macs()
    assert target_amount(graph, lowest, least) == graph.macs(least)
    assert target_amount(graph, 0.777, least) == pytest.approx(0.777 * graph.macs())
    with pytest.raises(ValueError, match=r"at most 1.*got 0\.0"):
        target_amount(graph, 0.0, least)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.55, 0.8, 1.0])
def test_uniform_keeps_the_rounded_share_where_that_meets_the_target(share: float) -> None:
    graph = small((3, 40, 30, 100))
    least = floors(graph, 0.1)
    expected = np.maximum(np.rint(share * graph.sizes), least).astype(np.int64)
    assert uniform(graph, graph.macs(expected), least).tolist() == expected.tolist()


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60))
def test_global_removes_the_lowest_scores_one_by_one(seed: int, removed: int) -> None:
    """Until the target is met; of equals the one further back in the network goes first."""
    graph = small((3, 40, 30, 20))
    rng = np.random.default_rng(seed)
    scores = {g.name: rng.integers(0, 30, g.units).astype(float) for g in graph.groups}
    least = floors(graph, 0.1)
    left = graph.sizes
    free = [
        (score, -g, rank)
        for g, group in enumerate(graph.groups)
        for rank, score in enumerate(np.sort(scores[group.name])[: group.units - least[g]])
    ]
    for _, g, _ in sorted(free)[:removed]:
        left[-g] -= 1
    assert competing(graph, scores, graph.macs(left), least).tolist() == left.tolist()


def greedy(
    graph: ChannelGraph, damage: dict[str, list[tuple[float, float]]], least: np.ndarray, moves: int
) -> np.ndarray:
    """The definition of the sensitivity allocation, one move after another."""
    kept = graph.sizes
    step = [max(1, units // 50) for units in kept]

    def loss(g: int, units: int) -> float:
        """Linear between the measured shares, where fewer units never cost less."""
        points = sorted(damage[graph.groups[g].name])
        shares = [share for share, _ in points]
        worst = [max(loss for other, loss in points if other >= share) for share in shares]
        return float(np.interp(units / graph.groups[g].units, shares, worst))

    for _ in range(moves):
        prices = {}
        for g in range(len(kept)):
            fewer = kept.copy()
            fewer[g] = max(kept[g] - step[g], least[g])
            saved = graph.macs(kept) - graph.macs(fewer)
            if saved > 0:
                prices[g] = ((loss(g, fewer[g]) - loss(g, kept[g])) / saved, g, fewer[g])
        if not prices:
            break
        _, g, units = min(prices.values())
        kept[g] = units
    return kept


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(0, 70))
def test_sensitivity_goes_where_a_saving_costs_least(seed: int, moves: int) -> None:
    graph = small((3, 150, 20, 149))
    rng = np.random.default_rng(seed)
    damage = {
        g.name: [(1.0, 0.0), *((s, rng.random() / s) for s in (0.75, 0.5, 0.25, 0.1))]
        for g in graph.groups
    }
    least = floors(graph, 0.2)
    expected = greedy(graph, damage, least, moves)
    found = by_sensitivity(graph, damage, graph.macs(expected), least)
    assert found.tolist() == expected.tolist()


def test_sensitivity_stops_at_the_floors() -> None:
    graph = small((3, 20, 30))
    damage = {g.name: [(1.0, 0.0), (0.1, 1.0)] for g in graph.groups}
    least = floors(graph, 0.5)
    assert by_sensitivity(graph, damage, 1, least).tolist() == least.tolist()


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_settling_few_groups_finds_what_a_search_of_all_neighbours_finds(
    seed: int, groups: int
) -> None:
    """Within tolerance if any neighbour is, and else as near as the nearest."""
    graph = small((3, *(11, 14, 9, 5)[:groups]))
    rng = np.random.default_rng(seed)
    least, start = floors(graph, 0.2), rng.integers(3, graph.sizes + 1)
    target = int(graph.macs(start) * rng.uniform(0.8, 1.25))
    found = settle(graph, start, target, least)
    reach = range(-REACH, REACH + 1)
    near = [start + np.array(move) for move in product(reach, repeat=groups)]
    off = [
        abs(graph.macs(n) - target) for n in near if (n >= least).all() and (n <= graph.sizes).all()
    ]
    assert (found >= least).all()
    assert (found <= graph.sizes).all()
    assert abs(graph.macs(found) - target) <= max(NEAR * target, min(off))


def test_the_shortest_move_within_tolerance_is_taken() -> None:
    graph = small((3, 11, 14))
    start, least = np.array([7, 9]), floors(graph, 0.2)
    for move in product(range(-REACH, REACH + 1), repeat=2):
        target = graph.macs(start + np.array(move))
        found = settle(graph, start, target, least)
        assert abs(graph.macs(found) - target) <= NEAR * target
        assert np.abs(found - start).sum() <= np.abs(move).sum()


def test_settling_leaves_counts_that_meet_the_target() -> None:
    """Exactly, or within tolerance: a single unit of so many is less than that."""
    graph = small((3, 600, 6))
    counts, least = np.array([590, 5]), floors(graph, 0.05)
    for unit in (0, 1, -1):
        target = graph.macs(counts + np.array([unit, 0]))
        assert abs(graph.macs(counts) - target) <= NEAR * target
        assert settle(graph, counts, target, least).tolist() == counts.tolist()


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_settling_many_groups_ends_where_no_pair_of_moves_helps(seed: int) -> None:
    graph = small((3, 5, 4, 6, 5, 4))
    rng = np.random.default_rng(seed)
    least, start = floors(graph, 0.2), rng.integers(2, graph.sizes + 1)
    target = int(graph.macs(start) * rng.uniform(0.7, 1.4))
    found = settle(graph, start, target, least)
    off = abs(graph.macs(found) - target)
    one = np.eye(len(start), dtype=int)
    moves = [s * row for row in one for s in (1, -1)]
    for move in [*moves, *(a + b for a, b in product(moves, repeat=2))]:
        other = found + move
        if (other >= least).all() and (other <= graph.sizes).all() and off > NEAR * target:
            assert abs(graph.macs(other) - target) >= off


def allocations(graph: ChannelGraph, share: float, floor: float, round_to: int) -> list[np.ndarray]:
    """Every allocation's counts, for scores and damages that are drawn."""
    step = steps(graph, round_to)
    least = floors(graph, floor, step)
    target = target_amount(graph, share, least)
    rng = np.random.default_rng(0)
    scores = {g.name: rng.random(g.units) * rng.random() for g in graph.groups}
    damage = {g.name: [(1.0, 0.0), (0.5, rng.random()), (0.0, 2.0)] for g in graph.groups}
    return [
        uniform(graph, target, least, step),
        competing(graph, scores, target, least, step),
        by_sensitivity(graph, damage, target, least, step),
    ]


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("round_to", [2, 4, 8])
def test_channels_come_in_multiples_where_the_layer_is_wide_enough(
    name: str, round_to: int
) -> None:
    graph = graph_of(name)
    for counts in allocations(graph, 0.6, 0.05, round_to):
        for group, kept in zip(graph.groups, counts, strict=True):
            for member in group.producers:
                width = member.index.shape[1]
                channels, size = int(kept) * width, group.units * width
                assert channels % round_to == 0 or channels == size < round_to * width
                assert 0 < channels <= size


@settings(max_examples=20)
@given(st.integers(1, 9), st.sampled_from([0.0, 0.3, 1.0]), st.floats(0.3, 1.0))
def test_multiples_meet_the_request_as_nearly_as_any_do(
    round_to: int, floor: float, share: float
) -> None:
    """Few groups are searched whole here; what is found is within tolerance, or the nearest."""
    graph = small((3, 20, 11, 6))
    sizes = graph.sizes
    step = np.where(sizes < round_to, sizes, round_to)
    least = np.minimum(np.maximum(1, np.ceil(floor * sizes)), sizes // step * step)
    low = np.ceil(least / step).astype(int)
    assert floors(graph, floor, steps(graph, round_to)).tolist() == (low * step).tolist()
    lowest = graph.macs(low * step) / graph.macs()
    asked = max(share, lowest)
    every = product(*(range(a, b // s + 1) for a, b, s in zip(low, sizes, step, strict=True)))
    off = min(abs(graph.macs(np.array(c) * step) - asked * graph.macs()) for c in every)
    tolerance = NEAR * asked * graph.macs()
    for counts in allocations(graph, asked, floor, round_to):
        assert (counts % step == 0).all()
        assert ((counts >= low * step) & (counts <= sizes)).all()
        assert abs(graph.macs(counts) - asked * graph.macs()) <= max(tolerance, off)


def test_steps_count_the_channels_of_a_unit() -> None:
    """Four groups leave one channel each: two units are eight channels; 6 is no multiple of 8."""
    model = nn.Sequential(
        nn.Conv2d(3, 32, 1), nn.ReLU(), nn.Conv2d(32, 24, 1, groups=4), nn.ReLU(),
        nn.Conv2d(24, 6, 1), nn.Flatten(), nn.Linear(6 * 4, 2),
    )  # fmt: skip
    graph = trace_channels(model, torch.zeros(1, 3, 2, 2))
    assert graph.sizes.tolist() == [8, 6, 6]
    assert steps(graph, 8).tolist() == [2, 2, 6]
    assert steps(graph, 1).tolist() == [1, 1, 1]
    assert steps(graph, 5).tolist() == [5, 5, 5]
    assert most(graph, steps(graph, 5)).tolist() == [5, 5, 5]


def test_sensitivity_spares_the_group_that_hurts() -> None:
    graph = trace_channels(plain((3, 40, 40, 40)), torch.zeros(1, 3, 6, 6))
    flat, steep = [(1.0, 0.0), (0.1, 0.01)], [(1.0, 0.0), (0.1, 5.0)]
    damage = {g.name: flat for g in graph.groups} | {graph.groups[1].name: steep}
    counts = by_sensitivity(graph, damage, graph.macs() // 2, floors(graph, 0.1))
    assert counts[1] >= 37 > counts[0]  # settling may take a few units of any group
