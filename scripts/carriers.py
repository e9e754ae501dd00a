"""What carries the separation in trained networks: features or target, from a run's checkpoints.

    python scripts/carriers.py RUN [HELD] --data FOLDER --out docs/results/carriers
    python scripts/carriers.py --train scripts/cifar10_resnet18_cpu.toml --data FOLDER --out OUT

RUN is the folder of a `twoaxis run` whose networks are trained; FOLDER holds train/<class>/* and
test/<class>/*. At every checkpoint the features of that step are measured against the logits of
that step and of the first step, and the first step's features against its logits, on the run's
calibration images. HELD is the same run with training.turning=false, whose filters keep their
directions; --train makes both, in OUT/turning and OUT/held. Each cell is kept as it ends: a killed
start continues. --seeds, --images and --checkpoints make a shorter start; starts of different seeds
run beside each other on --device, and one after them finds all cells made. Ten seconds a cell of
ResNet-18 of width 1/4 on 2,000 images and one thread.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from empirical import image_loader
from empirical.analysis.carriers import carrier_sentence, carriers, crossed_couplings
from empirical.analysis.seeds import CORRELATION, over_seeds
from empirical.data.images import ImageSet
from empirical.devices import chosen_device
from empirical.report.page import figure_bytes
from empirical.runs.config import RunConfig, read_config
from empirical.runs.steps import RunStages
from empirical.training.checkpoints import list_checkpoints, load_model, read_info
from theory.shared.files import write_bytes, write_table
from theory.shared.store import Cells
from theory.shared.style import label, mark, sheet, styled

CODE = ("empirical.analysis.carriers",)
SERIES = {
    "as trained": lambda step, first: (step, step),
    "features trained, first target": lambda step, first: (step, first),
    "first features, target trained": lambda step, first: (first, step),
}
"""What each line of the figure shows: (step of the features, step of the target)."""


def main() -> None:
    """Train and measure what is missing, then write tables, the figure and a sentence per run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, help="runs that are trained")
    parser.add_argument("--train", type=Path, help="configuration of runs to be trained")
    parser.add_argument("--set", nargs="*", default=[], help="section.key=value of --train")
    parser.add_argument("--data", required=True, help="folder of the images, as the runs had it")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--out", type=Path, default=Path("runs/carriers"))
    parser.add_argument("--cells", type=Path, default=Path("runs/carriers"))
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 or auto")
    parser.add_argument("--seeds", nargs="*", type=int, help="only these")
    parser.add_argument("--images", type=int, help="calibration images, fewer than the runs had")
    parser.add_argument("--checkpoints", type=int, help="so many, first and last among them")
    options = parser.parse_args()
    ends, courses = [], {}
    for folder, config in configured(options):
        name = f"{config.model.name}, {'turning' if config.training.turning else 'held'}"
        cells = crossed(folder, config, options)
        steps = sorted(set(cells["features"]))
        corners = cells[cells[["features", "target"]].isin([steps[0], steps[-1]]).all(axis=1)]
        table = carriers(corners)
        print(f"{name}: {carrier_sentence(table)}")
        ends.append(table.assign(run=name))
        courses[name] = course(cells)
    write_table(options.out / "carriers.csv", pd.concat(ends))
    write_table(
        options.out / "course.csv",
        pd.concat([found.assign(run=name) for name, found in courses.items()]),
    )
    write_bytes(options.out / "carriers.png", figure(courses))


def configured(options: argparse.Namespace) -> Iterator[tuple[Path, RunConfig]]:
    """Each run's folder and configuration: of `run.json`, else as its training has kept it."""
    changes = [f'data.source="{options.data}"', f'device="{options.device}"']
    if options.images:
        changes.append(f"data.calibration={options.images}")
    if options.seeds:
        changes.append(f"seeds={options.seeds}")
    for turning in (True, False) if options.train else ():
        own = [*options.set, *changes, f"training.turning={str(turning).lower()}"]
        yield options.out / ("turning" if turning else "held"), read_config(options.train, own)
    for folder in options.runs:
        if (folder / "run.json").is_file():
            found = json.loads((folder / "run.json").read_text())["config"]
        else:
            kept = sorted(folder.glob("seed-*/train/history.json.made-from.json"))
            made = [json.loads(record.read_text())["inputs"] for record in kept]
            if not made:
                raise ValueError(f"{folder} must hold seed-*/train of finished trainings.")
            found = {
                "seeds": [one["seed"] for one in made],
                "model": {name: made[0]["model"][name] for name in ("name", "width")},
                "training": made[0]["recipe"],
            }
        yield folder, read_config(found, changes)


