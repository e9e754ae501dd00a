"""The lesion stage of a run: every channel of the trained network, lesioned and replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from empirical.data.images import ImageSet, image_loader
from empirical.data.splits import stratified_draw
from empirical.lesions.lesioning import lesion
from empirical.lesions.replacement import replace
from empirical.measuring.table import AxisTable
from empirical.report.page import write_table
from empirical.runs.config import LesionConfig
from theory import QUANTITIES
from theory.shared.store import stage


@dataclass(frozen=True)
class LesionResult:
    """Damage of every lesion with the channel's scores, and what its peers recover.

    `shuffled` has each image's damages permuted between the channels of a layer: the control in
    which an analysis may find nothing.
    """

    lesions: pd.DataFrame
    shuffled: pd.DataFrame
    recovered: pd.DataFrame


def read_lesions(folder: Path) -> LesionResult:
    """Return what `run_lesions` wrote into `folder`."""
    names = ("lesions", "shuffled", "replacements")
    return LesionResult(*(pd.read_csv(folder / f"{name}.csv") for name in names))


def run_lesions(
    folder: Path,
    model: nn.Module,
    table: AxisTable,
    images: ImageSet,
    config: LesionConfig,
    *,
    seed: int,
    inputs: Mapping[str, Any],
) -> None:
    """Lesion `model` on `config.images` of `images`, unless `folder` holds the result already."""
    inputs = {**inputs, "images": images.fingerprint, **vars(config), "seed": seed}
    damaged, replaced = folder / "lesions.csv", folder / "replacements.csv"
    chosen = torch.from_numpy(
        stratified_draw(
            images.labels.numpy(), min(config.images, len(images)), np.random.default_rng(seed)
        )
    )
    loader = image_loader(images, chosen)

    def make_lesions() -> None:
        scores = table.to_frame()[["layer", "channel", *QUANTITIES]]
        found = lesion(model, loader, calibration=table)
        control = found.shuffled(np.random.default_rng(seed))
        for path, damages in ((folder / "shuffled.csv", control), (damaged, found)):
            frame = damages.to_frame().merge(scores, on=["layer", "channel"])
            write_table(path, frame.assign(seed=seed))

    def make_replacements() -> None:
        frame = replace(model, loader, table, seed=seed, draws=config.random_draws).to_frame()
        write_table(replaced, beside_mean_lesion(frame).assign(seed=seed))

    stage(damaged, inputs, make_lesions)
    stage(replaced, inputs, make_replacements)


def beside_mean_lesion(replaced: pd.DataFrame) -> pd.DataFrame:
    """Return each replacement with the damage of the same channel's mean lesion in a column."""
    lesioned = replaced[replaced["kind"] == "mean"].set_index(["layer", "channel"])
    beside = replaced[replaced["kind"] != "mean"].join(
        lesioned["loss_increase"].rename("mean_lesion"), on=["layer", "channel"]
    )
    kept = ["layer", "channel", "kind", "draw", "n_peers", "predicted", "mean_lesion"]
    return beside[[*kept, "loss_increase", "loss_increase_se"]]
