"""Data of three further tests: flow between layers, rankings of criteria, scores at matched I_T.

Each function yields, data set by data set, whether the test finds something; see `levels.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from confounding import LEVEL, Found

sys.path.insert(0, str(Path(__file__).parent.parent))

from empirical.analysis.flow import layer_flow, mean_flow
from empirical.analysis.predictors import at_matched, compare_predictors
from empirical.analysis.rankings import ranking_gap
from empirical.analysis.seeds import over_networks
from tests.empirical.test_predictors import confounded

LOCAL, TARGET = "input_capture", "task_information"


def flowing(draws: int, arrives: float = 0.0, shared: float = 0.0, networks: int = 3) -> Found:
    """Whether the local axis is handed on, in networks of three layers of 16 channels.

    `arrives` is the share of it that does; `shared` couples the two axes of every channel.
    """
    rng = np.random.default_rng(9)
    for _ in range(draws):
        flows = []
        for network in range(networks):
            scores = {
                layer: dict(zip((LOCAL, TARGET), _coupled(rng, shared, 16), strict=True))
                for layer in "abc"
            }
            links = {}
            for source, reader in (("a", "b"), ("b", "c")):
                strength = rng.gamma(0.3, size=(16, 16))
                links[source, reader] = strength
                own = strength @ scores[source][LOCAL] / strength.sum(axis=1)
                scores[reader][LOCAL] = scores[reader][LOCAL] + arrives * own / own.std()
            flows.append(layer_flow(scores, links, permutations=19).assign(seed=network))
        means = mean_flow(pd.concat(flows))
        local = means[means["one"].eq("local") & means["other"].eq("local")]["beyond"]
        found = over_networks(local, (-2.0, 2.0))
        yield bool(found.low > 0 or found.high < 0)


def _coupled(rng: np.random.Generator, shared: float, size: int) -> np.ndarray:
    """(2, size) standard normal values that correlate by `shared`."""
    x, y = rng.standard_normal((2, size))
    return np.stack([x, shared * x + np.sqrt(1 - shared**2) * y])


def ranked(draws: int, own: float = 0.0, noise: float = 0.7, seeds: int = 3) -> Found:
    """Whether a network's ranking of nine criteria is its own, of four networks (C7)."""
    rng = np.random.default_rng(10)
    for _ in range(draws):
        worth = rng.standard_normal(9) + own * rng.standard_normal((4, 1, 9))
        area = worth + noise * rng.standard_normal((4, seeds, 9))
        network, seed, criterion = np.indices(area.shape).reshape(3, -1)
        table = pd.DataFrame(
            {"network": network.astype(str), "seed": seed, "criterion": criterion,
             "area": area.ravel(), "allocation": "uniform", "recovery": "none"}
        )  # fmt: skip
        found = ranking_gap(table, "1")
        yield bool(found.low > 0 or found.high < 0)


def matched(draws: int, hull: float = 0.0, family: int = 1) -> Found:
    """Whether a score is ahead of all others once damage and scores are matched in the control."""
    rng, names = np.random.default_rng(11), ["hull", "close", "other"]
    for _ in range(draws):
        left = at_matched(confounded(rng, hull, family), "damage", names, "control")
        found = compare_predictors(left, "damage", names, 200, rng)
        yield bool((found["p_holm"].iloc[1:] < LEVEL).all())
