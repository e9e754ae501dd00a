"""Triples against pairs, and communities: planted structure is found, and nothing where none is."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from empirical.analysis.missing import NoDataError
from empirical.analysis.modularity import (
    against_degrees,
    layer_modularity,
    modularity,
    rewired,
    strongest,
)
from empirical.analysis.seeds import CORRELATION, over_networks
from empirical.analysis.triplets import depth_trend, layer_triplets
from empirical.report.structure import structure_section
from theory import Moments
from theory.shared.findings import verdict

IMAGES = 400


def table_of(**layers):
    """What the analyses read of a measurement: moments of layers, and the number of images."""
    return SimpleNamespace(moments=layers, layers=list(layers), settings={"n_images": IMAGES})


def moments(covariance, loadings):
    c = len(covariance)
    whole = np.eye(c + 1)
    whole[:c, :c] = covariance
    whole[:c, c] = whole[c, :c] = loadings
    return Moments.from_covariance(whole, n_targets=1)


def blocks(sizes, inside=0.6, across=0.05):
    group = np.repeat(np.arange(len(sizes)), sizes)
    cov = np.where(group[:, None] == group, inside, across)
    np.fill_diagonal(cov, 1.0)
    return cov


def test_triples_that_add_up_are_resolved_and_an_independent_target_is_not():
    """Independent channels that share the target evenly: S₃ and S₂ by hand."""
    c, g = 12, 0.25
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(c) / np.sqrt(IMAGES)
    table = table_of(even=moments(np.eye(c), np.full(c, g)), none=moments(np.eye(c), noise))
    found = layer_triplets(table).set_index("layer")
    two = 0.5 * np.log((1 - g**2) / (1 - 2 * g**2))
    three = 0.5 * np.log((1 - 2 * g**2) / (1 - 3 * g**2))
    assert found.loc["even", "pair_excess"] == pytest.approx(two)
    assert found.loc["even", "ratio"] == pytest.approx(three / two)
    assert found["triples"].tolist() == [220, 220]
    assert found["resolved"].tolist() == [True, False]


def test_independent_targets_are_resolved_in_one_layer_of_forty():
    """The level of the null: 2.5 % of layers, over correlated channels of several sizes."""
    rng = np.random.default_rng(1)
    layers = {}
    for index in range(120):
        cov = blocks([4, 4, 2], inside=0.5)
        noise = np.linalg.cholesky(cov) @ rng.standard_normal(10) / np.sqrt(IMAGES)
        layers[f"layer{index}"] = moments(cov, noise)
    found = layer_triplets(table_of(**layers), triples=40, draws=60)
    assert found["resolved"].mean() < 0.025 + 4 * np.sqrt(0.025 * 0.975 / 120) + 1 / 60


def test_the_trend_counts_resolved_layers_only():
    rows = pd.DataFrame(
        {"depth": [0, 0.25, 0.5, 0.75, 1], "ratio": [0.1, 0.2, 0.3, 0.4, 0.0], "resolved": True}
    )
    rows.loc[4, "resolved"] = False
    assert depth_trend(rows) == pytest.approx(1.0)
    rows.loc[3, "resolved"] = False
    assert np.isnan(depth_trend(rows))


def test_ratios_without_a_trend_are_seldom_said_to_rise():
    """The level of the verdict: 2.5 % of triples of networks, one-sided."""
    rng = np.random.default_rng(4)
    depth, said = np.linspace(0, 1, 9), 0
    for _ in range(400):
        networks = [
            depth_trend(pd.DataFrame({"depth": depth, "ratio": rng.random(9), "resolved": True}))
            for _ in range(3)
        ]
        said += verdict(over_networks(networks, CORRELATION)) == "holds"
    assert said / 400 < 0.025 + 4 * np.sqrt(0.025 * 0.975 / 400)


def test_rewiring_keeps_every_degree_and_makes_no_edge_twice():
    rng = np.random.default_rng(0)
    strength = rng.random((30, 30))
    edges = strongest(strength + strength.T, 80)
    turned = rewired(edges, rng)
    assert (np.bincount(turned.ravel()) == np.bincount(edges.ravel())).all()
    assert len({frozenset(edge) for edge in turned.tolist()}) == 80
    assert (turned[:, 0] != turned[:, 1]).all()
    kept = {frozenset(e) for e in edges.tolist()} & {frozenset(e) for e in turned.tolist()}
    assert len(kept) < 40


def test_modularity_of_separate_cliques_is_by_hand_and_beyond_its_degrees():
    cliques = [(4 * k + i, 4 * k + j) for k in range(3) for i in range(4) for j in range(i)]
    edges = np.array(cliques)
    assert modularity(edges, 0) == pytest.approx(1 - 3 * (1 / 3) ** 2)
    found, null = against_degrees(edges, 20, 0)
    assert found - null > 0.2


def test_graphs_of_random_strengths_have_nothing_beyond_their_degrees():
    """The level: of layers without communities half lie on either side of the null's mean."""
    rng = np.random.default_rng(2)
    beyond = []
    for seed in range(30):
        strength = rng.random((20, 20))
        found, null = against_degrees(strongest(strength + strength.T, 40), 10, seed)
        beyond.append(found - null)
    error = np.std(beyond, ddof=1) / np.sqrt(len(beyond))
    assert abs(np.mean(beyond)) < 4 * error


def test_planted_blocks_make_the_overlap_graph_the_modular_one():
    rng = np.random.default_rng(3)
    cov = blocks([8, 8, 8])
    found = layer_modularity(table_of(a=moments(cov, rng.uniform(0.05, 0.2, 24))), density=0.2)
    assert found["overlap"].item() > found["overlap_null"].item() + 0.1
    assert found["more"].item() > 0
    assert found["edges"].item() == 55
    assert layer_modularity(table_of(a=moments(np.eye(5), np.full(5, 0.1)))).empty


def test_the_chapter_words_both_claims():
    def network(seed):
        rng = np.random.default_rng(seed)
        return table_of(
            **{
                f"layer{i}": moments(blocks([6, 6, 6]), rng.uniform(0.15, 0.25, 18))
                for i in range(5)
            }
        )

    section = structure_section({seed: network(seed) for seed in range(3)})
    trend, communities = map(str, section.findings)
    assert "over 3 networks; 15 of 15 layers count" in trend
    assert communities.startswith("That the overlap graph is more modular than the excess graph")
    assert "of 5 layers by themselves" in communities
    with pytest.raises(NoDataError, match="no layer has 8 live channels"):
        structure_section({0: table_of(a=moments(np.eye(2), np.full(2, 0.1)))})
