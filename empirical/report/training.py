"""What was trained, on which images, and how well: the chapter and its figure."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from empirical.data.splits import DataSplit
from empirical.models import ModelSpec
from empirical.report.page import Section
from empirical.report.wording import words
from empirical.training.recipes import Recipe
from theory.shared.findings import Finding
from theory.shared.style import label, mark, sheet, styled


def training_section(
    accuracy: pd.DataFrame, history: pd.DataFrame, split: DataSplit, spec: ModelSpec, recipe: Recipe
) -> Section:
    """Say what was trained on what, and the accuracy on images that nothing else saw.

    Parameters
    ----------
    accuracy : rows seed, step, accuracy, accuracy_se, images.
    history : rows seed, step, loss (mean since the row before; NaN at step 0).
    split, spec, recipe : of the images; what was trained on them, and how.
    """
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
        f"batches of {recipe.batch_size}, {words(recipe.schedule)} schedule with peak rate "
        f"{recipe.learning_rate:g}, {recipe.precision}. Error bars are standard errors over "
        "images.",
        findings=[accuracy_finding(accuracy, "report")],
        figures={
            "training": (
                training_curves(accuracy, history),
                "Accuracy on the report images and loss on the training images.",
            )
        },
        tables={"accuracy": accuracy, "training": history, "images": images},
        shown={"images": "Which images were used for what"},
    )


def accuracy_finding(accuracy: pd.DataFrame, images: str) -> Finding:
    """How accurate the networks are after their last step, on `images`, in one word."""
    final = accuracy[accuracy["step"] == accuracy["step"].max()]
    return Finding(
        "{seeds} networks reach {accuracy:.1%} accuracy on {images} "
        f"{images} images (lowest {{least:.1%}}, highest {{most:.1%}}).",
        {
            "seeds": len(final),
            "accuracy": float(final["accuracy"].mean()),
            "images": int(final["images"].iloc[0]),
            "least": float(final["accuracy"].min()),
            "most": float(final["accuracy"].max()),
        },
    )


@styled()
def training_curves(accuracy: pd.DataFrame, history: pd.DataFrame) -> Figure:
    """Accuracy on the report images, and loss on training images, against training step."""
    figure, axes = sheet(1, 2, width=8.0, height=3.2)
    left, right = axes[0]
    for index, (seed, rows) in enumerate(accuracy.groupby("seed")):
        look = mark(index, markersize=4, label=f"seed {seed}")
        percent = 100 * rows[["accuracy", "accuracy_se"]]
        left.errorbar(rows["step"], percent["accuracy"], yerr=percent["accuracy_se"], **look)
        lost = history[(history["seed"] == seed) & history["loss"].notna()]
        right.plot(lost["step"], lost["loss"], **look)
    for panel in axes[0]:
        panel.set_xscale("symlog", linthresh=1)
    left.legend(loc="upper left")
    label(left, "training step", "accuracy on report images (%)")
    label(right, "training step", "training loss (nats)")
    return figure
