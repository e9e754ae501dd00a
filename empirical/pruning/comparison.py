"""The factorial of pruning: criterion × allocation × recovery × share, on one network at a time.

Every cell goes through the same trace, the same allocator and the same removal; moments,
gradients and maps are measured once per network. Cells are appended to one file as they end, so
a killed run continues where it stopped. Accuracy is on report images, which no score, count or
statistic has seen; latency is measured on one batch, in turns with the dense network.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from empirical.pruning.calibration import Calibration
from empirical.pruning.criterion import REGISTRY
from empirical.pruning.latency import LatencyShares
from empirical.pruning.pruner import ALLOCATIONS, apply, choose
from empirical.pruning.recovery import RECOVERIES
from empirical.training.evaluation import evaluate
from theory.shared.files import atomic
from theory.shared.validation import count, one_of

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
            if not 0 < share <= 1:
                raise ValueError(f"shares must lie above 0 and at most at 1; got {share!r}.")

    def cells(self) -> Iterator[Cell]:
        """Every cell, those of one criterion together."""
        for criterion, allocation, share in product(self.criteria, self.allocations, self.shares):
            for draw in range(self.draws if REGISTRY[criterion].axis == "none" else 1):
                for recovery in self.recoveries:
                    yield Cell(criterion, allocation, recovery, share, draw)


@dataclass(frozen=True)
class Cell:
    """One pruned network of the factorial."""

    criterion: str
    allocation: str
    recovery: str
    share: float
    draw: int


def run_factorial(
    known: Calibration,
    report: Iterable[Any],
    out: str | os.PathLike[str],
    *,
    network: str,
    seed: int,
    factorial: Factorial | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Run what is missing of the factorial for one network, and return all its rows.

    Those of an earlier call with other factors, into the same folder, are among them.

    Parameters
    ----------
    known : the dense network with its calibration images.
    report : re-iterable batches that accuracy is reported on.
    out : folder; rows go to ``<network>-<seed>.jsonl``, scores to ``<network>-<seed>.npz``.
    network, seed : names in the tables; `seed` is that of the training.
    progress : called with (cells done, cells in all).

    A criterion that is not defined on this network has rows with an `error` and no accuracy.
    """
    plan = list((factorial or Factorial()).cells())
    path = Path(out) / f"{network}-{seed}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = read_rows(path)
    done = {_key(row) for row in rows}
    _save_scores(path.with_suffix(".npz"), known, list(dict.fromkeys(p.criterion for p in plan)))
    clock = LatencyShares(known.model, next(known.batches())[0][:TIMED])
    with path.open("a", encoding="utf-8") as stream:
        if not any(row["criterion"] == "dense" for row in rows):
            rows.append(_dense_row(known, report, network, seed))
            _append(stream, rows[-1])
        for number, cell in enumerate(plan):
            if _key(asdict(cell)) not in done:
                rows.append(_run_cell(known, report, cell, network, seed, clock))
                _append(stream, rows[-1])
            if progress is not None:
                progress(number + 1, len(plan))
    return pd.DataFrame(rows)


def read_rows(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read the rows of a run; a last line cut short by a kill is dropped from the file."""
    file = Path(path)
    if not file.exists():
        return []
    whole, _, cut = file.read_text(encoding="utf-8").rpartition("\n")
    if cut:
        with atomic(file, "w") as stream:
            stream.write(whole + "\n" if whole else "")
    return [json.loads(line) for line in whole.splitlines()]


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("criterion", "allocation", "recovery", "share", "draw"))


def _append(stream: Any, row: dict[str, Any]) -> None:
    stream.write(json.dumps(row) + "\n")
    stream.flush()
    os.fsync(stream.fileno())


def _run_cell(
    known: Calibration,
    report: Iterable[Any],
    cell: Cell,
    network: str,
    seed: int,
    clock: LatencyShares,
) -> dict[str, Any]:
    started = time.perf_counter()
    row = {"network": network, "seed": seed, **asdict(cell)}
    try:
        kept = choose(known, cell.share, cell.criterion, cell.allocation, seed=cell.draw)
    except ValueError as error:
        return {**row, "error": str(error)}
    pruned = apply(known, kept, cell.recovery)
    counts = np.array([len(kept[group.name]) for group in known.graph.groups])
    return {
        **row,
        **_measured(pruned, report),
        "macs_share": known.graph.macs(counts) / known.graph.macs(),
        "latency_share": clock.of(pruned, tuple(counts)),
        "seconds": time.perf_counter() - started,
    }


def _dense_row(
    known: Calibration, report: Iterable[Any], network: str, seed: int
) -> dict[str, Any]:
    cell = Cell("dense", "none", "none", 1.0, 0)
    row = {"network": network, "seed": seed, **asdict(cell), **_measured(known.model, report)}
    return {**row, "macs_share": 1.0, "latency_share": 1.0}


def _measured(model: nn.Module, report: Iterable[Any]) -> dict[str, float]:
    found = evaluate(model, report)
    return {
        "accuracy": found.accuracy,
        "accuracy_se": found.accuracy_se,
        "loss": found.loss,
        "images": found.images,
    }


def _save_scores(path: Path, known: Calibration, criteria: list[str]) -> None:
    """Write every criterion's scores of every group, so that their agreement can be compared."""
    if path.exists():
        return
    arrays = {}
    for criterion in criteria:
        try:
            found = known.scores(criterion)
        except ValueError:  # recorded with its text in every cell of this criterion
            continue
        arrays |= {f"{criterion}|{group}": value for group, value in found.items()}
    with atomic(path) as stream:
        np.savez(stream, allow_pickle=False, **arrays)
