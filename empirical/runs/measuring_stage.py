"""What a run does with each checkpoint: measure its axes, evaluate it, compare the gradients.

Each function writes one artifact; `empirical.runs.steps` says when. This module and what it imports
are the code that their keys in the store hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from empirical.measuring.gradients import gradient_cosines
from empirical.measuring.measurement import measure
from empirical.runs.trained import Trained
from empirical.training.checkpoints import read_info
from empirical.training.evaluation import evaluate
from theory.shared.files import write_json, write_table


def measure_checkpoint(artifact: Path, network: Trained, options: Mapping[str, Any]) -> None:
    """Measure both axes of every layer, with `options` of `measure`."""
    network.compute(measure, **options).save(artifact)


def evaluate_checkpoint(artifact: Path, network: Trained) -> None:
    """Write loss and accuracy, with seed, step and epoch."""
    found, info = network.compute(evaluate), read_info(network.checkpoint)
    row = {"seed": info.seed, "step": info.step, "epoch": info.epoch, **vars(found)}
    write_json(artifact, row)


def compare_gradients(artifact: Path, network: Trained, options: Mapping[str, Any]) -> None:
    """Measure the angle between the axes' gradients, with `options` of `gradient_cosines`."""
    write_table(artifact, network.compute(gradient_cosines, **options).by_layer())
