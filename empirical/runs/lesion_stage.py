"""The lesion stage of a run: every channel of the trained network, lesioned and replaced."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from empirical.analysis.reliability import channel_scores
from empirical.data.images import image_loader
from empirical.data.splits import stratified_subset
from empirical.data.tables import read_table
from empirical.lesions.lesioning import lesion
from empirical.lesions.replacement import replace
from empirical.measuring.table import AxisTable
from empirical.runs.trained import Trained
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
    artifact: Path, network: Trained, axes: Path, *, number: int, channels: int, seed: int
) -> None:
    """Write the damage of every lesion on `number` images, with the channel's scores."""
    table = AxisTable.load(axes)
    loader = image_loader(stratified_subset(network.images, number, seed))
    found = lesion(
        network.model().to(network.device),
        loader,
        channels=drawn_channels(table, channels, seed),
        calibration=table,
    ).to_frame()
    scored = found.merge(channel_scores(table), on=["layer", "channel"])
    write_table(artifact, scored.assign(seed=seed))


def replace_channels(
    artifact: Path,
    network: Trained,
    axes: Path,
    *,
    number: int,
    channels: int,
    draws: int,
    seed: int,
) -> None:
    """Write what the peers of every channel recover, with `draws` of random peers."""
    model, loader = network.model(), image_loader(stratified_subset(network.images, number, seed))
    table = AxisTable.load(axes)
    chosen = drawn_channels(table, channels, seed)
    found = replace(
        model.to(network.device), loader, table, channels=chosen, seed=seed, draws=draws
    )
    write_table(artifact, beside_mean_lesion(found.to_frame()).assign(seed=seed))


def drawn_channels(table: AxisTable, number: int, seed: int) -> dict[str, list[int]] | None:
    """Layer -> at most `number` of its channels, drawn at random; None, for all, where it is 0."""
    rng = np.random.default_rng(seed)
    sizes = {layer: len(table.values(layer)["signal_power"]) for layer in table.layers}
    drawn = {layer: sorted(rng.permutation(n)[:number].tolist()) for layer, n in sizes.items()}
    return drawn if number else None


def beside_mean_lesion(replaced: pd.DataFrame) -> pd.DataFrame:
    """Return each replacement with the damage of the same channel's mean lesion in a column."""
    lesioned = replaced[replaced["kind"] == "mean"].set_index(["layer", "channel"])
    beside = replaced[replaced["kind"] != "mean"].join(
        lesioned["loss_increase"].rename("mean_lesion"), on=["layer", "channel"]
    )
    kept = ["layer", "channel", "kind", "draw", "n_peers", "predicted", "mean_lesion"]
    damages = [f"{name}{end}" for name in ("loss_increase", "divergence") for end in ("", "_se")]
    return beside[[*kept, *damages]]
