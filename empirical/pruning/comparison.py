"""The factorial of pruning: criterion × allocation × recovery × share, on one network at a time.

Every cell goes through the same trace, the same allocator and the same removal; moments,
gradients and maps are measured once per network. Each cell is kept as it ends, so that a killed run
continues where it stopped. Accuracy is on report images, which no score, count or
statistic has seen; latency is measured on one batch, in turns with the dense network.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from empirical.pruning.calibration import Calibration
from empirical.pruning.choosing import ALLOCATIONS, Request, verified
from empirical.pruning.criterion import REGISTRY
from empirical.pruning.latency import LatencyShares
from empirical.pruning.recovering import apply
from empirical.pruning.recovery import RECOVERIES
from empirical.reading.repeated import repeated
from empirical.seeding import checked_seed
from empirical.training.checkpoints import tensor_hash
from empirical.training.evaluation import evaluate
from theory.shared.code import fingerprint
from theory.shared.store import Cells
from theory.shared.validation import called, count, instance, one_of, path_of, positive

CRITERIA = (
    "replaceability", "task_replaceability", "replaceability_at_once", "conditional_power",
    "-peer_predictability", "-peer_overlap", "input_capture", "task_information", "target_excess",
    "conditional_task_information", "two_axis", "random", "l1", "l2", "group_l2", "bn_scale",
    "fpgm", "taylor", "lamp", "hessian", "hrank", "chip",
)  # fmt: skip
"""What a comparison holds against each other unless told otherwise."""


TIMED = 64
"""Images of the batch whose latency is measured."""


@dataclass(frozen=True)
class Factorial:
    """The factors. `draws` is how many times a criterion that draws at random is repeated."""

    criteria: tuple[str, ...] = CRITERIA
    allocations: tuple[str, ...] = ("uniform", "global")
    recoveries: tuple[str, ...] = ("none", "recalibrate", "compensate")
    shares: tuple[float, ...] = (0.7, 0.5, 0.3, 0.2)
    draws: int = 5

    def __post_init__(self) -> None:
        for name in self.criteria:
            one_of("criteria", name, REGISTRY)
        for name in self.allocations:
            one_of("allocations", name, ALLOCATIONS)
        for name in self.recoveries:
            one_of("recoveries", name, RECOVERIES)
        count("draws", self.draws)
        for share in self.shares:
            if not 0 < positive("shares", share, zero=True) <= 1:
                raise ValueError(f"shares must lie above 0 and at most at 1; got {share!r}.")

    def cells(self) -> Iterator[Cell]:
        """Every cell, those of one criterion together."""
        for criterion, allocation, share in product(self.criteria, self.allocations, self.shares):
            for draw in range(self.draws if REGISTRY[criterion].stochastic else 1):
                for recovery in self.recoveries:
                    yield Cell(criterion, allocation, recovery, share, draw)

    def made_from(self) -> dict[str, Any]:
        """Return the factors, and the code of criteria of the user's, as JSON values."""
        return asdict(self) | {name: own_code(name) for name in self.criteria if own_code(name)}


@dataclass(frozen=True)
class Cell:
    """One pruned network of the factorial."""

    criterion: str
    allocation: str
    recovery: str
    share: float
    draw: int


DENSE = Cell("dense", "none", "none", 1.0, 0)


def own_code(criterion: str) -> dict[str, str]:
    """Return the fingerprint of a criterion of the user's; those of ours are in every cell's."""
    module = REGISTRY[criterion].score.__module__ if criterion in REGISTRY else __name__
    return {} if module.startswith("empirical.") else {"code": fingerprint(module)}


