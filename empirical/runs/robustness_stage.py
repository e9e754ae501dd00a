"""The trained network measured again, one choice of the measurement changed at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from empirical.analysis import robustness
from empirical.data.images import ImageSet, image_loader
from empirical.measuring.measurement import measure
from empirical.models import ModelSpec
from empirical.training.checkpoints import load_model
from theory.shared.files import write_table


def measure_variations(
    artifacts: tuple[Path, ...],
    checkpoint: Path,
    images: ImageSet,
    options: Mapping[str, Any],
    *,
    batch_size: int,
    spec: ModelSpec,
    device: torch.device,
) -> None:
    """Write how couplings depend on choices (first artifact) and on images (second).

    `options` are those of `measure`.
    """
    settings = {**options, **robustness.FAST, "device": device}
    variations, sample_counts = artifacts
    model, _ = load_model(checkpoint, spec)
    loader = image_loader(images, batch_size=batch_size)
    base = measure(model, loader, **settings)
    changed = robustness.coupling_robustness(model, loader, base, **settings)
    estimators = robustness.estimator_robustness(
        model, loader, base, target=options["target"], seed=options["seed"], device=device
    )
    write_table(variations, pd.concat([changed, estimators], ignore_index=True))
    write_table(sample_counts, robustness.sample_count_robustness(base))
