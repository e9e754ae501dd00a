"""What carries the separation in trained networks: features or target, from a run's checkpoints.

    python scripts/carriers.py RUN [HELD] --data FOLDER --out docs/results/carriers

RUN is the folder of a finished `twoaxis run`; FOLDER holds train/<class>/* and test/<class>/*. At
every checkpoint the features of that step are measured against the logits of that step and of the
first step, and the first step's features against its logits, on the run's calibration images. HELD
is the same run with training.turning=false, whose filters keep their directions. Each cell is kept
as it ends: a killed start continues. Ten seconds a cell of ResNet-18 of width 1/4 on 2,000 images
and one thread.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from empirical import image_loader, load_data
from empirical.analysis.carriers import carrier_sentence, carriers, crossed_couplings
from empirical.analysis.seeds import CORRELATION, over_seeds
from empirical.data.images import ImageSet
from empirical.data.splits import split_data
from empirical.report.page import figure_bytes
from empirical.runs.config import RunConfig, read_config
from empirical.runs.paths import RunPaths
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
    """Measure what is missing, then write tables, the figure and a sentence for each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="finished runs")
    parser.add_argument("--data", required=True, help="folder of the images, as the runs had it")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--out", type=Path, default=Path("runs/carriers"))
    options = parser.parse_args()
    ends, courses = [], {}
    for folder in options.runs:
        config = read_config(json.loads((folder / "run.json").read_text())["config"])
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


def crossed(folder: Path, config: RunConfig, options: argparse.Namespace) -> pd.DataFrame:
    """Couplings of every needed cell of every seed, those that are missing measured."""
    train, test = load_data(options.data, cache=options.cache)
    data = config.data
    images = split_data(
        train, test, calibration=data.calibration, selection=data.selection, seed=data.seed
    ).calibration
    paths, frames = RunPaths(folder), []
    for seed in config.seeds:
        found = list_checkpoints(paths.folder(seed) / "train")
        files = {read_info(file).step: file for file in found}
        wanted = {at(step, min(files)) for at in SERIES.values() for step in files}
        inputs = {"images": images.fingerprint, "training": config.training.to_dict()}
        with Cells(options.out / "cells.jsonl", inputs, CODE) as kept:
            for cell in sorted(wanted):
                key = {
                    "network": config.model.name,
                    "seed": seed,
                    "features": cell[0],
                    "target": cell[1],
                }
                rows = kept.ensure(key, partial(one_cell, files, cell, images))
                frames.append(pd.DataFrame(rows).assign(seed=seed))
    return pd.concat(frames)


def one_cell(
    files: dict[int, Path], cell: tuple[int, int], images: ImageSet
) -> list[dict[str, Any]]:
    """A row per layer."""
    networks = {step: load_model(files[step])[0] for step in {*cell, min(files), max(files)}}
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
