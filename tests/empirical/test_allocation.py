"""Exact counts, floors, and the multiply-accumulates that an allocation meets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from empirical.pruning.allocation import (
    NEAR,
    best_units,
    by_sensitivity,
    competing,
    floors,
    target_macs,
    uniform,
)
from empirical.pruning.channel_graph import ChannelGraph, trace_channels
from tests.empirical.pruning_networks import SIZES, network, plain


def graph_of(name: str = "resnet18") -> ChannelGraph:
    return trace_channels(network(name), torch.zeros(1, 3, SIZES[name], SIZES[name]))


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
    target = target_macs(graph, share, least)
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
    lowest = graph.macs(least) / graph.macs()
    with pytest.raises(ValueError, match=rf"macs=0\.1 is below.*leaves {lowest:.4f}.*lower floor"):
        target_macs(graph, 0.1, least)
    with pytest.raises(ValueError, match=r"macs must be above 0 and at most 1.*got 1\.5"):
        target_macs(graph, 1.5, least)


def test_sensitivity_spares_the_group_that_hurts() -> None:
    graph = trace_channels(plain((3, 40, 40, 40)), torch.zeros(1, 3, 6, 6))
    flat, steep = [(1.0, 0.0), (0.1, 0.01)], [(1.0, 0.0), (0.1, 5.0)]
    damage = {g.name: flat for g in graph.groups} | {graph.groups[1].name: steep}
    counts = by_sensitivity(graph, damage, graph.macs() // 2, floors(graph, 0.1))
    assert counts[1] >= 37 > counts[0]  # settling may take a few units of any group
