"""What a run does with each checkpoint: measure its axes, evaluate it, compare the gradients.

Each function writes one artifact; `empirical.runs.steps` says when. This module and what it imports
are the code that their keys in the store hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from empirical.data.images import ImageSet, image_loader
from empirical.devices import halving_batches
from empirical.measuring import gradients, measurement
from empirical.models import ModelSpec
from empirical.training import evaluation
from empirical.training.checkpoints import load_model, read_info
from theory.shared.files import write_json, write_table


def measure_checkpoint(
    artifact: Path,
    checkpoint: Path,
    images: ImageSet,
    options: Mapping[str, Any],
    *,
    batch_size: int,
    spec: ModelSpec,
    device: torch.device,
) -> None:
    """Measure both axes of every layer, with `options` of `measure`."""
    model, _ = load_model(checkpoint, spec)
    table = halving_batches(
        lambda size: measurement.measure(
            model, image_loader(images, batch_size=size), device=device, **options
        ),
        batch_size,
    )
    table.save(artifact)


def evaluate_checkpoint(
    artifact: Path,
    checkpoint: Path,
    images: ImageSet,
    *,
    batch_size: int,
    spec: ModelSpec,
    device: torch.device,
) -> None:
    """Write loss and accuracy, with seed, step and epoch."""
    model, _ = load_model(checkpoint, spec)
    found = halving_batches(
        lambda size: evaluation.evaluate(
            model, image_loader(images, batch_size=size), device=device
        ),
        batch_size,
    )
    info = read_info(checkpoint)
    row = {"seed": info.seed, "step": info.step, "epoch": info.epoch, **vars(found)}
    write_json(artifact, row)


def compare_gradients(
    artifact: Path,
    checkpoint: Path,
    images: ImageSet,
    options: Mapping[str, Any],
    *,
    batch_size: int,
    spec: ModelSpec,
    device: torch.device,
) -> None:
    """Measure the angle between the axes' gradients, with `options` of `gradient_cosines`."""
    model, _ = load_model(checkpoint, spec)
    found = halving_batches(
        lambda size: gradients.gradient_cosines(
            model, image_loader(images, batch_size=size), device=device, **options
        ),
        batch_size,
    )
    write_table(artifact, found.by_layer())
