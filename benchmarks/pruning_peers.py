"""Selectors of channels against each other under equal recoveries; last line JSON.

    python benchmarks/pruning_peers.py --data FOLDER --networks FOLDER [--out FOLDER]

ResNet-18, VGG-16 and MobileNetV2 of width 1/4 as `scripts/damage_law_networks.py` trains them on
CIFAR-10, and ResNet-20, trained by others; 1,500 training images calibrate, 2,000 test images
count, of one draw each. Ours; torch-pruning's importances; re-implemented: OSSCAR's layerwise least
squares, LinDeps, model folding; GRAIL is `l2` under `compensate`. Every cell is kept as it ends
(`--cells`), so that `--minutes` stops and another call goes on; `--steps 0` leaves distilling out.
`seconds` are those of `prune` and, at a selector's first cell, of what it measures. Refitted cells
took 3 to 20 s on two cores that other work kept busy.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from empirical import ImageSet, image_loader, load_data, prune
from empirical.pruning.calibration import Calibration
from empirical.pruning.distillation import Distillation
from empirical.pruning.forecast_law import Answers
from scripts.damage_law_networks import network
from theory.shared.files import write_table
from theory.shared.store import Cells
from theory.shared.style import sheet, styled

NETWORKS = ("resnet18", "vgg16", "mobilenetv2", "resnet20")
SHARES = (0.5, 0.3)
CALIBRATION, TEST = 1500, 2000
OURS = ("task_replaceability", "global")
DEFAULT = ("replaceability", "uniform")
KERNELS = {
    ("task_replaceability_kernels", "global"): OURS,
    ("replaceability_kernels", "uniform"): DEFAULT,
    ("replaceability_kernels", "global"): ("replaceability", "global"),
}
"""With whole kernels -> the same selector with taps taken as uncorrelated."""
MERGING = (
    OURS, DEFAULT, *list(KERNELS)[:2], ("osscar", "uniform"), ("lindeps", "uniform"),
    ("l2", "uniform"),
)  # fmt: skip
TORCH_PRUNING = (
    ("group_l2", "uniform"), ("group_l2", "global"), ("group_l1", "global"), ("lamp", "global"),
    ("bn_scale", "global"), ("taylor", "global"), ("hessian", "global"),
)  # fmt: skip
SELECTORS = dict.fromkeys(
    [
        OURS, DEFAULT, *KERNELS, ("replaceability", "global"), *MERGING, ("lindeps", "global"),
        ("l2", "global"), *TORCH_PRUNING, ("folding", "uniform"), ("random", "uniform"),
    ]
)  # fmt: skip
RECOVERIES = {
    "reconstruct": tuple(SELECTORS),
    "compensate": MERGING,
    "recalibrate": (OURS, ("l2", "uniform"), *TORCH_PRUNING),
    "fold": (("folding", "uniform"),),
}
DISTILLED = 5
"""So many selectors, the best of a network under `reconstruct`, and `l2` are distilled as well."""
CODE = ("empirical.pruning.pruner",)

Selector = tuple[str, str]


@dataclass(frozen=True)
class Cell:
    """One pruned network; `selector` is criterion and allocation."""

    network: str
    share: float
    recovery: str
    selector: Selector
    steps: int = 0

    @property
    def named(self) -> dict[str, Any]:
        """As the store knows it."""
        criterion, allocation = self.selector
        return {
            "network": self.network, "share": self.share, "recovery": self.recovery,
            "criterion": criterion, "allocation": allocation, "steps": self.steps,
        }  # fmt: skip


class Subject:
    """A trained network with its images."""

    def __init__(self, name: str, folder: Path, train: ImageSet, test: ImageSet, steps: int):
        self.name, self._folder, self._trained_on = name, folder, train
        if name == "resnet20":
            mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
            train, test = (replace(images, mean=mean, std=std) for images in (train, test))
        self._train, self._test, self._steps = train, test, steps

    @cached_property
    def known(self) -> Calibration:
        """The network on training images."""
        order = torch.randperm(len(self._train), generator=torch.Generator().manual_seed(0))
        loader = image_loader(self._train, order[:CALIBRATION])
        how = Distillation(epochs=1, steps_at_least=max(1, self._steps))
        model: nn.Module = network(self.name, self._folder, self._trained_on)
        return Calibration(model, loader, distillation=how)

    @cached_property
    def _images(self) -> Any:
        order = torch.randperm(len(self._test), generator=torch.Generator().manual_seed(0))
        return image_loader(self._test, order[:TEST])

    @cached_property
    def _dense(self) -> Answers:
        return Answers.of(self.known.model, self._images)

    def dense(self) -> dict[str, Any]:
        """The network as it is."""
        return _scored(self._dense, self._dense) | {"macs": 1.0, "seconds": 0.0}

    def pruned(self, cell: Cell) -> dict[str, Any]:
        """Prune, and count on test images; `seconds` are those of `prune`."""
        criterion, allocation = cell.selector
        made = prune(
            self.known.model, self.known, macs=cell.share, criterion=criterion,
            allocation=allocation, recovery=cell.recovery,
        )  # fmt: skip
        found = _scored(self._dense, Answers.of(made.model, self._images))
        return found | {"macs": made.report.macs_share, "seconds": made.report.seconds}


def _scored(dense: Answers, answers: Answers) -> dict[str, Any]:
    """Agreement, divergence, and which images were right, as hexadecimal digits."""
    assert answers.labels is not None
    right = answers.logits.argmax(1).eq(answers.labels).numpy()
    found = dense.against(answers)
    return {k: found[k] for k in ("kl", "agreement")} | {
        "right": np.packbits(right).tobytes().hex()
    }


def _right(row: dict[str, Any]) -> np.ndarray:
    bits = np.frombuffer(bytes.fromhex(row["right"]), dtype=np.uint8)
    return np.unpackbits(bits)[:TEST].astype(np.float64)


def planned(name: str, cells: Cells, steps: int) -> Iterator[Cell]:
    """What is computed of a network, in this order; the best of `reconstruct` are then known."""
    for recovery, selectors in RECOVERIES.items():
        for selector in selectors:
            for share in SHARES:
                yield Cell(name, share, recovery, selector)
    if not steps:
        return
    for share in SHARES:
        found = {s: cells.get(Cell(name, share, "reconstruct", s).named) for s in SELECTORS}
        known = {s: _right(row).mean() for s, row in found.items() if row}
        best = sorted(known, key=lambda s: -known[s])[:DISTILLED]
        for selector in dict.fromkeys([OURS, *best, ("l2", "uniform")]):
            yield Cell(name, share, "distill", selector, steps)


def computed(
    subject: Subject, path: Path, inputs: dict[str, Any], steps: int, until: float
) -> list[dict[str, Any]]:
    """Every cell of a network that is known at `until`, the dense network first."""
    rows = []
    with Cells(path, inputs, CODE) as cells:
        row = cells.ensure({"network": subject.name}, subject.dense)
        rows.append({"network": subject.name, "share": 1.0, "recovery": "dense"} | row)
        for cell in planned(subject.name, cells, steps):
            if cells.get(cell.named) is None:
                if time.monotonic() > until:
                    continue
                row = cells.add(cell.named, subject.pruned(cell))
                print(*cell.named.values(), f"{100 * _right(row).mean():.1f}", flush=True)
            rows.append(cell.named | cells.get(cell.named))
    return rows


def compared(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Accuracy in %, and points more than each reference under the same recovery, paired by image.

    Standard errors are those of a mean over test images; networks and calibration draws are one.
    """
    right = {_key(row): _right(row) for row in rows}
    table = []
    for row in rows:
        own = right[_key(row)]
        line = {k: v for k, v in row.items() if k != "right"}
        line |= {"accuracy": 100 * own.mean(), "accuracy_se": 100 * own.std() / TEST**0.5}
        references = {"ours": OURS, "default": DEFAULT}
        if _key(row)[3:] in KERNELS:
            references["taps"] = KERNELS[_key(row)[3:]]
        for name, selector in references.items():
            other = right.get((*_key(row)[:3], *selector))
            if other is not None and row["recovery"] != "dense":
                gap = 100 * (own - other)
                line |= {f"minus_{name}": gap.mean(), f"minus_{name}_se": gap.std() / TEST**0.5}
        table.append(line)
    return pd.DataFrame(table)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(k) for k in ("network", "share", "recovery", "criterion", "allocation"))


