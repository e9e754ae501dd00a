"""The local axis at initialization, foretold from input spectra: networks on CIFAR-10.

    python scripts/born_equal.py --data FOLDER --out docs/results/born_equal

FOLDER holds train/<class>/* and test/<class>/*. For every layer of ResNet-18 and VGG-16 with random
weights the eigenvalues of its patch covariance and its width alone foretell the mean E, the spread
of J(1 − E) across its channels and the rank correlation of E with J (`theory.initial_layer`). Found
are the layer's own, from its outputs at the same positions: as they are, and E also as `measure`
estimates it. A layer's mean E is that of one draw of few filters; layers drawn from the same
spectrum say how far a draw scatters, and with that which correlation over layers an exact
prediction would reach. Told also what power each channel has, theory foretells the draw itself.
One thread: a minute a network of width 1/4, five of width 1, whose widest layers have 4,608 inputs;
a network that is done is kept.
"""

from __future__ import annotations

import argparse
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy
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
from theory.random_layer import InitialLayer
from theory.shared.files import write_table
from theory.shared.store import Cells

CODE = ("theory.random_layer", "empirical.reading.recorder")
NETWORKS, SEEDS = ("resnet18", "vgg16"), (0, 1, 2)
IMAGES, POSITIONS = 2000, 16
WIDEST = 1152
"""Most inputs of a layer of which groups of images are kept apart, as the estimate needs."""


DRAWS = 16
"""Layers that are drawn from each spectrum."""


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


def foretold(layer: InitialLayer) -> dict[str, float]:
    """What theory says of a layer of random filters on these inputs, and what draws of it say."""
    drawn = [channel_axes(layer.draw(seed), hull=False) for seed in range(DRAWS)]
    means = [axes.peer_predictability.mean() for axes in drawn]
    born = [differentiation(axes.signal_power, axes.peer_predictability) for axes in drawn]
    return {
        "E": layer.mean_predictability,
        "E_drawn": float(np.mean(means)),
        "E_scatter": float(np.std(means, ddof=1)),
        "overlap": layer.mean_overlap,
        "spread": layer.residual_spread,
        "spread_drawn": float(np.mean([one.spread for one in born])),
        "spearman": float(np.mean([one.rank_correlation for one in born])),
    }


def found(parts: list[Moments], layer: InitialLayer) -> dict[str, float]:
    """What the layer's outputs say, as they are and estimated from groups."""
    whole = sum(parts[1:], parts[0])
    axes = channel_axes(whole, hull=False)
    peers = estimate_peers(parts, samples_per_image=POSITIONS).predictability
    estimated = float(np.nanmean(peers)) if np.isfinite(peers).any() else float("nan")
    own = differentiation(axes.signal_power, axes.peer_predictability)
    return {
        "E": float(np.nanmean(axes.peer_predictability)),
        "E_estimated": estimated,
        "E_of_power": float(layer.predictability(axes.signal_power).mean()),
        "overlap": float(np.nanmean(axes.peer_overlap)),
        "spread": own.spread,
        "spearman": own.rank_correlation,
    }


def network_rows(name: str, width: float, seed: int, images: ImageSet) -> list[dict[str, Any]]:
    """One row per layer."""
    model = ModelSpec(name, classes=10, image_size=32, width=width).build(seed=seed)
    rows, weights = [], dict(model.named_parameters())
    for name_of, (inputs, outputs) in layer_sums(model, images).items():
        covariance = inputs.total().covariance("x", "x")[0]
        scale = float(weights[f"{name_of}.weight"].detach().std())
        parts = outputs.moments()
        values = scipy.linalg.eigvalsh(covariance, overwrite_a=True)
        layer = initial_layer(np.maximum(values, 0), parts[0].n_channels, scale=scale)
        rows.append(
            {"network": name, "width": width, "seed": seed, "layer": name_of}
            | {"channels": parts[0].n_channels, "inputs": len(covariance)}
            | {f"{key}_foretold": value for key, value in foretold(layer).items()}
            | {f"{key}_found": value for key, value in found(parts, layer).items()}
        )
    return rows


def not_spanned(layers: pd.DataFrame) -> pd.DataFrame:
    """Layers whose peers do not span their inputs; E is 1 in the others by counting."""
    return layers[layers["channels"] - 1 < layers["inputs"]]


def over_seeds(layers: pd.DataFrame) -> pd.DataFrame:
    """Per architecture and width, each layer's mean E over seeds against what is foretold."""
    rows = []
    for keys, part in not_spanned(layers).groupby(["network", "width"]):
        mean = part.groupby("layer")[["E_foretold", "E_found"]].mean()
        error = (mean["E_foretold"] - mean["E_found"]).abs()
        rows.append(
            dict(zip(("network", "width"), keys, strict=True))
            | {"seeds": part["seed"].nunique(), "layers": len(mean)}
            | {"absolute_error": error.mean(), "worst": error.max()}
            | {"correlation": mean["E_foretold"].corr(mean["E_found"])}
        )
    return pd.DataFrame(rows)


def summary(layers: pd.DataFrame) -> pd.DataFrame:
    """Per network, of the layers that are not spanned."""
    rows = []
    for keys, part in not_spanned(layers).groupby(["network", "width", "seed"]):
        error = part["E_foretold"] - part["E_found"]
        estimated = part["E_foretold"] - part["E_estimated_found"]
        scatter = part["E_scatter_foretold"].to_numpy()
        reached = reachable(part["E_foretold"].to_numpy(), scatter)
        rows.append(
            dict(zip(("network", "width", "seed"), keys, strict=True))
            | {
                "layers": len(part),
                "bias": error.mean(),
                "absolute_error": error.abs().mean(),
                "worst": error.abs().max(),
                "correlation": part["E_foretold"].corr(part["E_found"]),
                "correlation_reachable": reached.mean(),
                "correlation_reachable_low": np.quantile(reached, 0.025),
                "error_over_scatter": np.sqrt(np.mean((error / scatter) ** 2)),
                "correlation_of_power": part["E_of_power_found"].corr(part["E_found"]),
                "absolute_error_of_power": (part["E_of_power_found"] - part["E_found"])
                .abs()
                .mean(),
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


def reachable(means: np.ndarray, scatter: np.ndarray, draws: int = 4000) -> np.ndarray:
    """(draws,) correlation over layers of an exact prediction with layers drawn around it."""
    rng = np.random.default_rng(0)
    drawn = means + scatter * rng.standard_normal((draws, means.size))
    return np.array([np.corrcoef(means, one)[0, 1] for one in drawn])


def main() -> None:
    """Every network, width and seed; tables of layers, of networks and of means over seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--widths", type=float, nargs="+", default=[0.25, 1.0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--cells", type=Path, default=Path("runs/born_equal"))
    options = parser.parse_args()
    images, _ = load_data(options.data, images=(options.images, 10))
    tables = []
    with Cells(options.cells / "cells.jsonl", {"images": images.fingerprint}, CODE) as kept:
        for width, name, seed in product(options.widths, options.networks, options.seeds):
            key = {"network": name, "width": width, "seed": seed}
            rows = kept.ensure(key, partial(network_rows, name, width, seed, images))
            tables.append(pd.DataFrame(rows))
            print(summary(tables[-1]).round(4).to_string(index=False), flush=True)
    layers = pd.concat(tables)
    write_table(options.out / "layers.csv", layers)
    write_table(options.out / "networks.csv", summary(layers))
    write_table(options.out / "architectures.csv", over_seeds(layers))


if __name__ == "__main__":
    main()