def crossed(folder: Path, config: RunConfig, options: argparse.Namespace) -> pd.DataFrame:
    """Couplings of every needed cell of every seed, those that are missing measured."""
    device, frames = chosen_device(options.device), []
    stages = RunStages(config, folder, device, False, options.cache, lambda _what, _share: None)
    images, kind = stages.split.calibration, "turning" if config.training.turning else "held"
    for index, seed in enumerate(config.seeds):
        if options.train:
            stages.train(index, seed)
        found = list_checkpoints(stages.folder(seed) / "train")
        files = thinned({read_info(file).step: file for file in found}, options.checkpoints)
        wanted = {at(step, min(files)) for at in SERIES.values() for step in files}
        inputs = {"images": images.fingerprint, "training": config.training.to_dict()}
        path = options.cells / f"{config.model.name}-{kind}-{seed}.jsonl"
        with Cells(path, inputs, CODE) as kept:
            for cell in sorted(wanted):
                key = {
                    "network": config.model.name,
                    "seed": seed,
                    "features": cell[0],
                    "target": cell[1],
                }
                rows = kept.ensure(key, partial(one_cell, files, cell, images, device))
                frames.append(pd.DataFrame(rows).assign(seed=seed))
    return pd.concat(frames)


def thinned(files: dict[int, Path], most: int | None) -> dict[int, Path]:
    """At most so many checkpoints, evenly spaced in their order, first and last among them."""
    steps = sorted(files)
    if most and most < len(steps):
        steps = [steps[round(place)] for place in np.linspace(0, len(steps) - 1, max(most, 2))]
    return {step: files[step] for step in steps}


def one_cell(
    files: dict[int, Path], cell: tuple[int, int], images: ImageSet, device: torch.device
) -> list[dict[str, Any]]:
    """A row per layer."""
    networks = {
        step: load_model(files[step])[0].to(device) for step in {*cell, min(files), max(files)}
    }
    found = crossed_couplings(networks, image_loader(images, batch_size=250), cells=[cell])
    return found.to_dict("records")


def course(cells: pd.DataFrame) -> pd.DataFrame:
    """Mean over layers and seeds by step, a series each, with 95 % intervals over seeds."""
    steps = sorted(set(cells["features"]) | set(cells["target"]))
    frames = []
    for name, at in SERIES.items():
        own = {step: at(step, steps[0]) for step in steps}
        for step, (features, target) in own.items():
            chosen = cells[cells["features"].eq(features) & cells["target"].eq(target)]
            frames.append(chosen.assign(series=name, step=step))
    return over_seeds(pd.concat(frames), ["series", "step"], "coupling", CORRELATION)


def figure(courses: dict[str, pd.DataFrame]) -> bytes:
    """One panel a run: coupling against step, a line per series."""
    with styled():
        drawn, panels = sheet(1, len(courses), sharey=True)
        for axes, (name, table) in zip(panels.ravel(), courses.items(), strict=True):
            for number, (series, own) in enumerate(table.groupby("series", sort=False)):
                look = mark(number)
                axes.plot(own["step"] + 1, own["coupling"], label=series, markersize=3, **look)
                axes.fill_between(
                    own["step"] + 1, own["low"], own["high"], color=look["color"], alpha=0.2, lw=0
                )
            axes.set_xscale("log")
            label(axes, "step + 1", "coupling of the axes", name)
            axes.legend()
        return figure_bytes(drawn, "png")


if __name__ == "__main__":
    main()
