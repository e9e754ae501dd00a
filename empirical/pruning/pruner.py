"""`prune`: remove the channels that a criterion values least, and say what went."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch import nn

from empirical.devices import undisturbed
from empirical.pruning import allocation as alloc
from empirical.pruning.best_practice import best_allocation, best_criterion
from empirical.pruning.calibration import Calibration, calibrated
from empirical.pruning.choosing import ALLOCATIONS, Request, chosen, counts_of
from empirical.pruning.compensation import recovered_outside
from empirical.pruning.criteria import criterion_of
from empirical.pruning.criterion import Score
from empirical.pruning.forecast_law import Answers
from empirical.pruning.forecasting import foretold
from empirical.pruning.pruning_report import PrunedModel, PruningReport, Verified
from empirical.pruning.recovering import apply, best_recovery, check_recovery
from empirical.pruning.recovery import AUTO, RECOVERIES
from empirical.pruning.removal import Choice, choice
from empirical.reading.networks import Adapter, closed
from theory.shared.validation import instance, one_of, positive, within

PATHS = ("removed", "masked")
TRIES = 5
"""Networks that are verified before one is taken."""

TIMED, NEAR_TIME, FAR_TIME = 8, 0.02, 0.05
"""Networks timed at most; how near the request ends their search; how far from it is warned of."""


@undisturbed()
def prune(
    model: nn.Module,
    loader: Iterable[object] | Calibration,
    *,
    macs: float | None = None,
    parameters: float | None = None,
    latency: float | None = None,
    accuracy_drop: float | None = None,
    criterion: str | Score = AUTO,
    allocation: str = AUTO,
    recovery: str = AUTO,
    path: str = "removed",
    floor: float = 0.05,
    round_to: int = 1,
    counts: Mapping[str, int] | None = None,
    seed: int = 0,
    skip: Sequence[str] = (),
    adapt: Adapter | None = None,
) -> PrunedModel:
    """Return a smaller copy of `model` that keeps a share of its multiply-accumulates.

    Parameters
    ----------
    model : any `nn.Module` from images to logits; it is left as it is.
    loader : calibration batches of (images, labels), never those that accuracy is reported on;
        or a `Calibration` of this model, so that several calls share its measurements.
    macs : share of the multiply-accumulates to keep, 0.5 where no other share is given. Met as
        nearly as single channels allow, under allocation "damage" from below; `report.deviation`
        states by how much it was missed.
    parameters : share of the parameters to keep, instead.
    latency : share of the time to keep, instead, of a forward pass of 16 calibration images with
        this device and thread count: layers are timed by width, counts chosen by the sum of their
        times, and the pruned network timed in turns with the dense one; where that differs by
        more than 2 % of the request, other counts are tried, 8 networks in all (two seconds each or
        more), and the nearest is taken that is faster than the dense one; a warning says where it
        is off by more than 5 %. `report.measured_time` says what the network that is returned
        takes.
    accuracy_drop : points of accuracy that may be lost, instead: the least share of
        multiply-accumulates whose `forecast` keeps within them is taken, and the network verified
        on every fifth calibration image, held out from all else; where it loses more there, a
        larger share is. `report.verified` says what was foretold and found.
    criterion : "auto" ("task_replaceability" where the network returns logits of two classes or
        more, else "replaceability"; the report says which), one of `criterion_names()`, or a
        function (known, group) -> (units,) scores, as `register_criterion` takes it; the channels
        that score lowest go. `known` is the `Calibration`: `known.model`, `known.axes[layer]`,
        `known.batches()` and the like; the group has `name`, `units`, and the layers that produce
        and read it (`producers`, `consumers`: each with its `module`'s name and the `index`
        (units, m) of its channels).
    allocation : "auto" (under "task_replaceability" "damage" or "measured_damage", whichever keeps
        nearer to the dense network on every fifth calibration image, see `best_allocation`;
        "global" under "replaceability", "uniform" under others); "uniform"; "global", scores of all
        layers compete; "sensitivity", by the measured loss when a layer alone is thinned out;
        "damage", the least predicted loss in all, in nats; "measured_damage", the same once each
        layer's prediction is set right by what it alone is measured to cost at half of its units.
    recovery : "auto" ("reconstruct" or "compensate", whichever keeps nearer to the dense network on
        every fifth calibration image when fitted on the others; the report says which), "none",
        "recalibrate" (batch norms), "merge" (peer compensation), "compensate" (both),
        "reconstruct" (every layer refitted to the dense network), "distill" (refitted, then
        trained without labels to say what the dense network says: minutes), "fold" (model
        folding, recalibrated); or "finetune", "compensate_finetune", "reconstruct_finetune", which
        train on with labels afterwards and need a `Calibration` with `training` images.
    path : "removed" for a smaller network, "masked" for its counterpart of unchanged shape, which
        cannot be refitted: under recovery "auto" it is compensated, and "auto" allocations are
        chosen for that. Name both, and the same channels go.
    floor : least share of its channels that every layer keeps.
    round_to : keep multiples of so many channels in every layer that is thinned out, as hardware
        likes them (8, 16); layers with fewer channels stay whole. `macs` is met as nearly as
        the multiples allow.
    counts : layer -> channels (units of its group) to keep, in place of any share; layers left
        out stay whole.
    seed : of criteria that draw at random.
    skip : layers to keep whole: names, stages ("layer1" is all of "layer1.…") or patterns
        ("layer?.*.conv2").
    adapt : an `Adapter`, where batches are not pairs or the model returns more than its logits.

    Raises
    ------
    ValueError
        unknown criterion, allocation, recovery or layer; a share below what the floors allow, or
        more than one;
        `round_to` or a share together with `counts`; a model that does not trace; scores that are
        not finite; a layer of `counts` that cannot be cut; a time that the clock does not find.

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
    if criterion != AUTO:
        criterion_of(criterion)
    one_of("allocation", allocation, (AUTO, *ALLOCATIONS))
    one_of("recovery", recovery, (AUTO, *RECOVERIES))
    one_of("path", path, PATHS)
    shares = {"macs": macs, "parameters": parameters, "latency": latency}
    resource, share = requested(**shares, accuracy_drop=accuracy_drop, counts=counts)
    within_drop = resource == "accuracy_drop"
    of = "macs" if within_drop else resource
    known = calibrated(model, loader, skip=skip, adapt=adapt)
    if recovery != AUTO:
        check_recovery(known.held_out()[0] if within_drop else known, recovery, path)
    criterion = best_criterion(known, criterion)
    if allocation == AUTO:
        basis = known.held_out()[0] if within_drop else known
        allocation = "uniform"
        if counts is None:
            allocation = best_allocation(basis, criterion, recovery, path=path, seed=seed)
    request = Request(share, criterion, allocation, of, floor, round_to, counts, seed)
    if within_drop:
        made = _within(known, share, request, recovery, path)
    elif of == "latency":
        made = _timed(known, request, recovery, path)
    else:
        made = _made(known, request, recovery, path)
    report = replace(made.report, seconds=time.perf_counter() - started)
    return replace(made, model=closed(made.model), report=report)


