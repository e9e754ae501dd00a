"""The map of all channels: every number of a table, packed for one page that explores them."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from empirical.analysis.standing import CLEAR, WHY
from empirical.measuring.damage_table import ALONE, DAMAGES, RECOVERED
from empirical.measuring.table import AxisTable
from empirical.report.wording import words
from theory import quantities
from theory.quantity import Quantity
from theory.shared.validation import Float, instance

Payload = dict[str, Any]
"""What the page reads: plain values, and arrays in base64, little-endian."""

WIDE = 0.25
"""A share whose interval reaches further than this to either side is not resolved."""

KINDS = tuple(WHY)


def map_payload(table: AxisTable, plan: Mapping[str, Any] | None = None) -> Payload:
    """Pack the channels of all layers, one after another.

    Parameters
    ----------
    table : from `measure`; with foretold damages the page opens on them
    plan : what `plan_payload` returns, for the sliders; None leaves them out

    Raises
    ------
    TypeError
        no table
    """
    instance("table", table, AxisTable, "Pass what measure returned.")
    sizes = [axes.signal_power.size for axes in table.axes.values()]
    columns = [_column(table, about) for about in shown_quantities(table).values()]
    start = (ALONE, RECOVERED) if table.damage else ("peer_predictability", "task_information")
    return {
        "layers": [
            {"name": name, "channels": size, "samples": table[name].n}
            for name, size in zip(table.layers, sizes, strict=True)
        ],
        "columns": columns,
        "start": start,
        "clear": CLEAR,
        "kinds": [{"name": words(kind), "why": WHY[kind]} for kind in KINDS],
        "special": packed(np.concatenate([_special(table, name) for name in table.layers])),
        "hull": _hulls(table),
        "plan": None if plan is None else dict(plan),
    }


def shown_quantities(table: AxisTable) -> dict[str, Quantity]:
    """Name -> what it is, of every quantity that some channel of the table has."""
    found = quantities() | (DAMAGES if table.damage else {})
    return {
        name: about
        for name, about in found.items()
        if any(np.isfinite(values).any() for values in _values(table, name).values())
    }


def _values(table: AxisTable, name: str) -> dict[str, Float]:
    """Layer -> (C,); NaN where a layer has no such damages."""
    if name not in DAMAGES:
        return {layer: getattr(axes, name) for layer, axes in table.axes.items()}
    nothing = {layer: np.full(a.signal_power.size, np.nan) for layer, a in table.axes.items()}
    return nothing | {layer: own.values()[name] for layer, own in table.damage.items()}


def _errors(table: AxisTable, name: str) -> dict[str, Float]:
    """Layer -> (C,) standard errors; NaN where there are none."""
    if name in DAMAGES:
        found = {layer: own.standard_errors()[name] for layer, own in table.damage.items()}
    else:
        known = {layer: table.standard_errors(layer) for layer in table.layers}
        found = {layer: own[name] for layer, own in known.items() if name in own}
    nothing = {layer: np.full(a.signal_power.size, np.nan) for layer, a in table.axes.items()}
    return nothing | found


def _column(table: AxisTable, about: Quantity) -> dict[str, Any]:
    values, errors, doubt = judged(table, about)
    return {
        "name": about.name,
        "label": words(about.name),
        "unit": about.unit,
        "axis": about.axis,
        "more": about.direction,
        "what": about.sentence,
        "scale": scale(values, about),
        "values": packed(values.astype("<f4")),
        "errors": packed(upper_half(errors)) if np.isfinite(errors).any() else None,
        "doubt": packed(np.packbits(doubt, bitorder="little")),
    }


def judged(table: AxisTable, about: Quantity) -> tuple[Float, Float, NDArray[np.bool_]]:
    """Values and standard errors of all channels, and which values are not resolved.

    What peers win back of a damage that is not resolved itself has no value.
    """
    values, errors = (
        np.concatenate(list(found(table, about.name).values())) for found in (_values, _errors)
    )
    if about.name == RECOVERED:
        values = np.where(judged(table, DAMAGES[ALONE])[2], np.nan, values)
    return values, errors, doubtful(values, errors, about)


def doubtful(values: Float, errors: Float, about: Quantity) -> NDArray[np.bool_]:
    """Whose interval reaches the bottom of the range, so that it may as well be that.

    A quantity without a bottom, a share, is in doubt where its interval is wide. Counts, and what
    has no standard error, are not judged.
    """
    known = np.isfinite(values) & (np.nan_to_num(errors) > 0)
    if about.unit == "channels":
        return np.zeros(values.shape, dtype=bool)
    with np.errstate(invalid="ignore"):
        if math.isinf(about.low):
            return np.asarray(known & (CLEAR * errors > WIDE))
        return np.asarray(known & (values - CLEAR * errors <= about.low))


def scale(values: Float, about: Quantity) -> str:
    """Logarithmic where positive values without an upper end span more than a factor of 50.

    >>> scale(np.array([0.001, 0.1, 1.0]), quantities()["task_information"])
    'log'
    """
    positive = values[np.isfinite(values) & (values > 0)]
    if about.unit in ("share", "channels") or positive.size == 0:
        return "linear"
    low, high = np.quantile(positive, [0.02, 0.98])
    return "log" if high > 50 * low else "linear"


def _special(table: AxisTable, layer: str) -> NDArray[np.uint8]:
    """One bit per kind of `KINDS` for each channel of a layer."""
    bits = np.zeros(table[layer].signal_power.size, dtype=np.uint8)
    for kind, members in table[layer].affected.items():
        bits[list(members)] |= np.uint8(1 << KINDS.index(kind))
    return bits


def _hulls(table: AxisTable) -> dict[str, Any] | None:
    """Members, weights and gains of all channels in one block, as wide as the largest hull."""
    hulls = {name: axes.hull for name, axes in table.axes.items()}
    width = max((h.members.shape[1] for h in hulls.values() if h is not None), default=0)
    if width == 0:
        return None
    rows = sum(axes.signal_power.size for axes in table.axes.values())
    members = np.full((rows, width), -1, dtype="<i2")
    weights = np.zeros((rows, width), dtype="<f4")
    gains = np.zeros((rows, width), dtype="<f4")
    start = 0
    for name, axes in table.axes.items():
        stop = start + axes.signal_power.size
        if (hull := hulls[name]) is not None:
            own = np.s_[start:stop, : hull.members.shape[1]]
            members[own], weights[own], gains[own] = hull.members, hull.weights, hull.gains
        start = stop
    return {
        "width": width,
        "members": packed(members),
        "weights": packed(upper_half(weights)),
        "gains": packed(upper_half(gains)),
    }


def upper_half(values: NDArray[Any]) -> NDArray[np.uint16]:
    """The upper 16 bits of single precision, rounded: two to three digits, for what is shown so.

    >>> halves = upper_half(np.array([0.1, np.nan]))
    >>> (halves.astype("<u4") << 16).view("<f4").astype(float).round(3).tolist()
    [0.1, nan]
    """
    single = np.ascontiguousarray(values, dtype="<f4")
    bits = single.view("<u4").astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(single), 0x7FC0, rounded).astype("<u2")


def packed(array: NDArray[Any]) -> str:
    """The bytes of an array in base64."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def map_file(payload: Payload, table: AxisTable) -> Payload:
    """What a report keeps of a map: the payload, and what a reader without script sees."""
    frame = table.describe()
    return {
        "payload": payload,
        "picture": _picture(table, payload["start"]),
        "layers": {
            "columns": [words(name) for name in frame.columns],
            "rows": [
                [_cell(value) for value in row] for row in frame.itertuples(index=False, name=None)
            ],
        },
    }


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.3g}"
    return str(value)


