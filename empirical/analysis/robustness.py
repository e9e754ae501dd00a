"""How much a coupling depends on choices of the measurement: one choice changed at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from torch import nn

from empirical.analysis.couplings import BETWEEN, WITHIN, Pair, layer_couplings
from empirical.measuring.measurement import measure
from empirical.measuring.table import AxisTable
from theory import channel_axes, merge, spearman

VARIATIONS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("as measured", {}),
    ("noise: mean", {"noise": "mean"}),
    ("noise: lower quartile", {"noise": "quantile:0.25"}),
    ("bias corrected", {"bias_correction": True}),
    ("target: true logit", {"target": "true_logit"}),
    ("target: first logit component", {"target": "logit_pc1"}),
    ("target: label", {"target": "label"}),
    ("sampling: pooled maps", {"sampling": "pooled"}),
)
"""Name -> arguments of `measure` that differ from the base settings."""


def coupling_robustness(
    model: nn.Module,
    loader: Iterable[object],
    *,
    variations: Sequence[tuple[str, Mapping[str, Any]]] = VARIATIONS,
    pairs: Sequence[Pair] = (BETWEEN, WITHIN),
    **settings: Any,
) -> pd.DataFrame:
    """Measure once per variation; one row per variation and pair.

    Args:
        model, loader: as for `measure`.
        variations: name and changed arguments of `measure`.
        pairs: whose coupling is reported.
        **settings: base arguments of `measure`.

    Returns:
        Columns variation, first, second, coupling (mean over layers), lowest, highest (over
        layers). A variation that the layers do not allow is an error of `measure`.
    """
    frames = []
    for name, changed in variations:
        table = measure(model, loader, **{**settings, "hull": False, **changed})
        frames.append(_summary(layer_couplings(table, pairs=pairs, permutations=1), name))
    return pd.concat(frames, ignore_index=True)


def sample_count_robustness(
    table: AxisTable, *, pairs: Sequence[Pair] = (BETWEEN, WITHIN)
) -> pd.DataFrame:
    """The coupling from ever more groups of images: 1, 2, ... of the G that were measured.

    Args:
        table: a measurement that kept its groups.

    Returns:
        Columns groups, images (share), first, second, coupling (mean over layers).

    Raises:
        ValueError: the table holds no groups.
    """
    if not table.groups:
        raise ValueError(
            "table must hold moments per group of images; this one does not. Measure again, or "
            "save with moments='groups'."
        )
    number = len(next(iter(table.groups.values())))
    rows = []
    for used in range(1, number + 1):
        axes = {
            layer: channel_axes(merge(parts[:used]), hull=False)
            for layer, parts in table.groups.items()
        }
        for pair in pairs:
            couplings = [
                float(spearman(getattr(a, pair.first), getattr(a, pair.second)))
                for a in axes.values()
            ]
            rows.append(
                {
                    "groups": used,
                    "images": used / number,
                    "first": pair.first,
                    "second": pair.second,
                    "coupling": pd.Series(couplings).mean(),
                }
            )
    return pd.DataFrame(rows)


def _summary(couplings: pd.DataFrame, name: str) -> pd.DataFrame:
    by_pair = couplings.groupby(["first", "second"], sort=False)["coupling"]
    summary = by_pair.agg(["mean", "min", "max"]).reset_index()
    summary.columns = ["first", "second", "coupling", "lowest", "highest"]
    summary.insert(0, "variation", name)
    return summary
