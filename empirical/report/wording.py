"""How the chapters say things: names as words, intervals, and verdicts that follow from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from theory import quantities


def words(name: object) -> str:
    """A column's or quantity's name as a reader would say it.

    >>> words("input_capture")
    'input capture'
    """
    return str(name).replace("_", " ")


def unit(name: str) -> str:
    """The unit of a quantity, as its field says."""
    return quantities()[name].unit


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


def with_interval(name: str, form: str) -> str:
    """Placeholders of a number and its interval, for the template of a finding.

    >>> with_interval("gain", "+.1%")
    '{gain:+.1%} [{gain_low:+.1%}, {gain_high:+.1%}]'
    """
    return f"{{{name}:{form}}} [{{{name}_low:{form}}}, {{{name}_high:{form}}}]"


def bounded(name: str, value: float, interval: tuple[float, float]) -> dict[str, float]:
    """What fills `with_interval`.

    >>> bounded("gain", 0.5, (0.25, 0.75))
    {'gain': 0.5, 'gain_low': 0.25, 'gain_high': 0.75}
    """
    return {name: value, f"{name}_low": interval[0], f"{name}_high": interval[1]}


def verdict(interval: tuple[float, float], above: str, below: str, neither: str) -> str:
    """`above` or `below` where the interval excludes zero; `neither` where it holds it or is NaN.

    >>> verdict((0.1, 0.3), "it rises", "it falls", "no change beyond the spread")
    'it rises'
    """
    low, high = interval
    return above if low > 0 else below if high < 0 else neither


def values_of(row: pd.Series[Any], names: Iterable[str] | None = None) -> dict[str, Any]:
    """The named entries of a table's row (all of them by default), for a finding."""
    chosen = row if names is None else row[list(names)]
    return {str(name): value for name, value in chosen.items()}
