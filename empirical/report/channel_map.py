"""The map of all channels: every number of a table, packed for one page that explores them."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from empirical.analysis.measured_damage import MEASURED, NOTHING, MeasuredDamage
from empirical.analysis.standing import NORMAL, WHY, clear
from empirical.measuring.damage_table import ALONE, DAMAGES, RECOVERED
from empirical.measuring.table import AxisTable
from empirical.report.wording import words
from theory import quantities
from theory.quantity import Quantity
from theory.shared.validation import Float, instance

if TYPE_CHECKING:
    import pandas as pd

Payload = dict[str, Any]
"""What the page reads: plain values, and arrays in base64, little-endian."""

WIDE = 0.25
"""A share whose interval reaches further than this to either side is not resolved."""

KINDS = tuple(WHY)


def map_payload(
    table: AxisTable,
    plan: Mapping[str, Any] | None = None,
    measured: MeasuredDamage = NOTHING,
) -> Payload:
    """Pack the channels of all layers, one after another.

    Parameters
    ----------
    table : from `measure`; with foretold damages the page opens on them
    plan : what `plan_payload` returns, for the sliders; None leaves them out
    measured : damages of lesions, from `measured_damage`

    Raises
    ------
    TypeError
        no table
    """
    instance("table", table, AxisTable, "Pass what measure returned.")
    sizes = [axes.signal_power.size for axes in table.axes.values()]
    columns = [
        column(about, *judged(table, about, measured), clear_of(table, about))
        for about in shown_quantities(table, measured).values()
    ]
    start = (ALONE, RECOVERED) if table.damage else ("peer_predictability", "task_information")
    return {
        "layers": [
            {"name": name, "channels": size, "samples": table[name].n}
            for name, size in zip(table.layers, sizes, strict=True)
        ],
        "columns": columns,
        "start": start,
        "kinds": [{"name": words(kind), "why": WHY[kind]} for kind in KINDS],
        "special": packed(np.concatenate([_special(table, name) for name in table.layers])),
        "hull": _hulls(table),
        "plan": None if plan is None else dict(plan),
    }


def shown_quantities(table: AxisTable, measured: MeasuredDamage = NOTHING) -> dict[str, Quantity]:
    """Name -> what it is, of every quantity that some channel of the table has."""
    found = quantities() | (DAMAGES if table.damage else {})
    found |= {name: about for name, about in MEASURED.items() if name in measured.values}
    return {
        name: about
        for name, about in found.items()
        if any(np.isfinite(values).any() for values in _values(table, name, measured).values())
    }


def _values(table: AxisTable, name: str, measured: MeasuredDamage) -> Mapping[str, Float]:
    """Layer -> (C,); NaN where a layer has no such damages."""
    if name in MEASURED:
        return measured.values[name]
    if name not in DAMAGES:
        return {layer: getattr(axes, name) for layer, axes in table.axes.items()}
    return _nothing(table) | {layer: own.values()[name] for layer, own in table.damage.items()}


def _errors(table: AxisTable, name: str, measured: MeasuredDamage) -> Mapping[str, Float]:
    """Layer -> (C,) standard errors; NaN where there are none."""
    if name in MEASURED:
        return measured.errors[name]
    if name in DAMAGES:
        found = {layer: own.standard_errors()[name] for layer, own in table.damage.items()}
    else:
        known = {layer: table.standard_errors(layer) for layer in table.layers}
        found = {layer: own[name] for layer, own in known.items() if name in own}
    return _nothing(table) | found


def _nothing(table: AxisTable) -> dict[str, Float]:
    return {layer: np.full(a.signal_power.size, np.nan) for layer, a in table.axes.items()}


def column(
    about: Quantity, values: Float, errors: Float, doubt: NDArray[np.bool_], clear: float = NORMAL
) -> dict[str, Any]:
    """Pack one quantity of all rows, as `judged` returns it; `clear` errors are an interval."""
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
        "clear": clear,
        "doubt": packed(np.packbits(doubt, bitorder="little")),
    }


def judged(
    table: AxisTable, about: Quantity, measured: MeasuredDamage = NOTHING
) -> tuple[Float, Float, NDArray[np.bool_]]:
    """Values and standard errors of all channels, and which values are not resolved.

    What peers win back of a damage that is not resolved itself has no value.
    """
    values, errors = (
        np.concatenate(list(found(table, about.name, measured).values()))
        for found in (_values, _errors)
    )
    if about.name == RECOVERED:
        values = np.where(judged(table, DAMAGES[ALONE])[2], np.nan, values)
    return values, errors, doubtful(values, errors, about, clear_of(table, about))


def clear_of(table: AxisTable, about: Quantity) -> float:
    """Standard errors of one of its quantities to the ends of a 95 % interval."""
    return NORMAL if about.name in MEASURED else clear(table.settings.get("groups"))


def doubtful(
    values: Float, errors: Float, about: Quantity, clear: float = NORMAL
) -> NDArray[np.bool_]:
    """Whose interval reaches the bottom of the range, so that it may as well be that.

    A share without a bottom is in doubt where its interval is wide; another quantity without one,
    where its interval holds 0. Counts, and what has no standard error, are not judged.
    """
    known = np.isfinite(values) & (np.nan_to_num(errors) > 0)
    if about.unit == "channels":
        return np.zeros(values.shape, dtype=bool)
    with np.errstate(invalid="ignore"):
        if not math.isinf(about.low):
            return np.asarray(known & (values - clear * errors <= about.low))
        if about.unit == "share":
            return np.asarray(known & (clear * errors > WIDE))
        return np.asarray(known & (np.abs(values) <= clear * errors))


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


def map_file(
    payload: Payload, layers: pd.DataFrame, sides: Sequence[Side], caption: str
) -> Payload:
    """What a report keeps of a map: the payload, and what a reader without script sees.

    Parameters
    ----------
    payload : from `map_payload`
    layers : one row per layer, shown as a table with this `caption`
    sides : both axes of the picture
    """
    return {
        "payload": payload,
        "picture": _picture(*sides),
        "layers": {
            "caption": caption,
            "columns": [words(name) for name in layers.columns],
            "rows": [
                [_cell(value) for value in row] for row in layers.itertuples(index=False, name=None)
            ],
        },
    }


@dataclass(frozen=True)
class Side:
    """One axis of the picture: a quantity, and (M, rows) its values at M moments."""

    about: Quantity
    values: Float

    def places(self) -> tuple[Float, list[str]]:
        """(M, rows) in [0, 1], NaN where a value has no place, and the ends as text.

        A logarithmic axis holds what is above 0.
        """
        log = scale(self.values.ravel(), self.about) == "log"
        known = np.isfinite(self.values) & ((self.values > 0) if log else True)
        shown = np.where(known, self.values, np.nan)
        if not known.any():
            return shown, ["", ""]
        through = np.log10(shown) if log else shown
        low, high = np.nanmin(through), np.nanmax(through)
        ends = [f"{np.nanmin(shown):.2g}", f"{np.nanmax(shown):.2g}" + ", log" * log]
        return (through - low) / (high - low if high > low else 1.0), ends


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.3g}"
    return str(value)


def _picture(across: Side, up: Side) -> dict[str, Any] | None:
    """Every row as a dot of one SVG path, and its way there as a line; None where none is known."""
    (x, x_ends), (y, y_ends) = across.places(), up.places()
    drawn = np.isfinite(x).all(0) & np.isfinite(y).all(0)
    if not drawn.any():
        return None
    steps = np.stack([70 + 530 * x[:, drawn], 370 - 350 * y[:, drawn]], axis=2).transpose(1, 0, 2)
    ways = ["L".join(f"{a:.0f} {b:.0f}" for a, b in way) for way in steps]
    names = [f"{words(side.about.name)} ({side.about.unit})" for side in (across, up)]
    return {
        "path": "".join(f"M{way.rpartition('L')[2]}h0" for way in ways),
        "ways": "".join(f"M{way}" for way in ways) if len(x) > 1 else "",
        "label": f"{names[1]} against {names[0]}: {int(drawn.sum())} of {drawn.size} channels",
        "ticks": [
            {"x": 70, "y": 398, "anchor": "start", "text": x_ends[0]},
            {"x": 600, "y": 398, "anchor": "end", "text": x_ends[1]},
            {"x": 335, "y": 415, "anchor": "middle", "text": names[0]},
            {"x": 55, "y": 374, "anchor": "end", "text": y_ends[0]},
            {"x": 55, "y": 24, "anchor": "end", "text": y_ends[1]},
            {"x": 66, "y": 8, "anchor": "start", "text": "up: " + names[1]},
        ],
    }
