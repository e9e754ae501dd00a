"""Population mathematics of the two axes of channel information. All information in nats."""

from __future__ import annotations

import importlib

from theory.axes import LOCAL_AXIS, QUANTITIES, TARGET_AXIS, ChannelAxes, channel_axes
from theory.hull import Hull, compact_hull
from theory.moments import Moments, merge
from theory.rank_coupling import (
    Coupling,
    coupling,
    delete_one_group,
    jackknife,
    jackknife_standard_error,
    spearman,
)

__all__ = [
    "LOCAL_AXIS",
    "QUANTITIES",
    "TARGET_AXIS",
    "ChannelAxes",
    "Coupling",
    "Hull",
    "Moments",
    "channel_axes",
    "compact_hull",
    "coupling",
    "delete_one_group",
    "jackknife",
    "jackknife_standard_error",
    "merge",
    "spearman",
]

_LAZY: dict[str, str] = {}
"""Public name -> module that imports sympy. Resolved on first use, so `import theory` is fast."""


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'theory' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"theory.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_LAZY])
