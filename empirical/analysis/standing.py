"""Where one channel stands in its layer, and who could stand in for it: numbers from a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from empirical.analysis.measured_damage import NOTHING, MeasuredDamage
from empirical.measuring.damage_table import FORETOLD
from empirical.measuring.table import AxisTable
from theory.hull import Peer
from theory.rank_coupling import jackknife_quantile
from theory.shared.findings import Estimate
from theory.shared.validation import Float, index, instance

if TYPE_CHECKING:
    import pandas as pd

NORMAL = 1.96
"""Standard errors to the ends of an interval where many images tell the error."""

HARDLY, ALMOST_ALL = 0.1, 0.9
"""Shares of a channel's variance: below, nobody stands in for it; above, its peers do."""

NONE, PART, ALL, UNRESOLVED = "none", "part", "all", "unresolved"

WHY = {
    "dead": "it has no variance",
    "copies": "it is an exact copy of another channel",
    "collinear": "its peers determine it",
    "few_samples": "there are too few samples for its layer",
    "target_determined": "it determines the target, alone or with others",
    "undecided": "rounding is larger than what is asked for",
}
"""Kind of `ChannelAxes.affected` -> what it says of a channel."""


@dataclass(frozen=True)
class Place:
    """One quantity of one channel, and its place in the layer.

    Attributes
    ----------
    value : with its 95 % interval, whose ends are NaN where no error is known
    error : its standard error
    rank : from the largest, 1; 0 where it has no value
    of : how many channels of the layer have a value
    """

    value: Estimate
    error: float
    rank: int
    of: int


@dataclass(frozen=True, eq=False)
class Standing:
    """One channel among those of its layer.

    Attributes
    ----------
    quantities : quantity -> its place
    peers : members of its hull, in the order of choice
    damage : each foretold damage with its interval; empty where none was asked for
    measured : each damage that lesions measured; empty where none was run
    kinds : what is special about it, as in `ChannelAxes.affected`
    stand_in : whether its peers predict of its variance "none", "part" or "all", or "unresolved"
    channels : of the layer
    """

    quantities: Mapping[str, Place]
    peers: tuple[Peer, ...]
    damage: Mapping[str, Estimate]
    measured: Mapping[str, Estimate]
    kinds: tuple[str, ...]
    stand_in: str
    channels: int

    def to_frame(self) -> pd.DataFrame:
        """One row per quantity: `quantity`, `mean`, `low`, `high`, `rank`, `of`."""
        import pandas as pd  # here, since importing pandas takes a second

        return pd.DataFrame(
            {"quantity": name, **vars(place.value), "rank": place.rank, "of": place.of}
            for name, place in self.quantities.items()
        )


def clear(groups: object) -> float:
    """Standard errors over so many groups of images to the ends of a 95 % interval.

    >>> round(clear(10), 2), clear(1)
    (2.26, 1.96)
    """
    return jackknife_quantile(groups) if isinstance(groups, int) and groups > 1 else NORMAL


def interval(value: float, error: float, errors: float) -> Estimate:
    """A value with so many of its standard errors on either side."""
    return Estimate(value, value - errors * error, value + errors * error)


def standing(
    table: AxisTable, layer: str, channel: int, measured: MeasuredDamage = NOTHING
) -> Standing:
    """Look one channel up in its layer, and among what lesions measured.

    Raises
    ------
    TypeError, ValueError
        no table; an unknown layer; a channel that is not there
    """
    instance("table", table, AxisTable, "Pass what measure returned.")
    axes = table[layer]
    c = axes.signal_power.size
    channel = index("channel", channel, c)
    errors = table.standard_errors(layer)
    places = {
        name: _place(values, errors.get(name), channel, clear(table.settings.get("groups")))
        for name, values in axes.as_dict().items()
    }
    return Standing(
        places,
        tuple(axes.hull.of(channel)) if axes.hull is not None else (),
        _damage(table, layer, channel),
        _lesioned(measured, layer, channel),
        tuple(kind for kind, members in axes.affected.items() if channel in members),
        standing_in(places["peer_predictability"].value),
        c,
    )


def standing_in(share: Estimate) -> str:
    """How much of a channel its peers predict, in one of four words, from the interval.

    >>> standing_in(Estimate(0.02, 0.0, 0.05)), standing_in(Estimate(0.5, 0.05, 0.95))
    ('none', 'unresolved')
    """
    low = share.mean if math.isnan(share.low) else share.low
    high = share.mean if math.isnan(share.high) else share.high
    if high < HARDLY:
        return NONE
    if low > ALMOST_ALL:
        return ALL
    return PART if low > HARDLY and high < ALMOST_ALL else UNRESOLVED


def _place(values: Float, errors: Float | None, channel: int, wide: float) -> Place:
    known, value = np.isfinite(values), float(values[channel])
    error = math.nan if errors is None else float(errors[channel])
    rank = 1 + int((values[known] > value).sum()) if known[channel] else 0
    return Place(interval(value, error, wide), error, rank, int(known.sum()))


def _damage(table: AxisTable, layer: str, channel: int) -> dict[str, Estimate]:
    if layer not in table.damage:
        return {}
    found = table.damage[layer]
    values, errors = found.values(), found.standard_errors()
    wide = clear(table.settings.get("groups"))
    return {
        n: interval(float(values[n][channel]), float(errors[n][channel]), wide) for n in FORETOLD
    }


def _lesioned(measured: MeasuredDamage, layer: str, channel: int) -> dict[str, Estimate]:
    found = {
        name: interval(float(values[layer][channel]), float(errors[layer][channel]), NORMAL)
        for (name, values), errors in zip(
            measured.values.items(), measured.errors.values(), strict=True
        )
    }
    return {name: value for name, value in found.items() if not math.isnan(value.mean)}
