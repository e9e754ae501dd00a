"""ResNet-18 in its form for 32 × 32 images (He et al., 2016): a 3 × 3 stem without pooling.

torchvision's class has no width, and its blocks share one ReLU; these do not.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from empirical.models.shared import initialize, scaled

STAGES = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions with batch norm, added to a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, inputs, H, W) to (n, outputs, H / stride, W / stride)."""
        hidden = self.relu1(self.bn1(self.conv1(images)))
        result: Tensor = self.relu2(self.bn2(self.conv2(hidden)) + self.shortcut(images))
        return result


class ResNet(nn.Sequential):
    """Stem, four stages of two blocks, global average, linear classifier."""

    def __init__(self, classes: int, channels: int, width: float) -> None:
        sizes = [scaled(size, width) for size in STAGES]
        parts: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=nn.Conv2d(channels, sizes[0], 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(sizes[0]),
            relu=nn.ReLU(inplace=True),
        )
        for index, size in enumerate(sizes):
            first = BasicBlock(sizes[max(index - 1, 0)], size, stride=1 if index == 0 else 2)
            parts[f"layer{index + 1}"] = nn.Sequential(first, BasicBlock(size, size, stride=1))
        parts["avgpool"] = nn.AdaptiveAvgPool2d(1)
        parts["flatten"] = nn.Flatten()
        parts["fc"] = nn.Linear(sizes[-1], classes)
        super().__init__(parts)


def resnet18(
    *, classes: int, image_size: int = 32, channels: int = 3, width: float = 1.0
) -> nn.Module:
    """ResNet-18 with 64, 128, 256 and 512 channels times `width`; any image size from 8 on."""
    if image_size < 8:
        raise ValueError(f"image_size must be >= 8 for resnet18; got {image_size}.")
    return initialize(ResNet(classes, channels, width))
