"""The local axis at initialization, foretold from input spectra: networks on CIFAR-10.

    python scripts/born_equal.py --data FOLDER --out docs/results/born_equal

FOLDER holds train/<class>/* and test/<class>/*. For every layer of ResNet-18 and VGG-16 with random
weights the eigenvalues of its patch covariance and its width alone foretell the mean E, the spread
of J(1 − E) across its channels and the rank correlation of E with J (`theory.initial_layer`). Found
are the layer's own, from its outputs at the same positions: as they are, and E also as `measure`
estimates it. One thread: a minute a network of width 1/4, five of width 1, whose widest layers have
4,608 inputs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from empirical import ImageSet, image_loader, load_data
from empirical.models.factory import ModelSpec
from empirical.reading.batches import batches
from empirical.reading.layers import find_layers
from empirical.reading.positions import Sampler
from empirical.reading.readings import PatchesAndOutputs
from empirical.reading.recorder import Recorder
from empirical.reading.sums import Sums
from theory import Moments, channel_axes, differentiation, estimate_peers, initial_layer
from theory.shared.files import write_table

NETWORKS, SEEDS = ("resnet18", "vgg16"), (0, 1, 2)
IMAGES, POSITIONS = 2000, 16
WIDEST = 1152
"""Most inputs of a layer of which groups of images are kept apart, as the estimate needs."""


def layer_sums(model: nn.Module, images: ImageSet) -> dict[str, tuple[Sums, ...]]:
    """One pass: sums of the patches, and of the outputs by group of images, of every layer."""
    stream = list(batches(image_loader(images), torch.device("cpu"), classes=None))
    layers = {x.name: x.module for x in find_layers(model, stream[0].images)}
    groups = 10 if max(x.weight[0].numel() for x in layers.values()) <= WIDEST else 1
    sums = {name: tuple(Sums([(v, v)], groups=groups) for v in ("x", "y")) for name in layers}
    recorder = Recorder(
        [(PatchesAndOutputs(name, layer), [*sums[name]]) for name, layer in layers.items()],
        Sampler(POSITIONS, groups=groups, seed=0, device=torch.device("cpu")),
    )
    recorder.read(model, stream)
    return sums


def foretold(covariance: np.ndarray, width: int) -> dict[str, float]:
    """What theory says of a layer of random filters on these inputs."""
    layer = initial_layer(covariance, width)
    born = layer.differentiation()
    return {
        "E": layer.mean_predictability,
        "overlap": layer.mean_overlap,
        "spread": layer.residual_spread,
        "spread_drawn": born.spread,
        "spearman": born.rank_correlation,
    }


def found(parts: list[Moments]) -> dict[str, float]:
    """What the layer's outputs say, as they are and estimated from groups."""
    whole = sum(parts[1:], parts[0])
    axes = channel_axes(whole, hull=False)
    peers = estimate_peers(parts, samples_per_image=POSITIONS).predictability
    estimated = float(np.nanmean(peers)) if np.isfinite(peers).any() else float("nan")
    own = differentiation(axes.signal_power, axes.peer_predictability)
    return {
        "E": float(np.nanmean(axes.peer_predictability)),
        "E_estimated": estimated,
        "overlap": float(np.nanmean(axes.peer_overlap)),
        "spread": own.spread,
        "spearman": own.rank_correlation,
    }


def network_rows(name: str, width: float, seed: int, images: ImageSet) -> pd.DataFrame:
    """One row per layer."""
    model = ModelSpec(name, classes=10, image_size=32, width=width).build(seed=seed)
    rows = []
    for layer, (inputs, outputs) in layer_sums(model, images).items():
        covariance = inputs.total().covariance("x", "x")[0]
        parts = outputs.moments()
        theory = foretold(covariance, parts[0].n_channels)
        rows.append(
            {"network": name, "width": width, "seed": seed, "layer": layer}
            | {"channels": parts[0].n_channels, "inputs": len(covariance)}
            | {f"{key}_foretold": value for key, value in theory.items()}
            | {f"{key}_found": value for key, value in found(parts).items()}
        )
    return pd.DataFrame(rows)


def summary(layers: pd.DataFrame) -> pd.DataFrame:
    """Per network, of the layers whose peers do not span their inputs; E is 1 in the others."""
    rows = []
    open_ = layers[layers["channels"] - 1 < layers["inputs"]]
    for keys, part in open_.groupby(["network", "width", "seed"]):
        error = part["E_foretold"] - part["E_found"]
        estimated = part["E_foretold"] - part["E_estimated_found"]
        rows.append(
            dict(zip(("network", "width", "seed"), keys, strict=True))
            | {
                "layers": len(part),
                "bias": error.mean(),
                "absolute_error": error.abs().mean(),
                "worst": error.abs().max(),
                "correlation": part["E_foretold"].corr(part["E_found"]),
                "absolute_error_estimated": estimated.abs().mean(),
                "correlation_estimated": part["E_foretold"].corr(part["E_estimated_found"]),
                "overlap_ratio": (part["overlap_foretold"] / part["overlap_found"]).median(),
                "spread_foretold": part["spread_foretold"].mean(),
                "spread_found": part["spread_found"].mean(),
                "spearman_foretold": part["spearman_foretold"].mean(),
                "spearman_found": part["spearman_found"].mean(),
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    """Every network, width and seed; a table of layers and one of networks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--widths", type=float, nargs="+", default=[0.25, 1.0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--images", type=int, default=IMAGES)
    options = parser.parse_args()
    images, _ = load_data(options.data, images=(options.images, 10))
    for width in options.widths:
        for name in options.networks:
            for seed in options.seeds:
                rows = network_rows(name, width, seed, images)
                write_table(options.out / f"layers_{name}_{width:g}_{seed}.csv", rows)
                print(summary(rows).round(4).to_string(index=False), flush=True)
    parts = sorted(options.out.glob("layers_*.csv"))
    layers = pd.concat([pd.read_csv(part) for part in parts], ignore_index=True)
    write_table(options.out / "layers.csv", layers)
    write_table(options.out / "networks.csv", summary(layers))
    for part in parts:
        part.unlink()


if __name__ == "__main__":
    main()
