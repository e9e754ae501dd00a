"""VGG-16 with batch norm in its form for 32 × 32 images: one linear layer after the convolutions.

Module names follow torchvision's (`features.0`, `features.3`, ...).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from empirical.models.shared import initialize, scaled

PLAN = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)
"""Channels of the 13 convolutions; 0 halves the image."""


class VGG(nn.Sequential):
    """Convolutions with batch norm and ReLU, global average, linear classifier."""

    def __init__(self, classes: int, channels: int, width: float) -> None:
        layers: list[nn.Module] = []
        before = channels
        for planned in PLAN:
            if planned == 0:
                layers.append(nn.MaxPool2d(2))
                continue
            size = scaled(planned, width)
            layers += [
                nn.Conv2d(before, size, 3, padding=1, bias=False),
                nn.BatchNorm2d(size),
                nn.ReLU(inplace=True),
            ]
            before = size
        super().__init__(
            OrderedDict(
                features=nn.Sequential(*layers),
                avgpool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                classifier=nn.Linear(before, classes),
            )
        )


def vgg16(
    *, classes: int, image_size: int = 32, channels: int = 3, width: float = 1.0
) -> nn.Module:
    """VGG-16 with batch norm, its channels times `width`; any image size from 16 on."""
    if image_size < 16:
        raise ValueError(f"image_size must be >= 16 for vgg16; got {image_size}.")
    return initialize(VGG(classes, channels, width))
