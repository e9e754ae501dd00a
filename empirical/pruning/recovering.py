"""Removing what a choice leaves out, and doing to the rest what a recovery says."""

from __future__ import annotations

import copy

from torch import nn

from empirical.pruning.calibration import Calibration
from empirical.pruning.compensation import merge
from empirical.pruning.distillation import distill
from empirical.pruning.folding import fold
from empirical.pruning.macs import counted, positions
from empirical.pruning.reconstruction import POSITIONS, kept_outputs, reconstruct
from empirical.pruning.recovery import RECOVERIES, recalibrate
from empirical.pruning.removal import Kept, kept_channels, mask, remove
from empirical.training.trainer import train

ENOUGH = 6
"""Samples for each weight of a filter, from which a refitted layer beats a compensated one. A
trained ResNet-20 at half of its multiply-accumulates: 3.9 for the largest filter (70 images) 47.1
against 50.8 %, 11 (200 images) 63.5 against 50.8, 28 and 83 (500 and 1,500) 65.9 and 68.2 against
51.5 and 51.6."""


def best_recovery(known: Calibration, kept: Kept, path: str = "removed") -> str:
    """The label-free closed form that the calibration images suffice for.

    "reconstruct" where every layer that slides over a map sees at least `ENOUGH` samples for each
    weight of a filter that stays, "compensate" otherwise, and for masked networks.
    """
    if path == "masked":
        return "compensate"
    removed = remove(known.model, known.graph, kept, known.example)
    for name, places in positions(removed, known.example).items():
        samples = len(known.images) * min(POSITIONS, places)
        if places > 1 and samples < ENOUGH * counted(removed, name).weight[0].numel():
            return "compensate"
    return "reconstruct"


def apply(
    known: Calibration, kept: Kept, recovery: str = "none", path: str = "removed"
) -> nn.Module:
    """Remove (or mask) everything but `kept`, then recover."""
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
    model = known.model
    if "merge" in steps:
        model = copy.deepcopy(model)
        merge(model, known.graph, kept, known.input_moments)
    if "fold" in steps:
        model = copy.deepcopy(model)
        fold(model, known.graph, kept)
    if path == "masked":
        pruned = mask(model, known.graph.groups, kept)
    else:
        pruned = remove(model, known.graph, kept, known.example)
    if "reconstruct" in steps:
        outputs = kept_outputs(known.model, kept_channels(known.model, known.graph.groups, kept))
        reconstruct(pruned, known.images, known.references, outputs)
    if "distill" in steps:
        distill(pruned, known.model, known.all_images, known.distillation, seed=known.seed)
    if "recalibrate" in steps:
        recalibrate(pruned, known.batches())
    if "finetune" in steps:
        assert known.training is not None
        train(pruned, known.training, recipe=known.recipe, seed=known.seed, steps=(),
              device=known.device or "cpu")  # fmt: skip
    return pruned
