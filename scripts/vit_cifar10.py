"""A vision transformer on CIFAR-10: its heads and neurons measured, lesioned, replaced and pruned.

    python scripts/vit_cifar10.py --data CIFAR10 --out FOLDER [--weights FILE] [--parts heads ...]

CIFAR10 holds train/<class>/* and test/<class>/*. Writes heads.csv, neurons.csv and pruning.csv.
Scores come from calibration images, which are training images; damages and accuracies from test
images. torchvision's ViT: 6 layers, width 192, 6 heads, 4 × 4 pixels a token (by two convolutions
of stride 2, torchvision's option, which learn in few epochs what one takes many for).
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import VisionTransformer
from torchvision.models.vision_transformer import ConvStemConfig

from empirical import (
    Calibration,
    ImageSet,
    ModelSpec,
    Recipe,
    damage_heads,
    evaluate,
    image_loader,
    lesion_heads,
    load_data,
    load_weights,
    measure,
    measure_heads,
    prune,
    prune_heads,
    replace,
    split_data,
    train,
)
from empirical.data.images import ImageLoader

SEED = 0
CALIBRATION, PRUNING = 2000, 1000
LESIONED, REPLACED, REPORTED = 400, 400, 1250
"""Test images on which heads are lesioned, neurons replaced, and accuracies reported."""
NEURONS = 8
"""Replaced in each layer."""
PARTS = ("heads", "neurons", "pruning")
DRAWS = 4
"""Backward passes of an image, for the law of damage."""
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
    """Return the network with fresh weights."""
    stem = [ConvStemConfig(channels, kernel_size=3, stride=2) for channels in (48, 96)]
    model = VisionTransformer(
        image_size, 4, 6, 6, 192, 384, num_classes=classes, conv_stem_configs=stem
    )
    model.encoder.dropout = HalfOfThePatches()
    return model


def spread(images: ImageSet, n: int) -> ImageLoader:
    """Return every so many of the images, which lie class by class."""
    return image_loader(images, range(0, len(images), len(images) // n), batch_size=50)


def divergence(outputs: Tensor, intact: Tensor) -> Tensor:
    """How far each prediction is from the intact network's, in nats: least, 0, without lesion."""
    before, after = (logits.double().log_softmax(1) for logits in (intact, outputs))
    return functional.kl_div(after, before, log_target=True, reduction="none").sum(1)


def heads_by_damage(model: nn.Module, calibration: object, report: ImageSet) -> pd.DataFrame:
    """Each head's quantities beside its lesion, and what the other heads recover of it."""
    table = measure_heads(model, calibration)
    with torch.no_grad():
        compared = [(images, model(images)) for images, _ in spread(report, LESIONED)]
    damage = lesion_heads(model, compared, table, loss=divergence)
    frame = damage.to_frame().set_index(["layer", "head"])
    mean, replaced = frame[frame["kind"] == "mean"], frame[frame["kind"] == "heads"]
    found = mean[["loss_increase", "loss_increase_se"]].set_axis(
        ["divergence", "divergence_se"], axis=1
    )
    found = found.join(replaced[["predicted", "recovered", "recovered_se"]])
    share, error = damage.pooled("heads")
    print(damage.by_layer().round(3).to_string())
    print(f"of all damage {share:.3f} ± {error:.3f} recovered")
    law = damage_heads(model, spread(report, LESIONED), calibration=table, draws=DRAWS).to_frame()
    law = law.set_index(["layer", "head"]).add_prefix("law_")
    both = table.to_frame().set_index(["layer", "head"]).join([found, law])
    compare(both)
    return both.reset_index()


def compare(both: pd.DataFrame) -> None:
    """Print what each foretelling says of the shares recovered, and what goes with damage."""
    for foretold in ("predicted", "peer_predictability", "law_recovered"):
        print(f"{foretold}: {agreement(both['recovered'], both[foretold])}")
    for quantity in ("law_damage_alone", "signal_power", "peer_predictability"):
        ranks = both[["divergence", quantity]].corr("spearman").iloc[0, 1]
        print(f"damage and {quantity}: Spearman {ranks:.2f}")


