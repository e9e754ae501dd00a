"""What is done to a pruned network before it is used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from torch import nn

from empirical.reading.batches import Batch
from empirical.reading.hooks import evaluating
from empirical.training.recipes import Recipe

BATCH_NORM = nn.modules.batchnorm._BatchNorm

RECOVERIES: dict[str, tuple[str, ...]] = {
    "none": (),
    "recalibrate": ("recalibrate",),
    "merge": ("merge",),
    "compensate": ("merge", "recalibrate"),
    "reconstruct": ("reconstruct",),
    "fold": ("fold", "recalibrate"),
    "finetune": ("recalibrate", "finetune"),
    "compensate_finetune": ("merge", "recalibrate", "finetune"),
    "reconstruct_finetune": ("reconstruct", "finetune"),
}
"""Recovery -> its steps. "merge" is peer compensation alone, "compensate" recalibrates after it,
"reconstruct" refits every layer to the dense network, "fold" merges filters without data and
recalibrates. "finetune" goes on training, with labels; all others read none."""

FINE_TUNING = Recipe(epochs=5, learning_rate=0.01, schedule="cosine")
"""How a pruned network is trained on, unless told otherwise."""


def fine_tuning(recipe: Recipe) -> Recipe:
    """Five epochs at a tenth of the learning rate of the training that `recipe` describes.

    >>> fine_tuning(Recipe(epochs=12, learning_rate=0.2, flip=True)).learning_rate
    0.02
    """
    rate = recipe.learning_rate / 10
    return replace(recipe, epochs=5, learning_rate=rate, schedule=FINE_TUNING.schedule)


def recalibrate(model: nn.Module, batches: Iterable[Batch]) -> int:
    """Take batch-norm means and variances anew from `batches`, in place; no gradients, no labels.

    Returns how many norms there were: 0 means that nothing was done.
    """
    norms = [m for m in model.modules() if isinstance(m, BATCH_NORM) and m.track_running_stats]
    if not norms:
        return 0
    momenta = [norm.momentum for norm in norms]
    try:
        with evaluating(model):
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # cumulative average: every batch has the same weight
                norm.train()
            for images, _ in batches:
                model(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return len(norms)
