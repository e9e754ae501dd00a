"""The report's chapter on what was trained, on which images, and how well."""

from __future__ import annotations

import pandas as pd

from empirical.data.splits import DataSplit
from empirical.figures.training import training_curves
from empirical.models import ModelSpec
from empirical.report.page import Section
from empirical.runs.config import RunConfig
from theory.shared.findings import Finding


def training_section(
    accuracy: pd.DataFrame,
    history: pd.DataFrame,
    split: DataSplit,
    spec: ModelSpec,
    config: RunConfig,
) -> Section:
    """Say what was trained on what, and the accuracy on images that nothing else saw."""
    final = accuracy[accuracy["step"] == accuracy["step"].max()]
    recipe = config.training
    images = pd.DataFrame(
        {"part": part.name.rpartition("/")[2], "images": len(part), "use": use}
        for part, use in (
            (split.fit, "gradient steps"),
            (split.calibration, "measurement; a subset of fit"),
            (split.selection, "choices of settings; never fitted"),
            (split.report, "every accuracy in this report"),
        )
    )
    return Section(
        title="The networks and their training",
        note=f"{spec.name}, width {spec.width:g}, {spec.classes} classes, images of "
        f"{spec.image_size} × {spec.image_size}; {recipe.epochs:g} epochs of {recipe.optimizer}, "
        f"batches of {recipe.batch_size}, {recipe.schedule.replace('_', ' ')} schedule with peak "
        f"rate {recipe.learning_rate:g}, {recipe.precision}. Error bars are standard errors over "
        "images.",
        findings=[
            Finding(
                "{seeds} networks reach {accuracy:.1%} accuracy on {images} report images (lowest "
                "{least:.1%}, highest {most:.1%}).",
                {
                    "seeds": len(final),
                    "accuracy": float(final["accuracy"].mean()),
                    "images": int(final["images"].iloc[0]),
                    "least": float(final["accuracy"].min()),
                    "most": float(final["accuracy"].max()),
                },
            )
        ],
        figures={
            "training": (
                training_curves(accuracy, history),
                "Accuracy on the report images and loss on the training images.",
            )
        },
        tables={"accuracy": accuracy, "training": history, "images": images},
        shown={"images": "Which images were used for what"},
    )
