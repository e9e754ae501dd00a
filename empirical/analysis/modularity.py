"""Do channels fall into communities by overlap, and by what they say together about the target?

Of each layer two graphs over its channels: the pairs with the largest overlap, and those with the
largest excess S_ij. Modularity of the best partition found depends on the degrees alone, too: each
graph is held against graphs with the same degrees and random edges.
"""

from __future__ import annotations

import networkx as nx
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from empirical.measuring.table import AxisTable
from theory.pairs import pairwise_excess
from theory.shared.validation import Float, count, within
from theory.standardize import COPY_TOLERANCE, standardize

LEAST = 8
"""Channels below which a layer has no communities to speak of."""
SWAPS = 10
"""Attempted swaps of two edges' ends for each edge of a graph with random edges."""


def layer_modularity(
    table: AxisTable, *, density: float = 0.1, degree: int = 10, draws: int = 20, seed: int = 0
) -> pd.DataFrame:
    """One row per layer of at least `LEAST` live channels.

    Parameters
    ----------
    table : a measurement with a target.
    density, degree : the share of pairs that are edges, and the largest mean degree.
    draws : graphs with random edges for each graph.
    seed : of the draws and of the search for communities.

    Returns
    -------
    Columns layer, depth (0 to 1), channels, edges, overlap and excess (modularities), overlap_null
    and excess_null (means with the same degrees), more (overlap less its null, less the same of
    excess: above zero where the overlap graph is the more modular one).
    """
    within("density", density, "(0, 1]")
    count("degree", degree)
    count("draws", draws)
    depth = dict(zip(table.layers, np.linspace(0, 1, len(table.layers)), strict=True))
    rows = []
    for name, moments in table.moments.items():
        layer = standardize(moments)
        size = layer.live.size
        if size < LEAST or not layer.loadings.shape[1]:
            continue
        edges = max(1, min(round(density * size * (size - 1) / 2), degree * size // 2))
        strengths = {
            "overlap": layer.correlation**2,  # in the order of -1/2 log(1 - R²)
            "excess": _every_excess(layer.correlation, layer.loadings),
        }
        row = {"layer": name, "depth": depth[name], "channels": size, "edges": edges}
        for kind, strength in strengths.items():
            row[kind], row[f"{kind}_null"] = against_degrees(
                strongest(strength, edges), draws, seed
            )
        gains = [row[kind] - row[f"{kind}_null"] for kind in strengths]
        rows.append(row | {"more": gains[0] - gains[1]})
    return pd.DataFrame(rows)


def strongest(strength: Float, edges: int) -> NDArray[np.intp]:
    """(edges, 2) pairs with the largest entries of a symmetric matrix."""
    first, second = np.triu_indices(len(strength), 1)
    order = np.argsort(-strength[first, second], kind="stable")[:edges]
    return np.stack([first[order], second[order]], axis=1)


def against_degrees(edges: NDArray[np.intp], draws: int, seed: int) -> tuple[float, float]:
    """Modularity of a graph, and its mean over `draws` graphs with the same degrees."""
    rng = np.random.default_rng(seed)
    null = [modularity(rewired(edges, rng), seed) for _ in range(draws)]
    return modularity(edges, seed), float(np.mean(null))


def modularity(edges: NDArray[np.intp], seed: int) -> float:
    """Modularity of the communities that Louvain's method finds (Blondel et al. 2008)."""
    graph = nx.Graph(edges.tolist())
    found = nx.community.louvain_communities(graph, seed=seed)
    return float(nx.community.modularity(graph, found))


def rewired(edges: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """A graph with the same degrees: two edges swap an end, again and again, without repeats."""
    pairs = [tuple(edge) for edge in edges.tolist()]
    present = {frozenset(pair) for pair in pairs}
    picks = rng.integers(len(pairs), size=(SWAPS * len(pairs), 2))
    for (i, j), turned in zip(picks.tolist(), rng.random(len(picks)) < 0.5, strict=True):
        (a, b), (c, d) = pairs[i], pairs[j][::-1] if turned else pairs[j]
        new = frozenset((a, d)), frozenset((c, b))
        if len({a, b, c, d}) < 4 or present & set(new):
            continue
        present -= {frozenset((a, b)), frozenset((c, d))}
        present |= set(new)
        pairs[i], pairs[j] = (a, d), (c, b)
    return np.array(pairs)


def _every_excess(correlation: Float, loadings: Float) -> Float:
    """(C, C) excess of every pair, symmetric up to rounding; what is undecided counts as none."""
    size = len(correlation)
    everyone = np.broadcast_to(np.arange(size), (size, size))
    explained = np.minimum((loadings**2).sum(axis=1), 1 - COPY_TOLERANCE)
    off = ~np.eye(size, dtype=bool)
    peers = everyone[off].reshape(size, size - 1)
    result = np.zeros((size, size))
    result[off] = np.nan_to_num(
        pairwise_excess(correlation, loadings, explained, peers), nan=0.0
    ).ravel()
    return result
