"""The pruning stage of a run: the trained network through the factorial, cell by cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from empirical.data.images import ImageSet, image_loader
from empirical.data.splits import DataSplit, stratified_subset
from empirical.data.tables import read_table
from empirical.models import ModelSpec
from empirical.pruning.calibration import Calibration
from empirical.pruning.comparison import Factorial, criteria_scores, run_factorial
from empirical.training.checkpoints import load_model
from empirical.training.recipes import Recipe
from theory.shared.files import atomic, write_table
from theory.shared.foreign import read_arrays

if TYPE_CHECKING:  # its sentences and other sections are no part of what is computed here
    from empirical.runs.config import PruningConfig

Scores = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class PruningResult:
    """Every cell of every network, and each network's scores ("criterion|group" -> units)."""

    rows: pd.DataFrame
    scores: tuple[Scores, ...]


def read_pruning(folders: Sequence[Path]) -> PruningResult:
    """Return what `prune_network` wrote into each of `folders`."""
    rows = pd.concat([read_table(folder / "cells.csv") for folder in folders], ignore_index=True)
    return PruningResult(rows, tuple(read_arrays(folder / "scores.npz") for folder in folders))


def prune_network(
    artifacts: tuple[Path, ...],
    checkpoint: Path,
    split: DataSplit,
    *,
    config: PruningConfig,
    target: str,
    recipe: Recipe,
    seed: int,
    spec: ModelSpec,
    device: torch.device,
    inputs: Mapping[str, Any],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the rows of the factorial (first artifact) and its criteria's scores (second).

    `recipe` is how the recoveries with fine-tuning train on. Cells are kept
    beside the artifacts with `inputs`, which say all but the factors, so that a killed run
    continues, and a factor that is added computes only its own cells.
    """
    factorial = Factorial(**config.factors())
    # Most passes of the factorial are forward passes of small networks, to which this layout is
    # worth a quarter to a half.
    model = load_model(checkpoint, spec)[0].to(device)
    model.to(memory_format=torch.channels_last)
    known = Calibration(
        model,
        image_loader(_drawn(split.calibration, config.images, seed), batch_size=config.batch_size),
        target=target,
        training=split.fit,
        recipe=recipe,
        seed=seed,
    )
    reported = image_loader(_drawn(split.report, config.report, seed), batch_size=config.batch_size)
    rows, scores = artifacts
    folder = rows.parent
    found = criteria_scores(
        known, folder, network=spec.name, seed=seed, criteria=factorial.criteria, inputs=inputs
    )
    with atomic(scores) as stream:
        np.savez(stream, allow_pickle=False, **found)
    table = run_factorial(
        known,
        reported,
        folder,
        network=spec.name,
        seed=seed,
        factorial=factorial,
        inputs=inputs,
        progress=progress,
    )
    write_table(rows, table)


def _drawn(images: ImageSet, number: int, seed: int) -> ImageSet:
    return stratified_subset(images, number, seed) if 0 < number < len(images) else images
