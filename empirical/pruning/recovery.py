"""What is done to a pruned network before it is used."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

BATCH_NORM = nn.modules.batchnorm._BatchNorm

RECOVERIES: dict[str, tuple[str, ...]] = {
    "none": (),
    "recalibrate": ("recalibrate",),
    "merge": ("merge",),
    "compensate": ("merge", "recalibrate"),
    "fold": ("fold", "recalibrate"),
}
"""Recovery -> its steps. "merge" is peer compensation alone, "compensate" recalibrates after it,
"fold" merges filters without data and recalibrates."""


def recalibrate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> int:
    """Take batch-norm means and variances anew from `batches`, in place; no gradients, no labels.

    Returns how many norms there were: 0 means that nothing was done.
    """
    norms = [m for m in model.modules() if isinstance(m, BATCH_NORM) and m.track_running_stats]
    if not norms:
        return 0
    flags = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average: every batch has the same weight
        norm.train()
    try:
        with torch.no_grad():
            for images, _ in batches:
                model(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, training in flags:
            module.training = training
    return len(norms)
