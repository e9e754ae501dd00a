"""The pruning stage of a run: the trained network through the factorial, cell by cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from empirical.data.images import ImageSet, image_loader
from empirical.data.splits import DataSplit, stratified_draw
from empirical.pruning.calibration import Calibration
from empirical.pruning.comparison import Factorial, run_factorial
from empirical.pruning.recovery import fine_tuning
from empirical.report.page import write_table
from empirical.runs.config import PruningConfig
from empirical.training.recipes import Recipe
from theory.shared.store import key_of, stage


@dataclass(frozen=True)
class PruningResult:
    """Every cell of every network, and each network's scores ("criterion|group" -> units)."""

    rows: pd.DataFrame
    scores: tuple[Mapping[str, np.ndarray], ...]


def read_pruning(folders: Sequence[Path]) -> PruningResult:
    """Return what `run_pruning` wrote into each of `folders`."""
    rows = pd.concat([pd.read_csv(folder / "cells.csv") for folder in folders], ignore_index=True)
    scores = []
    for folder in folders:
        with np.load(folder / "scores.npz", allow_pickle=False) as arrays:
            scores.append(dict(arrays))
    return PruningResult(rows, tuple(scores))


def run_pruning(
    folder: Path,
    model: nn.Module,
    split: DataSplit,
    config: PruningConfig,
    *,
    target: str,
    recipe: Recipe,
    network: str,
    seed: int,
    inputs: Mapping[str, Any],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Run what is missing of the factorial, unless `folder` holds the result already.

    `recipe` is that of the training, which the recoveries with fine-tuning continue.

    Cells are kept in a folder named after what they were computed from, so that a killed run
    continues, a factor that is added computes only its own cells, and other inputs start afresh.
    """
    factorial = Factorial(**config.factors())
    calibration = _drawn(split.calibration, config.images, seed)
    report = _drawn(split.report, config.report or len(split.report), seed)
    inputs = {
        **inputs,
        "calibration": calibration.fingerprint,
        "report": report.fingerprint,
        "target": target,
        "batch_size": config.batch_size,
        "seed": seed,
    }
    cells = folder / key_of(inputs)

    def make() -> None:
        # most passes of the factorial are forward passes of small networks, to which this layout
        # is worth a quarter to a half
        model.to(memory_format=torch.channels_last)
        known = Calibration(
            model,
            image_loader(calibration, batch_size=config.batch_size),
            target=target,
            training=split.fit,
            recipe=fine_tuning(recipe),
            seed=seed,
        )
        rows = run_factorial(
            known,
            image_loader(report, batch_size=config.batch_size),
            cells,
            network=network,
            seed=seed,
            factorial=factorial,
            progress=progress,
        )
        scores = cells / f"{network}-{seed}.npz"
        (folder / "scores.npz").write_bytes(scores.read_bytes())
        write_table(folder / "cells.csv", rows)

    stage(folder / "cells.csv", {**inputs, "factorial": vars(factorial)}, make)


def _drawn(images: ImageSet, number: int, seed: int) -> ImageSet:
    if number >= len(images):
        return images
    rng = np.random.default_rng(seed)
    drawn = stratified_draw(images.labels.numpy(), number, rng)
    return images.subset(torch.from_numpy(drawn))
