r"""Ways to distill a pruned network without labels, against each other; last line JSON.

    python benchmarks/distillation.py --data FOLDER --networks FOLDER --images 5000 \
        [--device cuda] [--workers N] [--minutes M] [--out FOLDER]

What `prune` takes by default, refitted, then distilled on `--images` training images; accuracy on
test images. Networks are those of `pruning_subjects.py`.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pruning_subjects import (
    Cell,
    Place,
    Subject,
    Unit,
    Which,
    all_networks,
    arguments,
    at_work,
    right,
    spread,
)

sys.path.insert(0, str(Path(__file__).parent.parent))

from empirical import prune
from empirical.pruning.distillation import Distillation
from empirical.pruning.forecast_law import Answers
from theory.shared.files import write_table

SHARES = (0.5, 0.3)
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "half mixed, 90 epochs": {"mixing": 0.5, "epochs": 90},
    "averaged": {"averaging": 2.0},
    "mixed": {"mixing": 1.0},
    "90 epochs": {"epochs": 90},
    "rate .003": {"learning_rate": 0.003},
    "rate .0003": {"learning_rate": 0.0003},
    "float32": {"precision": "float32"},
    "batches of 128, rate .0015": {"batch_size": 128, "learning_rate": 0.0015},
    "temperature 4": {"temperature": 4.0},
    "no decay": {"weight_decay": 0.0},
    "decay .01": {"weight_decay": 0.01},
}


def units(networks: Sequence[Which], names: Sequence[str]) -> Iterator[Unit]:
    """A setting after the other, half of the multiply-accumulates first."""
    for which in networks:
        yield Unit(which, ({"share": 1.0, "setting": "dense"},))
    for turn, share in enumerate(SHARES, 1):
        for name in ("refitted", *names):
            for which in networks:
                yield Unit(which, ({"share": share, "setting": name},), turn)


def computed(subject: Subject, cell: Cell) -> dict[str, Any]:
    """Prune, refit, and distill as the setting says."""
    if cell["setting"] == "dense":
        return subject.scored(subject.dense) | {"seconds": 0.0}
    refitted = cell["setting"] == "refitted"
    known = copy.copy(subject.known)
    known.distillation = Distillation(**({} if refitted else SETTINGS[cell["setting"]]))
    made = prune(
        known.model,
        known,
        macs=cell["share"],
        recovery="reconstruct" if refitted else "distill",
    )
    found = subject.scored(Answers.of(made.model, subject.test))
    return found | {"seconds": made.report.seconds}


def main() -> None:
    """Compute what is missing, write a table, and print one JSON object last."""
    parser = arguments(__doc__ or "", "runs/distillation")
    parser.add_argument("--images", type=int, default=5000, help="to calibrate on")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    options = parser.parse_args()
    place = Place(options.data, options.networks, options.device, images_used=options.images)
    work = list(units(all_networks(options.only, options.seeds), options.settings))
    rows = at_work(work, computed, place, options.cells / str(options.images), options)
    table = pd.DataFrame(rows)
    table["accuracy"] = [100 * right(row).mean() for row in rows]
    dense = table[table["setting"] == "dense"].set_index(["network", "seed"])["accuracy"]
    at = pd.MultiIndex.from_frame(table[["network", "seed"]])
    table["below_dense"] = dense.reindex(at).to_numpy() - table["accuracy"].to_numpy()
    options.out.mkdir(parents=True, exist_ok=True)
    write_table(options.out / f"distillation_{options.images}.csv", table.drop(columns="right"))
    found = table.groupby(["network", "share", "setting"], sort=False)["below_dense"]
    summary = found.agg(["size", "mean", lambda values: spread(values.to_numpy())])
    print(summary.round(2).to_string())
    print(json.dumps({"cells": len(table), "images": options.images}))


if __name__ == "__main__":
    main()
