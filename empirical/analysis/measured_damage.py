"""What lesions measured of single channels, laid beside a table's foretold damages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from empirical.lesions.table import LesionTable
from empirical.measuring.table import AxisTable
from theory.quantity import Quantity
from theory.shared.validation import Float

if TYPE_CHECKING:
    import pandas as pd

MEASURED_ALONE, MEASURED_WITH_PEERS = "measured_damage", "measured_damage_with_peers"
LOSS = "loss_increase"

MEASURED: dict[str, Quantity] = {
    MEASURED_ALONE: Quantity(
        MEASURED_ALONE,
        "prediction",
        "nats",
        0.0,
        np.inf,
        "more missed",
        "What the prediction loses where the channel is held at its mean, measured by a lesion: "
        "mean divergence from the intact network's prediction, on images that nothing was fitted "
        "on.",
    ),
    MEASURED_WITH_PEERS: Quantity(
        MEASURED_WITH_PEERS,
        "prediction",
        "nats",
        0.0,
        np.inf,
        "more missed, peers standing in",
        "What the prediction loses where the channel is replaced by its regression on all other "
        "channels of its layer, measured likewise.",
    ),
    LOSS: Quantity(
        LOSS,
        "prediction",
        "nats",
        -np.inf,
        np.inf,
        "more missed for the labels",
        "Increase of the loss where the channel is held at its mean, measured by a lesion; below 0 "
        "where the network is better without it.",
    ),
}

SOURCES = {
    MEASURED_ALONE: ("mean", "divergence"),
    MEASURED_WITH_PEERS: ("all", "divergence"),
    LOSS: ("mean", "loss_increase"),
}
"""Quantity -> kind of the lesion or replacement, and column."""


@dataclass(frozen=True, eq=False)
class MeasuredDamage:
    """Of every channel of a table; NaN where no lesion was run.

    Attributes
    ----------
    values, errors : quantity of `MEASURED` -> layer -> (C,); only what some lesion measured
    """

    values: Mapping[str, Mapping[str, Float]]
    errors: Mapping[str, Mapping[str, Float]]


NOTHING = MeasuredDamage({}, {})


def measured_damage(
    table: AxisTable, *lesions: LesionTable | pd.DataFrame | None
) -> MeasuredDamage:
    """Lay lesions of single channels out like the table.

    Parameters
    ----------
    table : whose layers and channels
    lesions : what `lesion` and `replace` returned, or their frames; None is nothing

    Raises
    ------
    ValueError
        a frame without layer, channel, kind and a damage with its error; a channel that the table
        does not have
    """
    values: dict[str, dict[str, Float]] = {}
    errors: dict[str, dict[str, Float]] = {}
    for one in lesions:
        if one is None:
            continue
        frame = one.to_frame() if isinstance(one, LesionTable) else one
        missing = {"layer", "channel", "kind", LOSS, f"{LOSS}_se"}.difference(frame.columns)
        if missing:
            raise ValueError(
                f"lesions must hold the columns {', '.join(sorted(missing))}, which are missing. "
                "Pass what lesion or replace returned, or its to_frame()."
            )
        frame = frame[~frame["channel"].astype(str).str.contains("+", regex=False)]  # sets
        for name, (kind, column) in SOURCES.items():
            chosen = frame[frame["kind"] == kind]
            if column in chosen and len(chosen) and name not in values:
                values[name] = _laid_out(table, chosen, column)
                errors[name] = _laid_out(table, chosen, f"{column}_se")
    return MeasuredDamage(values, errors)


def _laid_out(table: AxisTable, rows: pd.DataFrame, column: str) -> dict[str, Float]:
    """Layer -> (C,); a CSV file may have read layers "0", "2" as numbers."""
    found = {name: np.full(a.signal_power.size, np.nan) for name, a in table.axes.items()}
    for layer, own in rows.groupby(rows["layer"].astype(str), sort=False):
        channels: Any = own["channel"].to_numpy(np.int64)
        size = found[layer].size if layer in found else 0
        if channels.max() >= size:
            raise ValueError(
                f"lesions must be of the channels of table; it has {size} in layer {layer!r}, of "
                f"which one lesioned channel {channels.max()}. Pass lesions of the network that "
                "was measured."
            )
        found[layer][channels] = own[column].to_numpy(np.float64)
    return found
