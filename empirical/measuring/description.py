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


SHORT = {
    "input_capture": "I_X",
    "peer_predictability": "E",
    "hull_size": "hull",
    "task_information": "I_T",
    "conditional_task_information": "I_T|peers",
    ALONE: "alone",
    RECOVERED: "recovered",
}
"""Names that fit a line of 80 columns."""

LEGEND = (
    "Medians over channels. I_X input capture, E share that peers predict, hull peers that take",
    "for it, I_T task information, I_T|peers beyond all peers, alone the damage held at its mean,",
    "recovered what peers win back of it. Information and damage in nats.",
)

NAME = 24
"""Characters of a layer's name; of a longer one the middle is left out."""


def in_words(
    axes: Mapping[str, ChannelAxes],
    damage: Mapping[str, LayerDamage],
    settings: Mapping[str, Any],
    skipped: Mapping[str, str],
) -> str:
    """A table in lines of about 80 columns: what was measured, a line per layer, what was not."""
    frame = describe(axes, damage)
    told = [name for name in SHORT if name in frame and frame[name].notna().any()]
    total, images = int(frame["channels"].sum()), settings.get("n_images", 0)
    lines = [
        f"AxisTable: {total:,} channels of {len(frame)} layers, {images:,} images, target "
        f"{str(settings.get('target', 'none')).replace('_', ' ')}",
        f"{'layer':<{NAME}} {'C':>5} " + " ".join(f"{SHORT[name]:>9}" for name in told),
    ]
    for row in frame.to_dict("records"):
        numbers = " ".join(f"{_short(row[name]):>9}" for name in told)
        lines.append(f"{shortened(str(row['layer'])):<{NAME}} {row['channels']:>5} {numbers}")
        if row["affected"]:
            lines.append(f"{'':<{NAME}} {row['affected'].replace('_', ' ')}")
    lines += [f"{shortened(name):<{NAME}} left out: {why}" for name, why in skipped.items()]
    return "\n".join(line.rstrip() for line in (*lines, *LEGEND))


def shortened(name: str, most: int = NAME) -> str:
    """The name, or both ends of it around an ellipsis.

    >>> shortened("features.denseblock4.denselayer16.conv2")
    'features.den…yer16.conv2'
    """
    if len(name) <= most:
        return name
    half = (most - 1) // 2
    return f"{name[: most - 1 - half]}…{name[len(name) - half :]}"


def _short(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3g}"


def layers_table(
    axes: Mapping[str, ChannelAxes], damage: Mapping[str, LayerDamage], skipped: Mapping[str, str]
) -> pd.DataFrame:
    """`describe` with a column `skipped`: why a layer was left out, which has a row as well."""
    import pandas as pd

    rows = describe(axes, damage).assign(skipped="").to_dict("records")
    rows += [{"layer": name, "skipped": why} for name, why in skipped.items()]
    return pd.DataFrame(rows)


def kinds_of_channels(axes: Mapping[str, ChannelAxes]) -> list[str]:
    """What is special about each channel of all layers, "" of most, as "collinear, copies"."""
    found = []
    for own in axes.values():
        kinds: list[list[str]] = [[] for _ in range(own.signal_power.size)]
        for kind, members in own.affected.items():
            for channel in members:
                kinds[channel].append(kind)
        found += [", ".join(own_kinds) for own_kinds in kinds]
    return found


def median(values: Float) -> float:
    """The median of those that are known; NaN where none is."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")
