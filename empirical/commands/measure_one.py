"""`twoaxis measure`: one network, from wherever its weights come, on the training images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import nn

from empirical.analysis.couplings import PAIRS, layer_couplings
from empirical.data.folders import DEFAULT_CACHE
from empirical.data.images import ImageSet, image_loader
from empirical.data.loading import load_data
from empirical.data.splits import stratified_draw
from empirical.devices import chosen_device, halving_batches
from empirical.measuring.measurement import measure
from empirical.measuring.table import AxisTable
from empirical.models import create_model
from empirical.models.probe import check_logits
from empirical.report.page import write_table
from empirical.training.checkpoints import CheckpointInfo, load_model, load_weights


def measure_one(
    data: str | os.PathLike[str] | None,
    *,
    model: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str],
    images: int = 5000,
    image_size: int | None = None,
    width: float = 1.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    device: str = "auto",
    root: str | os.PathLike[str] = "data",
    download: bool = False,
    cache: str | os.PathLike[str] | None = DEFAULT_CACHE,
    batch_size: int = 250,
    **options: Any,
) -> AxisTable:
    """Measure a network on training images of `data`; write ``axes.csv`` and ``axes.npz``.

    Parameters
    ----------
    data, image_size, root, download, cache
        As for `load_data`.
    model, width
        As for `create_model`; None takes the network that the checkpoint names.
    checkpoint
        Weights; None measures the network as it is built: at random initialization, or as the
        user's callable returns it.
    images
        So many training images, drawn by class with `seed`.
    mean, std
        Normalization. By default that of the checkpoint, or else of the training images.
    options
        Further keywords of `measure`.
    """
    where = chosen_device(device)
    train, _ = load_data(
        data or "digits", root=root, image_size=image_size, download=download, cache=cache
    )
    network, info = load_network(model, checkpoint, train, width, seed)
    train = normalized_as(train, info, mean, std)
    check_logits(network, train)
    rng = np.random.default_rng(seed)
    drawn = stratified_draw(train.labels.numpy(), min(images, len(train)), rng)
    chosen = train.subset(torch.from_numpy(drawn))
    table = halving_batches(
        lambda size: measure(
            network, image_loader(chosen, batch_size=size), device=where, seed=seed, **options
        ),
        batch_size,
    )
    folder = Path(out)
    write_table(folder / "axes.csv", table.to_frame())
    table.save(folder / "axes.npz")
    return table


def load_network(
    name: str | None,
    checkpoint: str | os.PathLike[str] | None,
    data: ImageSet,
    width: float,
    seed: int,
) -> tuple[nn.Module, CheckpointInfo | None]:
    """Build a network by name or from a checkpoint, for images like `data`'s."""
    if name is None:
        if checkpoint is None:
            raise ValueError("model must be given where there is no checkpoint; both are missing.")
        network, info = load_model(checkpoint)
        if info.class_names != data.class_names:
            raise ValueError(
                f"checkpoint {os.fspath(checkpoint)!r} was trained on the "
                f"{len(info.class_names)} classes of {info.data}; {data.name} has {data.classes} "
                "others. Name the data that it was trained on."
            )
        return network, info
    network = create_model(
        name,
        classes=data.classes,
        image_size=data.image_size,
        channels=data.channels,
        width=width,
        seed=seed,
    )
    if checkpoint is not None:
        load_weights(network, checkpoint)
    return network.eval(), None


def normalized_as(
    data: ImageSet,
    info: CheckpointInfo | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> ImageSet:
    """Return `data` with given statistics, else those that a checkpoint was trained with."""
    if (mean is None) != (std is None):
        raise ValueError(f"mean and std must be given together; got mean={mean} and std={std}.")
    if mean is not None and std is not None:
        return replace(data, mean=tuple(mean), std=tuple(std))
    return data if info is None else replace(data, mean=info.mean, std=info.std)


def summary_table(table: AxisTable) -> Table:
    """Return one row per layer: mean I_X, I_T and E, and the coupling of I_X and I_T."""
    shown = ("input_capture", "task_information", "peer_predictability")
    couplings = layer_couplings(table, pairs=PAIRS[:1]).set_index("layer")
    summary = Table(title="Means over channels (nats; peer predictability is a share)")
    summary.add_column("layer")
    for column in (
        "channels",
        *(name.replace("_", " ") for name in shown),
        "coupling",
        "null 95 %",
    ):
        summary.add_column(column, justify="right")
    for name in table.layers:
        values, row = table[name].as_dict(), couplings.loc[name]
        summary.add_row(
            name,
            str(len(values[shown[0]])),
            *(f"{np.nanmean(values[quantity]):.4f}" for quantity in shown),
            f"{row['coupling']:+.2f}",
            f"{row['null_low']:+.2f} {row['null_high']:+.2f}",
        )
    return summary
