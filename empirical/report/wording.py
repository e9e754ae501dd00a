"""How the chapters say things: names as words, and estimates from the rows of tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from empirical.analysis.standing import Place
from empirical.measuring.damage_table import DAMAGES
from theory import quantities
from theory.shared.findings import Estimate

LISTED = 4
"""Layers that a note lists with the reason why they are left out; more are counted."""


def words(name: object) -> str:
    """A column's or quantity's name as a reader would say it.

    >>> words("input_capture")
    'input capture'
    """
    return str(name).replace("_", " ")


def left_out(skipped: Mapping[str, str], table: str) -> str:
    """What a note says of layers that are left out: why, of few; of more, how many and where.

    >>> left_out({"conv1": "constant values"}, "beyond_left_out")
    ' Left out: conv1: constant values.'
    >>> left_out(dict.fromkeys(map(str, range(9)), "constant values"), "beyond_left_out")
    ' 9 layers are left out; tables/beyond_left_out.csv says why.'
    """
    if len(skipped) > LISTED:
        return f" {len(skipped)} layers are left out; tables/{table}.csv says why."
    listed = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
    return f" Left out: {listed}." if listed else ""


def reasons(skipped: Mapping[str, str], table: str) -> dict[str, pd.DataFrame]:
    """The table of layers that are left out, by its name; nothing where there are none."""
    frame = pd.DataFrame({"layer": list(skipped), "left_out_for": list(skipped.values())})
    return {table: frame} if skipped else {}


def unit(name: str) -> str:
    """The unit of a quantity, as its field says, or of a foretold damage.

    >>> unit("signal_power"), unit("damage_alone"), unit("recovered")
    ('power', 'nats', 'share')
    """
    return (quantities() | DAMAGES)[name].unit


def quantities_table() -> pd.DataFrame:
    """One row per quantity: axis, unit, range, what more of it means, and one sentence."""
    rows = [
        {
            "quantity": words(name),
            "axis": about.axis,
            "unit": about.unit,
            "range": about.range,
            "more of it": about.direction,
            "what it is": about.sentence,
        }
        for name, about in quantities().items()
    ]
    return pd.DataFrame(rows)


def quantity_label(name: str) -> str:
    """A quantity with its unit, for the axis of a figure.

    >>> quantity_label("input_capture"), quantity_label("peer_predictability")
    ('input capture (nats)', 'peer predictability (share)')
    """
    return f"{words(name)} ({unit(name)})"


def values_of(row: pd.Series[Any], names: Iterable[str] | None = None) -> dict[str, Any]:
    """The named entries of a table's row (all of them by default), for a finding."""
    chosen = row if names is None else row[list(names)]
    return {str(name): value for name, value in chosen.items()}


def estimate_of(row: Any, mean: str, low: str = "low", high: str = "high") -> Estimate:
    """The number in column `mean` with the ends of its interval.

    >>> f"{estimate_of({'gain': 0.5, 'low': 0.25, 'high': 0.75}, 'gain'):.2f}"
    '0.50 [0.25, 0.75]'
    """
    return Estimate(float(row[mean]), float(row[low]), float(row[high]))


def spelled(place: Place) -> tuple[str, str, str]:
    """Value, standard error and rank as text; a dash and nothing where there are none.

    >>> spelled(Place(Estimate(0.5, -1.5, 2.5), 1.0, 2, 7))
    ('0.5', ' ± 1', '2 of 7')
    """
    return (
        "–" if math.isnan(place.value.mean) else f"{place.value.mean:.4g}",
        "" if math.isnan(place.error) else f" ± {place.error:.2g}",
        f"{place.rank} of {place.of}" if place.rank else "",
    )