def over_networks(table: pd.DataFrame) -> pd.DataFrame:
    """Mean points more than ours per recovery, share and selector, and their error over images.

    `ahead`, `behind`: networks where the difference is beyond two standard errors.
    """
    rows = []
    pruned = table[table["recovery"] != "dense"]
    keys = ["recovery", "share", "criterion", "allocation"]
    for key, own in pruned.groupby(keys, sort=False):
        gap, error = own["minus_ours"], own["minus_ours_se"]
        line = dict(zip(keys, key, strict=True)) | {"networks": len(own)}
        line |= {"accuracy": own["accuracy"].mean(), "minus_ours": gap.mean()}
        line |= {"se": float((error**2).sum() ** 0.5 / len(own))}
        line |= {"ahead": int((gap > 2 * error).sum()), "behind": int((gap < -2 * error).sum())}
        rows.append(line)
    return pd.DataFrame(rows)


@styled()
def draw(table: pd.DataFrame, path: Path, recovery: str = "reconstruct") -> None:
    """Points more than ours under one recovery, with two standard errors, per network and share."""
    own = table[table["recovery"] == recovery]
    names = [name for name in NETWORKS if name in set(own["network"])]
    figure, axes = sheet(1, len(names), width=2.6 * len(names) + 1.5, height=4.6, sharey=True)
    selectors = [s for s in SELECTORS if s != OURS]
    for ax, name in zip(axes[0], names, strict=True):
        for number, share in enumerate(SHARES):
            _points(ax, own[(own["network"] == name) & (own["share"] == share)], selectors, number)
        ax.axvline(0, color="0.4", linewidth=0.8)
        ax.set(title=name, xlabel="points more than ours")
    axes[0, 0].set_yticks(range(len(selectors)), [", ".join(s) for s in selectors])
    axes[0, 0].invert_yaxis()
    axes[0, -1].legend(title="share of MACs")
    figure.savefig(path, dpi=130)


