"""Two measurements in one map: every pair of counterparts as a point that has come a way."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from empirical.analysis.comparison import CAPTURE, Comparison
from empirical.analysis.coupling_change import TARGET
from empirical.analysis.standing import clear
from empirical.measuring.damage_table import DAMAGES
from empirical.measuring.table import AxisTable
from empirical.report.channel_map import (
    Payload,
    Side,
    column,
    doubtful,
    map_file,
    packed,
    upper_half,
)
from empirical.report.map_page import write_page
from empirical.report.page import Section
from theory import quantities
from theory.quantity import Quantity
from theory.shared.validation import Float, instance

TITLE = "What became of every channel"

TURNED = {
    "replaceable": "its task information fell while its peers came to predict it better",
    "relevant": "its task information rose while its peers came to predict it worse",
}

CORRELATION = Quantity(
    "correlation",
    "local",
    "ratio",
    -1.0,
    1.0,
    "more alike",
    "Correlation of a channel and its counterpart on the same images and positions.",
)


def write_comparison(
    path: str | os.PathLike[str],
    found: Comparison,
    *,
    along: Mapping[str, AxisTable] | None = None,
    names: tuple[str, str] = ("before", "after"),
    title: str = "Two measurements of the same channels",
) -> Path:
    """Write a comparison as one page to explore: a map in which channels move.

    Parameters
    ----------
    path : the HTML file
    found : from `compare`
    along : name -> table of checkpoints of the same training in between, in order, through which
        channels pass on their way; matched by index
    names : of the two tables that were compared
    title : of the page

    Raises
    ------
    TypeError, ValueError
        no comparison; tables in between whose layers have other channels
    """
    section = comparison_section(found, along=along or {}, names=names)
    lead = "Every channel at both measurements: where it stood, where it stands, and what changed."
    return write_page(path, title, lead, section)


def comparison_section(
    found: Comparison,
    *,
    along: Mapping[str, AxisTable],
    names: tuple[str, str] = ("before", "after"),
    stem: str = "comparison",
) -> Section:
    """The chapter: what changed in sentences, then the map of pairs."""
    instance("found", found, Comparison, "Pass what compare returned.")
    ways = _ways(found, along)
    known = quantities() | DAMAGES
    sides = [Side(known[name], ways[name]) for name in (CAPTURE, TARGET)]
    caption = "Layers: how many channels rose and fell, and the coupling of both axes"
    layers = found.describe()
    layers = layers[[name for name in layers if not str(name).endswith("_change")]]
    payload = comparison_payload(found, ways, (names[0], *along, names[1]))
    return Section(
        TITLE,
        findings=found.findings(),
        maps={stem: map_file(payload, layers, sides, caption)},
    )


def comparison_payload(
    found: Comparison, ways: Mapping[str, Float], moments: Sequence[str]
) -> Payload:
    """Pack pairs of counterparts, layer after layer.

    Parameters
    ----------
    found : from `compare`
    ways : quantity -> (M, rows) its values at M moments
    moments : their names
    """
    layers = list(found.matched)
    columns: list[dict[str, Any]] = []
    for name, way in ways.items():
        if np.isfinite(way).any():
            columns += _columns((quantities() | DAMAGES)[name], way, found)
    rows = sum(len(first) for first, _ in found.matched.values())
    if found.correlation:
        values = np.concatenate([found.correlation[layer] for layer in layers])
        nothing = np.full(rows, np.nan)
        columns.append(column(CORRELATION, values, nothing, np.zeros(rows, dtype=bool)))
    first, second = (
        packed(np.concatenate([found.matched[layer][side] for layer in layers]).astype("<u2"))
        for side in (0, 1)
    )
    return {
        "layers": [
            {"name": layer, "channels": len(pair[0]), "samples": None}
            for layer, pair in found.matched.items()
        ],
        "columns": columns,
        "start": (CAPTURE, TARGET),
        "kinds": [{"name": f"turned {to}", "why": why} for to, why in TURNED.items()],
        "special": packed(np.concatenate([_special(found, layer) for layer in layers])),
        "hull": None,
        "plan": None,
        "moments": list(moments),
        "channels": first,
        "counterparts": second,
    }


def _ways(found: Comparison, along: Mapping[str, AxisTable]) -> dict[str, Float]:
    """Quantity -> (M, rows): before, at every table in between, after."""
    ways = {}
    for name in next(iter(found.before.values())):
        rows = [np.concatenate([own[name] for own in found.before.values()])]
        rows += [_between(found, key, table, name) for key, table in along.items()]
        rows.append(np.concatenate([own[name] for own in found.after.values()]))
        ways[name] = np.stack(rows)
    return ways


def _between(found: Comparison, key: str, table: AxisTable, name: str) -> Float:
    parts = []
    for layer, (first, _) in found.matched.items():
        size = table[layer].signal_power.size if layer in table.axes else 0
        if not first.size or first.max() >= size:
            raise ValueError(
                f"along must hold tables of the same training; {key!r} has {size} channels in "
                f"layer {layer!r}, where channel {first.max(initial=0)} is compared. Leave it out."
            )
        own = table.values(layer)
        parts.append(own[name][first] if name in own else np.full(first.size, np.nan))
    return np.concatenate(parts)


def _columns(about: Quantity, way: Float, found: Comparison) -> list[dict[str, Any]]:
    """The quantity, with its way, and its change with errors."""
    layers = list(found.matched)
    nothing = np.full(way.shape[1], np.nan)
    change = np.concatenate([found.change[layer][about.name] for layer in layers])
    known = all(about.name in found.errors[layer] for layer in layers)
    errors = nothing
    still = np.zeros(nothing.shape, dtype=bool)
    if known:
        errors = np.concatenate([found.errors[layer][about.name] for layer in layers])
        still = ~np.concatenate([found.moved[layer][about.name] for layer in layers])
    told = replace(
        about,
        name=f"{about.name}_change",
        low=-np.inf,
        unit="points" if about.unit == "share" else about.unit,
        direction="risen",
        sentence="The last value less the first. In brackets: no change beyond its errors. "
        + about.sentence,
    )
    here = column(about, way[-1], nothing, doubtful(way[-1], nothing, about))
    return [
        here | {"way": [packed(upper_half(row)) for row in way[:-1]]},
        column(told, change, errors, still, clear(found.groups))
        | {"scale": "linear", "signed": True},
    ]


def _special(found: Comparison, layer: str) -> np.ndarray:
    first = found.matched[layer][0]
    bits = np.zeros(len(first), dtype=np.uint8)
    for bit, to in enumerate(TURNED):
        bits |= np.where(np.isin(first, found.turned(layer, to=to)), 1 << bit, 0).astype(np.uint8)
    return bits
