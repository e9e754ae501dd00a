"""Criteria of the two axes: every quantity in both directions, and their combinations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from empirical.pruning.channel_graph import Group, Member
from empirical.pruning.criterion import (
    REGISTRY,
    Knowledge,
    Scores,
    over_producers,
    ranks,
    register_criterion,
)
from theory import LOCAL_AXIS, QUANTITIES, ChannelAxes

NOT_SCORED = ("rayleigh_quotient",)
"""Quantities that need the filters as well and are no criterion here."""


def axis_scores(axes: ChannelAxes, quantity: str, sign: int) -> Scores:
    """One quantity of a layer as a score: `sign` +1 keeps high values, -1 keeps low ones.

    Where `channel_axes` gives NaN it is because the value is infinite (copies, collinear channels,
    channels that determine the target): it counts as above the layer's largest. Dead channels,
    whose local quantities have no value, are below all others in either direction.
    """
    values = np.array(getattr(axes, quantity), dtype=np.float64)
    dead = np.zeros(values.shape, dtype=bool)
    dead[list(axes.affected.get("dead", ()))] = True
    infinite = np.isnan(values) & ~dead & _listed(axes, values.size)
    live = values[np.isfinite(values) & ~dead]
    values[infinite] = live.max() + 1.0 if live.size else 1.0
    score = sign * values
    alive = score[~dead & np.isfinite(score)]
    score[dead] = alive.min() - 1.0 if alive.size else 0.0
    return score


def _listed(axes: ChannelAxes, size: int) -> NDArray[np.bool_]:
    listed = np.zeros(size, dtype=bool)
    for channels in axes.affected.values():
        listed[list(channels)] = True
    return listed


def _quantity(name: str, sign: int) -> Callable[[Knowledge, Group], Scores]:
    def score(known: Knowledge, group: Group) -> Scores:
        axes = known.hulls if name.startswith("hull") else known.axes
        return over_producers(group, lambda m: axis_scores(axes[m.module], name, sign))

    return score


for _name in QUANTITIES:
    if _name in NOT_SCORED:
        continue
    for _prefix, _sign in (("", 1), ("-", -1)):
        register_criterion(
            _prefix + _name,
            axis="local" if _name in LOCAL_AXIS else "target",
            across="mean" if _name == "signal_power" else "raw",
            source="arXiv:2605.07086",
        )(_quantity(_name, _sign))

COMBINATIONS: dict[str, tuple[str, ...]] = {
    "two_axis": ("-peer_predictability", "task_information"),
    "capture_and_uniqueness": ("input_capture", "-peer_predictability"),
    "capture_and_task": ("input_capture", "task_information"),
    "all_three": ("input_capture", "-peer_predictability", "task_information"),
}
"""Combination -> its parts. The score is the mean of the parts' ranks within the group."""


def _combination(parts: tuple[str, ...]) -> Callable[[Knowledge, Group], Scores]:
    def score(known: Knowledge, group: Group) -> Scores:
        return np.asarray(np.mean([ranks(REGISTRY[p].of(known, group)) for p in parts], axis=0))

    return score


for _name, _parts in COMBINATIONS.items():
    _axes = {REGISTRY[part].axis for part in _parts}
    register_criterion(
        _name,
        axis=_axes.pop() if len(_axes) == 1 else "both",
        across="raw",
        source="mean rank of " + ", ".join(_parts),
    )(_combination(_parts))


@register_criterion(
    "conditional_power", axis="local", source="J_i (1 - E_i): the variance no peer explains"
)
def conditional_power(known: Knowledge, group: Group) -> Scores:
    """Variance of a channel given all its peers."""

    def score(member: Member) -> Scores:
        axes = known.axes[member.module]
        unexplained = 1.0 - np.nan_to_num(axes.peer_predictability, nan=1.0)
        return np.asarray(axes.signal_power * unexplained, dtype=np.float64)

    return over_producers(group, score)
