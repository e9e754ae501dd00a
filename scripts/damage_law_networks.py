"""The networks of damage_law.py: four that it trains, and a ResNet-20 trained by others."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import ConvNeXt
from torchvision.models.convnext import CNBlockConfig

from empirical import ImageSet, ModelSpec, Recipe, load_weights, train

SHARED = {"batch_size": 128, "crop_padding": 4, "flip": True, "channels_last": True}
RECIPES = {
    "resnet18": Recipe(epochs=4, learning_rate=0.2, precision="bfloat16", **SHARED),
    "vgg16": Recipe(epochs=4, learning_rate=0.1, precision="bfloat16", **SHARED),
    "mobilenetv2": Recipe(epochs=4, learning_rate=0.2, **SHARED),
    "convnext": Recipe(
        epochs=4, learning_rate=2e-3, optimizer="adamw", weight_decay=0.05, **SHARED
    ),
}


class Block(nn.Module):
    """Two convolutions and a shortcut without weights: every second pixel, zeros for channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = outputs // inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both ways, rectified."""
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        short = x[:, :, :: self.stride, :: self.stride]
        return functional.relu(y + functional.pad(short, (0, 0, 0, 0, self.more, self.more)))


class ResNet20(nn.Module):
    """He et al. 2016, for CIFAR-10: 16, 32, 64 channels, three blocks a stage."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        widths = (16, 16, 32, 64)
        for stage in (1, 2, 3):
            before, own = widths[stage - 1], widths[stage]
            blocks = [Block(before, own), Block(own, own), Block(own, own)]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of ten classes."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def convnext(classes: int = 10) -> nn.Module:
    """A ConvNeXt of 24, 48 and 96 channels for 32 x 32 pixels."""
    blocks = [CNBlockConfig(24, 48, 1), CNBlockConfig(48, 96, 1), CNBlockConfig(96, None, 2)]
    model = ConvNeXt(blocks, stochastic_depth_prob=0.0, layer_scale=1.0, num_classes=classes)
    model.features[0][0] = nn.Conv2d(3, 24, 2, stride=2)
    return model


def network(
    name: str, folder: Path, images: ImageSet, seed: int = 0, device: str = "cpu"
) -> nn.Module:
    """The network of a name and a seed with trained weights, in evaluation mode on `device`.

    Those of a run (`folder`/NAME/seed-S/train, as `scripts/evidence.py` leaves them) as it trained
    them; others are trained for four epochs where `folder` has none.
    """
    if name == "resnet20":
        model: nn.Module = ResNet20()
        load_weights(model, folder / "resnet20-cifar10.safetensors")
        return model.to(device).eval()
    spec = None if name == "convnext" else ModelSpec(name, classes=10, image_size=32, width=0.25)
    torch.manual_seed(seed)  # of the ConvNeXt; a spec has its own
    model = convnext() if spec is None else spec.build(seed)
    own = folder / (f"{name}-{seed}" if seed else name)
    trained = [*sorted((folder / name / f"seed-{seed}" / "train").glob("step-*.safetensors"))]
    trained += own.glob("step-0001560.safetensors")
    if trained:
        load_weights(model, trained[-1])
    else:
        recipe = RECIPES[name]
        train(model, images, recipe=recipe, seed=seed, folder=own, spec=spec, device=device)
    return model.to(device).eval()
