"""Which conclusions depend on which choice of protocol? The demo's networks under each, one table.

    python scripts/protocol.py --out docs/results/protocol
    python scripts/protocol.py --pretrain FOLDER --out docs/results/protocol

Ten small networks on the tiles of two photographs; with --pretrain also started from the weights of
a network that was trained on the first of FOLDER's images, backbone at a tenth of the rate. Every
network is one cell that is kept as it ends: a killed run continues. About 15 s of processor time a
network, and twice that with --pretrain.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from empirical.analysis.couplings import BETWEEN
from empirical.analysis.seeds import CORRELATION, over_networks
from empirical.commands.demo_networks import LOCAL, TARGET
from empirical.data.images import ImageLoader, image_loader
from empirical.data.loading import load_data
from empirical.data.splits import DataSplit, split_data
from empirical.measuring.measurement import measure
from empirical.measuring.table import AxisTable
from empirical.models import create_model
from empirical.pruning.calibration import Calibration
from empirical.pruning.pruner import prune
from empirical.report.coupling import judged_early
from empirical.training.checkpoints import checkpoint_path
from empirical.training.evaluation import evaluate
from empirical.training.recipes import PHOTOGRAPHS
from empirical.training.trainer import train
from theory import compact_hull, spearman
from theory.shared.files import write_table
from theory.shared.findings import Estimate, verdict
from theory.shared.store import Cells
from theory.standardize import standardize

SHARES = (0.7, 0.5, 0.3)
ALLOCATIONS = ("uniform", "global")
RECOVERIES = ("none", "recalibrate", "auto")
PRETRAINING = (20_000, 3.0)
"""Images and epochs of the training that the backbone comes from."""
CLIP = 0.999
"""Largest |correlation| in the clipped overlap."""


def main() -> None:
    """Compute what is missing, then write the tables and print the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pretrain", type=Path, help="image folder of another task")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/protocol"))
    options = parser.parse_args()
    parts = split_data(*load_data("photographs"), calibration=1440, selection=0.0)
    starts = ["scratch", *(["pretrained"] if options.pretrain else [])]
    inputs = {"images": parts.fit.fingerprint, "pretraining": list(PRETRAINING)}
    code = (__name__, "empirical.pruning.pruner", "empirical.measuring.measurement")
    with Cells(options.out / "networks.jsonl", inputs, code) as cells:
        rows = [
            row | {"seed": seed, "start": start}
            for seed in range(options.seeds)
            for start in starts
            for row in cells.ensure(
                {"seed": seed, "start": start},
                partial(one_network, parts, seed, options.pretrain if start != "scratch" else None),
            )
        ]
    frame = pd.DataFrame(rows)
    table = summary(frame)
    write_table(options.out / "protocol_networks.csv", frame)
    write_table(options.out / "protocol.csv", table)
    print(table.to_string(index=False))


def one_network(parts: DataSplit, seed: int, pretrain: Path | None) -> list[dict[str, Any]]:
    """Rows choice, conclusion, value of one network, measured and pruned under every protocol."""
    model = create_model("small_convnet", classes=10, image_size=16, channels=3, seed=seed)
    loader = image_loader(parts.calibration)
    found: dict[int, dict[str, float]] = {}

    def at_checkpoint(step: int, network: nn.Module) -> None:
        found[step] = couplings(network, loader)

    steps = [0, 68, 675]
    keywords: dict[str, Any] = {"seed": seed, "steps": steps, "on_checkpoint": at_checkpoint}
    if pretrain is None:
        train(model, parts.fit, recipe=PHOTOGRAPHS, **keywords)
    else:
        with tempfile.TemporaryDirectory() as folder:
            weights = pretrained(pretrain, seed, folder)
            recipe = PHOTOGRAPHS.but(backbone_rate=0.1)
            train(model, parts.fit, recipe=recipe, initial=weights, **keywords)
    rows = []
    for choice in found[0]:
        start, tenth, end = (found[step][choice] for step in steps)
        rows += [
            {"choice": choice, "conclusion": "C1 start", "value": start},
            {"choice": choice, "conclusion": "C1 fall", "value": start - end},
            {
                "choice": choice,
                "conclusion": "C3 early",
                "value": start - tenth - (start - end) / 2,
            },
        ]
    return [*rows, *hulls(measure(model, loader)), *removals(model, parts, loader, seed)]


def pretrained(folder: Path, seed: int, into: str) -> Path:
    """Train the demo's network on another task; return the checkpoint of its last step."""
    images, epochs = PRETRAINING
    other, _ = load_data(folder, images=(images, 1))
    model = create_model(
        "small_convnet", classes=other.classes, image_size=32, channels=3, seed=seed
    )
    recipe = PHOTOGRAPHS.but(epochs=epochs, batch_size=128)
    result = train(model, other, recipe=recipe, seed=seed, folder=into, steps=[])
    return checkpoint_path(into, int(result.history[-1]["step"]))


