"""Removing what a choice leaves out, and doing to the rest what a recovery says."""

from __future__ import annotations

import math

from torch import nn

from empirical.pruning.calibration import Calibration
from empirical.pruning.compensation import merge
from empirical.pruning.distillation import HELD_OUT, check_distillable, distill
from empirical.pruning.folding import fold
from empirical.pruning.forecast_law import Answers
from empirical.pruning.holding_out import Fold
from empirical.pruning.reconstruction import kept_outputs, reconstruct
from empirical.pruning.recovery import AUTO, RECOVERIES, recalibrate
from empirical.pruning.removal import Kept, choice, kept_channels, mask, remove
from empirical.reading.batches import batches, joined
from empirical.reading.networks import copied
from empirical.training.trainer import train

CLOSED_FORMS = ("reconstruct", "compensate")
"""Recoveries without labels or training, among which "auto" chooses."""


def best_recovery(known: Calibration, kept: Kept, path: str = "removed") -> str:
    """The label-free closed form whose network keeps nearest to the dense one on held-out images.

    Which wins depends on the images for each weight of a filter: a trained ResNet-20 at half of its
    multiply-accumulates, 3.9 for the largest filter (70 images): 47.1 % refitted against 50.8
    compensated; 11 (200 images): 63.5 against 50.8. A VGG-16 of width 1/4 (1,500 images, last maps
    of 2 x 2): .047 nats on test images against .100. "compensate" for masked networks, and where
    there are no five images.
    """
    if path == "masked" or not Fold(known.batches, held=True):
        return "compensate"
    left = distances(known, kept)
    return min(left, key=lambda recovery: left[recovery])


def distances(
    known: Calibration, kept: Kept, recovery: str = AUTO, path: str = "removed"
) -> dict[str, float]:
    """How far the closed forms that a recovery is or starts from leave the network from the dense.

    Fitted without every fifth calibration image, and compared there by the mean divergence of
    predictions, KL(dense ‖ pruned) in nats; by the mean squared difference of outputs that are no
    logits of two classes or more. Infinite where these images do not serve a form.
    """
    fitted, held = known.held_out()
    dense = Answers.of_dense(known.model, held, classes=False)
    forms: tuple[str, ...] = CLOSED_FORMS
    if recovery != AUTO or path == "masked":
        refits = "reconstruct" in RECOVERIES.get(recovery, ())
        forms = ("reconstruct" if refits else "compensate",)
    for form in forms:
        if (choice(kept), form, path) not in known.judged:
            try:
                found = Answers.of(apply(fitted, kept, form, path), held, classes=False)
                left = dense.distance(found)
            except ValueError:  # the images do not serve this form: too few, of several sizes
                left = math.inf
            known.judged[choice(kept), form, path] = left
    return {form: known.judged[choice(kept), form, path] for form in forms}


def check_recovery(known: Calibration, recovery: str, path: str = "removed") -> None:
    """Refuse a recovery that path, images or model do not allow, before anything is measured."""
    steps = RECOVERIES[recovery]
    if "finetune" in steps and known.training is None:
        raise ValueError(
            f"recovery={recovery!r} trains on, and the calibration holds no training images. Pass "
            "Calibration(..., training=images), an ImageSet, or take recovery='compensate'."
        )
    if "reconstruct" in steps and path == "masked":
        raise ValueError(
            f"recovery={recovery!r} refits the layers of a network whose channels are gone, so it "
            "does not go with path='masked'. Take path='removed', or recovery='compensate'."
        )
    if "distill" in steps:
        check_distillable(known.model, known.example, known.distillation)
        known.held_out(HELD_OUT)


def apply(
    known: Calibration, kept: Kept, recovery: str = "none", path: str = "removed"
) -> nn.Module:
    """Remove (or mask) everything but `kept`, then recover."""
    check_recovery(known, recovery, path)
    steps = RECOVERIES[recovery]
    model = known.model
    if "merge" in steps:
        model = copied(model)
        merge(model, known.graph, kept, known.input_moments)
    if "fold" in steps:
        model = copied(model)
        fold(model, known.graph, kept)
    if path == "masked":
        pruned = mask(model, known.graph.groups, kept)
    else:
        pruned = remove(model, known.graph, kept, known.example)
    seen, unseen = known.held_out(HELD_OUT) if "distill" in steps else (known, None)
    if "reconstruct" in steps:
        outputs = kept_outputs(known.model, kept_channels(known.model, known.graph.groups, kept))
        reconstruct(pruned, seen.images, seen.references, outputs)
    if unseen is not None:
        images, held = joined(seen.batches()), joined(batches(unseen, classes=False))
        distill(pruned, known.model, images, held, known.distillation, seed=known.seed)
    if "recalibrate" in steps:
        recalibrate(pruned, known.batches())
    if "finetune" in steps:
        assert known.training is not None
        train(pruned, known.training, recipe=known.recipe, seed=known.seed, steps=(),
              device=known.device or "cpu")  # fmt: skip
    return pruned
