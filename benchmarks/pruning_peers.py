r"""Selectors of channels against each other under equal recoveries; last line JSON.

    python benchmarks/pruning_peers.py --data FOLDER --networks FOLDER \
        [--device cuda] [--workers N] [--minutes M] [--recoveries NAME ...] [--steps N] \
        [--cells FOLDER] [--read FOLDER ...] [--out FOLDER]

The networks of `pruning_subjects.py`: three architectures of width 1/4, three seeds each, and one
ResNet-20; 1,500 training images calibrate, 2,000 test images count. Ours; torch-pruning's
importances; re-implemented: OSSCAR's layerwise least squares, LinDeps, model folding; GRAIL is
`l2` under `compensate`. Every cell is kept as it ends (`--cells`), the most telling first, so that
`--minutes` stops and another call goes on; `--steps 0` leaves distilling out. `seconds` are those
of `prune` and, at a selector's first cell, of what it measures.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from pruning_subjects import (
    DENSE,
    NETWORKS,
    Cell,
    Place,
    Subject,
    Unit,
    Which,
    all_networks,
    arguments,
    at_work,
    earlier,
    right,
    spread,
)  # fmt: skip

sys.path.insert(0, str(Path(__file__).parent.parent))

from empirical import prune
from empirical.pruning.forecast_law import Answers
from theory.shared.files import write_table
from theory.shared.style import sheet, styled

SHARES = (0.5, 0.3)
OURS, BEFORE = ("task_replaceability", "auto"), ("replaceability", "uniform")
"""What `prune` takes where nothing is said, and what it took at first."""
GLOBAL = ("task_replaceability", "global")
DAMAGE = ("task_replaceability", "damage")
MEASURED = ("task_replaceability", "measured_damage")
OSSCAR, LINDEPS, L2 = ("osscar", "uniform"), ("lindeps", "uniform"), ("l2", "uniform")
GROUP_L2, FOLDING = ("group_l2", "uniform"), ("folding", "uniform")
LOCAL = ("replaceability", "global")
KERNELS = {
    ("task_replaceability_kernels", "global"): GLOBAL,
    ("replaceability_kernels", "uniform"): BEFORE,
    ("replaceability_kernels", "global"): LOCAL,
}
"""With whole kernels -> the same selector with taps taken as uncorrelated."""
TORCH_PRUNING = (
    GROUP_L2, ("group_l2", "global"), ("group_l1", "global"), ("lamp", "global"),
    ("bn_scale", "global"), ("taylor", "global"), ("hessian", "global"),
)  # fmt: skip
FIRST = (OURS, OSSCAR, L2, LINDEPS, BEFORE, LOCAL, GROUP_L2, GLOBAL, DAMAGE)
OTHERS = (
    MEASURED, *KERNELS, *TORCH_PRUNING[1:], ("lindeps", "global"), ("l2", "global"), FOLDING,
    ("random", "uniform"),
)  # fmt: skip
SELECTORS = (*FIRST, *OTHERS)
TURNS: tuple[tuple[str, Sequence[tuple[str, str]]], ...] = (
    ("reconstruct", FIRST),
    ("distill", (OURS, OSSCAR, L2, BEFORE)),
    ("compensate", (OURS, BEFORE, OSSCAR, L2, LINDEPS)),
    ("recalibrate", (OURS, L2, GROUP_L2)),
    ("fold", (FOLDING,)),
    ("reconstruct", OTHERS),
    ("distill", (LINDEPS, LOCAL, GROUP_L2)),
    ("recalibrate", TORCH_PRUNING[1:]),
    ("compensate", tuple(KERNELS)[:2]),
)
"""What is computed of every network, the most telling first."""
RECOVERIES = tuple(dict.fromkeys(recovery for recovery, _ in TURNS))

Selector = tuple[str, str]


def units(networks: Sequence[Which], steps: int, recoveries: Sequence[str]) -> Iterator[Unit]:
    """The dense networks, then all turns of the recoveries."""
    for which in networks:
        yield Unit(which, (DENSE,))
    for turn, (recovery, selectors) in enumerate(TURNS, 1):
        for which in networks if recovery in recoveries else ():
            for selector in selectors:
                if recovery != "distill":
                    yield Unit(which, _cells(recovery, selector, 0), turn)
                elif steps:
                    yield Unit(which, _cells(recovery, selector, steps), turn)


def _cells(recovery: str, selector: Selector, steps: int) -> tuple[Cell, ...]:
    return tuple(_cell(share, recovery, selector, steps) for share in SHARES)


def _cell(share: float, recovery: str, selector: Selector, steps: int) -> Cell:
    criterion, allocation = selector
    return {
        "share": share, "recovery": recovery, "criterion": criterion, "allocation": allocation,
        "steps": steps,
    }  # fmt: skip


def pruned(subject: Subject, cell: Cell) -> dict[str, Any]:
    """Prune, and count on test images; `seconds` are those of `prune`."""
    if cell["recovery"] == "dense":
        return subject.scored(subject.dense) | {"macs": 1.0, "seconds": 0.0}
    made = prune(
        subject.known.model, subject.known, macs=cell["share"], criterion=cell["criterion"],
        allocation=cell["allocation"], recovery=cell["recovery"],
    )  # fmt: skip
    found = subject.scored(Answers.of(made.model, subject.test))
    return found | {"macs": made.report.macs_share, "seconds": made.report.seconds}


def compared(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Accuracy in %, and points more than each reference under the same recovery, paired by image.

    Standard errors are those of a mean over test images, of one network and calibration draw.
    """
    known = {_key(row): right(row) for row in rows}
    table = []
    for row in rows:
        own = known[_key(row)]
        line = {k: v for k, v in row.items() if k != "right"}
        line |= {"accuracy": 100 * own.mean(), "accuracy_se": 100 * own.std() / len(own) ** 0.5}
        dense = known.get((row["network"], row["seed"], 1.0, "dense", "", ""))
        references = {"ours": OURS, "before": BEFORE}
        if _key(row)[4:] in KERNELS:
            references["taps"] = KERNELS[_key(row)[4:]]
        others = {
            name: known.get((*_key(row)[:4], *selector)) for name, selector in references.items()
        }
        for name, other in {"dense": dense, **others}.items():
            if other is not None and row["recovery"] != "dense":
                gap = 100 * (own - other)
                line |= {
                    f"minus_{name}": gap.mean(),
                    f"minus_{name}_se": gap.std() / len(own) ** 0.5,
                }
        table.append(line)
    return pd.DataFrame(table)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    names = ("network", "seed", "share", "recovery", "criterion", "allocation")
    return tuple(row[name] for name in names)