def _picture(table: AxisTable, names: Sequence[str]) -> dict[str, Any] | None:
    """Every channel as a dot of one SVG path, and the ends of both axes; None where none is known.

    A logarithmic axis holds what is above 0.
    """
    about = [(quantities() | DAMAGES)[name] for name in names]
    sides = [judged(table, own)[0] for own in about]
    logs = [scale(values, own) == "log" for values, own in zip(sides, about, strict=True)]
    drawn = np.isfinite(sides[0]) & np.isfinite(sides[1])
    for values, log in zip(sides, logs, strict=True):
        drawn &= (values > 0) | ~np.full(drawn.shape, log)
    if not drawn.any():
        return None
    places, ends = [], []
    for values, log in zip(sides, logs, strict=True):
        known = values[drawn]
        through = np.log10(known) if log else known
        low, span = through.min(), np.ptp(through)
        places.append((through - low) / (span if span > 0 else 1.0))
        ends.append([f"{known.min():.2g}", f"{known.max():.2g}"])
    dots = zip(70 + 530 * places[0], 370 - 350 * places[1], strict=True)
    x, y = (f"{words(own.name)} ({own.unit})" for own in about)
    return {
        "path": "".join(f"M{a:.0f} {b:.0f}h0" for a, b in dots),
        "label": f"{y} against {x}: {int(drawn.sum())} of {drawn.size} channels",
        "ticks": [
            {"x": 70, "y": 398, "anchor": "start", "text": ends[0][0]},
            {"x": 600, "y": 398, "anchor": "end", "text": ends[0][1]},
            {"x": 335, "y": 415, "anchor": "middle", "text": x + (", log" if logs[0] else "")},
            {"x": 55, "y": 374, "anchor": "end", "text": ends[1][0]},
            {"x": 55, "y": 24, "anchor": "end", "text": ends[1][1]},
            {"x": 66, "y": 425, "anchor": "start", "text": "up: " + y},
        ],
    }
