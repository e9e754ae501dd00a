"""Does an axis hand itself on? Scores of the channels that a layer reads, against its own.

A reader's channel j reads source channels i by kernels W_ji. What arrives of a score s is its mean
over what j reads, by squared kernels: Σ_i ‖W_ji‖² r_i / Σ_i ‖W_ji‖², r the ranks of s. Its rank
correlation over j with a score of the reader is the flow from the one axis to the other.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from torch import Tensor, nn

from empirical.pruning.channel_graph import ChannelGraph, Group, Member
from empirical.pruning.macs import COUNTED, blocks_of, counted, filters
from empirical.pruning.tracing import trace_channels
from theory import spearman
from theory.shared.validation import Float, count

AXES = {"local": "input_capture", "target": "task_information"}
"""Axis -> the quantity that stands for it."""

LEAST = 8
"""Channels below which a layer has no ranking to speak of."""

Links = Mapping[tuple[str, str], Float]
"""(source layer, reading layer) -> (channels of the reader, of the source) squared kernels."""


def channel_links(model: nn.Module, example: Tensor) -> dict[tuple[str, str], Float]:
    """Squared kernels of every layer that reads the channels of another, by the traced graph.

    Depthwise layers between the two hand channels on and are passed over. Where a residual sum
    joins several sources, the last that runs before the reader stands for it.

    Parameters
    ----------
    model : any nn.Module that can be traced.
    example : one image (1, ...).
    """
    graph = trace_channels(model, example)
    found = {}
    for group in graph.groups:
        for reader in group.consumers:
            source = _last_before(group, reader, graph)
            module = model.get_submodule(reader.module)
            if source is None or not isinstance(module, COUNTED) or blocks_of(module) > 1:
                continue
            weight = filters(counted(model, reader.module))
            squared = (weight**2).reshape(*weight.shape[:2], -1).sum(axis=2)
            by_unit = squared[:, reader.index].sum(axis=2)
            strength = np.empty_like(by_unit)
            strength[:, source.index[:, 0]] = by_unit
            found[source.module, reader.module] = strength
    return found


def layer_flow(
    scores: Mapping[str, Mapping[str, Float]],
    links: Links,
    *,
    permutations: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Flow of either axis into either, one row per link and pair of axes.

    Parameters
    ----------
    scores : layer -> quantity -> (C,), as `AxisTable.values` of each layer.
    links : of `channel_links`.
    permutations : draws of the null in which the source's channels exchange their scores, both
        axes' together.
    seed : of the draws.

    Returns
    -------
    Columns source, reader, depth (0 to 1 over the links), channels (of the reader), one, other
    ("local" or "target", of source and reader), flow (rank correlation), null_mean, null_low and
    null_high (95 % of the null). Links to layers of fewer than `LEAST` channels, or without scores
    on either side, are left out.
    """
    count("permutations", permutations, least=19)
    used = {key: value for key, value in links.items() if _known(key, scores)}
    rows = []
    for depth, ((source, reader), strength) in zip(
        np.linspace(0, 1, len(used)), used.items(), strict=True
    ):
        order = np.random.default_rng(seed).permuted(
            np.tile(np.arange(strength.shape[1]), (permutations, 1)), axis=1
        )
        for one, first in AXES.items():
            ranks = rankdata(scores[source][first])
            arriving = _arriving(strength, ranks)
            shuffled = _arriving(strength, ranks[order])
            for other, second in AXES.items():
                own = scores[reader][second]
                null = spearman(shuffled, own)
                low, high = np.quantile(null, [0.025, 0.975])
                rows.append(
                    {
                        "source": source, "reader": reader, "depth": depth, "channels": len(own),
                        "one": one, "other": other, "flow": float(spearman(arriving, own)),
                        "null_mean": float(null.mean()), "null_low": float(low),
                        "null_high": float(high),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def mean_flow(flows: pd.DataFrame) -> pd.DataFrame:
    """One row per network (column seed) and pair of axes: flow less its null, over all links."""
    beyond = flows.assign(beyond=flows["flow"] - flows["null_mean"])
    return beyond.groupby(["seed", "one", "other"])["beyond"].mean().reset_index()


def _arriving(strength: Float, ranks: Float) -> Float:
    """(..., readers) mean rank of what each reads, of ranks (..., sources)."""
    total = strength.sum(axis=1)
    return np.asarray(ranks @ strength.T / np.where(total > 0, total, 1.0))


def _known(link: tuple[str, str], scores: Mapping[str, Mapping[str, Float]]) -> bool:
    if not all(layer in scores for layer in link):
        return False
    values = [scores[layer][name] for layer in link for name in AXES.values()]
    return all(len(v) >= LEAST and np.isfinite(v).all() and np.ptp(v) > 0 for v in values)


def _last_before(group: Group, reader: Member, graph: ChannelGraph) -> Member | None:
    place = {name: i for i, name in enumerate(graph.layers)}
    before = [
        m
        for m in group.producers
        if m.module in place and m.index.shape[1] == 1 and place[m.module] < place[reader.module]
    ]
    return max(before, key=lambda member: place[member.module], default=None)
