"""A vision transformer on CIFAR-10: its heads and its neurons."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.vision_transformer import ConvStemConfig

from empirical import ModelSpec, Recipe, evaluate, image_loader, load_data, split_data, train

SEED = 0
RECIPE = Recipe(
    epochs=5,
    batch_size=64,
    learning_rate=1e-3,
    optimizer="adamw",
    weight_decay=0.05,
    crop_padding=2,
    flip=True,
    precision="bfloat16",
)


class HalfOfThePatches(nn.Module):
    """In training, keep the class token and a random half of the patches: half the work."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (n, 1 + p / 2, width) of (n, 1 + p, width); in evaluation all tokens."""
        if not self.training:
            return tokens
        n, patches = len(tokens), tokens.shape[1] - 1
        kept = torch.rand(n, patches, device=tokens.device).argsort(1)[:, : patches // 2] + 1
        first = torch.zeros(n, 1, dtype=kept.dtype, device=kept.device)
        rows = torch.arange(n, device=tokens.device)[:, None]
        return tokens[rows, torch.cat([first, kept], dim=1)]


def vit(*, classes: int, image_size: int) -> nn.Module:
    """Return torchvision's ViT: 6 layers, width 192, 6 heads, patches of 4 from two convolutions."""
    stem = [
        ConvStemConfig(out_channels=48, kernel_size=3, stride=2),
        ConvStemConfig(out_channels=96, kernel_size=3, stride=2),
    ]
    model = VisionTransformer(
        image_size, 4, 6, 6, 192, 384, num_classes=classes, conv_stem_configs=stem
    )
    model.encoder.dropout = HalfOfThePatches()
    return model


def main() -> None:
    """Train and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10: train/<class>/*, test/")
    parser.add_argument("--out", type=Path, default=Path("runs/vit_cifar10"))
    options = parser.parse_args()
    data, test = load_data(options.data)
    parts = split_data(data, test, calibration=5000, selection=0.0, seed=SEED)
    spec = ModelSpec(f"{__file__}:vit", classes=data.classes, image_size=data.image_size)
    model = spec.build(SEED)
    train(
        model,
        parts.fit,
        recipe=RECIPE,
        seed=SEED,
        folder=options.out / "training",
        on_progress=partial(print, flush=True),
        steps=[0, 800, 1600, 2400],
        on_checkpoint=lambda step, network: print(
            step, evaluate(network, image_loader(test, range(0, 10000, 10)))
        ),
    )
    print(evaluate(model, image_loader(test)))


if __name__ == "__main__":
    main()