def _points(ax: Axes, part: pd.DataFrame, selectors: list[Selector], number: int) -> None:
    at = [(c, a) for c, a in zip(part["criterion"], part["allocation"], strict=True)]
    places = {selector: row for row, selector in enumerate(selectors)}
    shown = [i for i, selector in enumerate(at) if selector in places]
    rows = part.iloc[shown]
    ax.errorbar(
        rows["minus_ours"], [places[at[i]] + 0.3 * number - 0.15 for i in shown],
        xerr=2 * rows["minus_ours_se"], fmt="os"[number], markersize=4, label=f"{SHARES[number]:g}",
    )  # fmt: skip


def main() -> None:
    """Compute what is missing, write tables and figure, and print one JSON object last."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of CIFAR-10's images")
    parser.add_argument("--networks", type=Path, required=True, help="folder of trained networks")
    parser.add_argument("--cells", type=Path, default=Path("runs/pruning_peers"))
    parser.add_argument("--out", type=Path, default=Path("runs/pruning_peers"))
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--steps", type=int, default=300, help="of distilling; 0 for none")
    parser.add_argument("--minutes", type=float, default=600.0)
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    torch.set_num_threads(1)
    train, test = load_data(options.data, cache=options.networks / "cache")
    rows = []
    for name in options.only:
        subject = Subject(name, options.networks, train, test, options.steps)
        inputs = {"images": [train.fingerprint, CALIBRATION], "test": [test.fingerprint, TEST]}
        path = options.cells / f"{name}.jsonl"
        rows += computed(subject, path, inputs, options.steps, until)
    table = compared(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    write_table(options.out / "pruning_peers.csv", table)
    summary = over_networks(table)
    write_table(options.out / "over_networks.csv", summary)
    draw(table, options.out / "pruning_peers.png")
    print(summary.round(2).to_string(index=False))
    everywhere = summary[summary["networks"] == len(options.only)]
    best = (
        everywhere.sort_values("minus_ours", ascending=False).groupby(["recovery", "share"]).head(3)
    )
    kernels = table.dropna(subset=["minus_taps"]) if "minus_taps" in table else table[:0]
    keys = ["network", "share", "recovery", "criterion", "allocation", "minus_taps"]
    found = {
        "cells": len(table),
        "networks": list(options.only),
        "best": best.round(3).to_dict("records"),
        "kernels_minus_taps": kernels[[*keys, "minus_taps_se"]].round(3).to_dict("records")
        if len(kernels)
        else [],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