def _made(known: Calibration, request: Request, recovery: str, path: str) -> PrunedModel:
    """Choose, verify that it can go, remove and recover."""
    known, kept = chosen(known, request, path)
    if recovery == AUTO:
        recovery = best_recovery(known, kept, path)
    pruned = apply(known, kept, recovery, path)
    merges, left = "merge" in RECOVERIES[recovery], counts_of(known, kept)
    budget, given = known.budget(request.resource), request.counts is not None
    report = PruningReport(
        criterion=criterion_of(request.criterion).name,
        allocation="given" if given else request.allocation,
        recovery=recovery,
        path=path,
        requested=None if given else request.share,
        macs_before=known.graph.macs(),
        macs_after=known.graph.macs(left),
        parameters_before=_parameters(known.model),
        parameters_after=_parameters(pruned),
        channels={g.name: (g.units, len(kept[g.name])) for g in known.graph.groups},
        kept_whole=known.graph.kept_whole,
        seconds=0.0,
        recovered_outside=(
            recovered_outside(known.graph, kept, known.input_moments) if merges else {}
        ),
        resource=request.resource,
        reached=alloc.amount(budget, left) / alloc.amount(budget),
    )
    return PrunedModel(pruned, report, kept, known, request)


def _timed(known: Calibration, request: Request, recovery: str, path: str) -> PrunedModel:
    """The network whose measured time is nearest to the request, of a few that the table names.

    Times of layers do not add up to that of a network: the table's request is moved by what the
    clock finds, between those found too slow and too fast.
    """
    if path == "masked":
        raise ValueError(
            f"latency={request.share:g} does not go with path='masked': a masked network has its "
            "old shape and time. Take path='removed'."
        )
    budget = known.budget("latency")
    low, high = alloc.amount(budget, request.least(known)) / alloc.amount(budget), 1.0
    clock = known.layer_times.share

    def near(took: float) -> bool:
        return abs(took / request.share - 1) <= NEAR_TIME

    tried: dict[float, float] = {}
    clocked: dict[Choice, float] = {}
    aim = request.share
    while aim not in tried and len(tried) < TIMED:
        empty = _made(known, replace(request, share=aim), "none", path)
        key = choice(empty.kept)
        if key not in clocked:
            clocked[key] = clock(known.model, empty.model)
            if near(clocked[key]):  # perhaps by chance
                clocked[key] = (clocked[key] + clock(known.model, empty.model)) / 2
        tried[aim] = clocked[key]
        if request.share == 1 or near(tried[aim]):
            break
        low, high = (low, aim) if tried[aim] > request.share else (aim, high)
        aim = float(np.clip(aim * request.share / tried[aim], low, high))
        aim = (low + high) / 2 if aim in tried else aim
    slowest = np.inf if request.share == 1 else max(1.0, (1 + NEAR_TIME) * request.share)
    faster = [aim for aim, took in tried.items() if took < slowest]
    if not faster:
        raise ValueError(
            f"latency={request.share:g} is not met: the fastest of {len(clocked)} networks takes "
            f"{min(clocked.values()):.2f} of the dense one's time. Give larger batches or images, "
            "keep multiples of channels (round_to=8), or ask for a share of macs."
        )
    best = min(faster, key=lambda aim: abs(tried[aim] - request.share))
    made = _made(known, replace(request, share=best), recovery, path)
    took = clock(known.model, made.model)
    report = replace(made.report, requested=request.share, reached=took, measured_time=took)
    if abs(report.deviation) > FAR_TIME:
        warnings.warn(
            f"latency={request.share:g} is not met: the nearest of {len(clocked)} networks, as "
            f"recovered, takes {took:.3f} of the dense one's time.",
            stacklevel=4,
        )
    return replace(made, report=report)