def over_networks(table: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Mean accuracy, points below dense, and more than ours, per recovery, share and selector.

    `low`, `high`: 95 % Student interval of the mean difference over networks, of two or more;
    `ahead`, `behind`: networks whose own difference is beyond two standard errors of
    images.
    """
    rows = []
    pruned = table[table["recovery"] != "dense"]
    keys = [*by, "recovery", "share", "criterion", "allocation"]
    for key, own in pruned.groupby(keys, sort=False):
        gap, error = own["minus_ours"], own["minus_ours_se"]
        line = dict(zip(keys, key, strict=True)) | {"networks": len(own)}
        line |= {"accuracy": own["accuracy"].mean(), "minus_dense": own["minus_dense"].mean()}
        half = spread(gap.to_numpy())
        line |= {"minus_ours": gap.mean(), "low": gap.mean() - half, "high": gap.mean() + half}
        line |= {"ahead": int((gap > 2 * error).sum()), "behind": int((gap < -2 * error).sum())}
        rows.append(line)
    return pd.DataFrame(rows)


@styled()
def draw(table: pd.DataFrame, path: Path, recovery: str = "reconstruct") -> None:
    """Points more than ours under one recovery, the mean of an architecture's networks and each."""
    own = table[table["recovery"] == recovery]
    names = [name for name in NETWORKS if name in set(own["network"])]
    if not names:
        return
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
    places = {selector: row + 0.3 * number - 0.15 for row, selector in enumerate(selectors)}
    at = [places.get(s) for s in zip(part["criterion"], part["allocation"], strict=True)]
    rows = part.assign(at=at).dropna(subset=["at", "minus_ours"])
    color = f"C{number}"
    ax.plot(rows["minus_ours"], rows["at"], ".", color=color, markersize=3, alpha=0.6)
    means = rows.groupby("at")["minus_ours"].mean()
    ax.plot(
        means, means.index, "os"[number], color=color, markersize=5, label=f"{SHARES[number]:g}"
    )


def main() -> None:
    """Compute what is missing, write tables and figure, and print one JSON object last."""
    parser = arguments(__doc__ or "", "runs/pruning_peers")
    parser.add_argument("--steps", type=int, default=300, help="of distilling; 0 for none")
    parser.add_argument("--recoveries", nargs="+", choices=RECOVERIES, default=RECOVERIES)
    parser.add_argument("--read", nargs="+", type=Path, default=[], help="cells of other runs")
    options = parser.parse_args()
    place = Place(options.data, options.networks, options.device, options.steps)
    networks = all_networks(options.only, options.seeds)
    work = list(units(networks, options.steps, options.recoveries))
    rows = at_work(work, pruned, place, options.cells, options)
    rows += [row for folder in options.read for row in earlier(folder)]
    table = compared(list({_key(row): row for row in reversed(rows)}.values())[::-1])
    options.out.mkdir(parents=True, exist_ok=True)
    write_table(options.out / "pruning_peers.csv", table)
    summary = over_networks(table)
    write_table(options.out / "over_networks.csv", summary)
    write_table(options.out / "by_architecture.csv", over_networks(table, by=("network",)))
    draw(table, options.out / "pruning_peers.png")
    print(summary.round(2).to_string(index=False))
    if not len(summary):
        raise SystemExit("no cell of a pruned network is known yet; give it more --minutes")
    full = summary[summary["networks"] == summary["networks"].max()]
    best = full.sort_values("minus_ours", ascending=False).groupby(["recovery", "share"]).head(3)
    found = {
        "cells": len(table),
        "of": sum(len(unit.cells) for unit in work),
        "networks": len(table[["network", "seed"]].drop_duplicates()),
        "best": best.round(3).to_dict("records"),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