def couplings(network: nn.Module, loader: ImageLoader) -> dict[str, float]:
    """Mean coupling over layers of the published pair, under each way of sampling."""
    how: dict[str, Any] = {"hull": False, "standard_errors": False}
    placed = measure(network, loader, **how)
    pooled = measure(network, loader, sampling="pooled", **how)

    def mean(local: AxisTable, target: AxisTable) -> float:
        first, second = BETWEEN.names
        per_layer = [
            spearman(local[name].as_dict()[first], target[name].as_dict()[second])
            for name in local.layers
        ]
        return float(np.mean(per_layer))

    return {
        "sampling: both axes at positions": mean(placed, placed),
        "sampling: target axis on pooled maps": mean(placed, pooled),
        "sampling: both axes on pooled maps": mean(pooled, pooled),
    }


def hulls(table: AxisTable) -> list[dict[str, Any]]:
    """Greedy hulls against nested sets of the most correlated peers, and overlap clipped or not."""
    rows: list[dict[str, Any]] = []
    for name, moments in table.moments.items():
        correlation = standardize(moments).correlation
        predictability = table[name].peer_predictability
        aim = np.clip(np.nan_to_num(predictability), 0, 1)
        sizes = compact_hull(correlation, aim).size, nested_sizes(correlation, aim)
        off = ~np.eye(len(correlation), dtype=bool)
        clipped = np.where(off, np.clip(np.abs(correlation), 0, CLIP), 0.0)
        overlap = (-0.5 * np.log1p(-(clipped**2))).sum(axis=1) / len(correlation)
        scores = [predictability / np.maximum(1, size) for size in sizes]
        alike = {
            "hull: score of nested with score of greedy": spearman(*scores),
            "overlap: clipped, over C, with ours": spearman(overlap, table[name].peer_overlap),
        }
        rows += [
            {"choice": choice, "conclusion": "ranks alike", "value": float(value)}
            for choice, value in alike.items()
        ]
        rows += [
            {"choice": f"hull: {kind}", "conclusion": "mean size", "value": float(np.mean(size))}
            for kind, size in zip(("greedy", "nested"), sizes, strict=True)
        ]
    return rows


def nested_sizes(correlation: np.ndarray, aim: np.ndarray, most: int = 10) -> np.ndarray:
    """(C,) peers, taken in the order of |correlation|, until 95 % of `aim`; at most `most`."""
    size = np.full(len(correlation), most)
    for i, row in enumerate(np.abs(correlation)):
        order = np.argsort(-row, kind="stable")
        order = order[order != i]
        for k in range(1, min(most, order.size) + 1):
            chosen = order[:k]
            r = correlation[i, chosen]
            if r @ np.linalg.lstsq(correlation[np.ix_(chosen, chosen)], r)[0] >= 0.95 * aim[i]:
                size[i] = k
                break
    return size


def removals(
    model: nn.Module, parts: DataSplit, loader: ImageLoader, seed: int
) -> list[dict[str, Any]]:
    """Accuracy by the local axis less that by the target axis, over shares (C5)."""
    known, report = Calibration(model, loader, seed=seed), image_loader(parts.report)
    rows = []
    for allocation in ALLOCATIONS:
        for recovery in RECOVERIES:
            mean: Mapping[str, float] = {
                criterion: float(
                    np.mean([
                        evaluate(
                            prune(
                                model, known, macs=share, criterion=criterion,
                                allocation=allocation, recovery=recovery,
                            ).model,
                            report,
                        ).accuracy
                        for share in SHARES
                    ])
                )
                for criterion in (LOCAL, TARGET)
            }  # fmt: skip
            choice = f"pruning: {allocation}, {recovery}"
            value = mean[LOCAL] - mean[TARGET]
            rows.append({"choice": choice, "conclusion": "C5 local less target", "value": value})
    return rows


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per start, choice and conclusion: mean and interval over networks, and verdict."""
    rows = []
    keys = ["start", "choice", "conclusion"]
    for key, group in frame.groupby(keys, sort=False):
        within = CORRELATION if key[2] in ("C1 start", "ranks alike") else None
        found = over_networks(group.groupby("seed")["value"].mean(), within)
        claim = found
        if key[2] == "C1 start":
            claim = Estimate(found.mean - 0.3, found.low - 0.3, found.high - 0.3)
        word = verdict(claim) if key[2].startswith("C") else ""
        if key[2] == "C3 early":
            by_seed = frame[(frame["start"] == key[0]) & (frame["choice"] == key[1])]
            fall = by_seed[by_seed["conclusion"] == "C1 fall"].set_index("seed")["value"]
            first = group.set_index("seed")["value"] + fall / 2
            word = judged_early(over_networks(fall), over_networks(first), found)
        networks = group["seed"].nunique()
        rows.append(
            dict(zip(keys, key, strict=True))
            | vars(found)
            | {"verdict": word, "networks": networks}
        )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
