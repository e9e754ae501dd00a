"""Criteria of the two axes: every quantity in both directions, and their combinations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from empirical.pruning.channel_graph import Group, Member
from empirical.pruning.criterion import REGISTRY, Knowledge, Scores, over_producers, ranks, register
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


def _declare_quantities() -> None:
    """Every quantity of the two axes, keeping high values ("name") or low ones ("-name")."""
    for quantity in QUANTITIES:
        if quantity in NOT_SCORED:
            continue
        axis = "local" if quantity in LOCAL_AXIS else "target"
        across = "mean" if quantity == "signal_power" else "raw"
        for prefix, sign in (("", 1), ("-", -1)):

            def score(known: Knowledge, group: Group, _: int, q=quantity, s=sign) -> Scores:
                axes = known.hulls if q.startswith("hull") else known.axes
                return over_producers(group, lambda m: axis_scores(axes[m.module], q, s))

            register(prefix + quantity, axis, across, "arXiv:2605.07086")(score)


_declare_quantities()

COMBINATIONS: dict[str, tuple[str, ...]] = {
    "two_axis": ("-peer_predictability", "task_information"),
    "capture_and_uniqueness": ("input_capture", "-peer_predictability"),
    "capture_and_task": ("input_capture", "task_information"),
    "all_three": ("input_capture", "-peer_predictability", "task_information"),
}
"""Combination -> its parts. The score is the mean of the parts' ranks within the group."""


def _declare_combinations() -> None:
    for name, parts in COMBINATIONS.items():

        def score(known: Knowledge, group: Group, seed: int, parts=parts) -> Scores:
            return np.mean([ranks(REGISTRY[p].score(known, group, seed)) for p in parts], axis=0)

        axes = {REGISTRY[part].axis for part in parts}
        register(name, axes.pop() if len(axes) == 1 else "both", "raw", " + ".join(parts))(score)


_declare_combinations()


@register("conditional_power", "local", "mean", "J_i (1 - E_i): the variance no peer explains")
def conditional_power(known: Knowledge, group: Group, _: int) -> Scores:
    """Variance of a channel given all its peers."""

    def score(member: Member) -> Scores:
        axes = known.axes[member.module]
        unexplained = 1.0 - np.nan_to_num(axes.peer_predictability, nan=1.0)
        return np.asarray(axes.signal_power * unexplained, dtype=np.float64)

    return over_producers(group, score)
