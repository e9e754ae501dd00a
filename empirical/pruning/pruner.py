"""`prune`: remove the channels that a criterion values least, and say what went."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import nn

from empirical.pruning import allocation as alloc
from empirical.pruning.calibration import Calibration
from empirical.pruning.channel_graph import ChannelGraph
from empirical.pruning.compensation import recovered_outside
from empirical.pruning.criteria import comparable, criterion_of
from empirical.pruning.criterion import Score
from empirical.pruning.recovering import apply, best_recovery
from empirical.pruning.recovery import AUTO, RECOVERIES
from empirical.pruning.removal import Kept, mask, remove
from empirical.pruning.verification import check_same, misread
from empirical.reading.networks import Adapter, closed
from theory.shared.validation import count, instance, one_of, positive, within

ALLOCATIONS = ("uniform", "global", "sensitivity")
PATHS = ("removed", "masked")


@dataclass(frozen=True)
class PruningReport:
    """What was asked, what went, and what is left.

    `recovered_outside`: group -> share of the removed units' variance, over all of them, that the
    kept ones will supply on images other than the calibration's; empty unless the recovery merges.
    """

    criterion: str
    allocation: str
    recovery: str
    path: str
    requested: float | None
    macs_before: int
    macs_after: int
    parameters_before: int
    parameters_after: int
    channels: Mapping[str, tuple[int, int]]
    kept_whole: Mapping[str, str]
    seconds: float
    recovered_outside: Mapping[str, float]

    @property
    def macs_share(self) -> float:
        """Share of the multiply-accumulates that is left."""
        return self.macs_after / self.macs_before

    @property
    def deviation(self) -> float:
        """(share left - share requested) / share requested; 0 where counts were given instead."""
        return 0.0 if self.requested is None else self.macs_share / self.requested - 1.0

    def to_frame(self) -> pd.DataFrame:
        """One row per channel group: layer, channels before and after, recovered outside."""
        rows = [
            (name, before, after, self.recovered_outside.get(name, math.nan))
            for name, (before, after) in self.channels.items()
        ]
        return pd.DataFrame(rows, columns=["layer", "before", "after", "recovered_outside"])

    def __str__(self) -> str:
        asked = "" if self.requested is None else f" of {self.requested:.2%} requested"
        lines = [
            f"criterion {self.criterion}, allocation {self.allocation}, recovery {self.recovery}",
            f"multiply-accumulates {self.macs_before:,} -> {self.macs_after:,} "
            f"({self.macs_share:.2%}{asked}, off by {self.deviation:+.2%})",
            f"parameters {self.parameters_before:,} -> {self.parameters_after:,}",
        ]
        for name, (before, after) in self.channels.items():
            share = self.recovered_outside.get(name)
            foretold = "" if share is None else f", {share:.1%} of what went recovered elsewhere"
            lines.append(f"  {name}: {before} -> {after}{foretold}")
        lines += [f"  {name}: kept whole, {why}" for name, why in self.kept_whole.items()]
        return "\n".join(lines)


@dataclass(frozen=True)
class PrunedModel:
    """A pruned network, the report, and the units that stayed (group name -> indices)."""

    model: nn.Module
    report: PruningReport
    kept: Kept


def prune(
    model: nn.Module,
    loader: Iterable[object] | Calibration,
    *,
    macs: float = 0.5,
    criterion: str | Score = "replaceability",
    allocation: str = "uniform",
    recovery: str = AUTO,
    path: str = "removed",
    floor: float = 0.05,
    round_to: int = 1,
    counts: Mapping[str, int] | None = None,
    seed: int = 0,
    skip: Sequence[str] = (),
    adapt: Adapter | None = None,
) -> PrunedModel:
    """Return a smaller copy of `model` that keeps the share `macs` of multiply-accumulates.

    Parameters
    ----------
    model : any `nn.Module` from images to logits; it is left as it is.
    loader : calibration batches of (images, labels), never those that accuracy is reported on;
        or a `Calibration` of this model, so that several calls share its measurements.
    macs : share of the multiply-accumulates to keep. Met within 1 % where single channels are
        fine enough; `report.deviation` states by how much it was missed.
    criterion : one of `criterion_names()`, or a function (known, group) -> (units,) scores, as
        `register_criterion` takes it; the channels that score lowest go. `known` is the
        `Calibration`: `known.model`, `known.axes[layer]`, `known.batches()` and the like; the
        group has `name`, `units`, and the layers that produce and read it (`producers`,
        `consumers`: each with its `module`'s name and the `index` (units, m) of its channels).
    allocation : "uniform", "global" or "sensitivity".
    recovery : "auto" (the report says which it took: "reconstruct" where the images suffice for
        every layer, else "compensate"), "none", "recalibrate" (batch norms), "merge" (peer
        compensation), "compensate" (both), "reconstruct" (every layer refitted to the dense
        network), "distill" (refitted, then trained without labels to say what the dense network
        says: minutes),
        "fold" (model folding, recalibrated); or "finetune", "compensate_finetune",
        "reconstruct_finetune", which train on with labels afterwards and need a `Calibration`
        with `training` images.
    path : "removed" for a smaller network, "masked" for its counterpart of unchanged shape.
    floor : least share of its channels that every layer keeps.
    round_to : keep multiples of so many channels in every layer that is thinned out, as hardware
        likes them (8, 16); layers with fewer channels stay whole. `macs` is met as nearly as
        the multiples allow.
    counts : group name -> units to keep, instead of `macs`; groups left out stay whole.
    seed : of criteria that draw at random.
    skip : layers to keep whole: names, stages ("layer1" is all of "layer1.…") or patterns
        ("layer?.*.conv2").
    adapt : an `Adapter`, where batches are not pairs or the model returns more than its logits.

    Raises
    ------
    ValueError
        unknown criterion, allocation, recovery or layer; `macs` below what the floors allow;
        `round_to` together with `counts`; a model that does not trace; scores that are not
        finite; a layer of `counts` that cannot be cut.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
    >>> batch = (torch.randn(8, 1, 4, 4), torch.tensor([0, 1] * 4))
    >>> prune(net, [batch], macs=0.5, criterion="l2", recovery="none").report.channels
    {'0': (8, 4)}
    >>> def bias(known, group):
    ...     return known.model.get_submodule(group.name).bias.detach().abs()
    >>> print(prune(net, [batch], criterion=bias).report.criterion)
    bias
    """
    started = time.perf_counter()
    named = criterion_of(criterion).name
    one_of("allocation", allocation, ALLOCATIONS)
    one_of("recovery", recovery, (AUTO, *RECOVERIES))
    one_of("path", path, PATHS)
    instance("macs", macs, (int, float), "Pass a share, as 0.5.")
    count("seed", seed, least=0)
    within("floor", positive("floor", floor, zero=True), "[0, 1]")
    round_to = count("round_to", round_to)
    if round_to > 1 and counts is not None:
        raise ValueError(
            f"round_to={round_to} chooses counts, and counts gives them. Pass one of the two."
        )
    if isinstance(loader, Calibration):
        if adapt is not None:
            raise ValueError("adapt must be given to the Calibration; prune got both.")
        known = loader.keeping(skip) if skip else loader
    else:
        known = Calibration(model, loader, skip=skip, adapt=adapt)
    if known.given is not model and known.model is not model:
        raise ValueError("loader is a Calibration of another model. Calibrate this one.")

    def wanted(known: Calibration) -> Kept:
        return choose(
            known, macs, criterion, allocation,
            floor=floor, round_to=round_to, counts=counts, seed=seed,
        )  # fmt: skip

    known, kept = verified(known, wanted) if path == "removed" else (known, wanted(known))
    if recovery == AUTO:
        recovery = best_recovery(known, kept, path)
    pruned = apply(known, kept, recovery, path)
    sizes = {g.name: (g.units, len(kept[g.name])) for g in known.graph.groups}
    left = known.graph.macs(np.array([after for _, after in sizes.values()]))
    merges = "merge" in RECOVERIES[recovery]
    foretold = recovered_outside(known.graph, kept, known.input_moments) if merges else {}
    report = PruningReport(
        named, allocation if counts is None else "given", recovery, path,
        macs if counts is None else None, known.graph.macs(), left, _parameters(known.model),
        _parameters(pruned), sizes, known.graph.kept_whole, time.perf_counter() - started, foretold,
    )  # fmt: skip
    return PrunedModel(closed(pruned), report, kept)


def choose(
    known: Calibration,
    macs: float,
    criterion: str | Score,
    allocation: str,
    *,
    floor: float = 0.05,
    round_to: int = 1,
    counts: Mapping[str, int] | None = None,
    seed: int = 0,
) -> Kept:
    """Which units of each group stay: group name -> ascending indices."""
    graph = known.graph
    found = known.scores(criterion, seed=seed)
    if counts is not None:
        keep = _given(graph, counts)
    else:
        step = alloc.steps(graph, round_to)
        least = alloc.floors(graph, floor, step)
        target = alloc.target_macs(graph, macs, least)
        if allocation == "uniform":
            keep = alloc.uniform(graph, target, least, step)
        elif allocation == "global":
            keep = alloc.competing(graph, comparable(criterion, found), target, least, step)
        else:
            keep = alloc.by_sensitivity(graph, known.sensitivity, target, least, step)
    return {
        group.name: alloc.best_units(found[group.name], int(keep[g]))
        for g, group in enumerate(graph.groups)
    }


def verified(known: Calibration, wanted: Callable[[Calibration], Kept]) -> tuple[Calibration, Kept]:
    """What is `wanted` and can go; groups that cannot are kept whole, and the choice made anew."""
    while True:
        kept = wanted(known)
        wrong = refusals(known, kept)
        if not wrong:
            return known, kept
        known = known.keeping(refused=wrong)


def refusals(known: Calibration, kept: Kept) -> dict[str, str]:
    """Producers whose channels cannot go as `kept` says, with the reason; empty where all can.

    The removed network is run beside the masked one on calibration images; only where they
    disagree, or the removed one does not run, the groups at fault are sought.
    """
    images = known.batch
    try:
        removed = remove(known.model, known.graph, kept, known.example)
        check_same(removed, mask(known.model, known.graph.groups, kept), images)
    except ValueError as error:
        found = misread(known.model, images, known.graph.groups, kept)
        if not found:
            raise ValueError(
                f"{error} No single group is at fault; name layers in skip."
            ) from error
        return found
    return {}


def _given(graph: ChannelGraph, counts: Mapping[str, int]) -> alloc.Counts:
    names = {group.name: group.units for group in graph.groups}
    for name, wanted in counts.items():
        if name in graph.kept_whole:
            raise ValueError(
                f"counts asks for {wanted!r} channels of {name!r}, which is kept whole: "
                f"{graph.kept_whole[name]}. Leave it out."
            )
        one_of("counts", name, names)
        if count(f"counts[{name!r}]", wanted, least=0) not in range(1, names[name] + 1):
            raise ValueError(
                f"counts[{name!r}] must be from 1 to {names[name]}, its number of channels; got "
                f"{wanted!r}. A layer cannot be emptied."
            )
    return np.array([counts.get(name, units) for name, units in names.items()], dtype=np.int64)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
