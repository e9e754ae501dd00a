"""Networks of every kind, small and with random weights: what pruning is tried on as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import timm
import torch
from timm.layers import GatedMlp
from timm.models import metaformer, mlp_mixer
from torch import Tensor, nn
from torchvision import models

from tests.empirical.pruning_networks import awakened
from tests.zoo.hand_written import Decoder, Recurrent, padded_resnet

CLASSES = 10


@dataclass(frozen=True)
class Network:
    """A constructor with the images that it takes.

    `images` calibrate: more than any layer reads channels at a single position. `skip` keeps
    layers whole whose regressions would need thousands of images.
    """

    build: Callable[[], nn.Module]
    size: int = 32
    images: int = 128
    skip: tuple[str, ...] = ()
    channels: int = 3


def _torchvision(name: str, size: int = 32, images: int = 128, **options: object) -> Network:
    skip = options.pop("skip", ())
    assert isinstance(skip, tuple)

    def build() -> nn.Module:
        built = models.get_model(name, weights=None, num_classes=CLASSES, **options)
        assert isinstance(built, nn.Module)
        return built

    return Network(build, size, images, skip)


def _timm(name: str, size: int = 32, images: int = 128, **options: object) -> Network:
    skip = options.pop("skip", ())
    assert isinstance(skip, tuple)
    return Network(
        lambda: timm.create_model(name, pretrained=False, num_classes=CLASSES, **options),
        size, images, skip,
    )  # fmt: skip


def _tokens(block: type[nn.Module], **options: object) -> Network:
    def build() -> nn.Module:
        return mlp_mixer.MlpMixer(
            num_classes=CLASSES, img_size=32, patch_size=8, num_blocks=2, embed_dim=64,
            block_layer=block, **options,
        )  # fmt: skip

    return Network(build)


def _vit() -> nn.Module:
    return models.VisionTransformer(32, 8, 2, 4, 64, 128, num_classes=CLASSES)


def _swin(version: int) -> nn.Module:
    options = {"block": models.swin_transformer.SwinTransformerBlockV2} if version == 2 else {}
    merging = (
        models.swin_transformer.PatchMergingV2 if version == 2
        else models.swin_transformer.PatchMerging
    )  # fmt: skip
    return models.SwinTransformer(
        [2, 2], 24, [2, 2], [2, 4], [4, 4], num_classes=CLASSES,
        downsample_layer=merging, **options,
    )  # fmt: skip


ZOO: dict[str, Network] = {
    "alexnet": _torchvision("alexnet", 64, 256, skip=("classifier",)),
    "vgg11_bn": _torchvision("vgg11_bn", 32, 128, skip=("classifier",)),
    "resnet18": _torchvision("resnet18", 32, 576),
    "resnet50": _torchvision("resnet50", 32, 256, skip=("layer4",)),
    "resnext50_32x4d": _torchvision("resnext50_32x4d", 32, 256, skip=("layer4",)),
    "squeezenet1_1": _torchvision("squeezenet1_1", 48),
    "densenet121": Network(lambda: models.DenseNet(8, (6, 12, 24, 16), 16, num_classes=CLASSES)),
    "googlenet": _torchvision("googlenet", 32, 416, aux_logits=False, init_weights=False),
    "inception_v3": _torchvision(
        "inception_v3", 75, 128, skip=("Mixed_7a", "Mixed_7b", "Mixed_7c"),
        aux_logits=False, init_weights=False,
    ),
    "shufflenet_v2_x0_5": _torchvision("shufflenet_v2_x0_5", 32, 1056),
    "mobilenet_v2": _torchvision("mobilenet_v2", 32, 352, width_mult=0.35, skip=("features.18",)),
    "mobilenet_v3_small": _torchvision("mobilenet_v3_small", 32, 1056),
    "mnasnet0_5": _torchvision(
        "mnasnet0_5", 32, 320, skip=("layers.12.[123]*", "layers.13", "layers.14")
    ),
    "efficientnet_b0": _torchvision("efficientnet_b0", 32, 704, skip=("features.[678]*",)),
    "regnet_x_400mf": _torchvision("regnet_x_400mf", 32, 448),
    "regnet_y_400mf": _torchvision("regnet_y_400mf", 32, 480),
    "convnext_tiny": _torchvision("convnext_tiny", 32, 384, skip=("features.6", "features.7")),
    "swin": Network(lambda: _swin(1)),
    "swin_v2": Network(lambda: _swin(2)),
    "vit": Network(_vit),
    "convnextv2_atto": _timm("convnextv2_atto", 32, 384, skip=("stages.3.blocks",)),
    "deit_tiny": _timm(
        "deit_tiny_patch16_224", 32, 128, img_size=32, patch_size=8, depth=2, embed_dim=64,
        num_heads=4,
    ),
    "regnety_002": _timm("regnety_002", 32, 384),
    "ghostnet_050": _timm("ghostnet_050", 32, 256, skip=("conv_head", "blocks.9.0")),
    "dla34": _timm("dla34", 32, 576),
    "hrnet_w18_small": _timm("hrnet_w18_small", 32, 256, skip=("final_layer", "incre_modules.3")),
    "repvgg_a0": _timm("repvgg_a0", 32, 256, skip=("stages.3",)),
    "mixer": _tokens(mlp_mixer.MixerBlock),
    "resmlp": _tokens(mlp_mixer.ResBlock, mlp_ratio=4, norm_layer=mlp_mixer.Affine),
    "gmlp": _tokens(mlp_mixer.SpatialGatingBlock, mlp_ratio=6, mlp_layer=GatedMlp),
    "poolformer": Network(
        lambda: metaformer.MetaFormer(
            depths=(1, 1, 1, 1), dims=(16, 32, 48, 64), num_classes=CLASSES
        ),
        images=256,
    ),
    "edgenext_xx_small": _timm("edgenext_xx_small", 64, 192),
    "mobilevit_xxs": _timm("mobilevit_xxs", 64, 128, skip=("final_conv",)),
    "rexnet_100": _timm("rexnetr_100", 32, 1056, skip=("features.16",)),
    "nf_resnet26": _timm("nf_resnet26", 32, 256),
    "levit_128s": _timm("levit_128s", 64, 768, img_size=64),
    "resnet20_padded": Network(lambda: padded_resnet(20, CLASSES)),
    "resnet56_padded": Network(lambda: padded_resnet(56, CLASSES)),
    "gru": Network(lambda: Recurrent(nn.GRU, CLASSES)),
    "lstm": Network(lambda: Recurrent(nn.LSTM, CLASSES)),
    "decoder": Network(lambda: Decoder(CLASSES)),
}  # fmt: skip
"""Name -> how it is built and what it is tried on."""


def lively(model: nn.Module) -> nn.Module:
    """Random norms, scales of branches, and weights that begin at zero: there, errors hide."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 and not bool(parameter.any()):
                parameter.normal_(0, 0.1, generator=generator)
        for module in model.modules():
            if type(module).__module__.startswith("torch.nn"):
                continue
            for parameter in module.parameters(recurse=False):
                if parameter.numel() == max(parameter.shape, default=0):
                    parameter.uniform_(0.5, 1.5, generator=generator)
    return awakened(model)


def batches(network: Network, *, each: int = 64, seed: int = 1) -> list[tuple[Tensor, Tensor]]:
    """Random images with random labels, in batches."""
    generator = torch.Generator().manual_seed(seed)
    shape = (network.images, network.channels, network.size, network.size)
    images = torch.randn(shape, generator=generator)
    labels = torch.randint(CLASSES, (network.images,), generator=generator)
    return list(zip(images.split(each), labels.split(each), strict=True))
