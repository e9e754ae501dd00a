"""MobileNetV2 (Sandler et al., 2018) in its form for 32 × 32 images: the first strides are 1."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.ops import Conv2dNormActivation

from empirical.models.shared import initialize, scaled

STEM, HEAD = 32, 1280
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, blocks, stride of the first block."""


class MobileNetV2(nn.Sequential):
    """Stem, 17 of torchvision's inverted residuals, a 1 × 1 head, global average, classifier."""

    def __init__(self, classes: int, channels: int, width: float) -> None:
        # Multiples of 8, as published; below that, of 4, so that narrow networks differ in width.
        size = partial(scaled, width=width, divisor=8 if width >= 1 else 4)
        unit = partial(Conv2dNormActivation, activation_layer=nn.ReLU6)
        before = size(STEM)
        blocks: list[nn.Module] = [unit(channels, before)]
        for expansion, planned, repeats, first_stride in STAGES:
            for stride in (first_stride, *[1] * (repeats - 1)):
                blocks.append(InvertedResidual(before, size(planned), stride, expansion))
                before = size(planned)
        super().__init__(
            OrderedDict(
                features=nn.Sequential(*blocks, unit(before, size(HEAD), kernel_size=1)),
                avgpool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                classifier=nn.Linear(size(HEAD), classes),
            )
        )


def mobilenetv2(
    *, classes: int, image_size: int = 32, channels: int = 3, width: float = 1.0
) -> nn.Module:
    """MobileNetV2, its channels times `width`; any image size from 8 on."""
    if image_size < 8:
        raise ValueError(f"image_size must be >= 8 for mobilenetv2; got {image_size}.")
    return initialize(MobileNetV2(classes, channels, width))
