"""ResNet-18 in its form for 32 × 32 images (He et al., 2016): a 3 × 3 stem without pooling."""

from __future__ import annotations

from torch import Tensor, nn

from empirical.models.factory import scaled
from empirical.models.initialization import initialize

STAGES = (64, 128, 256, 512)
BLOCKS_PER_STAGE = 2


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
        return self.relu2(self.bn2(self.conv2(hidden)) + self.shortcut(images))


class ResNet(nn.Module):
    """Stem, four stages of two blocks, global average, linear classifier."""

    def __init__(self, classes: int, channels: int, width: float) -> None:
        super().__init__()
        sizes = [scaled(size, width) for size in STAGES]
        self.conv1 = nn.Conv2d(channels, sizes[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(sizes[0])
        self.relu = nn.ReLU(inplace=True)
        for index, size in enumerate(sizes):
            before = sizes[max(index - 1, 0)]
            first = BasicBlock(before, size, stride=1 if index == 0 else 2)
            rest = [BasicBlock(size, size, stride=1) for _ in range(BLOCKS_PER_STAGE - 1)]
            setattr(self, f"layer{index + 1}", nn.Sequential(first, *rest))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(sizes[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, channels, H, W) to logits (n, classes)."""
        hidden = self.relu(self.bn1(self.conv1(images)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            hidden = stage(hidden)
        return self.fc(self.avgpool(hidden).flatten(1))


def resnet18(
    *, classes: int, image_size: int = 32, channels: int = 3, width: float = 1.0
) -> nn.Module:
    """ResNet-18 with 64, 128, 256 and 512 channels times `width`; any image size from 8 on."""
    if image_size < 8:
        raise ValueError(f"image_size must be >= 8 for resnet18; got {image_size}.")
    return initialize(ResNet(classes, channels, width))
