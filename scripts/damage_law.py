"""The law of damage against exact lesions: five networks on CIFAR-10, at two points, pairs, sets.

    python scripts/damage_law.py --data FOLDER --networks FOLDER --out docs/results/damage_law

FOLDER of data holds train/<class>/* and test/<class>/*; that of networks keeps the checkpoints,
which are trained where missing (ResNet-18, VGG-16, MobileNetV2 of width 1/4 and a small ConvNeXt,
four epochs each), and may hold `resnet20-cifar10.safetensors`, a ResNet-20 trained by others.
Foretold on 1,000 test images (their labels unread), measured on 300 others, and foretold on these
too. Tables of layers, channels, networks, pairs and sets, and figures; rows of networks that are
not asked for stay. One thread of a shared machine: 10 to 30 min of training a network, 5 to 10 min
of exact lesions.
"""

from __future__ import annotations

import argparse
from dataclasses import replace as with_changes
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from damage_law_networks import RECIPES, network
from torch import Tensor, nn

from empirical import (
    ImageSet,
    damage,
    image_loader,
    lesion,
    load_data,
    measure,
    replace,
)
from empirical.lesions.foretold import agreement
from empirical.measuring.damage_table import FORETOLD as FORETOLD_NAMES
from empirical.measuring.damage_table import RECOVERED
from theory.rank_coupling import spearman
from theory.shared.files import write_table
from theory.shared.style import sheet, styled

POINTS = ("pre_norm", "post_activation")
FORETOLD, MEASURED, LINEARIZED, DRAWS_OF_SAME = 1000, 300, 300, 16
JOINT = ("resnet18", "vgg16")
"""Networks whose pairs and sets are lesioned, in two layers at each."""

PAIRS, DRAWS = 20, 6
"""Pairs of a layer of each kind, and random sets of each size."""

BLOCK = 500
"""Images that one law is foretold on, against all 10,000."""

SIZES = (2, 4, 8, 16, 32)
"""Channels of a set, as far as a layer has twice as many."""


def compared(
    model: nn.Module, known: Any, few: Any, held_out: Any, point: str
) -> list[pd.DataFrame]:
    """Per layer and per channel: foretold and measured, alone and with peers, at one point.

    The linearized form, a backward pass per class, is foretold on a few images. Foretold again on
    the very images that are lesioned, by more draws: what is then missing is not sampling.
    """
    foretold = damage(model, known, point=point)
    calibration = measure(
        model, known, point=point, layers=list(foretold.layers), standard_errors=False, hull=False
    )
    linearized = damage(model, few, calibration=calibration, point=point, form="linearized")
    same = damage(model, held_out, calibration=calibration, point=point, draws=DRAWS_OF_SAME)
    measured = replace(
        model, held_out, calibration, peers="all", point=point, layers=list(foretold.layers)
    )
    found = agreement(measured, foretold)
    better, of_same = agreement(measured, linearized), agreement(measured, same)
    layers = found.layers.assign(
        point=point,
        spearman_linearized=better.layers["spearman"],
        ratio_linearized=better.layers["ratio"],
        spearman_same=of_same.layers["spearman"],
        ratio_same=of_same.layers["ratio"],
    )
    channels = found.channels.assign(
        point=point,
        linearized=better.channels["foretold"],
        same=of_same.channels["foretold"],
    )
    return [layers, channels]


