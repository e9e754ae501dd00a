"""A small convolutional network for images of a few pixels: the demo's."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from empirical.models.shared import scaled


def small_convnet(
    *, classes: int, image_size: int, channels: int = 1, width: float = 1.0
) -> nn.Module:
    """Three times convolution, batch norm and ReLU (16, 32 and 32 channels), then a linear layer.

    Images of at least 8 pixels are halved after the first and second convolution.
    """
    if image_size < 4:
        raise ValueError(f"image_size must be >= 4 for small_convnet; got {image_size}.")
    sizes = [channels, *(scaled(c, width) for c in (16, 32, 32))]
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    for index in (1, 2, 3):
        blocks[f"conv{index}"] = nn.Conv2d(
            sizes[index - 1], sizes[index], kernel_size=3, padding=1, bias=False
        )
        blocks[f"norm{index}"] = nn.BatchNorm2d(sizes[index])
        blocks[f"relu{index}"] = nn.ReLU()
        if index < 3:
            blocks[f"pool{index}"] = nn.MaxPool2d(2)
    blocks["average"] = nn.AdaptiveAvgPool2d(1)
    blocks["flatten"] = nn.Flatten()
    blocks["classifier"] = nn.Linear(sizes[3], classes)
    return nn.Sequential(blocks)
