"""Tables of channels told by layer: what a person reads first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from empirical.measuring.damage_table import ALONE, RECOVERED, LayerDamage
from theory.quantity import ChannelAxes
from theory.shared.validation import Float

if TYPE_CHECKING:
    import pandas as pd

TOLD = (
    "input_capture",
    "peer_predictability",
    "hull_size",
    "task_information",
    "conditional_task_information",
)
"""Quantities whose median a layer is told by."""


def describe(axes: Mapping[str, ChannelAxes], damage: Mapping[str, LayerDamage]) -> pd.DataFrame:
    """One row per layer: its channels, medians over those that have a value, and who is special.

    `affected` lists kinds with their number of channels, as "dead 2, few_samples 64".
    """
    import pandas as pd  # here, since importing pandas takes a second

    rows = []
    for name, own in axes.items():
        row: dict[str, Any] = {"layer": name, "channels": own.signal_power.size}
        row |= {quantity: median(getattr(own, quantity)) for quantity in TOLD}
        if name in damage:
            found = damage[name].values()
            row |= {quantity: median(found[quantity]) for quantity in (ALONE, RECOVERED)}
        row["affected"] = ", ".join(f"{k} {len(members)}" for k, members in own.affected.items())
        rows.append(row)
    return pd.DataFrame(rows)


def median(values: Float) -> float:
    """The median of those that are known; NaN where none is."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")
