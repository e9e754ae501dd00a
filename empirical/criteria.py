"""Pruning criteria: small pure functions from what is known of a layer to a score per channel.

Higher means keep. A criterion is a name in `criterion_names()`; one that cannot be computed says
so and never becomes another one. A group's score is the mean over the layers that produce its
channels, and over the channels of a unit where a unit has several.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from empirical.channel_graph import ChannelGraph, Group, Member
from empirical.input_moments import InputMoments
from theory import ChannelAxes
from theory._validation import one_of
from theory.axes import LOCAL_AXIS, QUANTITIES

Scores = NDArray[np.float64]

NOT_SCORED = ("rayleigh_quotient",)
"""Quantities of section 2 that need the filters as well and are no criterion here."""


class Knowledge(Protocol):
    """The part of a `Calibration` that criteria read."""

    model: nn.Module
    graph: ChannelGraph
    axes: dict[str, ChannelAxes]
    input_moments: dict[tuple[str, str], InputMoments]


@dataclass(frozen=True)
class Criterion:
    """A named score of a group's units.

    `axis` is "local", "target", "both", "weights", "gradients", "maps" or "none". `across` says
    how scores of different groups compare under a global allocation: "raw" where the unit is the
    same everywhere, "mean" where each group is first divided by its mean absolute score.
    """

    name: str
    axis: str
    across: str
    score: Callable[[Knowledge, Group, int], Scores]
    source: str


REGISTRY: dict[str, Criterion] = {}


def register(
    name: str, axis: str, across: str, source: str
) -> Callable[
    [Callable[[Knowledge, Group, int], Scores]], Callable[[Knowledge, Group, int], Scores]
]:
    """Add a criterion to the registry under `name`."""

    def add(
        score: Callable[[Knowledge, Group, int], Scores],
    ) -> Callable[[Knowledge, Group, int], Scores]:
        REGISTRY[name] = Criterion(name, axis, across, score, source)
        return score

    return add


def criterion_names() -> list[str]:
    """Every criterion, in the order of declaration.

    >>> "-peer_predictability" in criterion_names()
    True
    """
    return list(REGISTRY)


def scores(known: Knowledge, criterion: str, *, seed: int = 0) -> dict[str, Scores]:
    """Score every unit of every group; group name -> (units,).

    Raises ValueError for an unknown criterion (with the nearest names) and where a score is not
    finite (naming criterion and layer).
    """
    chosen = REGISTRY[one_of("criterion", criterion, REGISTRY)]
    found = {}
    for group in known.graph.groups:
        value = np.asarray(chosen.score(known, group, seed), dtype=np.float64)
        bad = np.flatnonzero(~np.isfinite(value))
        if bad.size or value.shape != (group.units,):
            raise ValueError(
                f"criterion {criterion!r} is not finite on layer {group.name!r}: {bad.size} of "
                f"{group.units} channels, the first {bad[0] if bad.size else value.shape}. Choose "
                "another criterion, or name the layer in skip."
            )
        found[group.name] = value
    return found


def comparable(criterion: str, found: dict[str, Scores]) -> dict[str, Scores]:
    """Scores that groups can compete on, by the criterion's `across` rule."""
    if REGISTRY[criterion].across == "raw":
        return found
    return {
        name: value / max(float(np.abs(value).mean()), np.finfo(float).tiny)
        for name, value in found.items()
    }


def over_producers(group: Group, score: Callable[[Member], Scores]) -> Scores:
    """Mean of a per-channel score over the group's producers and over each unit's channels."""
    return np.mean([score(m)[m.index].mean(axis=1) for m in group.producers], axis=0)


def ranks(values: Scores) -> Scores:
    """Ranks scaled to 0..1, equals sharing their mean rank.

    >>> ranks(np.array([3.0, 1.0, 3.0]))
    array([0.75, 0.  , 0.75])
    """
    order = np.sort(values)
    low = np.searchsorted(order, values, side="left")
    high = np.searchsorted(order, values, side="right") - 1
    return (low + high) / 2 / max(1, len(values) - 1)


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
                return over_producers(group, lambda m: axis_scores(known.axes[m.module], q, s))

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


@register("random", "none", "raw", "uniform draws; report several seeds")
def random(known: Knowledge, group: Group, seed: int) -> Scores:
    """Independent uniform scores, reproducible from the seed and the group's name."""
    generator = np.random.default_rng([seed, zlib.crc32(group.name.encode())])
    return generator.random(group.units)


def filter_norm(weight: NDArray[np.floating], order: int) -> Scores:
    """Norm of each channel's filter; weight (C, ...).

    >>> filter_norm(np.array([[3.0, 4.0], [0.0, -1.0]]), 2)
    array([5., 1.])
    """
    flat = np.asarray(weight, dtype=np.float64).reshape(len(weight), -1)
    return np.asarray(np.linalg.norm(flat, ord=order, axis=1))


def _norm(order: int) -> Callable[[Knowledge, Group, int], Scores]:
    def score(known: Knowledge, group: Group, _: int) -> Scores:
        return over_producers(
            group,
            lambda m: filter_norm(known.model.get_submodule(m.module).weight.detach().cpu(), order),
        )

    return score


register("l1", "weights", "mean", "Li et al., ICLR 2017: norm of the channel's filter")(_norm(1))
register("l2", "weights", "mean", "norm of the channel's filter")(_norm(2))