def run_factorial(
    known: Calibration,
    report: Iterable[Any],
    out: str | os.PathLike[str],
    *,
    network: str,
    seed: int,
    factorial: Factorial | None = None,
    inputs: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Return the rows of a factorial for one network, computing those that are missing.

    Parameters
    ----------
    known : the dense network with its calibration images.
    report : re-iterable batches that accuracy is reported on.
    out : folder; cells are kept in ``<network>-<seed>.jsonl``, also those of other factorials.
    network, seed : names in the tables; `seed` is that of the training.
    inputs : JSON values that say what `known` and `report` were made from. With other inputs, other
        weights or other code, cells are computed anew.
    progress : called with (cells done, cells in all).

    A criterion that is not defined on this network has rows with an `error` and no accuracy.
    """
    instance("known", known, Calibration, "Pass Calibration(model, loader).")
    instance("report", report, Iterable, "Pass a loader of (images, labels).")
    report = repeated(report)
    path_of("out", out)
    instance("network", network, str, "Pass its name in the tables.")
    checked_seed("seed", seed)
    if factorial is not None:
        instance("factorial", factorial, Factorial, "Pass Factorial(criteria=...).")
    if inputs is not None:
        instance("inputs", inputs, Mapping, "Pass a mapping of JSON values.")
    called("progress", progress)
    plan = list((factorial or Factorial()).cells())
    clock = cache(lambda: LatencyShares(known.model, next(known.batches()).images[:TIMED]))
    with _kept(known, out, network, seed, inputs) as cells:
        rows = [cells.ensure(asdict(DENSE), lambda: _dense_result(known, report))]
        for number, cell in enumerate(plan, start=1):
            rows.append(
                cells.ensure(
                    asdict(cell) | own_code(cell.criterion),
                    partial(_run_cell, known, report, cell, clock),
                )
            )
            if progress is not None:
                progress(number, len(plan))
    names = {"network": network, "seed": seed}
    return pd.DataFrame(
        [names | asdict(cell) | row for cell, row in zip([DENSE, *plan], rows, strict=True)]
    )


def criteria_scores(
    known: Calibration,
    out: str | os.PathLike[str],
    *,
    network: str,
    seed: int,
    criteria: Sequence[str],
    inputs: Mapping[str, Any] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Return "criterion|group" -> score of each unit, of the criteria that are defined here.

    Computed once, and kept beside the cells. Arguments as for `run_factorial`.
    """

    def scores(criterion: str) -> dict[str, list[float]]:
        try:
            return {group: value.tolist() for group, value in known.scores(criterion).items()}
        except ValueError:  # recorded with its text in every cell of this criterion
            return {}

    with _kept(known, out, network, seed, inputs) as cells:
        return {
            f"{criterion}|{group}": np.asarray(value)
            for criterion in dict.fromkeys(criteria)
            for group, value in cells.ensure(
                {"scores": criterion} | own_code(criterion), partial(scores, criterion)
            ).items()
        }


def _kept(
    known: Calibration,
    out: str | os.PathLike[str],
    network: str,
    seed: int,
    inputs: Mapping[str, Any] | None,
) -> Cells:
    weights = tensor_hash(known.model.state_dict())
    made_from = {"weights": weights, "seed": seed, **(inputs or {})}
    return Cells(Path(out) / f"{network}-{seed}.jsonl", made_from, (__name__,))


def _run_cell(
    known: Calibration, report: Iterable[Any], cell: Cell, clock: Callable[[], LatencyShares]
) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        request = Request(cell.share, cell.criterion, cell.allocation, seed=cell.draw)
        known, kept = verified(known, request.kept)
    except ValueError as error:
        return {"error": str(error)}
    pruned = apply(known, kept, cell.recovery)
    counts = np.array([len(kept[group.name]) for group in known.graph.groups])
    return {
        **_measured(pruned, report),
        "macs_share": float(known.graph.macs(counts) / known.graph.macs()),
        "latency_share": clock().of(pruned, tuple(counts)),
        "seconds": time.perf_counter() - started,
    }


def _dense_result(known: Calibration, report: Iterable[Any]) -> dict[str, Any]:
    return {**_measured(known.model, report), "macs_share": 1.0, "latency_share": 1.0}


def _measured(model: nn.Module, report: Iterable[Any]) -> dict[str, float]:
    found = evaluate(model, report)
    return {
        "accuracy": found.accuracy,
        "accuracy_se": found.accuracy_se,
        "loss": found.loss,
        "images": found.images,
    }
