"""What a pruning criterion is: a named score per channel of a group. Higher means keep.

A group's score is the mean over the layers that produce its channels, and over the channels of a
unit where a unit has several.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from empirical.pruning.channel_graph import ChannelGraph, Group, Member
from empirical.pruning.input_moments import InputMoments
from empirical.pruning.patch_moments import PatchMoments
from theory import ChannelAxes
from theory.shared.validation import instance, one_of, truth

Scores = NDArray[np.float64]
"""One number per unit of a group, (units,)."""

Axis = Literal["local", "target", "both", "weights", "gradients", "maps", "none"]
"""What a criterion reads; "none" is nothing of these."""

Across = Literal["raw", "mean"]
"""How scores of different groups compare under a global allocation: as they are, where the unit is
the same everywhere, or each group first divided by its mean absolute score."""


class Knowledge(Protocol):
    """The part of a `Calibration` that criteria read, each thing computed when first asked."""

    @property
    def model(self) -> nn.Module:
        """The dense network, in whatever mode it was given; not to be changed."""

    @property
    def graph(self) -> ChannelGraph:
        """Every removable group."""

    @property
    def axes(self) -> Mapping[str, ChannelAxes]:
        """Every quantity of the two axes, by producing layer; those of the hull in `hulls`."""

    @property
    def hulls(self) -> Mapping[str, ChannelAxes]:
        """The same with the hulls."""

    @property
    def input_moments(self) -> Mapping[tuple[str, str], InputMoments]:
        """(group, consumer) -> moments of the units at that layer's input."""

    @property
    def patch_moments(self) -> Mapping[tuple[str, str], PatchMoments]:
        """(group, consumer) -> moments of the units at all taps of that layer's kernels."""

    @property
    def output_fisher(self) -> Mapping[str, Scores]:
        """Consumer -> Fisher information of its outputs, (outputs, outputs)."""

    @property
    def pulled_products(self) -> Mapping[tuple[str, str], list[NDArray[np.float32]]]:
        """(group, consumer) -> of each block, what the units do to the prediction, by image."""

    @property
    def mean_gradients(self) -> Mapping[str, Tensor]:
        """Parameter -> gradient of the mean loss."""

    @property
    def squared_gradients(self) -> Mapping[str, Tensor]:
        """Parameter -> mean over images of the squared gradient."""

    @property
    def map_ranks(self) -> Mapping[str, Scores]:
        """Producer -> HRank of its channels."""

    @property
    def map_independence(self) -> Mapping[str, Scores]:
        """Producer -> CHIP of its channels."""

    def batches(self) -> Iterator[Any]:
        """Checked calibration batches, (images, labels)."""


Score = Callable[..., ArrayLike | Tensor]
"""(known, group) -> one score per unit, (units,), from what is known of the dense network: see
`Knowledge` and `Group`. A stochastic one gets a `numpy.random.Generator` as third argument."""


@dataclass(frozen=True)
class Criterion:
    """A named score of a group's units.

    Attributes
    ----------
    name : in reports and tables
    score : gives one number per unit
    axis : what it reads
    source : where it comes from, in a sentence
    across : how its scores compare between groups
    stochastic : whether it draws at random, so that one network has several answers
    """

    name: str
    score: Score
    axis: Axis
    source: str
    across: Across = "mean"
    stochastic: bool = False

    def of(self, known: Knowledge, group: Group, seed: int = 0) -> Scores:
        """Score every unit of a group, (units,); `seed` matters where it is stochastic.

        Raises
        ------
        ValueError
            scores of another shape or not finite, naming criterion and layer
        """
        draws = [seed, zlib.crc32(group.name.encode())]
        more = (np.random.default_rng(draws),) if self.stochastic else ()
        given = self.score(known, group, *more)
        given = given.detach().cpu() if isinstance(given, Tensor) else given
        value = np.asarray(given, dtype=np.float64)
        if value.shape != (group.units,):
            raise ValueError(
                f"criterion {self.name!r} must give one score per unit, ({group.units},), on layer "
                f"{group.name!r}; got shape {value.shape}."
            )
        bad = np.flatnonzero(~np.isfinite(value))
        if bad.size:
            raise ValueError(
                f"criterion {self.name!r} is not finite on layer {group.name!r}: {bad.size} of "
                f"{group.units} channels, the first {bad[0]}. Choose another criterion, or name "
                "the layer in skip."
            )
        return value


REGISTRY: dict[str, Criterion] = {}
"""Every criterion that has a name."""


def register_criterion(
    name: str, *, axis: Axis, source: str, across: Across = "mean", stochastic: bool = False
) -> Callable[[Score], Score]:
    """Give the function that it decorates a name, under which `prune` and a run find it.

    Parameters
    ----------
    name : not taken yet
    axis : what it reads: "local", "target" or "both" axes, "weights", "gradients", "maps", "none"
    source : where it comes from, in a sentence
    across : how groups compare under a global allocation: "raw" where the unit is the same
        everywhere, "mean" where each group is first divided by its mean absolute score
    stochastic : the function draws at random, from a generator that it gets as third argument

    Returns
    -------
    decorator of a function (known, group) -> (units,), see `Knowledge` and `Group`; it comes back
    as it was

    Raises
    ------
    ValueError
        a name that is taken, an axis or a scale that there is not, no source

    Examples
    --------
    >>> @register_criterion("bias", axis="weights", source="the layer's own bias")
    ... def bias(known, group):
    ...     return known.model.get_submodule(group.name).bias.detach().abs()
    >>> REGISTRY.pop("bias").across
    'mean'
    """
    instance("name", name, str, "Pass text.")
    truth("stochastic", stochastic)
    if not name.strip():
        raise ValueError(f"name must not be empty; got {name!r}. Choose another name.")
    if name in REGISTRY:
        raise ValueError(
            f"name must not be taken; {name!r} is a criterion already ({REGISTRY[name].source}). "
            "Choose another name."
        )
    one_of("axis", axis, get_args(Axis))
    one_of("across", across, get_args(Across))
    if not source:
        raise ValueError("source must say where the criterion comes from; got ''.")

    def add(score: Score) -> Score:
        REGISTRY[name] = Criterion(name, score, axis, source, across, stochastic)
        return score

    return add


def criterion_of(criterion: str | Score) -> Criterion:
    """Return the criterion of that name, or the one that a function of the user's is.

    A function goes by its own name, said to be a function where a criterion has that name.
    """
    if isinstance(criterion, str):
        return REGISTRY[one_of("criterion", criterion, REGISTRY)]
    if not callable(criterion):
        raise TypeError(
            "criterion must be a name or a function of (known, group); got a "
            f"{type(criterion).__name__}."
        )
    own = str(getattr(criterion, "__name__", type(criterion).__name__))
    name = f"function {own}" if own in REGISTRY else own
    return Criterion(name, criterion, "none", "a function of the user's")


def over_producers(group: Group, score: Callable[[Member], Scores]) -> Scores:
    """Mean of a per-channel score over the group's producers and over each unit's channels."""
    parts = [score(member)[member.index].mean(axis=1) for member in group.producers]
    return np.asarray(np.mean(parts, axis=0))


def ranks(values: Scores) -> Scores:
    """Ranks scaled to 0..1, equals sharing their mean rank.

    >>> ranks(np.array([3.0, 1.0, 3.0]))
    array([0.75, 0.  , 0.75])
    """
    from scipy.stats import rankdata  # slow to import

    return np.asarray((rankdata(values) - 1) / max(1, len(values) - 1), dtype=np.float64)