def _within(
    known: Calibration, points: float, request: Request, recovery: str, path: str
) -> PrunedModel:
    """The smallest network that is foretold, and then found, to lose at most so many points."""
    fitted, held = known.held_out()
    dense = Answers.of_dense(fitted.model, held)
    if dense.labels is None:
        raise ValueError(
            f"accuracy_drop={points:g} needs calibration labels that are class numbers. Pass such "
            "a loader, or a share of macs."
        )
    told = foretold(fitted, held, request, recovery)
    share = told.least_share(points / 100)
    for _ in range(TRIES):
        made = _made(fitted, replace(request, share=share), recovery, path)
        found = Verified.of(dense, Answers.of(made.model, held), told.drop_at(share))
        if found.drop <= points / 100:
            return replace(made, report=replace(made.report, verified=found))
        share = (1 + share) / 2
    raise ValueError(
        f"accuracy_drop={points:g} is lost at every share tried, last at {made.report.reached:.3f} "
        f"of the multiply-accumulates: {100 * found.drop:.1f} points on {found.images} held-out "
        "images. Allow more, or give more calibration images."
    )


def requested(
    *, counts: Mapping[str, int] | None = None, **shares: float | None
) -> tuple[str, float]:
    """The one share that is given, by its name; half of the multiply-accumulates where none is."""
    given = {name: share for name, share in shares.items() if share is not None}
    if given and counts is not None:
        raise ValueError(
            f"counts says how many channels stay, and {' and '.join(given)} what share. Pass one "
            "of them."
        )
    for name, share in given.items():
        instance(name, share, (int, float), "Pass a number, as 0.5.")
        if name == "accuracy_drop":
            positive(name, share, zero=True)
        else:
            within(name, share, "(0, 1]")
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are both given. Pass one share.")
    return next(iter(given.items()), ("macs", 0.5))


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
