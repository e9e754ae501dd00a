"""MobileNetV2 (Sandler et al., 2018) in its form for 32 × 32 images: the first strides are 1."""

from __future__ import annotations

from torch import Tensor, nn

from empirical.models.factory import scaled
from empirical.models.initialization import initialize

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


def _unit(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """Expand by a 1 × 1, filter each channel by a 3 × 3, project by a 1 × 1 without ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        units = [] if expansion == 1 else [_unit(inputs, hidden, 1)]
        units += [
            _unit(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv = nn.Sequential(*units)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, inputs, H, W) to (n, outputs, H / stride, W / stride)."""
        return images + self.conv(images) if self.residual else self.conv(images)


class MobileNetV2(nn.Module):
    """Stem, 17 inverted residuals, a 1 × 1 head, global average, linear classifier."""

    def __init__(self, classes: int, channels: int, width: float) -> None:
        super().__init__()
        # Multiples of 8, as published; below that, of 4, so that narrow networks differ in width.
        divisor = 8 if width >= 1 else 4
        before = scaled(STEM, width, divisor=divisor)
        blocks: list[nn.Module] = [_unit(channels, before, 3)]
        for expansion, planned, repeats, first_stride in STAGES:
            size = scaled(planned, width, divisor=divisor)
            for index in range(repeats):
                stride = first_stride if index == 0 else 1
                blocks.append(InvertedResidual(before, size, stride, expansion))
                before = size
        head = scaled(HEAD, width, divisor=divisor)
        self.features = nn.Sequential(*blocks, _unit(before, head, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(head, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, channels, H, W) to logits (n, classes)."""
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


def mobilenetv2(
    *, classes: int, image_size: int = 32, channels: int = 3, width: float = 1.0
) -> nn.Module:
    """MobileNetV2, its channels times `width`; any image size from 8 on."""
    if image_size < 8:
        raise ValueError(f"image_size must be >= 8 for mobilenetv2; got {image_size}.")
    return initialize(MobileNetV2(classes, channels, width))
