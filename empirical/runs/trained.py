"""A network at a checkpoint, and the images that a stage runs it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from empirical.data.images import ImageSet, image_loader
from empirical.devices import halving_batches
from empirical.models import ModelSpec
from empirical.training.checkpoints import load_model

Result = TypeVar("Result")


@dataclass(frozen=True)
class Trained:
    """What a stage is computed from, beside its options."""

    checkpoint: Path
    images: ImageSet
    spec: ModelSpec
    device: torch.device
    batch_size: int

    def model(self) -> nn.Module:
        """Return the network with the checkpoint's weights."""
        return load_model(self.checkpoint, self.spec)[0]

    def compute(self, function: Callable[..., Result], **options: Any) -> Result:
        """Return ``function(model, loader, device=..., **options)``, in batches that fit."""
        model = self.model()
        return halving_batches(
            lambda size: function(
                model, image_loader(self.images, batch_size=size), device=self.device, **options
            ),
            self.batch_size,
        )
