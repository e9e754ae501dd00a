"""A loader sorted by class gives calibration few classes at a time."""

from __future__ import annotations

import warnings

from torch import Tensor


def warn_if_sorted(labels: Tensor) -> None:
    """Warn where the first half of the images holds at most half of the classes of all."""
    classes, half = len(labels.unique()), len(labels[: len(labels) // 2].unique())
    if len(labels) >= 32 and 2 * half <= classes:
        _warn(
            f"the first half of {len(labels)} calibration images holds {half} of {classes} classes"
        )


def warn_if_one_class(labels: Tensor) -> None:
    """Warn where the first images, sixteen or more, are all of one class."""
    if len(labels) >= 16 and bool((labels == labels[0]).all()):
        _warn(f"the first {len(labels)} calibration images are all of class {int(labels[0])}")


def _warn(found: str) -> None:
    warnings.warn(
        f"{found}: loader seems to be sorted by class. Gradients, feature maps and batch-norm "
        "statistics are then those of few classes; shuffle it.",
        stacklevel=4,
    )
