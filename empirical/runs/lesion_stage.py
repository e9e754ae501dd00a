"""The lesion stage of a run: every channel of the trained network, lesioned and replaced."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from empirical.analysis.reliability import channel_scores
from empirical.data.images import ImageSet, image_loader
from empirical.data.splits import stratified_draw
from empirical.data.tables import read_table
from empirical.lesions.lesioning import lesion
from empirical.lesions.replacement import replace
from empirical.measuring.table import AxisTable
from empirical.models import ModelSpec
from empirical.training.checkpoints import load_model
from theory.shared.files import write_table


@dataclass(frozen=True)
class LesionResult:
    """Damage of every lesion with the channel's scores, and what its peers recover."""

    lesions: pd.DataFrame
    recovered: pd.DataFrame


def read_lesions(folder: Path) -> LesionResult:
    """Return what `lesion_channels` and `replace_channels` wrote into `folder`."""
    names = ("lesions", "replacements")
    return LesionResult(*(read_table(folder / f"{name}.csv") for name in names))


def lesion_channels(
    artifact: Path,
    checkpoint: Path,
    axes: Path,
    images: ImageSet,
    *,
    number: int,
    seed: int,
    spec: ModelSpec,
    device: torch.device,
) -> None:
    """Write the damage of every lesion on `number` of `images`, with the channel's scores."""
    model, _ = load_model(checkpoint, spec)
    table = AxisTable.load(axes)
    loader = image_loader(images, _drawn(images, number, seed))
    found = lesion(model.to(device), loader, calibration=table).to_frame()
    scored = found.merge(channel_scores(table), on=["layer", "channel"])
    write_table(artifact, scored.assign(seed=seed))


def replace_channels(
    artifact: Path,
    checkpoint: Path,
    axes: Path,
    images: ImageSet,
    *,
    number: int,
    draws: int,
    seed: int,
    spec: ModelSpec,
    device: torch.device,
) -> None:
    """Write what the peers of every channel recover, with `draws` of random peers."""
    model, _ = load_model(checkpoint, spec)
    loader = image_loader(images, _drawn(images, number, seed))
    found = replace(model.to(device), loader, AxisTable.load(axes), seed=seed, draws=draws)
    write_table(artifact, beside_mean_lesion(found.to_frame()).assign(seed=seed))


def beside_mean_lesion(replaced: pd.DataFrame) -> pd.DataFrame:
    """Return each replacement with the damage of the same channel's mean lesion in a column."""
    lesioned = replaced[replaced["kind"] == "mean"].set_index(["layer", "channel"])
    beside = replaced[replaced["kind"] != "mean"].join(
        lesioned["loss_increase"].rename("mean_lesion"), on=["layer", "channel"]
    )
    kept = ["layer", "channel", "kind", "draw", "n_peers", "predicted", "mean_lesion"]
    return beside[[*kept, "loss_increase", "loss_increase_se"]]


def _drawn(images: ImageSet, number: int, seed: int) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    drawn = stratified_draw(images.labels.numpy(), min(number, len(images)), generator)
    return torch.from_numpy(drawn)
