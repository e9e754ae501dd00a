"""A plan of removal as the page's sliders read it."""

from __future__ import annotations

from typing import Any

import numpy as np

from empirical.pruning.channel_graph import Group
from empirical.pruning.what_if import RemovalPlan
from empirical.report.channel_map import packed
from theory.shared.validation import Float

SHARES = (0.9, 0.7)
"""Of the multiply-accumulates, at which a summary says what goes and what it costs."""


def plan_payload(plan: RemovalPlan) -> dict[str, Any]:
    """Groups with order, loss and floors, and what multiply-accumulates depend on.

    A layer's inputs and outputs are lists of [group, channels per unit]; group -1 is the part that
    no removal changes.
    """
    graph = plan.graph
    return {
        "groups": [
            {
                "name": group.name,
                "units": group.units,
                "least": plan.least[group.name],
                "order": packed(plan.order[group.name].astype("<u2")),
                "loss": packed(plan.loss[group.name].astype("<f4")),
                "layers": _layers(group),
            }
            for group in graph.groups
        ],
        "macs": {
            "rest": graph.rest,
            "layers": [
                {"cost": cost, "inputs": _terms(inputs), "outputs": _terms(outputs)}
                for cost, inputs, outputs in graph.terms()
            ],
        },
        "whole": dict(graph.kept_whole),
        "note": plan.note,
        "law": None if plan.law is None else plan.law.tolist(),
        "prices": [_price(plan, share) for share in SHARES],
    }


def _price(plan: RemovalPlan, share: float) -> dict[str, float]:
    """What goes, what is left and what it costs, at a share of the multiply-accumulates."""
    gone = plan.at_share(share)
    macs, loss = plan.outcome(gone)
    return {"units": sum(gone.values()), "macs": macs / plan.graph.macs(), "loss": loss}


def _terms(row: Float) -> list[list[float]]:
    last = row.size - 1
    return [[-1 if g == last else int(g), float(row[g])] for g in np.flatnonzero(row)]


def _layers(group: Group) -> list[dict[str, Any]]:
    """The producing layers, with the channels of each unit; None where unit i is channel i."""
    found = []
    for member in group.producers:
        plain = np.array_equal(member.index, np.arange(group.units)[:, None])
        found.append({"name": member.module, "index": None if plain else member.index.tolist()})
    return found
