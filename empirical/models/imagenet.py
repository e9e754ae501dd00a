"""torchvision's networks for large images, adapted to class count, colours and small images."""

from __future__ import annotations

from typing import cast

import torchvision
from torch import nn

SMALL_IMAGE = 64
"""Up to this size the stem halves less, so that the last maps are not a single pixel."""


def _published_width(name: str, width: float) -> None:
    if width != 1.0:
        raise ValueError(f"width must be 1 for {name}, which is torchvision's own; got {width!r}.")


def resnet50(
    *, classes: int, image_size: int = 224, channels: int = 3, width: float = 1.0
) -> nn.Module:
    """torchvision's ResNet-50; up to 64 × 64, a 3 × 3 stem without pooling."""
    _published_width("resnet50", width)
    model = torchvision.models.resnet50(weights=None, num_classes=classes)
    stem = model.conv1
    if image_size <= SMALL_IMAGE:
        model.conv1 = nn.Conv2d(channels, stem.out_channels, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
    elif channels != stem.in_channels:
        model.conv1 = nn.Conv2d(channels, stem.out_channels, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    return cast(nn.Module, model)


def convnext_tiny(
    *, classes: int, image_size: int = 224, channels: int = 3, width: float = 1.0
) -> nn.Module:
    """torchvision's ConvNeXt-T; up to 64 × 64, patches of 2 × 2 pixels instead of 4 × 4."""
    _published_width("convnext_tiny", width)
    model = torchvision.models.convnext_tiny(weights=None, num_classes=classes)
    patch = 2 if image_size <= SMALL_IMAGE else 4
    stem = model.features[0]
    if patch != 4 or channels != 3:
        stem[0] = nn.Conv2d(channels, stem[0].out_channels, patch, stride=patch)
        nn.init.trunc_normal_(stem[0].weight, std=0.02)
        nn.init.zeros_(stem[0].bias)
    return cast(nn.Module, model)
