"""Which channels of a layer are taken away together, as a caller names them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from empirical.reading.layers import Layer
from theory.shared.validation import count, shown

Sets = Sequence[int] | Sequence[Sequence[int]]


def channel_sets(layer: Layer, channels: Mapping[str, Sets] | None) -> Tensor:
    """Return int64 (L, k): the sets to take from `layer`; each of its channels by default.

    Raises
    ------
    ValueError
        A channel that is not there, or twice in a set or among single ones; sets of unequal size;
        no sets.
    """
    if channels is None:
        return torch.arange(layer.n_channels)[:, None]
    if not isinstance(channels[layer.name], Iterable):
        raise TypeError(
            f"channels[{layer.name!r}] must be a list of channels; got "
            f"{shown(channels[layer.name])}. Pass one such as [0, 2]."
        )
    rows: list[list[Any]] = [np.atleast_1d(item).tolist() for item in channels[layer.name]]
    if not rows or len({len(row) for row in rows}) != 1 or not rows[0]:
        raise ValueError(
            f"channels[{layer.name!r}] must be channels, or sets of one size; got sets of sizes "
            f"{sorted({len(row) for row in rows})}. Run each size by itself."
        )
    for row in rows:
        for channel in row:
            if count(f"channels[{layer.name!r}]", channel, least=0) >= layer.n_channels:
                raise ValueError(
                    f"channels[{layer.name!r}] must be in 0 .. {layer.n_channels - 1}; got "
                    f"{channel}. The layer has {layer.n_channels} channels."
                )
        if len(set(row)) != len(row):
            raise ValueError(
                f"channels[{layer.name!r}] must hold sets of different channels; got {row}."
            )
    # sets that are drawn at random may coincide; tables are joined by single channels
    alone = [row[0] for row in rows if len(row) == 1]
    again = [channel for channel, times in Counter(alone).items() if times > 1]
    if again:
        raise ValueError(
            f"channels[{layer.name!r}] must hold each channel once; got {again[0]} more than once. "
            "Leave out its copies."
        )
    return torch.tensor(rows, dtype=torch.int64)
