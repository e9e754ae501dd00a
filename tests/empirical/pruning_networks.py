"""Small networks and calibration batches that the pruning tests share."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.resnet import Bottleneck, ResNet

from empirical.models import create_model
from empirical.pruning.calibration import Calibration
from empirical.pruning.compensation import merge
from empirical.pruning.removal import remove

SIZES = {"resnet18": 16, "vgg16": 32, "mobilenetv2": 32, "bottlenecks": 32, "convnext": 32}
"""Every architecture of the project, with the image size it is tested at: of ResNet-50 and
ConvNeXt, which the zoo has whole, torchvision's networks of one block a stage."""


def awakened(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every norm random statistics and affine parameters: at their defaults, errors hide."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
            normed = isinstance(module, (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm))
            if normed and module.weight is not None:
                module.weight.uniform_(0.5, 1.5, generator=generator)
                if module.bias is not None:
                    module.bias.normal_(0, 0.3, generator=generator)
    return model.eval()


def network(name: str, width: float = 0.25) -> nn.Module:
    torch.manual_seed(0)
    if name == "bottlenecks":
        return awakened(ResNet(Bottleneck, [1, 1, 1, 1], num_classes=10, width_per_group=32))
    if name == "convnext":
        stages = [CNBlockConfig(*c, 1) for c in ((24, 48), (48, 64), (64, 96), (96, None))]
        return awakened(ConvNeXt(stages, num_classes=10))
    return awakened(create_model(name, classes=10, image_size=SIZES[name], width=width, seed=0))


def batches(
    channels: int, size: int, *, count: int = 2, each: int = 32
) -> list[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(each, channels, size, size, generator=generator),
            torch.randint(10, (each,), generator=generator),
        )
        for _ in range(count)
    ]


def plain(channels: tuple[int, ...] = (3, 8, 12), classes: int = 10, size: int = 6) -> nn.Module:
    """Convolutions with batch norm and ReLU, then a linear layer on the flattened maps."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    layers += [nn.Flatten(), nn.Linear(channels[-1] * size * size, classes)]
    return awakened(nn.Sequential(*layers))


def linear_network() -> tuple[nn.Module, list[tuple[Tensor, ...]]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 9), nn.Linear(9, 5)).double()
    images = torch.randn(500, 3, 2, 2, dtype=torch.float64) @ torch.randn(2, 2).double()
    return model, [(images, torch.randint(5, (500,)))]


def fisher_of_change(model: nn.Module, known: Calibration, units: dict[str, np.ndarray]) -> float:
    """½ E δzᵀ Γ δz of a linear network's logits, what stays of one group standing in; measured."""
    smaller = copy.deepcopy(model)
    merge(smaller, known.graph, units, known.input_moments, ridge=1e-9)
    smaller = remove(smaller, known.graph, units, known.example)
    (fisher,) = known.output_fisher.values()
    with torch.no_grad():
        change = torch.cat([smaller(x) - model(x) for x, _ in known.batches()]).numpy()
    change = change - change.mean(0)
    return float(0.5 * np.einsum("ni,ij,nj->", change, fisher, change) / (len(change) - 1))