def agreement(measured: pd.Series, foretold: pd.Series) -> str:
    """Means, their difference over heads with its standard error, and the rank correlation."""
    both = pd.DataFrame({"measured": measured, "foretold": foretold}).dropna()
    gap = both["measured"] - both["foretold"]
    ranks = both.corr("spearman").iloc[0, 1]
    return (
        f"{len(both)} heads, recovered {both['measured'].mean():.3f}, foretold "
        f"{both['foretold'].mean():.3f}, less foretold {gap.mean():+.3f} ± {gap.sem():.3f}, mean "
        f"size {gap.abs().mean():.3f}, Spearman {ranks:.2f}"
    )


def neurons_by_layer(model: nn.Module, calibration: object, lesioned: object) -> pd.DataFrame:
    """Neurons where the second linear layer reads them: medians, and some of them replaced."""
    names = [
        n for n, m in model.named_modules() if n.endswith("mlp.0") and isinstance(m, nn.Linear)
    ]
    table = measure(model, calibration, layers=names, point="post_activation", hull=False)
    quantities = ["input_capture", "peer_overlap", "peer_predictability", "task_information"]
    medians = table.to_frame().groupby("layer")[quantities].median()
    chosen = {name: list(range(NEURONS)) for name in names}
    damage = replace(model, lesioned, table, channels=chosen, peers="all", point="post_activation")
    return medians.join(damage.by_layer().set_index("layer")).reset_index()


def pruned(model: nn.Module, calibration: object, report: object) -> pd.DataFrame:
    """Half of the neurons, and half of the heads, gone; accuracies without and with recovery."""
    known = Calibration(model, calibration, seed=SEED)
    neurons = {g.name: g.units // 2 for g in known.graph.groups if "mlp" in g.name}
    networks = {("all", "-", "-"): model}
    for criterion, recovery in (
        ("l2", "none"), ("replaceability", "none"), ("l2", "compensate"),
        ("replaceability", "compensate"), ("replaceability", "reconstruct"),
    ):  # fmt: skip
        found = prune(model, known, counts=neurons, criterion=criterion, recovery=recovery)
        networks["half of the neurons", criterion, recovery] = found.model
    heads = measure_heads(model, calibration)
    for criterion in ("signal_power", "replaceability"):
        for recovery in ("none", "merge"):
            options = {"criterion": criterion, "compensate": recovery == "merge"}
            found = prune_heads(model, heads, share=0.5, example=known.images[:4], **options)
            networks["half of the heads", criterion, recovery] = found.model
    rows = []
    for (what, criterion, recovery), network in networks.items():
        result = evaluate(network, report)
        weights = sum(weight.numel() for weight in network.parameters())
        rows.append((what, criterion, recovery, weights, result.accuracy, result.accuracy_se))
    columns = ["gone", "criterion", "recovery", "weights", "accuracy", "accuracy_se"]
    return pd.DataFrame(rows, columns=columns)


def main() -> None:
    """Train, or load; then measure, lesion, replace and prune."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of CIFAR-10's images")
    parser.add_argument("--out", type=Path, default=Path("runs/vit_cifar10"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--weights", type=Path, help="a trained network, instead of training one")
    options = parser.parse_args()
    parts = split_data(*load_data(options.data), calibration=CALIBRATION, selection=0.0, seed=SEED)
    spec = ModelSpec(f"{__file__}:vit", parts.fit.classes, parts.fit.image_size)
    model = spec.build(SEED)
    if options.weights:
        load_weights(model, options.weights)
    else:
        folder, shown = options.out / "training", partial(print, flush=True)
        train(model, parts.fit, recipe=RECIPE, seed=SEED, folder=folder, spec=spec,
              on_progress=shown)  # fmt: skip
    model.eval()
    options.out.mkdir(parents=True, exist_ok=True)
    calibration = image_loader(parts.calibration)
    some = image_loader(parts.calibration, range(PRUNING))
    fewer, report = (spread(parts.report, n) for n in (REPLACED, REPORTED))
    for name, made in (
        ("heads", lambda: heads_by_damage(model, calibration, parts.report)),
        ("neurons", lambda: neurons_by_layer(model, calibration, fewer)),
        ("pruning", lambda: pruned(model, some, report)),
    ):
        if name not in options.parts:
            continue
        frame = made()
        frame.round(5).to_csv(options.out / f"{name}.csv", index=False)
        print(frame.round(3).to_string(), flush=True)


if __name__ == "__main__":
    main()
