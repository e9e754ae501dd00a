"""Triples against pairs and modularity by depth, in networks on CIFAR-10; one network each.

    python scripts/structure.py --data FOLDER --networks FOLDER --out docs/results/structure

FOLDER of --networks is that of damage_law.py, which trains what is missing; ResNet-20, trained by
others, needs its file resnet20-cifar10.safetensors there. Every network is one cell that is kept
as it ends: a killed run continues. About 30 s a network, on 2,000 training images.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from damage_law_networks import network

from empirical import image_loader, load_data, measure
from empirical.analysis.couplings import BETWEEN, layer_couplings
from empirical.analysis.modularity import layer_modularity
from empirical.analysis.triplets import depth_trend, layer_triplets
from empirical.data.images import ImageSet
from empirical.data.splits import stratified_subset
from theory.shared.files import write_table
from theory.shared.store import Cells

IMAGES = 2000
NETWORKS = ("resnet20", "resnet18", "vgg16", "mobilenetv2")
CODE = tuple(
    f"empirical.{name}"
    for name in ("measuring.measurement", "analysis.triplets", "analysis.modularity")
)


def main() -> None:
    """Measure what is missing, then write a row per network and layer, and a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of CIFAR-10's images")
    parser.add_argument("--networks", type=Path, required=True, help="folder of trained networks")
    parser.add_argument("--names", nargs="*", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--out", type=Path, default=Path("runs/structure"))
    options = parser.parse_args()
    train, _ = load_data(options.data, cache=options.networks / "cache")
    images = stratified_subset(train, IMAGES, 0)
    with Cells(options.out / "networks.jsonl", {"images": images.fingerprint}, CODE) as cells:
        found = {
            name: cells.ensure(
                {"network": name}, partial(one_network, name, options.networks, train, images)
            )
            for name in options.names
        }
    layers = pd.concat([pd.DataFrame(rows).assign(network=name) for name, rows in found.items()])
    write_table(options.out / "layers.csv", layers)
    table = summary(layers)
    write_table(options.out / "networks.csv", table)
    print(table.round(3).to_string(index=False))


def one_network(name: str, folder: Path, train: ImageSet, images: ImageSet) -> list[dict[str, Any]]:
    """A row per layer: excesses, modularities, and the coupling of the axes."""
    table = measure(network(name, folder, train), image_loader(images), hull=False, damage=False)
    rows = layer_triplets(table).merge(layer_modularity(table), on=["layer", "depth", "channels"])
    coupled = layer_couplings(table, pairs=[BETWEEN], permutations=20)[["layer", "coupling"]]
    return rows.merge(coupled, on="layer").to_dict("records")


def summary(layers: pd.DataFrame) -> pd.DataFrame:
    """One row per network, which has no interval: networks of one kind would give it."""
    rows = []
    for name, own in layers.groupby("network", sort=False):
        known = own[own["resolved"].astype(bool)]
        rows.append(
            {
                "network": name,
                "layers": len(own),
                "resolved": len(known),
                "ratio": known["ratio"].mean(),
                "null_ratio": known["null_ratio"].mean(),
                "trend_resolved": depth_trend(own),
                "trend_all": depth_trend(own.assign(resolved=True)),
                "overlap": (own["overlap"] - own["overlap_null"]).mean(),
                "excess": (own["excess"] - own["excess_null"]).mean(),
                "overlap_more_modular": int((own["more"] > 0).sum()),
                "coupling": own["coupling"].mean(),
            }
        )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
