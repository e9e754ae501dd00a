"""Which channels are worth an exact lesion, as the law of damage says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from empirical.measuring.calibration import is_loader
from empirical.measuring.damage_law import damage
from empirical.measuring.damage_table import ALONE
from empirical.reading.sets import Sets
from theory.shared.validation import count, one_of

UNCERTAIN = "uncertain"

Choice = Mapping[str, Sets] | int | str | None
"""Channels by layer, or how the law chooses them: a number of each layer, or "uncertain"."""


def chosen_channels(
    model: nn.Module,
    channels: Choice,
    calibration: Any,
    layers: Sequence[str] | None,
    *,
    point: str = "pre_norm",
    name: str = ALONE,
) -> Mapping[str, Sets] | None:
    """Return the channels that the law chooses, by layer; a choice by hand as it is.

    Parameters
    ----------
    channels : a number: so many of each layer, those with the largest damage; "uncertain": those
        whose place among the channels of their layer the law leaves open
    calibration : the result of `measure(..., damage=True)`, or a loader on which damages are
        foretold
    layers : to choose from; None means all
    name : of the foretold damage

    Raises
    ------
    ValueError, TypeError
        another word or number; a calibration without foretold damages; no uncertain channel
    """
    if not isinstance(channels, int | str):
        return channels
    if isinstance(channels, str):
        one_of("channels", channels, (UNCERTAIN,))
    else:
        count("channels", channels)
    table = getattr(calibration, "foretold", None)
    if is_loader(calibration):
        table = damage(model, calibration, layers=layers, point=point)
    if table is None:
        raise ValueError(
            f"calibration must foretell damages for channels={channels!r}; got "
            f"{type(calibration).__name__}. Pass measure(..., damage=True), or a loader of "
            "calibration images."
        )
    for layer in layers or ():
        one_of("layers", layer, table.layers)
    found = (
        table.uncertain(name=name)
        if isinstance(channels, str)
        else table.largest(channels, name=name)
    )
    wanted = {layer: sets for layer, sets in found.items() if layers is None or layer in layers}
    if not any(wanted.values()):
        raise ValueError(
            "channels='uncertain' leaves nothing to lesion: the law tells the channels of these "
            "layers apart. Pass a number of channels instead."
        )
    return {layer: sets for layer, sets in wanted.items() if sets}
