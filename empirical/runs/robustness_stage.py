"""The trained network measured again, one choice of the measurement changed at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from empirical.analysis import robustness
from empirical.data.images import image_loader
from empirical.measuring.measurement import measure
from empirical.runs.trained import Trained
from theory.shared.files import write_table


def measure_variations(
    artifacts: tuple[Path, ...], network: Trained, options: Mapping[str, Any]
) -> None:
    """Write how couplings depend on choices (first artifact) and on images (second).

    `options` are those of `measure`.
    """
    settings = {**options, **robustness.FAST, "device": network.device}
    variations, sample_counts = artifacts
    model = network.model()
    loader = image_loader(network.images, batch_size=network.batch_size)
    base = measure(model, loader, **settings)
    changed = robustness.coupling_robustness(model, loader, base, **settings)
    estimators = robustness.estimator_robustness(
        model, loader, base, target=options["target"], seed=options["seed"], device=network.device
    )
    write_table(variations, pd.concat([changed, estimators], ignore_index=True))
    write_table(sample_counts, robustness.sample_count_robustness(base))
