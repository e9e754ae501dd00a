"""Networks that no library ships: padded shortcuts, recurrent classifiers, a decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class PaddedBlock(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut of every second pixel, padded with zero channels.

    Option A of He et al. 2016 (arXiv:1512.03385), section 4.2.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.extra = stride, (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        return (y + functional.pad(shortcut, (0, 0, 0, 0, self.extra, self.extra))).relu()


class PaddedResNet(nn.Module):
    """CIFAR's residual network of 6 n + 2 layers: 16, 32, 64 channels, n blocks a stage."""

    def __init__(self, depth: int, classes: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, 1)
        self.layer2 = self._stage(16, 32, blocks, 2)
        self.layer3 = self._stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, classes)

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
        rest = [PaddedBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
        return nn.Sequential(PaddedBlock(inputs, outputs, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


class Recurrent(nn.Module):
    """Rows of an image as steps: a convolution, a recurrent layer, two linear layers."""

    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM], classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 3, padding=1)
        self.mix = nn.Conv2d(64, 4, 3, padding=1)
        self.steps = kind(4 * 32, 32, batch_first=True)
        self.hidden, self.out = nn.Linear(32, 48), nn.Linear(48, classes)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.mix(self.stem(x).relu()).relu()
        states, _ = self.steps(maps.permute(0, 2, 1, 3).flatten(2))
        return self.out(self.hidden(states[:, -1]).relu())


class Decoder(nn.Module):
    """Down and up again, with transposed convolutions and concatenated skips, to classes."""

    def __init__(self, classes: int, width: int = 12) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            [self._pair(3, width), self._pair(width, 2 * width), self._pair(2 * width, 4 * width)]
        )
        self.up = nn.ModuleList(
            [
                nn.ConvTranspose2d(4 * width, 2 * width, 2, 2),
                nn.ConvTranspose2d(2 * width, width, 2, 2),
            ]
        )
        self.join = nn.ModuleList([self._pair(4 * width, 2 * width), self._pair(2 * width, width)])
        self.head = nn.Conv2d(width, classes, 1)

    @staticmethod
    def _pair(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        kept = [self.down[0](x)]
        for stage in self.down[1:]:
            kept.append(stage(torch.max_pool2d(kept[-1], 2)))
        x = kept.pop()
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([up(x), kept.pop()], 1))
        return self.head(x).mean((2, 3))


def padded_resnet(depth: int, classes: int) -> nn.Module:
    """ResNet-20, 32, 44, 56 or 110."""
    return PaddedResNet(depth, classes)