def joint(model: nn.Module, known: Any, few: Any, held_out: Any) -> list[pd.DataFrame]:
    """Pairs and sets of two layers: measured together, by the law, and by the sum of the parts."""
    rng = np.random.default_rng(0)
    table = damage(model, known, joint=True)
    wide = [name for name, sets in table.channels.items() if len(sets) >= 32]
    names = [wide[len(wide) // 3], wide[2 * len(wide) // 3]]
    calibration = measure(model, known, layers=names, standard_errors=False, hull=False)
    singles = lesion(model, held_out, layers=names, kinds=["mean"], calibration=calibration)
    pairs, sets = [], []
    for name in names:
        c = len(table.channels[name])
        alone = singles.select(singles.layer == name).mean_and_error("divergence")[0]
        foretold, _ = table[name].interaction()
        first, second = np.triu_indices(c, 1)
        order = np.argsort(foretold[first, second])
        picked = {"low": order[:PAIRS], "high": order[-PAIRS:]}
        rest = order[PAIRS:-PAIRS]
        picked["random"] = rng.choice(rest, min(PAIRS, len(rest)), replace=False)
        for kind, index in picked.items():
            chosen = np.column_stack([first[index], second[index]])
            together = lesion(
                model,
                held_out,
                channels={name: chosen.tolist()},
                kinds=["mean"],
                calibration=calibration,
            )
            value, error = together.mean_and_error("divergence")
            pairs.append(
                pd.DataFrame(
                    {
                        "layer": name,
                        "kind": kind,
                        "first": chosen[:, 0],
                        "second": chosen[:, 1],
                        "foretold": foretold[chosen[:, 0], chosen[:, 1]],
                        "measured": value - alone[chosen].sum(1),
                        "damage_se": error,
                    }
                )
            )
        for size in [size for size in SIZES if 2 * size <= c]:
            members = [sorted(rng.choice(c, size, replace=False).tolist()) for _ in range(DRAWS)]
            together = lesion(
                model, held_out, channels={name: members}, kinds=["mean"], calibration=calibration
            )
            linear = damage(
                model, few, calibration=calibration, channels={name: members}, form="linearized"
            )
            value, error = together.mean_and_error("divergence")
            sets.append(
                pd.DataFrame(
                    {
                        "layer": name,
                        "channels": c,
                        "size": size,
                        "measured": value,
                        "measured_se": error,
                        "law": table[name].of_sets(members)[0],
                        "linearized": linear[name].values()["damage_alone"],
                        "sum": alone[np.array(members)].sum(1),
                    }
                )
            )
    return [pd.concat(pairs), pd.concat(sets)]


def kept(folder: Path, key: str, others: list[str]) -> list[pd.DataFrame]:
    """What a table of the folder says of networks other than these."""
    path = folder / f"{key}.csv"
    if not path.exists():
        return []
    found = pd.read_csv(path)
    return [found[~found["network"].isin(others)]]


def sampled(model: nn.Module, images: ImageSet, order: Tensor) -> pd.DataFrame:
    """How one block of images agrees with all others: rank correlation, and intervals that hold.

    Intervals of a block's law, on their scale of logarithms, wider by the error that the mean of
    the others has of its own.
    """
    blocks = [
        damage(model, image_loader(images, own, batch_size=100)) for own in order.split(BLOCK)
    ]
    wider = np.sqrt(1 + 1 / (len(blocks) - 1))
    rows = []
    for layer in blocks[0].layers:
        for name in FORETOLD_NAMES:
            values = np.stack([block[layer].values()[name] for block in blocks])
            ends = np.stack([block[layer].intervals()[name] for block in blocks], axis=1)
            others = (values.sum(0) - values) / (len(blocks) - 1)
            low, high, here, there = (
                np.log(1 - v if name == RECOVERED else v) for v in (*ends, values, others)
            )
            rows.append(
                {
                    "layer": layer,
                    "quantity": name,
                    "channels": values.shape[1],
                    "images": BLOCK,
                    "of": sum(block.settings["n_images"] for block in blocks),
                    "spearman": np.nanmean(spearman(values, others)),
                    "held": np.mean(np.abs(here - there) <= wider * np.abs(high - low) / 2),
                }
            )
    return pd.DataFrame(rows)


def summary(layers: pd.DataFrame) -> pd.DataFrame:
    """One row per network, point and kind: means over layers of at least 16 resolved channels."""
    rows = []
    for (name, point, kind), part in layers.groupby(["network", "point", "kind"], sort=False):
        wide = part[part["resolved"] >= 16]
        rows.append(
            {
                "network": name,
                "point": point,
                "kind": kind,
                "layers": len(part),
                "channels": part["channels"].sum(),
                "resolved": part["resolved"].sum(),
                "spearman": wide["spearman"].mean(),
                "lowest": wide["spearman"].min(),
                "attainable": wide["attainable"].mean(),
                "log_pearson": wide["log_pearson"].mean(),
                "ceiling": wide["ceiling"].mean(),
                "ratio": wide["ratio"].mean(),
                "ratio_least": wide["ratio"].min(),
                "ratio_most": wide["ratio"].max(),
                "spearman_linearized": wide["spearman_linearized"].mean(),
                "ratio_linearized": wide["ratio_linearized"].mean(),
                "ratio_se": wide["ratio_se"].mean(),
                "spearman_same": wide["spearman_same"].mean(),
                "lowest_same": wide["spearman_same"].min(),
                "ratio_same": wide["ratio_same"].mean(),
                "ratio_same_least": wide["ratio_same"].min(),
                "ratio_same_most": wide["ratio_same"].max(),
            }
        )
    return pd.DataFrame(rows)


@styled()
def draw_channels(channels: pd.DataFrame, path: Path) -> None:
    """Foretold against measured damage of every channel before the norm."""
    names = list(dict.fromkeys(channels["network"]))
    drawn, axes = sheet(2, len(names), width=2.4 * len(names), height=2.3)
    for column, name in enumerate(names):
        part = channels[(channels["network"] == name) & (channels["point"] == "pre_norm")]
        for row, kind in enumerate(("mean", "all")):
            own, ax = part[part["kind"] == kind], axes[row, column]
            ax.plot(own["foretold"], own["measured"], ".", markersize=2)
            ends = np.array([1e-8, 1.0])
            ax.plot(ends, ends, linewidth=0.8, color="0.4")
            ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
            title = "held at its mean" if kind == "mean" else "replaced by its peers"
            ax.set_title(f"{name}, {title}", fontsize=7)
    axes[0, 0].set_ylabel("measured, nats")
    axes[1, 0].set_ylabel("measured, nats")
    for ax in axes[1]:
        ax.set_xlabel("foretold, nats")
    drawn.savefig(path / "damage_law.png", dpi=130)


@styled()
def draw_sets(sets: pd.DataFrame, path: Path) -> None:
    """What the law, its linearized form and the sum of single damages say of random sets."""
    drawn, axes = sheet(1, 2, width=7.0, height=2.8)
    for ax, (name, part) in zip(axes[0], sets.groupby("network", sort=False), strict=False):
        for label in ("law", "linearized", "sum"):
            ax.plot(part["measured"], part[label], ".", label=label)
        ends = np.array([part["measured"].min(), part["measured"].max()])
        ax.plot(ends, ends, linewidth=0.8, color="0.4")
        ax.set(xscale="log", yscale="log", xlabel="measured, nats", title=f"{name}: random sets")
    axes[0, 0].set_ylabel("foretold, nats")
    axes[0, 0].legend()
    drawn.savefig(path / "damage_of_sets.png", dpi=130)


def main() -> None:
    """Train what is missing, foretell, measure, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--networks", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/results/damage_law"))
    parser.add_argument("--sampling", action="store_true", help="only the law on 500 images")
    parser.add_argument("--only", nargs="+", default=[*RECIPES, "resnet20"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    images, test = load_data(options.data, cache=options.networks / "cache")
    keys = ("layers", "channels", "pairs", "sets")
    parts = {key: kept(options.out, key, options.only) for key in keys}
    for name in options.only:
        model, own = network(name, options.networks, images), test
        if name == "resnet20":
            statistics = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
            own = with_changes(test, **statistics)
        # the test set lies class by class
        order = torch.randperm(len(own), generator=torch.Generator().manual_seed(0))
        if options.sampling:
            found = sampled(model, own, order)
            write_table(options.out / f"sampling_{name}.csv", found)
            print(found.groupby("quantity")[["spearman", "held"]].mean())
            continue
        known = image_loader(own, order[:FORETOLD], batch_size=100)
        few = image_loader(own, order[:LINEARIZED], batch_size=100)
        held_out = image_loader(own, order[FORETOLD : FORETOLD + MEASURED], batch_size=100)
        for point in POINTS:
            tables = compared(model, known, few, held_out, point)
            for key, table in zip(("layers", "channels"), tables, strict=True):
                parts[key].append(table.assign(network=name))
            print(summary(parts["layers"][-1]).to_string(), flush=True)
        if name in JOINT:
            for key, table in zip(
                ("pairs", "sets"), joint(model, known, few, held_out), strict=True
            ):
                parts[key].append(table.assign(network=name))
            print(parts["sets"][-1].groupby(["layer", "size"]).mean(numeric_only=True), flush=True)
        whole = {key: pd.concat(rows, ignore_index=True) for key, rows in parts.items() if rows}
        for key, table in whole.items():
            write_table(options.out / f"{key}.csv", table)
    if options.sampling:
        return
    write_table(options.out / "networks.csv", summary(whole["layers"]))
    draw_channels(whole["channels"], options.out)
    if "sets" in whole:
        for (name, layer), part in whole["pairs"].groupby(["network", "layer"]):
            print(name, layer, "pairs:", float(spearman(part["foretold"], part["measured"])))
        draw_sets(whole["sets"], options.out)


if __name__ == "__main__":
    main()
