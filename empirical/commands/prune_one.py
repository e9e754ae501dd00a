"""`twoaxis prune`: one network, from wherever its weights come, made smaller and saved."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from empirical.commands.measure_one import load_network, normalized_as
from empirical.data.folders import DEFAULT_CACHE
from empirical.data.images import image_loader
from empirical.data.loading import load_data
from empirical.data.splits import stratified_draw
from empirical.devices import chosen_device
from empirical.models import ModelSpec
from empirical.models.probe import check_logits
from empirical.pruning.calibration import Calibration
from empirical.pruning.export import export_onnx, export_program
from empirical.pruning.latency import Latency, latencies
from empirical.pruning.pruned_file import save_pruned
from empirical.pruning.pruner import PrunedModel, prune
from empirical.report.page import write_table
from empirical.training.evaluation import Evaluation, evaluate
from theory.shared.files import write_json

EXPORTS = ("onnx", "torch")


@dataclass(frozen=True)
class PruneOutcome:
    """A pruned network with accuracy (test images) and latency before and after."""

    pruned: PrunedModel
    accuracy: tuple[Evaluation, Evaluation]
    latency: tuple[Latency, Latency]
    files: tuple[Path, ...]


def prune_one(
    data: str | os.PathLike[str] | None,
    *,
    out: str | os.PathLike[str],
    model: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    images: int = 5000,
    image_size: int | None = None,
    width: float = 1.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    target: str = "logit_margin",
    skip: Sequence[str] = (),
    coupled: bool = True,
    exports: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    root: str | os.PathLike[str] = "data",
    download: bool = False,
    cache: str | os.PathLike[str] | None = DEFAULT_CACHE,
    batch_size: int = 250,
    **options: Any,
) -> PruneOutcome:
    """Prune a network on training images of `data`; report on its test images.

    Writes ``pruned.safetensors``, ``channels.csv``, ``prune.json`` and the `exports` ("onnx",
    "torch") into `out`. Other arguments are those of `measure_one`, `Calibration` and `prune`.
    """
    where = chosen_device(device)
    train, test = load_data(
        data or "digits", root=root, image_size=image_size, download=download, cache=cache
    )
    network, info = load_network(model, checkpoint, train, width, seed)
    train, test = (normalized_as(part, info, mean, std) for part in (train, test))
    check_logits(network, train)
    network = network.to(where)
    rng = np.random.default_rng(seed)
    drawn = stratified_draw(train.labels.numpy(), min(images, len(train)), rng)
    known = Calibration(
        network,
        image_loader(train.subset(torch.from_numpy(drawn)), batch_size=batch_size),
        target=target,
        skip=tuple(skip),
        coupled=coupled,
        training=train,
        seed=seed,
        device=where,
    )
    pruned = prune(network, known, seed=seed, **options)
    held_out = image_loader(test, batch_size=batch_size)
    accuracy = tuple(evaluate(m, held_out, device=where) for m in (network, pruned.model))
    batch = next(iter(held_out))[0].to(where)
    times = latencies([network, pruned.model], batch)
    folder = Path(out)
    spec = _spec(model, info, train, width)
    files = [
        save_pruned(folder / "pruned.safetensors", pruned, spec=spec),
        *_export(folder, pruned, batch[:2], exports),
    ]
    write_table(folder / "channels.csv", pruned.report.to_frame())
    outcome = PruneOutcome(pruned, accuracy, tuple(times), tuple(files))
    write_json(
        folder / "prune.json",
        {
            "report": asdict(pruned.report),
            "accuracy": [asdict(found) for found in accuracy],
            "latency": [asdict(found) for found in times],
            "model": model,
            "checkpoint": None if checkpoint is None else os.fspath(checkpoint),
            "images": len(drawn),
            "seed": seed,
        },
    )
    return outcome


def _spec(model: str | None, info: Any, train: Any, width: float) -> ModelSpec | None:
    """How the unpruned network is built again, where it was built by name."""
    if model is None:
        return None if info is None else info.spec
    return ModelSpec(model, train.classes, train.image_size, train.channels, width)


def _export(
    folder: Path, pruned: PrunedModel, example: torch.Tensor, exports: Sequence[str]
) -> list[Path]:
    files = []
    if "onnx" in exports:
        files.append(folder / "pruned.onnx")
        export_onnx(files[-1], pruned.model, example)
    if "torch" in exports:
        files.append(folder / "pruned.pt2")
        export_program(files[-1], pruned.model, example)
    return files
