"""What three channels say about the target beyond any two, against what two say beyond one.

The published ratio S₃/S₂ of a layer, over its triples. A finite number of images alone makes both
excesses positive, so a layer counts only where its pairs say more than pairs do about a target that
is independent of the layer.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from empirical.measuring.table import AxisTable
from theory import spearman
from theory.sets import draw_triples, triplet_excess
from theory.shared.validation import Float, count
from theory.standardize import Standardized, standardize


def layer_triplets(
    table: AxisTable, *, triples: int = 1000, draws: int = 40, seed: int = 0
) -> pd.DataFrame:
    """One row per layer of at least three live channels.

    Parameters
    ----------
    table : a measurement with a target.
    triples : how many of a layer's triples are drawn; all, where it has no more.
    draws : independent targets of the null.
    seed : of both draws.

    Returns
    -------
    Columns layer, depth (0 to 1), channels, triples, pair_excess and triplet_excess (means, in
    nats), ratio of the latter to the former, null_pair (97.5 % point of pair_excess where target
    and layer are independent over as many images), null_ratio (mean ratio there), resolved
    (pair_excess above null_pair).
    """
    count("draws", draws)
    depth = dict(zip(table.layers, np.linspace(0, 1, len(table.layers)), strict=True))
    rows = []
    for name, moments in table.moments.items():
        layer = standardize(moments)
        rng = np.random.default_rng(seed)
        if layer.live.size < 3 or not layer.loadings.shape[1]:
            continue
        chosen = draw_triples(layer.live.size, triples, rng)
        three, two = _means(layer, chosen)
        null = _independent(layer, chosen, table.settings["n_images"], draws, rng)
        limit = float(np.quantile(null[:, 1], 0.975))
        rows.append(
            {
                "layer": name,
                "depth": depth[name],
                "channels": layer.live.size,
                "triples": len(chosen),
                "pair_excess": two,
                "triplet_excess": three,
                "ratio": three / two if two > 0 else np.nan,
                "null_pair": limit,
                "null_ratio": float(np.mean(null[:, 0] / null[:, 1])),
                "resolved": bool(two > limit),
            }
        )
    return pd.DataFrame(rows)


def depth_trend(triplets: pd.DataFrame) -> float:
    """Spearman of the ratio with depth over the resolved layers; NaN for fewer than four."""
    known = triplets[triplets["resolved"]].dropna(subset=["ratio"])
    return float(spearman(known["depth"], known["ratio"])) if len(known) >= 4 else np.nan


def _means(layer: Standardized, triples: np.ndarray) -> tuple[float, float]:
    three, two = triplet_excess(layer, triples)
    known = ~np.isnan(three + two)
    if not known.any():
        return np.nan, np.nan
    return float(three[known].mean()), float(two[known].mean())


def _independent(
    layer: Standardized, triples: np.ndarray, images: int, draws: int, rng: np.random.Generator
) -> Float:
    """(draws, 2) mean excesses of triples and pairs about targets that the layer knows nothing of.

    Sample correlations of channels with an independent target have covariance R / images: the
    target is that of the image, at whichever of its positions.
    """
    values, vectors = np.linalg.eigh(layer.correlation)
    root = vectors * np.sqrt(np.maximum(values, 0.0) / images)
    shape = (draws, root.shape[1], layer.loadings.shape[1])
    loadings = root @ rng.standard_normal(shape)
    parts = [
        _means(Standardized(layer.power, layer.live, layer.correlation, own, 0.0), triples)
        for own in loadings
    ]
    return np.array(parts)
